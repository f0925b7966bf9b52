/* Runs every level of a model over the pictures of a file and writes what came out, for tests.
 *
 * Reads "pictures.bin": pictures one after another, as taper_run takes them. Writes "results.bin":
 * for each picture and each level a `result`, then the sample's raw bits, then its request.
 */
#include <string.h>

#include "model.h"
#include "port.h"
#include "taper.h"

typedef struct {
  uint32_t status, label, stays, raw_bytes, request_bytes, stack_bytes;
  int64_t margin;
  uint64_t instructions;
} result;

static uint32_t arena[TAPER_ARENA_BYTES / 4];
static uint8_t picture[TAPER_PICTURE_BYTES];
static uint8_t raw[TAPER_RAW_BYTES];
static uint8_t request[TAPER_RAW_BYTES + TAPER_REQUEST_OVERHEAD];

/* All that a device does with one picture. */
static taper_status classify(const taper_model *model, uint32_t level, taper_sample *sample,
                             taper_exit *answer, size_t *size) {
  taper_status status = taper_run(model, level, picture, arena, sizeof arena, sample);
  if (status == TAPER_OK && model->has_exit) status = taper_ask_exit(model, sample, answer);
  if (status == TAPER_OK)
    status = taper_request(model, sample, 7, request, sizeof request, size);
  return status;
}

static void exercise(const taper_model *model, uint32_t level) {
  result r;
  taper_sample sample;
  taper_exit answer = {0, 0, 0};
  size_t size = 0;
  memset(&r, 0, sizeof r);
  port_paint_stack();
  r.status = (uint32_t)classify(model, level, &sample, &answer, &size);
  r.stack_bytes = port_stack_used();
  const uint64_t began = port_instructions();
  taper_run(model, level, picture, arena, sizeof arena, &sample);
  r.instructions = port_instructions() - began;
  if (r.status == TAPER_OK) {
    r.raw_bytes = (uint32_t)taper_raw_bytes(&sample);
    r.request_bytes = (uint32_t)size;
    r.label = answer.label;
    r.margin = answer.margin;
    r.stays = (uint32_t)answer.stays;
    taper_raw(&sample, raw);
  }
  port_write(&r, sizeof r);
  port_write(raw, r.raw_bytes);
  port_write(request, r.request_bytes);
}

int main(void) {
  taper_model model;
  taper_status status = taper_open(&model, taper_blob, sizeof taper_blob);
  if (status != TAPER_OK) return (int)status;
  if (port_open() != 0) return 100;
  while (port_read(picture, sizeof picture) == 0)
    for (uint32_t level = 0; level < model.levels; level++) exercise(&model, level);
  return port_close();
}
