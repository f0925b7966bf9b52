/* Writing the messages of a fleet. */
#include "taper_blob.h"
#include "taper_fleet.h"

/* Where a message goes; once `status` is not TAPER_OK nothing more is written. */
typedef struct {
  char *to;
  size_t room, used;
  taper_status status;
} writer;

static void put_char(writer *w, char c) {
  if (w->status != TAPER_OK) return;
  if (w->used == w->room)
    w->status = TAPER_NO_ROOM;
  else
    w->to[w->used++] = c;
}

static void put(writer *w, const char *text) {
  while (*text) put_char(w, *text++);
}

static void put_text(writer *w, const char *text) {
  put_char(w, '"');
  for (; *text; text++) {
    if (*text < ' ' || *text > '~') w->status = TAPER_BAD_TEXT;
    if (*text == '"' || *text == '\\') put_char(w, '\\');
    put_char(w, *text);
  }
  put_char(w, '"');
}

static void put_number(writer *w, uint32_t number) {
  char digits[10];
  uint32_t count = 0;
  do {
    digits[count++] = (char)('0' + number % 10u);
    number /= 10u;
  } while (number);
  while (count) put_char(w, digits[--count]);
}

/* `number` divided by `unit`, a power of ten. */
static void put_decimal(writer *w, uint32_t number, uint32_t unit) {
  put_number(w, number / unit);
  uint32_t rest = number % unit;
  if (!rest) return;
  put_char(w, '.');
  for (; rest; rest %= unit) {
    unit /= 10u;
    put_char(w, (char)('0' + rest / unit));
  }
}

static void name(writer *w, const char *field) {
  if (w->to[w->used - 1u] != '{') put_char(w, ',');
  put_char(w, '"');
  put(w, field);
  put(w, "\":");
}

/* Fields that have their default are left out. */
static void text(writer *w, const char *field, const char *value) {
  if (!*value) return;
  name(w, field);
  put_text(w, value);
}

static void decimal(writer *w, const char *field, uint32_t value, uint32_t unit) {
  if (!value) return;
  name(w, field);
  put_decimal(w, value, unit);
}

static void number(writer *w, const char *field, uint32_t value) { decimal(w, field, value, 1u); }

static void flag(writer *w, const char *field, int value) {
  if (!value) return;
  name(w, field);
  put(w, "true");
}

/* The start of every message. A room of nothing has no place to look back at. */
static writer begin(const taper_member *member, char *to, size_t room) {
  writer w = {to, room, 0, room < 2u ? TAPER_NO_ROOM : TAPER_OK};
  if (w.status != TAPER_OK) return w;
  put(&w, "{\"device\":");
  put_text(&w, member->device);
  put(&w, ",\"session\":");
  put_number(&w, member->session);
  return w;
}

static taper_status end(writer *w, const taper_member *member, size_t *size) {
  if (w->status == TAPER_OK) text(w, "epoch", member->epoch);
  put_char(w, '}');
  *size = w->used;
  return w->status;
}

static void put_levels(writer *w, const taper_model *model) {
  name(w, "levels");
  put_char(w, '[');
  for (uint32_t i = 0; i < model->levels; i++) {
    if (i) put_char(w, ',');
    put_decimal(w, model->words[model->words[H_LEVELS_AT] + i * L_END + L_MILLIONTHS], 1000000u);
  }
  put_char(w, ']');
}

taper_status taper_write_birth(const taper_member *member, const taper_birth *birth, char *to,
                               size_t room, size_t *size) {
  writer w = begin(member, to, room);
  if (w.status == TAPER_OK) {
    name(&w, "next_sequence");
    put_number(&w, birth->next_sequence);
    name(&w, "unix_s");
    put_number(&w, birth->unix_s);
    name(&w, "protocol");
    put_char(&w, '1');
    text(&w, "hardware", birth->hardware);
    text(&w, "software", birth->software);
    if (birth->model) {
      put_levels(&w, birth->model);
      flag(&w, "exit_head", birth->model->has_exit != 0u);
    }
  }
  return end(&w, member, size);
}

taper_status taper_write_death(const taper_member *member, const char *reason, char *to,
                               size_t room, size_t *size) {
  writer w = begin(member, to, room);
  if (w.status == TAPER_OK) text(&w, "reason", reason);
  return end(&w, member, size);
}

static void put_refused(writer *w, uint32_t refused) {
  static const char *const fields[] = {"fraction",    "exit_threshold", "rate_per_s",
                                       "telemetry_s", "model",          "audit_rate"};
  const char *before = "[{\"field\":\"";
  if (!refused) return;
  name(w, "refused");
  for (uint32_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    if (!(refused >> i & 1u)) continue;
    put(w, before);
    put(w, fields[i]);
    put(w, "\",\"reason\":\"not on this board\"}");
    before = ",{\"field\":\"";
  }
  put_char(w, ']');
}

taper_status taper_write_reported(const taper_member *member, const taper_desired *desired,
                                  uint32_t unix_s, const char *model_version, char *to, size_t room,
                                  size_t *size) {
  writer w = begin(member, to, room);
  if (w.status == TAPER_OK) {
    number(&w, "version", desired->version);
    if (desired->fraction) {
      name(&w, "settings");
      put(&w, "{\"fraction\":\"");
      put_decimal(&w, desired->fraction, 1000000u);
      put(&w, "\"}");
    }
    put_refused(&w, desired->refused);
    text(&w, "model_version", model_version);
    number(&w, "unix_s", unix_s);
  }
  return end(&w, member, size);
}

taper_status taper_write_telemetry(const taper_member *member, const taper_telemetry *t, char *to,
                                   size_t room, size_t *size) {
  writer w = begin(member, to, room);
  if (w.status == TAPER_OK) {
    name(&w, "sequence");
    put_number(&w, t->sequence);
    name(&w, "unix_s");
    put_number(&w, t->unix_s);
    decimal(&w, "period_s", t->period_ms, 1000u);
    decimal(&w, "battery", t->battery, 1000000u);
    flag(&w, "plugged", t->plugged);
    decimal(&w, "fraction", t->fraction, 1000000u);
    decimal(&w, "cloud_fraction", t->cloud_fraction, 1000000u);
    number(&w, "answered_device", t->answered_device);
    number(&w, "answered_cloud", t->answered_cloud);
    number(&w, "failed", t->failed);
    number(&w, "payload_bytes", t->payload_bytes);
    decimal(&w, "energy_j", t->energy_mj, 1000u);
    decimal(&w, "latency_ms", t->latency_us, 1000u);
    decimal(&w, "latency_max_ms", t->latency_max_us, 1000u);
    number(&w, "reported_version", t->reported_version);
    text(&w, "model", t->model);
    text(&w, "model_version", t->model_version);
    number(&w, "dropped", t->dropped);
    text(&w, "error", t->error);
  }
  return end(&w, member, size);
}
