/* The device's stages, and the exit head. */
#include <string.h>

#include "taper_blob.h"
#include "taper_dot.h"

enum { MOST_PIXELS = 9 * TAPER_MOST_COLOURS };

/* Where a stage reads and writes at one level. */
typedef struct {
  const taper_model *model;
  const uint32_t *stage;
  uint32_t index, level;
  uint32_t in, out;          /* channels that take part */
  const uint8_t *image;      /* input of a pixel stage */
  const uint32_t *input;     /* of the others */
  uint32_t *output, *scratch;
  uint32_t total;            /* of the coefficients over all taps */
} job;

/* Kernel value (row, column) of the window around (y, x), or a negative index outside the map. */
static int32_t place(const job *j, uint32_t y, uint32_t x, uint32_t tap) {
  const int32_t row = (int32_t)(y + tap / 3u) - 1, column = (int32_t)(x + tap % 3u) - 1;
  if (row < 0 || column < 0 || row >= (int32_t)j->stage[S_HEIGHT] ||
      column >= (int32_t)j->stage[S_WIDTH])
    return -1;
  return row * (int32_t)j->stage[S_WIDTH] + column;
}

/* The kernel's pixels around (y, x), then zeros up to a whole group of four. */
static void pixel_window(const job *j, uint32_t y, uint32_t x, uint8_t *pixels) {
  const uint32_t colours = j->in, width = j->stage[S_WIDTH], count = 9u * colours;
  for (uint32_t spare = count; spare % 4u; spare++) pixels[spare] = 0;
  if (y && x && y + 1u < j->stage[S_HEIGHT] && x + 1u < width) {
    const uint8_t *from = j->image + ((y - 1u) * width + x - 1u) * colours;
    for (uint8_t *end = pixels + count; pixels < end; from += (width - 3u) * colours)
      for (uint8_t *row = pixels + 3u * colours; pixels < row;) *pixels++ = *from++;
    return;
  }
  for (uint32_t tap = 0; tap < 9u; tap++) {
    const int32_t at = place(j, y, x, tap);
    for (uint32_t k = 0; k < colours; k++)
      *pixels++ = at < 0 ? 0 : j->image[(uint32_t)at * colours + k];
  }
}

/* The signed sums of four values, for each choice of their signs: bit k of the index is +. */
static void sums_of_four(const uint8_t *four, int32_t *table) {
  const int32_t none = -(four[0] + four[1] + four[2] + four[3]);
  table[0] = none;
  table[1] = none + 2 * four[0];
  table[2] = none + 2 * four[1];
  table[3] = none + 2 * four[0] + 2 * four[1];
  for (uint32_t i = 0; i < 4u; i++) table[4u + i] = table[i] + 2 * four[2];
  for (uint32_t i = 0; i < 8u; i++) table[8u + i] = table[i] + 2 * four[3];
}

static void pixel_tables(const job *j, uint32_t y, uint32_t x, int32_t *tables) {
  const uint32_t groups = nibbles_of(j->stage);
  uint8_t pixels[MOST_PIXELS];
  pixel_window(j, y, x, pixels);
  for (uint32_t group = 0; group < groups; group++)
    sums_of_four(pixels + 4u * group, tables + 16u * group);
}

static int32_t sum_in_tables(const int32_t *table, const uint32_t *weights, uint32_t groups) {
  int32_t sum = 0;
  for (; groups >= 8u; groups -= 8u) {
    uint32_t word = *weights++;
    for (uint32_t i = 0; i < 8u; i++, table += 16, word >>= 4) sum += table[word & 15u];
  }
  for (uint32_t word = groups ? *weights : 0u; groups; groups--, table += 16, word >>= 4)
    sum += table[word & 15u];
  return sum;
}

/* The largest sum of one output over `positions` sets of tables, `size` words apart. */
static int32_t pixel_sum(const job *j, const uint32_t *windows, uint32_t positions, uint32_t size,
                         uint32_t output) {
  const uint32_t groups = nibbles_of(j->stage);
  const uint32_t *weights = j->model->words + j->stage[S_WEIGHTS_AT] + output * ((groups + 7u) / 8u);
  const int32_t *tables = (const int32_t *)windows;
  int32_t best = INT32_MIN;
  for (; positions; positions--, tables += size) {
    const int32_t sum = sum_in_tables(tables, weights, groups);
    if (sum > best) best = sum;
  }
  return best;
}

