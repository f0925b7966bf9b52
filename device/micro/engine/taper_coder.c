/* The context coder: shared/protocol/context_model.py and range_coder.py in integers of 32 bits.
 *
 * The model's bytes, `hidden` int8 a row: four neighbours by channel, channels, outputs, the map's
 * rows, its columns, the levels; then an int16 bias for every level and channel.
 */
#include <string.h>

#include "taper_blob.h"
#include "taper_probabilities.h"

enum { LARGEST_ACTIVATION = 127, LOGIT_SHIFT = 5 };
#define LEAST_RANGE (UINT32_C(1) << 24)

typedef struct {
  uint8_t *bytes;
  size_t count, limit;
  uint32_t low, range;
} encoder;

static void add_carry(encoder *e) {
  size_t at = e->count;
  while (at && ++e->bytes[--at] == 0u) {
  }
}

/* One bit that is 1 with `probability` / 65536; 0 once the payload reaches its limit. */
static int put(encoder *e, uint32_t bit, uint32_t probability) {
  const uint32_t bound = (e->range >> 16) * probability;
  if (bit) {
    e->range = bound;
  } else {
    e->low += bound;
    if (e->low < bound) add_carry(e);
    e->range -= bound;
  }
  while (e->range < LEAST_RANGE) {
    if (e->count == e->limit) return 0;
    e->bytes[e->count++] = (uint8_t)(e->low >> 24);
    e->low <<= 8;
    e->range <<= 8;
  }
  return 1;
}

/* Append the number in the last range that takes the fewest bytes. */
static int finish(encoder *e) {
  const uint64_t last = (uint64_t)e->low + e->range - 1u;
  for (uint32_t count = 0; count <= 4u; count++) {
    const uint32_t spare = 32u - 8u * count;
    const uint64_t value = last >> spare << spare;
    if (value < e->low) continue;
    if (value >> 32) add_carry(e);
    if (count > e->limit - e->count) return 0;
    for (uint32_t i = 0; i < count; i++) e->bytes[e->count++] = (uint8_t)(value >> (24u - 8u * i));
    return 1;
  }
  return 0;
}

static uint32_t bit_of(const taper_sample *s, uint32_t pixel, uint32_t channel) {
  return s->map[pixel * words_of(s->channels) + channel / 32u] >> channel % 32u & 1u;
}

static void add_row(int32_t *hidden, const int8_t *row, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) hidden[i] += row[i];
}

typedef struct {
  const int8_t *rows; /* of the bundle's weight, see above */
  const uint32_t *biases; /* int16 in pairs, by level and channel */
  uint32_t first;         /* bias of the level */
  uint32_t hidden, channels; /* channels of the full map */
} context;

static context context_of(const taper_model *model, const taper_sample *s) {
  const uint32_t *words = model->words, *last = stage_at(model, model->stages - 1u);
  const uint32_t channels = last[S_OUT];
  const uint32_t rows = 6u * channels + s->height + s->width + model->levels;
  context c;
  c.rows = (const int8_t *)(words + words[H_CONTEXT_AT]);
  c.biases = words + words[H_CONTEXT_AT] + rows * model->hidden / 4u;
  c.first = s->level * channels;
  c.hidden = model->hidden;
  c.channels = channels;
  return c;
}

/* Hidden units of a pixel before any of its own bits are known. */
static void start_pixel(const context *c, const taper_sample *s, uint32_t y, uint32_t x,
                        int32_t *hidden) {
  const uint32_t place = 6u * c->channels;
  const int32_t down[4] = {0, -1, -1, -1}, right[4] = {-1, 0, -1, 1};
  memset(hidden, 0, c->hidden * sizeof *hidden);
  add_row(hidden, c->rows + (place + y) * c->hidden, c->hidden);
  add_row(hidden, c->rows + (place + s->height + x) * c->hidden, c->hidden);
  add_row(hidden, c->rows + (place + s->height + s->width + s->level) * c->hidden, c->hidden);
  for (uint32_t n = 0; n < 4u; n++) {
    const int32_t row = (int32_t)y + down[n], column = (int32_t)x + right[n];
    if (row < 0 || column < 0 || column >= (int32_t)s->width) continue;
    const uint32_t pixel = (uint32_t)row * s->width + (uint32_t)column;
    for (uint32_t channel = 0; channel < s->channels; channel++)
      if (bit_of(s, pixel, channel))
        add_row(hidden, c->rows + (n * c->channels + channel) * c->hidden, c->hidden);
  }
}

