/* One stage at one level: where it reads and writes, and the steps that all kinds share. */
#ifndef TAPER_STAGE_H
#define TAPER_STAGE_H

#include "taper_blob.h"

typedef struct {
  const taper_model *model;
  const uint32_t *stage;
  uint32_t level;
  uint32_t in, out;      /* channels that take part */
  const uint8_t *image;  /* input of a pixel stage */
  const uint32_t *input; /* of the others */
  uint32_t *output;
  uint32_t *limits;  /* a word for every output: what its threshold is compared as */
  uint32_t *scratch; /* behind them */
} job;

/* Two values of 16 bits in one word. `HIGH` has the upper bit of each. */
#define BOTH UINT32_C(0x00010001)
#define HIGH UINT32_C(0x80008000)

static inline int32_t threshold(const job *j, uint32_t output) {
  const uint32_t *table = j->model->words + j->stage[S_THRESHOLDS_AT], out = j->stage[S_OUT];
  if (j->stage[S_WIDE]) return (int32_t)table[j->level * out + output];
  const uint32_t pair = table[j->level * ((out + 1u) / 2u) + output / 2u];
  return (int16_t)(output % 2u ? pair >> 16 : pair & 0xffffu);
}

static inline int32_t clipped(int32_t value, int32_t least, int32_t most) {
  return value < least ? least : value > most ? most : value;
}

/* The bits of one place are complete: some mean the opposite, those that are not used are 0. */
static inline void finish(const job *j, uint32_t *bits) {
  const uint32_t *flips =
      j->model->words + j->stage[S_FLIPS_AT] + j->level * words_of(j->stage[S_OUT]);
  const uint32_t words = words_of(j->out);
  for (uint32_t i = 0; i < words; i++) bits[i] ^= flips[i];
  bits[words - 1u] &= last_mask(j->out);
}

/* The first stage; taper_pixels.c. */
void taper_pixel_stage(const job *j);

#endif
