/* The port for emulated boards: start-up, semihosting for files, instruction counts, stack marks.
 *
 * Arm cores count by SysTick, which the emulator drives by executed instructions (-icount shift=0:
 * one nanosecond an instruction; the clock's rate is CLOCK_HZ). RISC-V has a counter of its own.
 */
#include "port.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };
enum { MODE_READ = 1, MODE_WRITE = 5, PAINT = 0x5a };
enum { RUN_TIME_ERROR = 0x20023, APPLICATION_EXIT = 0x20026 };
#define STACK_BYTES 2048u

int main(void);
extern uint8_t _stack_top[];

#if defined(__riscv)

static long semihost(long call, const void *argument) {
  register long a0 __asm__("a0") = call;
  register const void *a1 __asm__("a1") = argument;
  /* The three instructions that mark a semihosting call; none may be compressed. */
  __asm__ volatile(
      ".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
      : "+r"(a0)
      : "r"(a1)
      : "memory");
  return a0;
}

static void start_counting(void) {}

uint64_t port_instructions(void) {
  uint32_t high, low, again;
  do {
    __asm__ volatile("csrr %0, minstreth" : "=r"(high));
    __asm__ volatile("csrr %0, minstret" : "=r"(low));
    __asm__ volatile("csrr %0, minstreth" : "=r"(again));
  } while (high != again);
  return (uint64_t)high << 32 | low;
}

#else

static long semihost(long call, const void *argument) {
  register long r0 __asm__("r0") = call;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

#define SYSTICK ((volatile uint32_t *)0xe000e010u)
enum { TICKS = 0xffffff };
static uint32_t wraps, last;

static void start_counting(void) {
  SYSTICK[1] = TICKS;
  SYSTICK[2] = 0;
  SYSTICK[0] = 5; /* on, by the core's clock, no interrupt */
}

/* Counts down; called at least once in each round of the counter. */
uint64_t port_instructions(void) {
  const uint32_t now = TICKS - SYSTICK[2];
  if (now < last) wraps++;
  last = now;
  return ((uint64_t)wraps * (TICKS + 1u) + now) * (1000000000u / CLOCK_HZ);
}

#endif

static long pictures, results;

static long open_file(const char *name, long mode) {
  const char *end = name;
  while (*end) end++;
  const long block[3] = {(long)(intptr_t)name, mode, end - name};
  return semihost(SYS_OPEN, block);
}

int port_open(void) {
  start_counting();
  pictures = open_file("pictures.bin", MODE_READ);
  results = open_file("results.bin", MODE_WRITE);
  return pictures < 0 || results < 0;
}

int port_read(void *to, size_t size) {
  const long block[3] = {pictures, (long)(intptr_t)to, (long)size};
  return semihost(SYS_READ, block) != 0;
}

int port_write(const void *from, size_t size) {
  const long block[3] = {results, (long)(intptr_t)from, (long)size};
  return size ? semihost(SYS_WRITE, block) != 0 : 0;
}

int port_close(void) {
  const long first[1] = {pictures}, second[1] = {results};
  semihost(SYS_CLOSE, first);
  return (int)semihost(SYS_CLOSE, second);
}

void port_paint_stack(void) {
  volatile uint8_t here;
  volatile uint8_t *at = &here - 64;
  for (uint32_t i = 0; i < STACK_BYTES; i++) *--at = PAINT;
}

uint32_t port_stack_used(void) {
  volatile uint8_t here;
  volatile uint8_t *at = &here - 64 - STACK_BYTES;
  uint32_t unused = 0;
  while (unused < STACK_BYTES && *at++ == PAINT) unused++;
  return 64u + STACK_BYTES - unused;
}

void *memcpy(void *to, const void *from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  while (size--) *t++ = *f++;
  return to;
}

void *memset(void *to, int value, size_t size) {
  uint8_t *t = to;
  while (size--) *t++ = (uint8_t)value;
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if (t < f)
    while (size--) *t++ = *f++;
  else
    while (size--) t[size] = f[size];
  return to;
}

static void finish(int status) {
  semihost(SYS_EXIT, (const void *)(intptr_t)(status ? RUN_TIME_ERROR : APPLICATION_EXIT));
  for (;;) {
  }
}

void start(void) { finish(main()); }

#if defined(__riscv)
__asm__(".section .start, \"ax\"\n.globl _start\n_start: la sp, _stack_top\n j start\n");
#else
__attribute__((section(".start"), used)) static const void *const vectors[2] = {_stack_top,
                                                                                (const void *)start};
#endif

int memcmp(const void *one, const void *other, size_t size) {
  const uint8_t *a = one, *b = other;
  for (; size; size--, a++, b++)
    if (*a != *b) return *a < *b ? -1 : 1;
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}
