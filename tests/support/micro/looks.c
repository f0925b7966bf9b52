/* Looks at the pictures of a file by several plans and writes what was decided and sent, for tests.
 *
 * "pictures.bin" begins with the size of a blob and the number of plans, 32 bits each; the blob, the
 * plans and the pictures follow. Writes "results.bin": for each picture and each plan an `outcome`,
 * the request that follows from the looks here, if one is sent, and that of a second look which the
 * server asked for, if it may.
 */
#include <string.h>

#include "port.h"
#include "taper.h"

enum { MOST_PLANS = 64, BLOB_BYTES = 1 << 18, ARENA_BYTES = 1 << 15, PICTURE_BYTES = 32 * 32 * 3 };
enum { REQUEST_BYTES = 4096 };

typedef struct {
  uint32_t taken, step, request_bytes, second_bytes;
} outcome;

static uint32_t blob[BLOB_BYTES / 4], arena[ARENA_BYTES / 4];
static uint8_t picture[PICTURE_BYTES], request[REQUEST_BYTES], second[REQUEST_BYTES];
static taper_plan plans[MOST_PLANS];

static int write_request(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                         const taper_sample *sample, uint8_t *to, uint32_t *bytes) {
  size_t size = 0;
  const taper_status status =
      taper_request_look(model, plan, earlier, sample, 7, to, sizeof request, &size);
  *bytes = (uint32_t)size;
  return status != TAPER_OK;
}

static int follow(const taper_model *model, const taper_plan *plan) {
  taper_sample sample;
  taper_exit answer;
  outcome o;
  memset(&o, 0, sizeof o);
  do {
    const uint32_t level = plan->looks[o.taken].level;
    if (taper_run(model, level, picture, arena, sizeof arena, &sample) != TAPER_OK) return 1;
    const int asked = taper_ask_exit(model, &sample, &answer) == TAPER_OK;
    o.step = taper_decide(plan, o.taken++, asked ? &answer : 0);
  } while (o.step == TAPER_LOOK_AGAIN);
  if (o.step == TAPER_SEND &&
      write_request(model, plan, 0, &sample, request, &o.request_bytes))
    return 2;
  if (o.step == TAPER_SEND && plan->count > o.taken) {
    const uint32_t level = plan->looks[1].level;
    if (taper_run(model, level, picture, arena, sizeof arena, &sample) != TAPER_OK) return 3;
    if (write_request(model, plan, 1, &sample, second, &o.second_bytes)) return 4;
  }
  port_write(&o, sizeof o);
  port_write(request, o.request_bytes);
  port_write(second, o.second_bytes);
  return 0;
}

int main(void) {
  taper_model model;
  uint32_t head[2];
  if (port_open() != 0 || port_read(head, sizeof head) != 0) return 10;
  if (head[0] > sizeof blob || head[1] > MOST_PLANS) return 11;
  if (port_read(blob, head[0]) != 0 || port_read(plans, head[1] * sizeof plans[0]) != 0) return 12;
  if (taper_open(&model, blob, head[0]) != TAPER_OK) return 13;
  const size_t bytes = (size_t)model.height * model.width * model.channels;
  if (bytes > sizeof picture) return 14;
  while (port_read(picture, bytes) == 0)
    for (uint32_t i = 0; i < head[1]; i++) {
      const int failed = follow(&model, plans + i);
      if (failed) return failed;
    }
  return port_close();
}
