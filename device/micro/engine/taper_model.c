/* Opening a blob: everything that later calls rely on is checked here, once. */
#include "taper_blob.h"

enum {
  MOST_SIDE = 1024,     /* of an image or map */
  MOST_CHANNELS = 1024, /* of a map */
  MOST_TAPS = 4096,
  MOST_PLANES = 7 /* coefficients are at most 127 */
};

static uint32_t crc32(const uint32_t *words, uint32_t count) {
  uint32_t crc = UINT32_MAX;
  for (uint32_t i = 0; i < count; i++) {
    crc ^= words[i];
    for (int bit = 0; bit < 32; bit++) crc = (crc >> 1) ^ (UINT32_C(0xedb88320) & (0u - (crc & 1u)));
  }
  return ~crc;
}

/* Whether `count` words from word `at` lie in the blob. */
static int inside(const uint32_t *words, uint32_t at, uint64_t count) {
  return at >= H_END && at <= words[H_WORDS] && count <= words[H_WORDS] - at;
}

static int within(uint32_t value, uint32_t least, uint32_t most) {
  return value >= least && value <= most;
}

static int coefficients_fit(const uint32_t *words, const uint32_t *stage) {
  const uint32_t planes = stage[S_PLANES], count = words_of(stage[S_IN]) * (planes ? planes : 2u);
  const uint32_t *at = words + stage[S_COEFFICIENTS_AT];
  if (planes > MOST_PLANES || !inside(words, stage[S_COEFFICIENTS_AT], count)) return 0;
  for (uint32_t i = 0; i < count && !planes; i++)
    if (at[i] & UINT32_C(0xff80ff80)) return 0;
  return 1;
}

static uint64_t weight_words(const uint32_t *stage) {
  const uint64_t out = stage[S_OUT];
  if (stage[S_KIND] == KIND_IMAGE) return out * weights_of_pixels(stage);
  return out * words_of(stage[S_IN]) * taps_of(stage);
}

static int stage_fits(const uint32_t *words, const uint32_t *stage, uint32_t in, uint32_t height,
                      uint32_t width) {
  const uint32_t levels = words[H_LEVELS], kind = stage[S_KIND];
  if (kind > KIND_LINEAR || stage[S_IN] != in || stage[S_HEIGHT] != height || stage[S_WIDTH] != width)
    return 0;
  if (!within(stage[S_OUT], 1, MOST_CHANNELS) || !within(stage[S_POOL], 1, TAPER_MOST_POOL)) return 0;
  if (kind == KIND_LINEAR && (height * width > MOST_TAPS || stage[S_POOL] != 1)) return 0;
  if (height < stage[S_POOL] || width < stage[S_POOL]) return 0;
  if (kind == KIND_IMAGE ? in > TAPER_MOST_COLOURS : !coefficients_fit(words, stage)) return 0;
  if (!inside(words, stage[S_WEIGHTS_AT], weight_words(stage)) ||
      !inside(words, stage[S_OUT_AT], levels))
    return 0;
  for (uint32_t level = 0; level < levels; level++)
    if (!within(words[stage[S_OUT_AT] + level], 1, stage[S_OUT])) return 0;
  return 1;
}

static int tables_fit(const uint32_t *words, const uint32_t *stage) {
  const uint64_t levels = words[H_LEVELS], out = stage[S_OUT];
  const uint64_t row = stage[S_WIDE] ? out : (out + 1u) / 2u;
  return stage[S_WIDE] <= 1u && inside(words, stage[S_THRESHOLDS_AT], levels * row) &&
         inside(words, stage[S_FLIPS_AT], levels * words_of(stage[S_OUT]));
}

static int exit_fits(const uint32_t *words, uint32_t in, uint32_t height, uint32_t width) {
  const uint32_t *stage = words + words[H_EXIT_AT];
  const uint64_t table = (uint64_t)words[H_LEVELS] * words[H_CLASSES];
  return inside(words, words[H_EXIT_AT], S_END) && stage_fits(words, stage, in, height, width) &&
         stage[S_KIND] == KIND_LINEAR && stage[S_OUT] == words[H_CLASSES] &&
         inside(words, stage[S_THRESHOLDS_AT], table) && inside(words, stage[S_FLIPS_AT], table);
}

/* Bytes of the context model: see taper_coder.c. */
static int context_fits(const uint32_t *words, uint32_t channels, uint32_t height, uint32_t width) {
  const uint32_t hidden = words[H_HIDDEN];
  const uint64_t rows = 6u * channels + height + width + words[H_LEVELS];
  const uint64_t biases = ((uint64_t)words[H_LEVELS] * channels + 1u) / 2u;
  if (!hidden) return 1;
  return hidden <= TAPER_MOST_HIDDEN && hidden % 4u == 0u &&
         inside(words, words[H_CONTEXT_AT], rows * hidden / 4u + biases);
}

