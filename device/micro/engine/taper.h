/* The device half of a taper model in C99: image in, bits, the exit head's answer, a request out.
 *
 * No heap, no floating point, no recursion, no global mutable state; of libc only string.h. All
 * working memory is one arena that the caller gives. A model is one constant blob, made by
 * `python -m device.micro`, that may lie in flash: taper_open checks all of it once, so that no
 * later call can leave it. Bits are kept in 32-bit words, bit i of a pixel's words is channel i.
 * Needs a little-endian core.
 */
#ifndef TAPER_H
#define TAPER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  TAPER_OK = 0,
  TAPER_MISALIGNED = 1, /* blob or arena does not start at a multiple of 4 */
  TAPER_NO_MODEL = 2,   /* not a blob of this format, or truncated, or damaged */
  TAPER_NO_LEVEL = 3,   /* the blob does not hold this level */
  TAPER_NO_ROOM = 4,    /* arena or buffer too small */
  TAPER_NO_EXIT = 5,    /* the model has no exit head */
  TAPER_BAD_TEXT = 6,   /* a text of a fleet message has a character that is not printable ASCII */
  TAPER_BAD_MESSAGE = 7 /* a payload is not a message of the fleet */
} taper_status;

enum {
  TAPER_MOST_COLOURS = 4,
  TAPER_MOST_POOL = 4,
  TAPER_MOST_STAGES = 16,
  TAPER_MOST_LEVELS = 16,
  TAPER_MOST_CLASSES = 256,
  TAPER_MOST_HIDDEN = 64,
  TAPER_NAME_BYTES = 64,
  TAPER_REQUEST_OVERHEAD = 128 /* bytes of a request besides its payload, at most */
};

/* The encodings of the wire that this engine writes (protos/split/v1/split.proto). */
typedef enum { TAPER_RAW = 1, TAPER_CONTEXT = 3 } taper_encoding;

/* A checked blob. Fields are for reading. */
typedef struct {
  const uint32_t *words; /* the blob */
  uint32_t height, width, channels, classes;
  uint32_t stages, levels;
  uint32_t hidden; /* of the context model; 0 if there is none */
  uint32_t has_exit;
  size_t arena_bytes; /* that taper_run needs, for any level */
} taper_model;

/* One image at one level, after the device's stages; `map` lies in the arena. */
typedef struct {
  uint32_t level;    /* index into the blob's levels */
  uint32_t number;   /* index into the levels of the whole model, as the wire has it */
  uint32_t height, width, channels;
  const uint32_t *map; /* height * width pixels of (channels + 31) / 32 words */
  uint32_t *scratch;   /* the engine's own */
} taper_sample;

/* What the exit head says. */
typedef struct {
  uint32_t label;
  int64_t margin; /* its logit less the next best one's, in 1/1048576 */
  int stays;      /* 1 if the margin reaches the level's threshold: no need to send the sample */
} taper_exit;

/* Check `blob`, which must outlive the model. TAPER_MISALIGNED, TAPER_NO_MODEL. */
taper_status taper_open(taper_model *model, const void *blob, size_t size);

/* The level of the blob that serves `millionths` of the channels: the smallest that is at least so
 * large, or the largest. */
uint32_t taper_level_for(const taper_model *model, uint32_t millionths);

/* Run the device's stages on `image`: height * width * channels bytes, row by row, the colours of a
 * pixel together. `arena` holds the sample's map
 * afterwards: it must stay as it is while the sample is in use. */
taper_status taper_run(const taper_model *model, uint32_t level, const uint8_t *image, void *arena,
                       size_t arena_bytes, taper_sample *sample);

/* Ask the exit head. */
taper_status taper_ask_exit(const taper_model *model, const taper_sample *sample, taper_exit *answer);

/* Bytes of the sample's bits as they are: what TAPER_RAW takes, and the most that is ever sent. */
size_t taper_raw_bytes(const taper_sample *sample);

/* Write these bytes: pixel by pixel, the channels of a pixel together, least significant bit first. */
void taper_raw(const taper_sample *sample, uint8_t *bytes);

/* Write the smaller of both encodings to `payload`, which has room for `room` bytes. */
taper_status taper_encode(const taper_model *model, const taper_sample *sample, uint8_t *payload,
                          size_t room, size_t *size, taper_encoding *encoding);

/* Write an InferRequest for the sample: the bytes that gRPC or MQTT carries. `room` of
 * taper_raw_bytes + TAPER_REQUEST_OVERHEAD is always enough. */
taper_status taper_request(const taper_model *model, const taper_sample *sample, uint64_t id,
                           uint8_t *request, size_t room, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
