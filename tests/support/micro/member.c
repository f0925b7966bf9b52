/* A board as a member of a fleet, without a network: what it would publish goes to "results.bin" as
 * packets, which device/micro/carry.py takes to a broker.
 *
 * "pictures.bin" begins with the desired state: its size as 32 bits, its bytes. Pictures follow.
 */
#include <string.h>

#include "model.h"
#include "port.h"
#include "taper.h"
#include "taper_fleet.h"

enum { LEVEL_OF_ITS_OWN = 300000, KIND_BYTES = 12 };

static const taper_member member = {"board-1", "e5d0a7", 1};
static uint32_t arena[TAPER_ARENA_BYTES / 4];
static uint8_t picture[TAPER_PICTURE_BYTES];
static uint8_t request[TAPER_RAW_BYTES + TAPER_REQUEST_OVERHEAD];
static char message[TAPER_MESSAGE_BYTES];

static void publish(const char *kind, const void *payload, size_t size) {
  char name[KIND_BYTES] = {0};
  const uint32_t bytes = (uint32_t)size;
  memcpy(name, kind, strlen(kind));
  port_write(name, sizeof name);
  port_write(&bytes, sizeof bytes);
  port_write(payload, size);
}

/* The desired state that came before the pictures; the board's own choice without one. */
static int take_desired(taper_desired *desired) {
  uint32_t size;
  desired->version = desired->fraction = desired->refused = 0;
  if (port_read(&size, sizeof size) != 0 || size > sizeof message) return 1;
  if (size && port_read(message, size) != 0) return 1;
  return size && taper_read_desired(message, size, desired) != TAPER_OK;
}

/* Answer one picture here, or publish a request for it. */
static int classify(const taper_model *model, uint32_t level, taper_telemetry *t) {
  taper_sample sample;
  taper_exit answer;
  size_t size;
  if (taper_run(model, level, picture, arena, sizeof arena, &sample) != TAPER_OK) return 1;
  if (taper_ask_exit(model, &sample, &answer) == TAPER_OK && answer.stays) {
    t->answered_device++;
    return 0;
  }
  const uint64_t id = t->answered_device + ++t->answered_cloud;
  if (taper_request(model, &sample, id, request, sizeof request, &size) != TAPER_OK) return 1;
  t->payload_bytes += (uint32_t)size;
  publish("infer", request, size);
  return 0;
}

int main(void) {
  taper_model model;
  taper_desired desired;
  const taper_birth birth = {1, 1700000000, "emulated Cortex-M4", "taper", &model};
  taper_telemetry t;
  size_t size;
  if (taper_open(&model, taper_blob, sizeof taper_blob) != TAPER_OK || port_open() != 0) return 1;
  if (take_desired(&desired)) return 2;
  const uint32_t wanted = desired.fraction ? desired.fraction : LEVEL_OF_ITS_OWN;
  memset(&t, 0, sizeof t);
  t.sequence = 1;
  t.unix_s = 1700000060;
  t.period_ms = 60000;
  t.fraction = wanted;
  t.reported_version = desired.version;
  t.model = "mnist-binary";
  t.model_version = t.error = "";
  if (taper_write_birth(&member, &birth, message, sizeof message, &size) != TAPER_OK) return 3;
  publish("birth", message, size);
  if (taper_write_reported(&member, &desired, 1700000000, "", message, sizeof message, &size) !=
      TAPER_OK)
    return 4;
  publish("reported", message, size);
  while (port_read(picture, sizeof picture) == 0)
    if (classify(&model, taper_level_for(&model, wanted), &t)) return 5;
  if (taper_write_telemetry(&member, &t, message, sizeof message, &size) != TAPER_OK) return 6;
  publish("telemetry", message, size);
  if (taper_write_death(&member, "done", message, sizeof message, &size) != TAPER_OK) return 7;
  publish("death", message, size);
  return port_close();
}
