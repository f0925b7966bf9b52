/* The port for the machine that the tests run on. */
#include <stdio.h>

#include "port.h"

static FILE *pictures, *results;

int port_open(void) {
  pictures = fopen("pictures.bin", "rb");
  results = fopen("results.bin", "wb");
  return pictures && results ? 0 : 1;
}

int port_read(void *to, size_t size) { return fread(to, 1, size, pictures) == size ? 0 : 1; }
int port_write(const void *from, size_t size) {
  return fwrite(from, 1, size, results) == size ? 0 : 1;
}
int port_close(void) { return fclose(pictures) | fclose(results); }

uint64_t port_instructions(void) { return 0; }
void port_paint_stack(void) {}
uint32_t port_stack_used(void) { return 0; }
