/* A board as a member of a fleet: writes and reads the JSON payloads of docs/fleet.md without heap,
 * floating point or libc. Fractions are in millionths, as for taper_level_for.
 *
 * Connect with taper_write_death as the last will (retained) and publish the birth (retained); then
 * the reported state (retained), and again after every desired state; then telemetry. A board
 * applies the fraction of a desired state and reports all other settings as refused.
 */
#ifndef TAPER_FLEET_H
#define TAPER_FLEET_H

#include "taper.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  TAPER_LATEST_VERSION = 1000000000,
  TAPER_MESSAGE_BYTES = 1024 /* enough room for every message, with texts of up to 100 bytes */
};

/* The settings of a desired state, as bits. */
typedef enum {
  TAPER_FRACTION = 1,
  TAPER_EXIT_THRESHOLD = 2,
  TAPER_RATE = 4,
  TAPER_TELEMETRY_S = 8,
  TAPER_MODEL = 16,
  TAPER_AUDIT_RATE = 32
} taper_setting;

/* The sender: values that are in every message of a connection. Texts are printable ASCII.
 * `epoch` is random letters and digits, chosen when the memory for session and sequence numbers
 * is created. */
typedef struct {
  const char *device, *epoch;
  uint32_t session;
} taper_member;

typedef struct {
  uint32_t next_sequence, unix_s;
  const char *hardware, *software; /* may be "" */
  const taper_model *model;        /* the model whose levels and exit head are announced; may be 0 */
} taper_birth;

typedef struct {
  uint32_t version, fraction; /* of the desired state; a fraction of 0 leaves it to the board */
  uint32_t refused;           /* the settings in it that the board does not have */
} taper_desired;

/* Counts and sums of one period. */
typedef struct {
  uint32_t sequence, unix_s, period_ms, battery, fraction, cloud_fraction; /* shares in millionths */
  uint32_t answered_device, answered_cloud, failed, payload_bytes, reported_version, dropped;
  uint32_t energy_mj, latency_us, latency_max_us; /* latencies of a sample: mean and largest */
  int plugged;
  const char *model, *model_version, *error; /* may be "" */
} taper_telemetry;

/* These write to `to`, of `room` bytes, without a zero at the end. Errors: TAPER_NO_ROOM, and
 * TAPER_BAD_TEXT for a text with characters that are not printable ASCII. */
taper_status taper_write_birth(const taper_member *member, const taper_birth *birth, char *to,
                               size_t room, size_t *size);
taper_status taper_write_death(const taper_member *member, const char *reason, char *to,
                               size_t room, size_t *size);
taper_status taper_write_reported(const taper_member *member, const taper_desired *desired,
                                  uint32_t unix_s, const char *model_version, char *to, size_t room,
                                  size_t *size);
taper_status taper_write_telemetry(const taper_member *member, const taper_telemetry *telemetry,
                                   char *to, size_t room, size_t *size);

/* Read a desired state. If the payload is not valid, the result is TAPER_BAD_MESSAGE and `desired`
 * is not changed. A policy's name as the fraction counts as refused. */
taper_status taper_read_desired(const char *payload, size_t size, taper_desired *desired);

#ifdef __cplusplus
}
#endif

#endif
