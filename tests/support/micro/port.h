/* What exercise.c needs of the machine that it runs on. */
#ifndef PORT_H
#define PORT_H

#include <stddef.h>
#include <stdint.h>

int port_open(void);                             /* the files; 0 if that went well */
int port_read(void *to, size_t size);            /* 0 if `size` bytes came */
int port_write(const void *from, size_t size);   /* 0 if all were written */
int port_close(void);

uint64_t port_instructions(void); /* executed so far, as far as the machine counts them, else 0 */
void port_paint_stack(void);      /* mark the free stack, so that its use can be seen */
uint32_t port_stack_used(void);   /* bytes below the caller's frame that were used since, else 0 */

#endif
