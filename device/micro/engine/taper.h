/* The device half of a taper model in C99: computes the bits of an image, the exit head's answer
 * and the request to send.
 *
 * It uses no heap, no floating point, no recursion and no global mutable state, and only string.h
 * of libc. All working memory is one arena that the caller provides. A model is one constant blob,
 * made by `python -m device.micro`, which may be in flash: taper_open checks all of it once, so
 * that no later call can read outside of it. Bits are stored in 32-bit words; bit i of a pixel's
 * words is channel i. The core must be little-endian.
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
  TAPER_NO_ROOM = 4,     /* the arena or a buffer is too small */
  TAPER_NO_EXIT = 5,     /* the model has no exit head */
  TAPER_BAD_TEXT = 6,    /* a text of a fleet message has a character that is not printable ASCII */
  TAPER_BAD_MESSAGE = 7, /* a payload is not a valid message of its kind */
  TAPER_REFUSED = 8,     /* the server refused the request */
  TAPER_BAD_WISH = 9     /* the server asks for a look that is not in the plan; its label is valid */
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
  TAPER_REQUEST_OVERHEAD = 128 /* most bytes of a request besides its payload */
};

/* The encodings of the wire that this engine writes (protos/split/v1/split.proto). */
typedef enum { TAPER_RAW = 1, TAPER_CONTEXT = 3 } taper_encoding;

/* A checked blob. The fields must not be changed. */
typedef struct {
  const uint32_t *words; /* the blob */
  uint32_t height, width, channels, classes;
  uint32_t stages, levels;
  uint32_t hidden; /* hidden units of the context model; 0 if there is none */
  uint32_t has_exit;
  size_t arena_bytes; /* size of the arena that taper_run needs, for all levels */
} taper_model;

/* One image at one level, after the device's stages. `map` points into the arena. */
typedef struct {
  uint32_t level;    /* index into the blob's levels */
  uint32_t number;   /* index into the levels of the whole model, which is sent to the server */
  uint32_t height, width, channels;
  const uint32_t *map; /* height * width pixels of (channels + 31) / 32 words */
  uint32_t *scratch;   /* for the engine only */
} taper_sample;

/* The exit head's answer. */
typedef struct {
  uint32_t label;
  int64_t margin; /* the label's logit minus the next best one, in units of 1/1048576 */
  int stays;      /* 1 if the margin reaches the level's threshold: no need to send the sample */
} taper_exit;

/* One look at a sample, and the conditions for the next. Margins are in units of 1/1048576. */
typedef struct {
  uint32_t level;      /* index into the blob's levels */
  int64_t stays_from;  /* least margin of the exit head at which the sample is answered here */
  int64_t again_below; /* the next look is taken at once below this margin of it; 0: never */
  uint64_t ask_below;  /* the server asks for the next look below this margin of its answer */
} taper_look;

#define TAPER_SERVER_DECIDES UINT64_MAX /* `ask_below`: the server uses its model's own margin */
#define TAPER_NEVER INT64_MAX           /* `stays_from`: no answer reaches it */

/* One look, or two, of which the second is wider. `python -m device.micro` writes a plan to
 * model.h. */
typedef struct {
  uint32_t count;
  taper_look looks[TAPER_MOST_LOOKS];
} taper_plan;

typedef enum { TAPER_STAY = 0, TAPER_SEND = 1, TAPER_LOOK_AGAIN = 2 } taper_step;

/* A server's answer to a request for one sample. */
typedef struct {
  uint64_t id; /* the request's id */
  uint32_t label;
  int again;               /* 1 if the server asks for the plan's second look */
  int32_t failure;         /* with TAPER_REFUSED: the gRPC status code */
  uint32_t retry_after_ms; /* with TAPER_REFUSED: time to wait before a retry; 0: not given */
} taper_answer;

/* Check `blob`, which must outlive the model. Errors: TAPER_MISALIGNED, TAPER_NO_MODEL. */
taper_status taper_open(taper_model *model, const void *blob, size_t size);

/* Return the smallest level of the blob with at least `millionths` of the channels, or else the
 * largest level. */
uint32_t taper_level_for(const taper_model *model, uint32_t millionths);

/* Run the device's stages on `image`: height * width * channels bytes, row by row, the colours of a
 * pixel together. Afterwards `arena` holds the sample's map and must not be changed while the
 * sample is in use. Errors: TAPER_MISALIGNED, TAPER_NO_LEVEL, TAPER_NO_ROOM. */
taper_status taper_run(const taper_model *model, uint32_t level, const uint8_t *image, void *arena,
                       size_t arena_bytes, taper_sample *sample);

/* Compute the exit head's answer. Error: TAPER_NO_EXIT. */
taper_status taper_ask_exit(const taper_model *model, const taper_sample *sample, taper_exit *answer);

/* Decide what to do after look `look` (0 or 1) of `plan`: answer here, send the sample, or look
 * again now. `answer` is the exit head's, or NULL if it was not computed. */
taper_step taper_decide(const taper_plan *plan, uint32_t look, const taper_exit *answer);

/* Return the bytes of the sample's uncoded bits: the size of TAPER_RAW, and of the largest
 * payload. */
size_t taper_raw_bytes(const taper_sample *sample);

/* Write the uncoded bits: pixel by pixel, the channels of a pixel together, least significant bit
 * first. */
void taper_raw(const taper_sample *sample, uint8_t *bytes);

/* Write the smaller of the two encodings to `payload`, which has room for `room` bytes. */
taper_status taper_encode(const taper_model *model, const taper_sample *sample, uint8_t *payload,
                          size_t room, size_t *size, taper_encoding *encoding);

/* Write an InferRequest for the sample, to be sent by gRPC or MQTT. A `room` of taper_raw_bytes +
 * TAPER_REQUEST_OVERHEAD is always enough. */
taper_status taper_request(const taper_model *model, const taper_sample *sample, uint64_t id,
                           uint8_t *request, size_t room, size_t *size);

/* The same with the looks of `plan`, so that the server may ask for the second one; if `plan` is
 * NULL it may not. `earlier` is 1 for a look that the server asked for, which must have the same
 * id, and otherwise 0. */
taper_status taper_request_look(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                const taper_sample *sample, uint64_t id, uint8_t *request,
                                size_t room, size_t *size);

/* Read the InferResponse to the request for `sample`. `plan` and `earlier` are those of the
 * request. The sample's map is not used. Errors: TAPER_BAD_MESSAGE, TAPER_REFUSED,
 * TAPER_BAD_WISH. */
taper_status taper_read_response(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                 const taper_sample *sample, const uint8_t *response, size_t size,
                                 taper_answer *answer);

#ifdef __cplusplus
}
#endif

#endif
