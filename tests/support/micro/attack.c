/* Opens damaged copies of a blob and runs those that open, with buffers of exactly the right size.
 *
 * attack BLOB ROUNDS SEED. Every copy has a right checksum, so that it is the engine's own checks
 * that are tried. Meant for the sanitizers: it ends with 0 unless they object.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "taper.h"

enum { MOST_BYTES = 1 << 20, MOST_ARENA = 1 << 16 };

static uint64_t state;

static uint32_t draw(uint32_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % below;
}

static uint32_t crc32(const uint32_t *words, size_t count) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < count; i++) {
    crc ^= words[i];
    for (int bit = 0; bit < 32; bit++) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

static uint32_t damaged(uint32_t value) {
  static const uint32_t odd[] = {0, 1, 2, 31, 32, 33, 255, 1024, 4096, 65535, 0x7fffffff, 0xffffffff};
  switch (draw(4)) {
    case 0: return odd[draw(sizeof odd / sizeof *odd)];
    case 1: return value + 1u;
    case 2: return value - 1u;
    default: return value ^ (UINT32_C(1) << draw(32));
  }
}

static void run_all(const taper_model *model) {
  const size_t pixels = (size_t)model->height * model->width * model->channels;
  uint8_t *image = malloc(pixels), *arena = malloc(model->arena_bytes + 1u);
  for (size_t i = 0; i < pixels; i++) image[i] = (uint8_t)draw(256);
  for (uint32_t level = 0; level <= model->levels; level++) {
    taper_sample sample;
    taper_exit answer;
    taper_status status =
        taper_run(model, level, image, arena + draw(2), model->arena_bytes - draw(2), &sample);
    if (status != TAPER_OK) continue;
    taper_ask_exit(model, &sample, &answer);
    const size_t room = taper_raw_bytes(&sample) + TAPER_REQUEST_OVERHEAD - draw(2);
    uint8_t *request = malloc(room);
    size_t size;
    taper_request(model, &sample, state, request, room, &size);
    free(request);
  }
  free(image);
  free(arena);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  FILE *file = fopen(argv[1], "rb");
  uint32_t *original = malloc(MOST_BYTES);
  const size_t words = fread(original, 4, MOST_BYTES / 4, file) , rounds = (size_t)atol(argv[2]);
  size_t opened = 0;
  fclose(file);
  state = (uint64_t)atol(argv[3]);
  for (size_t round = 0; round < rounds; round++) {
    const size_t kept = draw(8) ? words : 1u + draw((uint32_t)words);
    uint32_t *copy = malloc(kept * 4u);
    memcpy(copy, original, kept * 4u);
    for (uint32_t i = draw(4); i; i--) {
      const uint32_t reach = draw(2) ? 120 : (uint32_t)kept, at = draw(reach < kept ? reach : (uint32_t)kept);
      copy[at] = damaged(copy[at]);
    }
    if (kept > 3u && copy[1] >= 3u && copy[1] <= kept) copy[2] = crc32(copy + 3, copy[1] - 3u);
    taper_model model;
    if (taper_open(&model, copy, kept * 4u) == TAPER_OK && model.arena_bytes <= MOST_ARENA &&
        (size_t)model.height * model.width <= 4096u) {
      opened++;
      run_all(&model);
    }
    if (kept > 1u) taper_open(&model, (const uint8_t *)copy + 1, kept * 4u - 1u);
    free(copy);
  }
  free(original);
  printf("%lu of %lu opened\n", (unsigned long)opened, (unsigned long)rounds);
  return opened ? 0 : 3;
}