static uint32_t probability(const context *c, const int32_t *hidden, uint32_t channel) {
  const int8_t *output = c->rows + (5u * c->channels + channel) * c->hidden;
  const int32_t half = TAPER_PROBABILITIES << LOGIT_SHIFT;
  const uint32_t pair = c->biases[(c->first + channel) / 2u];
  int32_t logit = (int16_t)((c->first + channel) % 2u ? pair >> 16 : pair & 0xffffu) + half;
  for (uint32_t i = 0; i < c->hidden; i++) {
    int32_t active = hidden[i] < 0 ? 0 : hidden[i];
    if (active > LARGEST_ACTIVATION) active = LARGEST_ACTIVATION;
    logit += active * output[i];
  }
  if (logit < 0) logit = 0;
  uint32_t step = (uint32_t)logit >> LOGIT_SHIFT;
  if (step > 2u * TAPER_PROBABILITIES - 1u) step = 2u * TAPER_PROBABILITIES - 1u;
  /* The table holds the upper half; the lower one mirrors it. */
  return step < TAPER_PROBABILITIES ? 65536u - taper_probabilities[TAPER_PROBABILITIES - 1u - step]
                                    : taper_probabilities[step - TAPER_PROBABILITIES];
}

/* Encode into fewer than `limit` bytes; 0 if that does not do. */
static size_t encode_context(const taper_model *model, const taper_sample *s, uint8_t *payload,
                             size_t limit) {
  const context c = context_of(model, s);
  encoder e = {payload, 0, limit - 1u, 0, UINT32_MAX};
  int32_t hidden[TAPER_MOST_HIDDEN];
  for (uint32_t y = 0; y < s->height; y++) {
    for (uint32_t x = 0; x < s->width; x++) {
      start_pixel(&c, s, y, x, hidden);
      for (uint32_t channel = 0; channel < s->channels; channel++) {
        const uint32_t bit = bit_of(s, y * s->width + x, channel);
        if (!put(&e, bit, probability(&c, hidden, channel))) return 0;
        if (bit) add_row(hidden, c.rows + (4u * c.channels + channel) * c.hidden, c.hidden);
      }
    }
  }
  return finish(&e) ? e.count : 0u;
}

size_t taper_raw_bytes(const taper_sample *s) {
  return ((size_t)s->height * s->width * s->channels + 7u) / 8u;
}

void taper_raw(const taper_sample *s, uint8_t *bytes) {
  uint32_t at = 0;
  memset(bytes, 0, taper_raw_bytes(s));
  for (uint32_t pixel = 0; pixel < s->height * s->width; pixel++)
    for (uint32_t channel = 0; channel < s->channels; channel++, at++)
      bytes[at / 8u] |= (uint8_t)(bit_of(s, pixel, channel) << at % 8u);
}

taper_status taper_encode(const taper_model *model, const taper_sample *sample, uint8_t *payload,
                          size_t room, size_t *size, taper_encoding *encoding) {
  const size_t raw = taper_raw_bytes(sample);
  if (room < raw) return TAPER_NO_ROOM;
  if (model->hidden) {
    *size = encode_context(model, sample, payload, raw);
    *encoding = TAPER_CONTEXT;
    if (*size) return TAPER_OK;
  }
  taper_raw(sample, payload);
  *size = raw;
  *encoding = TAPER_RAW;
  return TAPER_OK;
}
