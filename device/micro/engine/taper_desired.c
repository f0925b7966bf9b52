/* Reading a desired state: one pass over JSON of a known shape, strict as the Python side is. */
#include <string.h>

#include "taper_fleet.h"

enum { MILLION = 1000000, MOST_DIGITS = 40 };

typedef struct {
  const char *at, *end;
} reader;

static void skip_space(reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
    r->at++;
}

/* Whether the next character that is no space is `c`, which is then read. */
static int take(reader *r, char c) {
  skip_space(r);
  if (r->at == r->end || *r->at != c) return 0;
  r->at++;
  return 1;
}

/* A string of printable ASCII without escapes, as all texts of a desired state are. */
static int take_string(reader *r, const char **start, size_t *length) {
  if (!take(r, '"')) return 0;
  *start = r->at;
  while (r->at < r->end && *r->at != '"') {
    if (*r->at < ' ' || *r->at > '~' || *r->at == '\\') return 0;
    r->at++;
  }
  *length = (size_t)(r->at - *start);
  return take(r, '"');
}

static int is(const char *start, size_t length, const char *word) {
  return strlen(word) == length && memcmp(start, word, length) == 0;
}

static int take_word(reader *r, const char *word) {
  const size_t length = strlen(word);
  skip_space(r);
  if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return 0;
  r->at += length;
  return 1;
}

static int digit(const reader *r) { return r->at < r->end && *r->at >= '0' && *r->at <= '9'; }

static int skip_digits(reader *r) {
  if (!digit(r)) return 0;
  while (digit(r)) r->at++;
  return 1;
}

/* A JSON number that is not below 0; its value is of no interest. */
static int skip_number(reader *r) {
  skip_space(r);
  if (r->at < r->end && *r->at == '0')
    r->at++;
  else if (!skip_digits(r))
    return 0;
  if (r->at < r->end && *r->at == '.') {
    r->at++;
    if (!skip_digits(r)) return 0;
  }
  if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
    r->at++;
    if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
    return skip_digits(r);
  }
  return 1;
}

/* 1 to TAPER_LATEST_VERSION; a point with zeros is a whole number too. */
static int take_version(reader *r, uint32_t *version) {
  uint32_t value = 0;
  skip_space(r);
  if (!digit(r) || *r->at == '0') return 0;
  for (; digit(r); r->at++) {
    value = 10u * value + (uint32_t)(*r->at - '0');
    if (value > TAPER_LATEST_VERSION) return 0;
  }
  if (r->at < r->end && *r->at == '.') {
    r->at++;
    if (!digit(r)) return 0;
    while (digit(r))
      if (*r->at++ != '0') return 0;
  }
  *version = value;
  return 1;
}

/* Digits behind the point as millionths, rounded up: a fraction takes the next level. */
static uint32_t millionths(const char *from, const char *to, uint32_t zeros) {
  uint32_t value = 0, unit = MILLION;
  int more = 0;
  for (; zeros && unit; zeros--) unit /= 10u;
  for (; from < to; from++) {
    unit /= 10u;
    if (unit)
      value += (uint32_t)(*from - '0') * unit;
    else
      more |= *from != '0';
  }
  return value + (uint32_t)more;
}

static int digits_only(const char *from, const char *to) {
  int zeros = 1;
  for (; from < to; from++) {
    if (*from < '0' || *from > '9') return -1;
    zeros &= *from == '0';
  }
  return zeros;
}

/* 1.5e-05 and such: one digit, perhaps a point and more, and a negative exponent of one or two. */
static int small_fraction(const char *text, size_t length, uint32_t *fraction) {
  char digits[MOST_DIGITS];
  size_t count = 1, at = 1;
  uint32_t exponent = 0;
  digits[0] = text[0];
  if (text[0] < '1' || text[0] > '9') return 0;
  if (at < length && text[at] == '.') {
    for (at++; at < length && text[at] >= '0' && text[at] <= '9'; at++) digits[count++] = text[at];
    if (count == 1u) return 0;
  }
  if (length < at + 3u || length > at + 4u || (text[at] != 'e' && text[at] != 'E') ||
      text[at + 1u] != '-' || digits_only(text + at + 2u, text + length) < 0)
    return 0;
  for (at += 2u; at < length; at++) exponent = 10u * exponent + (uint32_t)(text[at] - '0');
  if (!exponent) return 0;
  *fraction = millionths(digits, digits + count, exponent - 1u);
  return 1;
}

