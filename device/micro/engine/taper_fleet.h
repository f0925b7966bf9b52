/* A board as a member of a fleet: the JSON payloads of docs/fleet.md, written and read without heap,
 * floating point or libc. Fractions are in millionths, as taper_level_for takes them.
 *
 * Publish birth (retained) after connecting, with taper_write_death as the last will (retained);
 * then reported (retained), again after every desired state; then telemetry. A board takes the
 * fraction from a desired state and says of all other settings that it does not have them.
 */
#ifndef TAPER_FLEET_H
#define TAPER_FLEET_H

#include "taper.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  TAPER_LATEST_VERSION = 1000000000,
  TAPER_MESSAGE_BYTES = 1024 /* room that every message finds enough, texts of 100 bytes included */
};

/* Settings of a desired state, as bits. */
typedef enum {
  TAPER_FRACTION = 1,
  TAPER_EXIT_THRESHOLD = 2,
  TAPER_RATE = 4,
  TAPER_TELEMETRY_S = 8,
  TAPER_MODEL = 16,
  TAPER_AUDIT_RATE = 32
} taper_setting;

/* Who writes: what every message of a connection has in common. Texts are printable ASCII; `epoch`
 * is made at random with the memory that keeps session and sequence numbers, letters and digits. */
typedef struct {
  const char *device, *epoch;
  uint32_t session;
} taper_member;

typedef struct {
  uint32_t next_sequence, unix_s;
  const char *hardware, *software; /* may be "" */
  const taper_model *model;        /* whose levels and exit head are announced; may be 0 */
} taper_birth;

typedef struct {
  uint32_t version, fraction; /* of the desired state; 0: none, the board's own choice */
  uint32_t refused;           /* settings that it names and the board does not have */
} taper_desired;

/* Counts and sums of one period. */
typedef struct {
  uint32_t sequence, unix_s, period_ms, battery, fraction, cloud_fraction; /* shares in millionths */
  uint32_t answered_device, answered_cloud, failed, payload_bytes, reported_version, dropped;
  uint32_t energy_mj, latency_us, latency_max_us; /* latencies: mean and largest of a sample */
  int plugged;
  const char *model, *model_version, *error; /* may be "" */
} taper_telemetry;

/* All write to `to`, of `room` bytes, without a zero at the end. TAPER_NO_ROOM; TAPER_BAD_TEXT for a
 * text with other than printable ASCII characters. */
taper_status taper_write_birth(const taper_member *member, const taper_birth *birth, char *to,
                               size_t room, size_t *size);
taper_status taper_write_death(const taper_member *member, const char *reason, char *to,
                               size_t room, size_t *size);
taper_status taper_write_reported(const taper_member *member, const taper_desired *desired,
                                  uint32_t unix_s, const char *model_version, char *to, size_t room,
                                  size_t *size);
taper_status taper_write_telemetry(const taper_member *member, const taper_telemetry *telemetry,
                                   char *to, size_t room, size_t *size);

/* Read a desired state. TAPER_BAD_MESSAGE for anything that is not exactly one; `desired` is then
 * as it was. A policy's name as the fraction counts as refused. */
taper_status taper_read_desired(const char *payload, size_t size, taper_desired *desired);

#ifdef __cplusplus
}
#endif

#endif