uint32_t taper_scratch_words(const uint32_t *stage) {
  const uint32_t pool = stage[S_POOL], limits = stage[S_OUT];
  if (stage[S_KIND] == KIND_IMAGE)
    return limits + (pool + 2u) * ((pool + 1u) / 2u) * stage[S_IN] * 8u;
  /* A map of one word a pixel is in the order of a linear stage's weights already. */
  if (stage[S_KIND] == KIND_LINEAR && words_of(stage[S_IN]) == 1u) return limits;
  return limits + pool * pool * words_of(stage[S_IN]) * taps_of(stage);
}

/* The arena: two maps in turn and the scratch of a stage. */
static size_t arena_of(const taper_model *model) {
  size_t maps[2] = {0, 0}, scratch = 0;
  for (uint32_t i = 0; i < model->stages; i++) {
    const uint32_t *stage = stage_at(model, i);
    size_t map = (size_t)output_height(stage) * output_width(stage) * words_of(stage[S_OUT]);
    if (map > maps[i % 2u]) maps[i % 2u] = map;
    if (taper_scratch_words(stage) > scratch) scratch = taper_scratch_words(stage);
  }
  if (model->has_exit) {
    const size_t words = taper_scratch_words(model->words + model->words[H_EXIT_AT]);
    if (words > scratch) scratch = words;
  }
  return (maps[0] + maps[1] + scratch) * sizeof(uint32_t);
}

static int header_fits(const uint32_t *words) {
  return within(words[H_HEIGHT], 1, MOST_SIDE) && within(words[H_WIDTH], 1, MOST_SIDE) &&
         within(words[H_CHANNELS], 1, TAPER_MOST_COLOURS) &&
         within(words[H_CLASSES], 1, TAPER_MOST_CLASSES) &&
         within(words[H_STAGES], 1, TAPER_MOST_STAGES) &&
         within(words[H_LEVELS], 1, TAPER_MOST_LEVELS) && words[H_NAME_BYTES] <= TAPER_NAME_BYTES &&
         inside(words, words[H_STAGES_AT], (uint64_t)words[H_STAGES] * S_END) &&
         inside(words, words[H_LEVELS_AT], (uint64_t)words[H_LEVELS] * L_END);
}

static int stages_fit(const uint32_t *words) {
  uint32_t in = words[H_CHANNELS], height = words[H_HEIGHT], width = words[H_WIDTH];
  for (uint32_t i = 0; i < words[H_STAGES]; i++) {
    const uint32_t *stage = words + words[H_STAGES_AT] + i * S_END;
    if ((stage[S_KIND] == KIND_IMAGE) != (i == 0u)) return 0;
    if (!stage_fits(words, stage, in, height, width) || !tables_fit(words, stage)) return 0;
    in = stage[S_OUT];
    height = output_height(stage);
    width = output_width(stage);
  }
  if (words[H_EXIT_AT] && !exit_fits(words, in, height, width)) return 0;
  return context_fits(words, in, height, width);
}

taper_status taper_open(taper_model *model, const void *blob, size_t size) {
  const uint32_t *words = blob;
  if ((uintptr_t)blob % sizeof(uint32_t)) return TAPER_MISALIGNED;
  if (size < H_END * sizeof(uint32_t) || words[H_MAGIC] != TAPER_MAGIC) return TAPER_NO_MODEL;
  if (words[H_WORDS] < H_END || words[H_WORDS] > size / sizeof(uint32_t)) return TAPER_NO_MODEL;
  if (crc32(words + H_CRC + 1, words[H_WORDS] - H_CRC - 1u) != words[H_CRC]) return TAPER_NO_MODEL;
  if (!header_fits(words) || !stages_fit(words)) return TAPER_NO_MODEL;
  model->words = words;
  model->height = words[H_HEIGHT];
  model->width = words[H_WIDTH];
  model->channels = words[H_CHANNELS];
  model->classes = words[H_CLASSES];
  model->stages = words[H_STAGES];
  model->levels = words[H_LEVELS];
  model->hidden = words[H_HIDDEN];
  model->has_exit = words[H_EXIT_AT] != 0u;
  model->arena_bytes = arena_of(model);
  return TAPER_OK;
}

uint32_t taper_level_for(const taper_model *model, uint32_t millionths) {
  const uint32_t *levels = model->words + model->words[H_LEVELS_AT];
  uint32_t index = 0;
  while (index + 1u < model->levels && levels[index * L_END + L_MILLIONTHS] < millionths) index++;
  return index;
}
