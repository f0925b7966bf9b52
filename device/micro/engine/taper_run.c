/* The device's binary stages, and the exit head. */
#include <string.h>

#include "taper_dot.h"
#include "taper_stage.h"

/* What a binary stage needs for each place. */
typedef struct {
  const uint32_t *coefficients;
  uint32_t taps, words, mask, planes;
} kernel;

static kernel kernel_of(const job *j) {
  const kernel k = {j->model->words + j->stage[S_COEFFICIENTS_AT], taps_of(j->stage),
                    words_of(j->in), last_mask(j->in), j->stage[S_PLANES]};
  return k;
}

/* The sum of an output all of whose bits agree with the weights. */
static uint32_t total(const kernel *k, uint32_t in) {
  return k->taps * total_of(in, k->coefficients, k->planes);
}

static uint32_t mismatches(const kernel *k, const uint32_t *window, const uint32_t *weights) {
  return k->taps == BLOCK && !k->planes
             ? nine_mismatches(window, weights, k->words, k->mask, k->coefficients)
             : any_mismatches(window, weights, k->taps, k->words, k->mask, k->coefficients,
                              k->planes);
}

/* Pixel (row, column) of the map, or a negative index outside of it. */
static int32_t place(const job *j, uint32_t row, uint32_t column) {
  if (row >= j->stage[S_HEIGHT] || column >= j->stage[S_WIDTH]) return -1;
  return (int32_t)(row * j->stage[S_WIDTH] + column);
}

/* The window around (y, x) in the order of the weights: word by word, its nine kernel positions.
 * Rows and columns before the first have wrapped around. */
