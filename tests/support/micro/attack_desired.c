/* Reads damaged copies of a desired state, in buffers of exactly their size, and writes messages into
 * rooms of every size.
 *
 * attack_desired FILE ROUNDS SEED. Meant for the sanitizers: it ends with 0 unless they object.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "taper_fleet.h"

enum { MOST_BYTES = 4096 };

static uint64_t state;

static uint32_t draw(uint32_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % below;
}

static void attack(const char *payload, size_t size) {
  static const char odd[] = "0123456789.eE-+\"{}[]:, \\\n\x7f\x80";
  const size_t kept = draw(4) ? size : draw((uint32_t)size + 1u);
  char *copy = malloc(kept ? kept : 1u);
  taper_desired desired;
  memcpy(copy, payload, kept);
  for (uint32_t changes = kept ? draw(6) : 0u; changes; changes--)
    copy[draw((uint32_t)kept)] = draw(2) ? odd[draw(sizeof odd)] : (char)draw(256);
  taper_read_desired(copy, kept, &desired);
  free(copy);
}

static void write_all(size_t room) {
  const taper_member member = {"board-1", "e1", draw(UINT32_MAX)};
  const taper_desired desired = {draw(UINT32_MAX), draw(1000001), draw(64)};
  const taper_birth birth = {1, draw(UINT32_MAX), "hard \"ware\"", "soft\\ware", 0};
  taper_telemetry telemetry;
  char *to = malloc(room ? room : 1u);
  size_t size;
  memset(&telemetry, 0x7f, sizeof telemetry);
  telemetry.model = telemetry.model_version = telemetry.error = "text";
  taper_write_birth(&member, &birth, to, room, &size);
  taper_write_death(&member, "reason", to, room, &size);
  taper_write_reported(&member, &desired, draw(UINT32_MAX), "0123", to, room, &size);
  taper_write_telemetry(&member, &telemetry, to, room, &size);
  free(to);
}

int main(int count, char **words) {
  static char payload[MOST_BYTES];
  if (count != 4) return 1;
  FILE *file = fopen(words[1], "rb");
  if (!file) return 2;
  const size_t size = fread(payload, 1, sizeof payload, file);
  fclose(file);
  state = strtoull(words[3], 0, 10);
  for (unsigned long round = strtoul(words[2], 0, 10); round; round--) attack(payload, size);
  for (size_t room = 0; room < 1200u; room++) write_all(room);
  return 0;
}
