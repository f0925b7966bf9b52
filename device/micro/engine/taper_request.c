/* A sample as an InferRequest of protos/split/v1/split.proto, in protobuf's wire format. */
#include <string.h>

#include "taper_blob.h"

enum {
  FIELD_ID = 1,
  FIELD_MODEL,
  FIELD_VERSION,
  FIELD_LEVEL,
  FIELD_ENCODING,
  FIELD_PAYLOAD = 7,
  FIELD_LOOKS = 10
};
enum { LOOKS_EARLIER = 1, LOOKS_NEXT_LEVEL, LOOKS_ASK_BELOW };
enum { VARINT = 0, BYTES = 2, VERSION_DIGITS = 16 };

static size_t varint(uint8_t *at, uint64_t value) {
  size_t count = 0;
  for (; value > 127u; value >>= 7) at[count++] = (uint8_t)(value | 128u);
  at[count++] = (uint8_t)value;
  return count;
}

/* Fields that are 0 or empty are left out, as proto3 has it. */
static size_t number(uint8_t *at, uint32_t field, uint64_t value) {
  if (!value) return 0;
  at[0] = (uint8_t)(field << 3 | VARINT);
  return 1u + varint(at + 1, value);
}

static size_t length(uint8_t *at, uint32_t field, size_t bytes) {
  if (!bytes) return 0;
  at[0] = (uint8_t)(field << 3 | BYTES);
  return 1u + varint(at + 1, bytes);
}

static void hexadecimal(uint8_t *at, const uint8_t *bytes) {
  static const char digits[] = "0123456789abcdef";
  for (uint32_t i = 0; i < VERSION_DIGITS; i++)
    at[i] = (uint8_t)digits[(uint32_t)bytes[i / 2u] >> (i % 2u ? 0u : 4u) & 15u];
}

const taper_look *taper_next_look(const taper_plan *plan, uint32_t earlier,
                                  const taper_sample *sample) {
  if (!plan || plan->count < 2u || earlier || sample->level >= plan->looks[1].level) return 0;
  return plan->looks + 1;
}

/* Looks: a second look that the server asked for, or one that it may ask for. At most 19 bytes. */
static size_t looks(uint8_t *at, const taper_model *model, const taper_plan *plan, uint32_t earlier,
                    const taper_sample *sample) {
  const taper_look *next = taper_next_look(plan, earlier, sample);
  size_t size = 2;
  if (!next && !earlier) return 0;
  size += number(at + size, LOOKS_EARLIER, earlier);
  if (next) {
    const uint64_t ask_below = plan->looks[0].ask_below;
    size += number(at + size, LOOKS_NEXT_LEVEL, number_of(model, next->level));
    if (ask_below != TAPER_SERVER_DECIDES) { /* 0 is written too: the field is optional */
      at[size++] = (uint8_t)(LOOKS_ASK_BELOW << 3 | VARINT);
      size += varint(at + size, ask_below);
    }
  }
  at[0] = (uint8_t)(FIELD_LOOKS << 3 | BYTES);
  at[1] = (uint8_t)(size - 2u);
  return size;
}

taper_status taper_request_look(const taper_model *model, const taper_plan *plan, uint32_t earlier,
                                const taper_sample *sample, uint64_t id, uint8_t *request,
                                size_t room, size_t *size) {
  const uint32_t *words = model->words;
  const size_t name = words[H_NAME_BYTES];
  taper_encoding encoding;
  size_t payload, head = 0;
  if (plan && plan->count > 1u && plan->looks[1].level >= model->levels) return TAPER_NO_LEVEL;
  if (room < taper_raw_bytes(sample) + TAPER_REQUEST_OVERHEAD) return TAPER_NO_ROOM;
  /* The payload's size is known last and stands before it: encode behind the room of the head. */
  taper_status status = taper_encode(model, sample, request + TAPER_REQUEST_OVERHEAD,
                                     room - TAPER_REQUEST_OVERHEAD, &payload, &encoding);
  if (status != TAPER_OK) return status;
  head += number(request + head, FIELD_ID, id);
  head += length(request + head, FIELD_MODEL, name);
  memcpy(request + head, words + H_NAME, name);
  head += name;
  head += length(request + head, FIELD_VERSION, VERSION_DIGITS);
  hexadecimal(request + head, (const uint8_t *)(words + H_VERSION));
  head += VERSION_DIGITS;
  head += number(request + head, FIELD_LEVEL, sample->number);
  head += number(request + head, FIELD_ENCODING, (uint32_t)encoding);
  head += length(request + head, FIELD_PAYLOAD, payload);
  memmove(request + head, request + TAPER_REQUEST_OVERHEAD, payload);
  head += payload;
  *size = head + looks(request + head, model, plan, earlier, sample);
  return TAPER_OK;
}

taper_status taper_request(const taper_model *model, const taper_sample *sample, uint64_t id,
                           uint8_t *request, size_t room, size_t *size) {
  return taper_request_look(model, 0, 0, sample, id, request, room, size);
}
