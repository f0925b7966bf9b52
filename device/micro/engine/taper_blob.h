/* The layout of a blob, in 32-bit little-endian words; offsets are in words from the blob's start.
 * device/micro/blob.py writes it. */
#ifndef TAPER_BLOB_H
#define TAPER_BLOB_H

#include "taper.h"

#define TAPER_MAGIC UINT32_C(0x31525054) /* "TPR1" */

enum taper_header {
  H_MAGIC,
  H_WORDS,     /* of the whole blob */
  H_CRC,       /* CRC-32 of the words after this one */
  H_VERSION,   /* the first 16 digits of the model's version, as 8 bytes */
  H_HEIGHT = H_VERSION + 2,
  H_WIDTH,
  H_CHANNELS,
  H_CLASSES,
  H_STAGES,    /* how many, and where their records start */
  H_STAGES_AT,
  H_LEVELS,
  H_LEVELS_AT,
  H_EXIT_AT,   /* a stage record, or 0 */
  H_HIDDEN,
  H_CONTEXT_AT,
  H_NAME_BYTES,
  H_NAME,
  H_END = H_NAME + TAPER_NAME_BYTES / 4
};

enum taper_kind { KIND_IMAGE = 0, KIND_CONV = 1, KIND_LINEAR = 2 };

/* A stage. Weights: KIND_IMAGE has (out, words) of three-bit kernel rows, the others
 * (out, in words, taps).
 * Coefficients of 32 channels: where all 8 channels of a byte have the same, two words, c0 << 16 | c2
 * and c1 << 16 | c3; else `planes` words, bit i of word j being bit j of channel i's coefficient. */
enum taper_stage {
  S_KIND,
  S_POOL,
  S_HEIGHT, /* of the input */
  S_WIDTH,
  S_IN,     /* channels */
  S_OUT,
  S_PLANES, /* 0: coefficients by the byte */
  S_COEFFICIENTS_AT,
  S_WEIGHTS_AT,
  S_WIDE,          /* thresholds: 1 for 32 bits, 0 for 16 */
  S_THRESHOLDS_AT, /* (levels, out), padded to a whole word a level; of an exit: scales, int32 */
  S_FLIPS_AT,      /* (levels, out words); of an exit: biases, int32 */
  S_OUT_AT,        /* output channels by level */
  S_END
};

enum taper_level { L_NUMBER, L_MILLIONTHS, L_MARGIN_LOW, L_MARGIN_HIGH, L_END };

/* Words of `channels` bits. */
static inline uint32_t words_of(uint32_t channels) { return (channels + 31u) / 32u; }

/* Kernel positions of a stage. */
static inline uint32_t taps_of(const uint32_t *stage) {
  return stage[S_KIND] == KIND_LINEAR ? stage[S_HEIGHT] * stage[S_WIDTH] : 9u;
}

/* Words that hold a pixel stage's weights of one output: three bits for each kernel row and colour,
 * ten times that a word. */
static inline uint32_t weights_of_pixels(const uint32_t *stage) {
  return (3u * stage[S_IN] + 9u) / 10u;
}

static inline uint32_t output_height(const uint32_t *stage) {
  return stage[S_KIND] == KIND_LINEAR ? 1u : stage[S_HEIGHT] / stage[S_POOL];
}

static inline uint32_t output_width(const uint32_t *stage) {
  return stage[S_KIND] == KIND_LINEAR ? 1u : stage[S_WIDTH] / stage[S_POOL];
}

static inline const uint32_t *stage_at(const taper_model *model, uint32_t index) {
  return model->words + model->words[H_STAGES_AT] + index * S_END;
}

/* Channels that leave stage `index` at `level`. */
static inline uint32_t kept(const taper_model *model, uint32_t index, uint32_t level) {
  return model->words[stage_at(model, index)[S_OUT_AT] + level];
}

/* Index of blob level `level` in the levels of the whole model, as the wire has it. */
static inline uint32_t number_of(const taper_model *model, uint32_t level) {
  return model->words[model->words[H_LEVELS_AT] + level * L_END + L_NUMBER];
}

/* The mask of the bits that are in use in the last of the words of `channels` bits. */
static inline uint32_t last_mask(uint32_t channels) {
  return channels % 32u ? (UINT32_C(1) << channels % 32u) - 1u : UINT32_MAX;
}

/* The look that the server may ask for after `sample`, `earlier` looks at which were sent; NULL if it
 * may ask for none. taper_request.c. */
const taper_look *taper_next_look(const taper_plan *plan, uint32_t earlier,
                                  const taper_sample *sample);

/* Words that a stage needs beside its input and output. */
uint32_t taper_scratch_words(const uint32_t *stage);

#endif