/* The window's words in the order of the weights: word by word, its nine kernel positions. */
static void bit_window(const job *j, uint32_t y, uint32_t x, uint32_t *window) {
  const uint32_t words = words_of(j->in);
  for (uint32_t tap = 0; tap < 9u; tap++) {
    const int32_t at = place(j, y, x, tap);
    for (uint32_t word = 0; word < words; word++)
      window[word * 9u + tap] = at < 0 ? 0u : j->input[(uint32_t)at * words + word];
  }
}

/* The whole map in that order; the map itself where it has one word a pixel. */
static const uint32_t *whole_map(const job *j) {
  const uint32_t words = words_of(j->in), taps = taps_of(j->stage);
  if (words == 1u) return j->input;
  for (uint32_t tap = 0; tap < taps; tap++)
    for (uint32_t word = 0; word < words; word++)
      j->scratch[word * taps + tap] = j->input[tap * words + word];
  return j->scratch;
}

/* The largest sum of one output over `positions` windows, `size` words apart. */
static int32_t bit_sum(const job *j, const uint32_t *windows, uint32_t positions, uint32_t size,
                       uint32_t output) {
  const uint32_t *stage = j->stage, *start = j->model->words;
  const uint32_t taps = taps_of(stage), planes = stage[S_PLANES];
  const uint32_t words = words_of(j->in), mask = last_mask(j->in);
  const uint32_t *coefficients = start + stage[S_COEFFICIENTS_AT];
  const uint32_t *weights = start + stage[S_WEIGHTS_AT] + output * words_of(stage[S_IN]) * taps;
  uint32_t least = UINT32_MAX;
  for (; positions; positions--, windows += size) {
    const uint32_t differ =
        taps == 9u && !planes
            ? nine_mismatches(windows, weights, words, mask, coefficients)
            : any_mismatches(windows, weights, taps, words, mask, coefficients, planes);
    if (differ < least) least = differ;
  }
  return (int32_t)(j->total - 2u * least);
}

/* The sum of an output all of whose bits agree with the weights. */
static uint32_t total(const job *j) {
  const uint32_t *coefficients = j->model->words + j->stage[S_COEFFICIENTS_AT];
  return taps_of(j->stage) * total_of(j->in, coefficients, j->stage[S_PLANES]);
}

static int32_t threshold(const job *j, uint32_t output) {
  const uint32_t *table = j->model->words + j->stage[S_THRESHOLDS_AT], out = j->stage[S_OUT];
  if (j->stage[S_WIDE]) return (int32_t)table[j->level * out + output];
  const uint32_t pair = table[j->level * ((out + 1u) / 2u) + output / 2u];
  return (int16_t)(output % 2u ? pair >> 16 : pair & 0xffffu);
}

/* All outputs of one place: `positions` windows or tables of `size` words each. */
static void outputs(const job *j, const uint32_t *windows, uint32_t positions, uint32_t size,
                    uint32_t *bits) {
  const uint32_t *flips =
      j->model->words + j->stage[S_FLIPS_AT] + j->level * words_of(j->stage[S_OUT]);
  const int image = j->stage[S_KIND] == KIND_IMAGE;
  uint32_t word = 0;
  for (uint32_t o = 0; o < j->out; o++) {
    const int32_t sum = image ? pixel_sum(j, windows, positions, size, o)
                              : bit_sum(j, windows, positions, size, o);
    word |= (uint32_t)(sum >= threshold(j, o)) << o % 32u;
    if (o % 32u == 31u || o + 1u == j->out) {
      bits[o / 32u] = (word ^ flips[o / 32u]) & (o + 1u == j->out ? last_mask(j->out) : UINT32_MAX);
      word = 0;
    }
  }
}

/* Windows or tables of all places that are pooled into (y, x). */
static void fill_scratch(const job *j, uint32_t y, uint32_t x, uint32_t size) {
  const uint32_t pool = j->stage[S_POOL];
  uint32_t *at = j->scratch;
  for (uint32_t row = y * pool; row < (y + 1u) * pool; row++) {
    for (uint32_t column = x * pool; column < (x + 1u) * pool; column++, at += size) {
      if (j->stage[S_KIND] == KIND_IMAGE)
        pixel_tables(j, row, column, (int32_t *)at);
      else
        bit_window(j, row, column, at);
    }
  }
}

