/* Reads responses, in buffers of exactly their size, by the plan in model.h, for tests.
 *
 * "pictures.bin" has them one after another: which look was sent (0: the first, 1: the second after
 * the server asked, 2: the second at once) and the size, 32 bits each, and the bytes. Writes a
 * `reading` for each to "results.bin".
 */
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "port.h"

typedef struct {
  uint32_t status, label, again, retry_after_ms;
  uint64_t id;
  int64_t failure;
} reading;

static int read_one(const taper_model *model, uint32_t sent, const uint8_t *bytes, size_t size) {
  taper_sample sample;
  taper_answer answer;
  reading r;
  memset(&sample, 0, sizeof sample);
  memset(&answer, 0, sizeof answer);
  memset(&r, 0, sizeof r);
  sample.level = taper_looks.looks[sent ? 1 : 0].level;
  r.status = (uint32_t)taper_read_response(model, &taper_looks, sent == 1u, &sample, bytes, size,
                                           &answer);
  r.label = answer.label;
  r.again = (uint32_t)answer.again;
  r.retry_after_ms = answer.retry_after_ms;
  r.id = answer.id;
  r.failure = answer.failure;
  return port_write(&r, sizeof r);
}

int main(void) {
  taper_model model;
  uint32_t head[2];
  if (taper_open(&model, taper_blob, sizeof taper_blob) != TAPER_OK || port_open() != 0) return 10;
  while (port_read(head, sizeof head) == 0) {
    uint8_t *bytes = malloc(head[1] ? head[1] : 1u);
    const int failed = !bytes || (head[1] && port_read(bytes, head[1]) != 0) ||
                       read_one(&model, head[0], bytes, head[1]);
    free(bytes);
    if (failed) return 11;
  }
  return port_close();
}
