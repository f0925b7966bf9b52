/* The first stage: pixels times weights of +1 and -1, pooled, against a threshold.
 *
 * Three neighbouring pixels of a row have eight signed sums. They are looked up, three kernel rows
 * for one sum; rows that several pooled places share are computed once. Two neighbouring places
 * share a word, 16 bits each, raised by LIFT for each row so that no sum is below 0.
 */
#include "taper_stage.h"

enum { CHOICES = 8, LIFT = 3 * 255, GROUPS_A_WORD = 10 };

/* Sizes of the tables of one pooled place: (rows, pairs of columns, colours, CHOICES). */
typedef struct {
  uint32_t rows, pairs, colours;
} sizes;

static sizes sizes_of(const job *j) {
  const uint32_t pool = j->stage[S_POOL];
  const sizes s = {pool + 2u, (pool + 1u) / 2u, j->in};
  return s;
}

static uint32_t pixel(const job *j, const uint8_t *row, uint32_t column, uint32_t colour) {
  /* Left of the picture the column has wrapped around. */
  return row && column < j->stage[S_WIDTH] ? row[column * j->in + colour] : 0u;
}

/* The eight sums of three pixels, of two places at once. */
static void sums_of_three(uint32_t a, uint32_t b, uint32_t c, uint32_t *table) {
  const uint32_t none = LIFT * BOTH - a - b - c;
  table[0] = none;
  table[1] = none + 2u * a;
  table[2] = none + 2u * b;
  table[3] = table[1] + 2u * b;
  table[4] = none + 2u * c;
  table[5] = table[1] + 2u * c;
  table[6] = table[2] + 2u * c;
  table[7] = table[3] + 2u * c;
}

static void fill_tables(const job *j, uint32_t y, uint32_t x, sizes s) {
  const uint32_t pool = j->stage[S_POOL], width = j->stage[S_WIDTH];
  uint32_t *table = j->scratch;
  for (uint32_t r = 0; r < s.rows; r++) {
    const uint32_t number = y * pool + r - 1u; /* wraps around above the picture */
    const uint8_t *row = number < j->stage[S_HEIGHT] ? j->image + number * width * j->in : 0;
    for (uint32_t q = 0; q < s.pairs; q++) {
      const uint32_t left = x * pool + 2u * q - 1u;
      const uint32_t step = 2u * q + 1u < pool; /* 0: an odd place is there twice */
      for (uint32_t k = 0; k < s.colours; k++, table += CHOICES) {
        uint32_t p[4];
        for (uint32_t i = 0; i < 4u; i++) p[i] = pixel(j, row, left + i, k);
        sums_of_three(p[0] | p[step] << 16, p[1] | p[1u + step] << 16, p[2] | p[2u + step] << 16,
                      table);
      }
    }
  }
}

/* Whether one of the pooled sums reaches the threshold: its upper bit is set then. */
static uint32_t reached(const job *j, const uint32_t *weights, uint32_t limit, sizes s) {
  const uint32_t place = s.colours * CHOICES, row = s.pairs * place;
  uint32_t any = 0;
  for (uint32_t r = 0; r + 2u < s.rows; r++) {
    for (uint32_t q = 0; q < s.pairs; q++) {
      const uint32_t *from = j->scratch + r * row + q * place, *weight = weights;
      uint32_t sum = limit, word = 0, left = 0;
      for (uint32_t i = 0; i < 3u; i++, from += row - place) {
        for (uint32_t k = 0; k < s.colours; k++, left--, word >>= 3, from += CHOICES) {
          if (!left) {
            word = *weight++;
            left = GROUPS_A_WORD;
          }
          sum += from[word & 7u];
        }
      }
      any |= sum;
    }
  }
  return any & HIGH;
}

/* The same for one colour and places of two by two: where nearly all of the time goes. */
static inline uint32_t reached_of_four(const uint32_t *tables, uint32_t weights, uint32_t limit) {
  const uint32_t *first = tables + (weights & 7u), *second = tables + 8 + (weights >> 3 & 7u),
                 *third = tables + 16 + (weights >> 6 & 7u);
  const uint32_t upper = limit + first[0] + second[0] + third[0];
  const uint32_t lower = limit + first[8] + second[8] + third[8];
  return (upper | lower) & HIGH;
}

static void outputs(const job *j, sizes s, uint32_t *bits) {
  const uint32_t *weights = j->model->words + j->stage[S_WEIGHTS_AT];
  const uint32_t words = weights_of_pixels(j->stage);
  const int small = s.colours == 1u && s.rows == 4u;
  uint32_t word = 0;
  for (uint32_t o = 0; o < j->out; o++, weights += words) {
    const uint32_t hit = small ? reached_of_four(j->scratch, *weights, j->limits[o])
                               : reached(j, weights, j->limits[o], s);
    word |= (uint32_t)(hit != 0u) << o % 32u;
    if (o % 32u == 31u || o + 1u == j->out) {
      bits[o / 32u] = word;
      word = 0;
    }
  }
  finish(j, bits);
}

void taper_pixel_stage(const job *j) {
  const sizes s = sizes_of(j);
  const uint32_t height = output_height(j->stage), width = output_width(j->stage);
  const int32_t lift = 3 * LIFT * (int32_t)s.colours;
  uint32_t *bits = j->output;
  /* A sum that reaches the threshold reaches 0x8000 with this. */
  for (uint32_t o = 0; o < j->out; o++)
    j->limits[o] =
        (0x8000u - (uint32_t)(clipped(threshold(j, o), -lift, lift + 1) + lift)) * BOTH;
  for (uint32_t y = 0; y < height; y++) {
    for (uint32_t x = 0; x < width; x++, bits += words_of(j->out)) {
      fill_tables(j, y, x, s);
      outputs(j, s, bits);
    }
  }
}