/* A number above 0, up to 1, as fleets write it. */
static int parse_fraction(const char *text, size_t length, uint32_t *fraction) {
  const char *end = text + length;
  if (!length || length > MOST_DIGITS) return 0;
  if (text[0] == '1' && (length == 1u || (text[1] == '.' && digits_only(text + 2, end) == 1))) {
    *fraction = MILLION;
    return 1;
  }
  const char *point = text + (text[0] == '0');
  if (point < end && *point == '.' && digits_only(point + 1, end) == 0) {
    *fraction = millionths(point + 1, end, 0);
    return 1;
  }
  return small_fraction(text, length, fraction);
}

static int take_fraction(reader *r, taper_desired *d) {
  const char *start;
  size_t length;
  if (!take_string(r, &start, &length)) return 0;
  if (is(start, length, "auto") || is(start, length, "linear") || is(start, length, "step")) {
    d->refused |= TAPER_FRACTION;
    return 1;
  }
  return parse_fraction(start, length, &d->fraction);
}

static int take_setting(reader *r, taper_desired *d, uint32_t *seen) {
  static const struct {
    const char *name;
    taper_setting bit;
  } known[] = {{"fraction", TAPER_FRACTION},       {"exit_threshold", TAPER_EXIT_THRESHOLD},
               {"rate_per_s", TAPER_RATE},         {"telemetry_s", TAPER_TELEMETRY_S},
               {"model", TAPER_MODEL},             {"audit_rate", TAPER_AUDIT_RATE}};
  const char *start;
  size_t length, i = 0;
  if (!take_string(r, &start, &length) || !take(r, ':')) return 0;
  while (i < sizeof known / sizeof known[0] && !is(start, length, known[i].name)) i++;
  if (i == sizeof known / sizeof known[0]) return 0;
  const uint32_t bit = known[i].bit;
  if (*seen & bit) return 0;
  *seen |= bit;
  if (take_word(r, "null")) return 1;
  if (bit == TAPER_FRACTION) return take_fraction(r, d);
  d->refused |= bit;
  return bit == TAPER_MODEL ? take_string(r, &start, &length) : skip_number(r);
}

static int take_settings(reader *r, taper_desired *d) {
  uint32_t seen = 0;
  if (!take(r, '{')) return 0;
  if (take(r, '}')) return 1;
  do
    if (!take_setting(r, d, &seen)) return 0;
  while (take(r, ','));
  return take(r, '}');
}

taper_status taper_read_desired(const char *payload, size_t size, taper_desired *desired) {
  reader r = {payload, payload + size};
  taper_desired d = {0, 0, 0};
  int settings = 0;
  const char *start;
  size_t length;
  if (!take(&r, '{')) return TAPER_BAD_MESSAGE;
  do {
    if (!take_string(&r, &start, &length) || !take(&r, ':')) return TAPER_BAD_MESSAGE;
    if (is(start, length, "version") && !d.version) {
      if (!take_version(&r, &d.version)) return TAPER_BAD_MESSAGE;
    } else if (is(start, length, "settings") && !settings) {
      settings = 1;
      if (!take_settings(&r, &d)) return TAPER_BAD_MESSAGE;
    } else {
      return TAPER_BAD_MESSAGE;
    }
  } while (take(&r, ','));
  if (!take(&r, '}') || !d.version) return TAPER_BAD_MESSAGE;
  skip_space(&r);
  if (r.at != r.end) return TAPER_BAD_MESSAGE;
  *desired = d;
  return TAPER_OK;
}
