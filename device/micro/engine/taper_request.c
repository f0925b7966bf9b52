/* A sample as an InferRequest of protos/split/v1/split.proto, in protobuf's wire format. */
#include <string.h>

#include "taper_blob.h"

enum { FIELD_ID = 1, FIELD_MODEL, FIELD_VERSION, FIELD_LEVEL, FIELD_ENCODING, FIELD_PAYLOAD = 7 };
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

taper_status taper_request(const taper_model *model, const taper_sample *sample, uint64_t id,
                           uint8_t *request, size_t room, size_t *size) {
  const uint32_t *words = model->words;
  const size_t name = words[H_NAME_BYTES];
  taper_encoding encoding;
  size_t payload, head = 0;
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
  *size = head + payload;
  return TAPER_OK;
}
