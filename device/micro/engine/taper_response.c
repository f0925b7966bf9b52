/* Reading an InferResponse of protos/split/v1/split.proto: any bytes may have come. */
#include "taper_blob.h"

enum { RESPONSE_ID = 1, RESPONSE_RESULTS, RESPONSE_FAILURE = 6, RESPONSE_MORE = 8 };
enum { RESULT_LABEL = 1, FAILURE_CODE = 1, FAILURE_RETRY = 3, MORE_LEVEL = 1, MORE_SAMPLES = 3 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5, MOST_VARINT = 10 };

typedef struct {
  const uint8_t *at, *end;
} reader;

/* One field; `value` of a number, `content` of bytes. */
typedef struct {
  uint32_t tag;
  uint64_t value;
  reader content;
} field;

/* What was read so far. Fields that come twice count as protobuf has it. */
typedef struct {
  taper_answer answer;
  size_t results, places;    /* `places`: samples that another look is wanted at */
  uint32_t level;            /* and its level */
  int refused, more, others; /* `others`: one of them is not the first sample */
} found;

#define TAG(number, type) ((uint32_t)(number) << 3 | (uint32_t)(type))

static int take_varint(reader *r, uint64_t *value) {
  *value = 0;
  for (uint32_t i = 0; i < MOST_VARINT && r->at < r->end; i++) {
    const uint8_t byte = *r->at++;
    *value |= (uint64_t)(byte & 127u) << 7u * i;
    if (byte < 128u) return 1;
  }
  return 0;
}

static int take_bytes(reader *r, uint64_t size, reader *content) {
  if (size > (uint64_t)(r->end - r->at)) return 0;
  content->at = r->at;
  r->at += (size_t)size;
  content->end = r->at;
  return 1;
}

/* The next field of any kind but the groups of old, which the protocol does not have. */
static int take_field(reader *r, field *f) {
  uint64_t tag;
  if (!take_varint(r, &tag) || tag > UINT32_MAX || tag < 8u) return 0;
  f->tag = (uint32_t)tag;
  switch (tag & 7u) {
    case VARINT: return take_varint(r, &f->value);
    case FIXED64: return take_bytes(r, 8, &f->content);
    case BYTES: return take_varint(r, &f->value) && take_bytes(r, f->value, &f->content);
    case FIXED32: return take_bytes(r, 4, &f->content);
    default: return 0;
  }
}

static int read_result(reader r, found *to) {
  field f;
  to->results++;
  to->answer.label = 0;
  while (r.at < r.end) {
    if (!take_field(&r, &f)) return 0;
    if (f.tag == TAG(RESULT_LABEL, VARINT)) to->answer.label = (uint32_t)f.value;
  }
  return 1;
}

static int read_failure(reader r, found *to) {
  field f;
  to->refused = 1;
  while (r.at < r.end) {
    if (!take_field(&r, &f)) return 0;
    if (f.tag == TAG(FAILURE_CODE, VARINT)) to->answer.failure = (int32_t)(uint32_t)f.value;
    if (f.tag == TAG(FAILURE_RETRY, VARINT)) to->answer.retry_after_ms = (uint32_t)f.value;
  }
  return 1;
}

static void add_place(found *to, uint64_t place) {
  to->places++;
  to->others |= (uint32_t)place != 0u;
}

static int read_more(reader r, found *to) {
  field f;
  to->more = 1;
  while (r.at < r.end) {
    if (!take_field(&r, &f)) return 0;
    if (f.tag == TAG(MORE_LEVEL, VARINT)) to->level = (uint32_t)f.value;
    if (f.tag == TAG(MORE_SAMPLES, VARINT)) add_place(to, f.value);
    while (f.tag == TAG(MORE_SAMPLES, BYTES) && f.content.at < f.content.end) {
      if (!take_varint(&f.content, &f.value)) return 0;
      add_place(to, f.value);
    }
  }
  return 1;
}

static int read_response(reader r, found *to) {
  field f;
  while (r.at < r.end) {
    int right = 1;
    if (!take_field(&r, &f)) return 0;
    if (f.tag == TAG(RESPONSE_ID, VARINT)) to->answer.id = f.value;
    if (f.tag == TAG(RESPONSE_RESULTS, BYTES)) right = read_result(f.content, to);
    if (f.tag == TAG(RESPONSE_FAILURE, BYTES)) right = read_failure(f.content, to);
    if (f.tag == TAG(RESPONSE_MORE, BYTES)) right = read_more(f.content, to);
    if (!right) return 0;
  }
  return 1;
}

taper_status taper_read_response(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                 const taper_sample *sample, const uint8_t *response, size_t size,
                                 taper_answer *answer) {
  const reader r = {response, response + size};
  const taper_look *next = taper_next_look(plan, earlier, sample);
  found f = {{0, 0, 0, 0, 0}, 0, 0, 0, 0, 0, 0};
  if (next && next->level >= model->levels) return TAPER_NO_LEVEL;
  if (!read_response(r, &f)) return TAPER_BAD_MESSAGE;
  if (!f.refused && (f.results != 1u || f.answer.label >= model->classes)) return TAPER_BAD_MESSAGE;
  *answer = f.answer;
  if (f.refused) return TAPER_REFUSED;
  if (!f.more) return TAPER_OK;
  if (!next || f.level != number_of(model, next->level) || f.others || f.places > 1u)
    return TAPER_BAD_WISH;
  answer->again = 1;
  return TAPER_OK;
}