static void bit_window(const job *j, uint32_t y, uint32_t x, uint32_t *window) {
  const uint32_t words = words_of(j->in);
  for (uint32_t tap = 0; tap < 9u; tap++) {
    const int32_t at = place(j, y + tap / 3u - 1u, x + tap % 3u - 1u);
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

/* Windows of all places that are pooled into (y, x). */
static void fill_windows(const job *j, uint32_t y, uint32_t x, uint32_t size) {
  const uint32_t pool = j->stage[S_POOL];
  uint32_t *at = j->scratch;
  for (uint32_t row = y * pool; row < (y + 1u) * pool; row++)
    for (uint32_t column = x * pool; column < (x + 1u) * pool; column++, at += size)
      bit_window(j, row, column, at);
}

/* All outputs of one place: 1 where one of its windows has few enough mismatches. */
static void outputs(const job *j, const kernel *k, const uint32_t *windows, uint32_t positions,
                    uint32_t *bits) {
  const uint32_t size = k->taps * k->words, step = k->taps * words_of(j->stage[S_IN]);
  const uint32_t *weights = j->model->words + j->stage[S_WEIGHTS_AT];
  memset(bits, 0, words_of(j->out) * sizeof *bits);
  for (uint32_t o = 0; o < j->out; o++, weights += step) {
    const int32_t limit = (int32_t)j->limits[o];
    const uint32_t *window = windows;
    for (uint32_t left = positions; left; left--, window += size) {
      if ((int32_t)mismatches(k, window, weights) > limit) continue;
      bits[o / 32u] |= UINT32_C(1) << o % 32u;
      break;
    }
  }
  finish(j, bits);
}

/* Up to 16 channels leave half of each word empty: two outputs are computed at once. The windows'
 * words hold their bits twice, each limit stands in the lower half of its word. */
static void paired_outputs(const job *j, const kernel *k, uint32_t positions, uint32_t *bits) {
  const uint32_t mask = k->mask * BOTH, step = BLOCK * words_of(j->stage[S_IN]);
  const uint32_t *weights = j->model->words + j->stage[S_WEIGHTS_AT];
  memset(bits, 0, words_of(j->out) * sizeof *bits);
  for (uint32_t o = 0; o < j->out; o += 2u, weights += 2u * step) {
    const uint32_t other = o + 1u < j->out ? step : 0u; /* an odd output is there twice */
    const uint32_t limit = j->limits[o] | j->limits[o + (other != 0u)] << 16;
    const uint32_t *window = j->scratch;
    uint32_t both[BLOCK], any = 0;
    for (uint32_t tap = 0; tap < BLOCK; tap++)
      both[tap] = (weights[tap] & 0xffffu) | weights[tap + other] << 16;
    for (uint32_t left = positions; left && any != HIGH; left--, window += BLOCK)
      any |= (limit - weigh_halves(by_byte(count_block(window, both, mask)), k->coefficients)) & HIGH;
    bits[o / 32u] |= ((any >> 15 & 1u) | (other ? any >> 30 & 2u : 0u)) << o % 32u;
  }
  finish(j, bits);
}

static int paired(const kernel *k, const job *j) {
  return k->taps == BLOCK && !k->planes && j->in <= 16u;
}

/* The most mismatches with which a sum reaches its threshold. */
static void set_limits(const job *j, const kernel *k) {
  const int64_t most = total(k, j->in);
  const int halves = paired(k, j);
  for (uint32_t o = 0; o < j->out; o++) {
    const int64_t spare = most - threshold(j, o);
    const int32_t limit = spare < 0 ? -1 : (int32_t)((spare < 2 * most ? spare : 2 * most) / 2);
    j->limits[o] = (uint32_t)(halves ? limit + 0x8000 : limit);
  }
}

static void binary_stage(const job *j) {
  const kernel k = kernel_of(j);
  const uint32_t positions = j->stage[S_POOL] * j->stage[S_POOL];
  const uint32_t height = output_height(j->stage), width = output_width(j->stage);
  const int halves = paired(&k, j);
  uint32_t *bits = j->output;
  set_limits(j, &k);
  if (j->stage[S_KIND] == KIND_LINEAR) {
    outputs(j, &k, whole_map(j), 1, bits);
    return;
  }
  for (uint32_t y = 0; y < height; y++) {
    for (uint32_t x = 0; x < width; x++, bits += words_of(j->out)) {
      fill_windows(j, y, x, BLOCK * k.words);
      if (halves) {
        for (uint32_t i = 0; i < positions * BLOCK; i++) j->scratch[i] *= BOTH;
        paired_outputs(j, &k, positions, bits);
      } else {
        outputs(j, &k, j->scratch, positions, bits);
      }
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
  job j = {model, 0, level, model->channels, 0, image, 0, 0, 0, 0};
  if (level >= model->levels) return TAPER_NO_LEVEL;
  if ((uintptr_t)arena % sizeof(uint32_t)) return TAPER_MISALIGNED;
  if (arena_bytes < model->arena_bytes) return TAPER_NO_ROOM;
  sides[0] = arena;
  sides[1] = sides[0] + side_words(model, 0);
  scratch = sides[1] + side_words(model, 1);
  for (uint32_t index = 0; index < model->stages; index++) {
    j.stage = stage_at(model, index);
    j.out = kept(model, index, level);
    j.output = sides[index % 2u];
    j.limits = scratch;
    j.scratch = scratch + j.stage[S_OUT];
    if (j.stage[S_KIND] == KIND_IMAGE)
      taper_pixel_stage(&j);
    else
      binary_stage(&j);
    j.input = j.output;
    j.in = j.out;
  }
  sample->level = level;
  sample->number = number_of(model, level);
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
  const job j = {model, stage,       sample->level, sample->channels, model->classes,
                 0,     sample->map, 0,             0,                sample->scratch};
  int64_t best = INT64_MIN, next = INT64_MIN;
  if (!model->has_exit) return TAPER_NO_EXIT;
  const kernel k = kernel_of(&j);
  const uint32_t *map = whole_map(&j), *weights = words + stage[S_WEIGHTS_AT];
  const uint32_t most = total(&k, j.in), step = k.taps * words_of(stage[S_IN]);
  const uint32_t row = sample->level * model->classes;
  answer->label = 0;
  for (uint32_t c = 0; c < model->classes; c++) {
    const int64_t sum = (int32_t)(most - 2u * mismatches(&k, map, weights + c * step));
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

taper_step taper_decide(const taper_plan *plan, uint32_t look, const taper_exit *answer) {
  const taper_look *taken = plan->looks + (look ? 1 : 0);
  if (!answer) return TAPER_SEND;
  if (!look && plan->count > 1u && answer->margin < taken->again_below) return TAPER_LOOK_AGAIN;
  return answer->margin >= taken->stays_from ? TAPER_STAY : TAPER_SEND;
}
