/* The engine as a WebAssembly module: one model and one sample at a time, in the module's memory.
 *
 * The caller writes a blob where `place` says, calls `open`, writes a picture where `picture` says,
 * calls `run` and reads what it wants to know of the sample. taper.js is that caller.
 */
#include <string.h>

#include "taper.h"

#define EXPORT(name) __attribute__((export_name(name)))

enum { PAGE_BYTES = 65536, ALIGNMENT = 16 };

extern uint8_t __heap_base;

static taper_model model;
static taper_sample sample;
static taper_exit answer;
static taper_encoding encoding;
static uint8_t *blob, *arena, *image, *output;
static size_t output_room;

void *memcpy(void *to, const void *from, size_t size) { return __builtin_memcpy(to, from, size); }

void *memmove(void *to, const void *from, size_t size) { return __builtin_memmove(to, from, size); }

void *memset(void *to, int value, size_t size) { return __builtin_memset(to, value, size); }

int memcmp(const void *one, const void *other, size_t size) {
  const uint8_t *a = one, *b = other;
  for (size_t i = 0; i < size; i++)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

/* The first aligned address at or after `at`. */
static uint8_t *aligned(uint8_t *at) {
  return (uint8_t *)(((uintptr_t)at + ALIGNMENT - 1u) / ALIGNMENT * ALIGNMENT);
}

/* Grow the memory to hold `end`; 0 if the browser gives no more. */
static int reserve(const uint8_t *end) {
  const size_t pages = ((uintptr_t)end + PAGE_BYTES - 1u) / PAGE_BYTES;
  const size_t have = __builtin_wasm_memory_size(0);
  return pages <= have || __builtin_wasm_memory_grow(0, pages - have) != SIZE_MAX;
}

/* Where a blob of `size` bytes is to be written; NULL if there is no room. */
EXPORT("place") uint8_t *place(size_t size) {
  blob = aligned(&__heap_base);
  if (size > SIZE_MAX / 2u || !reserve(blob + size)) return NULL;
  return blob;
}

/* Check the blob and lay out what its samples need. */
EXPORT("open") taper_status open_blob(size_t size) {
  const taper_status status = taper_open(&model, blob, size);
  if (status != TAPER_OK) return status;
  arena = aligned(blob + size);
  image = aligned(arena + model.arena_bytes);
  output = aligned(image + (size_t)model.height * model.width * model.channels);
  /* A map lies in the arena, so its bits take no more than that. */
  output_room = model.arena_bytes + TAPER_REQUEST_OVERHEAD;
  return reserve(output + output_room) ? TAPER_OK : TAPER_NO_ROOM;
}

EXPORT("height") uint32_t height(void) { return model.height; }
EXPORT("width") uint32_t width(void) { return model.width; }
EXPORT("channels") uint32_t channels(void) { return model.channels; }
EXPORT("classes") uint32_t classes(void) { return model.classes; }
EXPORT("levels") uint32_t levels(void) { return model.levels; }
EXPORT("has_exit") uint32_t has_exit(void) { return model.has_exit; }

/* Where a picture of height * width * channels bytes is to be written. */
EXPORT("picture") uint8_t *picture(void) { return image; }

/* Where `raw`, `encode` and `request` write. */
EXPORT("output") const uint8_t *written(void) { return output; }

/* Run the device's stages on the picture, and the exit head if there is one. */
EXPORT("run") taper_status run(uint32_t level) {
  const taper_status status = taper_run(&model, level, image, arena, model.arena_bytes, &sample);
  if (status != TAPER_OK || !model.has_exit) return status;
  return taper_ask_exit(&model, &sample, &answer);
}

EXPORT("map_height") uint32_t map_height(void) { return sample.height; }
EXPORT("map_width") uint32_t map_width(void) { return sample.width; }
EXPORT("map_channels") uint32_t map_channels(void) { return sample.channels; }
EXPORT("level_number") uint32_t level_number(void) { return sample.number; }
EXPORT("exit_label") uint32_t exit_label(void) { return answer.label; }
EXPORT("exit_margin") int64_t exit_margin(void) { return answer.margin; }
EXPORT("exit_stays") int exit_stays(void) { return answer.stays; }

/* Write the sample's bits as they are; gives their bytes. */
EXPORT("raw") size_t raw(void) {
  taper_raw(&sample, output);
  return taper_raw_bytes(&sample);
}

/* Write the smaller of both encodings; gives its bytes, 0 if it cannot be had. */
EXPORT("encode") size_t encode(void) {
  size_t size = 0;
  return taper_encode(&model, &sample, output, output_room, &size, &encoding) == TAPER_OK ? size : 0;
}

/* Which encoding the last `encode` chose. */
EXPORT("encoding") uint32_t last_encoding(void) { return encoding; }

/* Write an InferRequest; gives its bytes, 0 if it cannot be had. */
EXPORT("request") size_t request(uint32_t id) {
  size_t size = 0;
  return taper_request(&model, &sample, id, output, output_room, &size) == TAPER_OK ? size : 0;
}