static void run_stage(job *j) {
  const uint32_t positions = j->stage[S_POOL] * j->stage[S_POOL];
  const uint32_t size = taper_scratch_words(j->stage) / positions;
  const uint32_t height = output_height(j->stage), width = output_width(j->stage);
  uint32_t *bits = j->output;
  if (j->stage[S_KIND] != KIND_IMAGE) j->total = total(j);
  if (j->stage[S_KIND] == KIND_LINEAR) {
    outputs(j, whole_map(j), 1, 0, bits);
    return;
  }
  for (uint32_t y = 0; y < height; y++) {
    for (uint32_t x = 0; x < width; x++, bits += words_of(j->out)) {
      fill_scratch(j, y, x, size);
      outputs(j, j->scratch, positions, size, bits);
    }
  }
}

/* Words of the larger of the maps that go to one side of the arena. */
static size_t side_words(const taper_model *model, uint32_t side) {
  size_t most = 0;
  for (uint32_t i = side; i < model->stages; i += 2u) {
    const uint32_t *stage = stage_at(model, i);
    size_t map = (size_t)output_height(stage) * output_width(stage) * words_of(stage[S_OUT]);
    if (map > most) most = map;
  }
  return most;
}

taper_status taper_run(const taper_model *model, uint32_t level, const uint8_t *image, void *arena,
                       size_t arena_bytes, taper_sample *sample) {
  uint32_t *sides[2], *scratch;
  job j = {model, 0, 0, level, model->channels, 0, image, 0, 0, 0, 0};
  if (level >= model->levels) return TAPER_NO_LEVEL;
  if ((uintptr_t)arena % sizeof(uint32_t)) return TAPER_MISALIGNED;
  if (arena_bytes < model->arena_bytes) return TAPER_NO_ROOM;
  sides[0] = arena;
  sides[1] = sides[0] + side_words(model, 0);
  scratch = sides[1] + side_words(model, 1);
  for (j.index = 0; j.index < model->stages; j.index++) {
    j.stage = stage_at(model, j.index);
    j.out = kept(model, j.index, level);
    j.output = sides[j.index % 2u];
    j.scratch = scratch;
    run_stage(&j);
    j.input = j.output;
    j.in = j.out;
  }
  sample->level = level;
  sample->number = model->words[model->words[H_LEVELS_AT] + level * L_END + L_NUMBER];
  sample->height = output_height(j.stage);
  sample->width = output_width(j.stage);
  sample->channels = j.in;
  sample->map = j.input;
  sample->scratch = scratch;
  return TAPER_OK;
}

taper_status taper_ask_exit(const taper_model *model, const taper_sample *sample, taper_exit *answer) {
  const uint32_t *words = model->words, *stage = words + words[H_EXIT_AT];
  const uint32_t *level = words + words[H_LEVELS_AT] + sample->level * L_END;
  job j = {model, stage, 0, sample->level, sample->channels, model->classes,
           0,     sample->map, 0, sample->scratch, 0};
  int64_t best = INT64_MIN, next = INT64_MIN;
  if (!model->has_exit) return TAPER_NO_EXIT;
  const uint32_t *map = whole_map(&j);
  j.total = total(&j);
  const uint32_t row = sample->level * model->classes;
  answer->label = 0;
  for (uint32_t c = 0; c < model->classes; c++) {
    const int64_t sum = bit_sum(&j, map, 1, 0, c);
    const int64_t logit = sum * (int32_t)words[stage[S_THRESHOLDS_AT] + row + c] +
                          (int32_t)words[stage[S_FLIPS_AT] + row + c];
    if (logit > best) {
      next = best;
      best = logit;
      answer->label = c;
    } else if (logit > next) {
      next = logit;
    }
  }
  answer->margin = model->classes > 1u ? best - next : INT64_C(1) << 62;
  const uint64_t least = (uint64_t)level[L_MARGIN_HIGH] << 32 | level[L_MARGIN_LOW];
  answer->stays = answer->margin >= 0 && (uint64_t)answer->margin >= least;
  return TAPER_OK;
}
