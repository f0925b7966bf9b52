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
  TAPER_MISALIGNED = 1,  /* blob or arena does not start at a multiple of 4 */
  TAPER_NO_MODEL = 2,    /* not a blob of this format, or truncated, or damaged */
  TAPER_NO_LEVEL = 3,    /* the blob does not hold this level */
  TAPER_NO_ROOM = 4,     /* arena or buffer too small */
  TAPER_NO_EXIT = 5,     /* the model has no exit head */
  TAPER_BAD_TEXT = 6,    /* a text of a fleet message has a character that is not printable ASCII */
  TAPER_BAD_MESSAGE = 7, /* a payload is not the message that it should be */
  TAPER_REFUSED = 8,     /* the server refused the request */
  TAPER_BAD_WISH = 9     /* the server wants a look that the plan does not have; its label counts */
} taper_status;

enum {
  TAPER_MOST_COLOURS = 4,
  TAPER_MOST_POOL = 4,
  TAPER_MOST_STAGES = 16,
  TAPER_MOST_LEVELS = 16,
  TAPER_MOST_CLASSES = 256,
  TAPER_MOST_HIDDEN = 64,
  TAPER_MOST_LOOKS = 2,
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

/* One look at a sample, and when to take the next one. Margins are in 1/1048576. */
typedef struct {
  uint32_t level;      /* index into the blob's levels */
  int64_t stays_from;  /* the least margin of the exit head with which the sample stays here */
  int64_t again_below; /* its margin below which the next look is taken at once; 0: never */
  uint64_t ask_below;  /* the server's margin below which it asks for the next look */
} taper_look;

#define TAPER_SERVER_DECIDES UINT64_MAX /* an `ask_below` that is left to the server's model */
#define TAPER_NEVER INT64_MAX           /* a `stays_from` that no answer reaches */

/* One look, or two of which the second is wider. `python -m device.micro` writes one to model.h. */
typedef struct {
  uint32_t count;
  taper_look looks[TAPER_MOST_LOOKS];
} taper_plan;

typedef enum { TAPER_STAY = 0, TAPER_SEND = 1, TAPER_LOOK_AGAIN = 2 } taper_step;

/* A server's answer to a request for one sample. */
typedef struct {
  uint64_t id; /* of the request */
  uint32_t label;
  int again;               /* 1 if the server is not sure and wants the plan's second look */
  int32_t failure;         /* with TAPER_REFUSED: a gRPC status code, */
  uint32_t retry_after_ms; /* and how long to wait before trying again; 0: the board's choice */
} taper_answer;

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

/* What to do after look `look` (0 or 1) of `plan`: answer here, send the sample, or look again now.
 * `answer` is the exit head's; NULL if it was not asked. */
taper_step taper_decide(const taper_plan *plan, uint32_t look, const taper_exit *answer);

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

/* The same with what `plan` says of looks, so that the server may ask for the second one; NULL: it
 * may not. `earlier` is 1 for the look that it asked for, which goes out under the same id, else 0. */
taper_status taper_request_look(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                const taper_sample *sample, uint64_t id, uint8_t *request,
                                size_t room, size_t *size);

/* Read the InferResponse to the request for `sample`, of which only the fields before the map are
 * read. `plan` and `earlier` are those of the request. TAPER_BAD_MESSAGE, TAPER_REFUSED,
 * TAPER_BAD_WISH. */
taper_status taper_read_response(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                 const taper_sample *sample, const uint8_t *response, size_t size,
                                 taper_answer *answer);

#ifdef __cplusplus
}
#endif

#endif
