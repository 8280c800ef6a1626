/*
 * fuzz_log: a value cannot forge a line of the log.
 *
 * Values of arbitrary bytes are put into a line.  The line is printable ASCII, ends where it must,
 * and is well-formed.  Undoing the escapes yields the values; the last one that found room may be
 * shortened.
 *
 * Input: format, then values, each after its length (2 bytes).
 */
#include "core/log.h"
#include "tests/fuzz/fuzz.h"

#define VALUES_MAX 32

struct value {
  const uint8_t *bytes;
  size_t size;
};

struct tried {
  struct value values[VALUES_MAX];
  size_t count;
  size_t lines;
  enum log_format format;
};

static unsigned hex(const char *digits, int count) {
  unsigned number = 0;
  for (int i = 0; i < count; i++) {
    fuzz_holds(digits[i] != 0 && strchr("0123456789abcdef", digits[i]) != NULL,
               "an escape has hex digits");
    number = number * 16 + (unsigned)(digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
  }
  return number;
}

/* The byte at ${*at} without its escape; advances ${*at}. */
static uint8_t unescape(const char **at, enum log_format format) {
  const char *text = *at;
  if (text[0] != '\\') {
    *at += 1;
    return (uint8_t)text[0];
  }
  if (text[1] == '"' || text[1] == '\\') {
    *at += 2;
    return (uint8_t)text[1];
  }
  bool json = format == LOG_JSON;
  fuzz_holds(strncmp(text, json ? "\\u00" : "\\x", json ? 4 : 2) == 0, "the escape is known");
  *at += json ? 6 : 4;
  return (uint8_t)hex(text + (json ? 4 : 2), 2);
}

/* Advance ${*at} over ${text}, which must be there. */
static void expect(const char **at, const char *text) {
  size_t size = strlen(text);
  fuzz_holds(strncmp(*at, text, size) == 0, "the syntax of the line is right");
  *at += size;
}

/* Read a value back and compare it with ${value}. Return: its bytes that were there. */
static size_t read_value(const char **at, enum log_format format, const struct value *value) {
  size_t count = 0;
  bool quoted = **at == '"';
  *at += quoted;
  while (quoted ? **at != '"' : **at != 0 && **at != ' ') {
    fuzz_holds(**at != 0, "a quote is closed");
    uint8_t byte = unescape(at, format);
    fuzz_holds(count < value->size && byte == value->bytes[count], "the value comes back");
    count++;
  }
  *at += quoted;
  fuzz_holds(quoted || (format == LOG_LOGFMT && count > 0), "an unquoted value is not empty");
  return count;
}

static void check_line(void *user, enum xchg_log_level level, const char *line) {
  struct tried *tried = user;
  bool json = tried->format == LOG_JSON;
  (void)level;
  tried->lines++;
  fuzz_holds(strlen(line) < LOG_LINE_MAX, "a line has a maximum length");
  fuzz_holds(fuzz_printable(line, 'a'), "a line is printable ASCII");
  const char *at = line;
  expect(&at, json ? "{\"time\":\"" : "time=");
  at += strcspn(at, json ? "\"" : " ");
  expect(&at, json ? "\",\"level\":\"info\",\"msg\":\"tried\"" : " level=info msg=tried");
  bool cut = false;
  for (size_t i = 0; i < tried->count; i++) {
    if (strncmp(at, json ? ",\"v\":" : " v=", json ? 5 : 3) != 0) {
      fuzz_holds(strlen(line) + 24 > LOG_LINE_MAX, "a field is left out only for lack of room");
      cut = true;
      continue;
    }
    at += json ? 5 : 3;
    size_t count = read_value(&at, tried->format, &tried->values[i]);
    if (count < tried->values[i].size) {
      fuzz_holds(strlen(line) + 24 > LOG_LINE_MAX, "a value is shortened only for lack of room");
      cut = true;
    }
  }
  if (!cut || strncmp(at, json ? ",\"n\":" : " n=", json ? 5 : 3) == 0) {
    expect(&at, json ? ",\"n\":18446744073709551615" : " n=18446744073709551615");
  }
  expect(&at, json ? "}" : "");
  fuzz_holds(*at == 0, "nothing follows");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  struct tried tried = {.format = fuzz_byte(&input) % 2 == 0 ? LOG_LOGFMT : LOG_JSON};
  struct log log;
  struct log_line line;
  log_init(&log, check_line, &tried, LOG_INFO, tried.format);
  log_begin(&line, &log, LOG_INFO, "tried");
  while (input.left > 0 && tried.count < VALUES_MAX) {
    struct value *value = &tried.values[tried.count++];
    value->bytes = fuzz_bytes(&input, fuzz_u16(&input), &value->size);
    log_bytes(&line, "v", value->bytes, value->size);
  }
  size_t before = line.size;
  log_u64(&line, "n", UINT64_MAX);
  bool without = line.size == before;
  fuzz_holds(!without || before + 32 > LOG_LINE_MAX, "a number is left out only for lack of room");
  if (!without) {
    log_end(&line);
    fuzz_holds(tried.lines == 1, "there is one line");
  }
  log_begin(&line, &log, LOG_DEBUG, "not asked for");
  log_bytes(&line, "v", data, size);
  log_end(&line);
  fuzz_holds(tried.lines <= 1, "a level that is off writes nothing");
  return 0;
}
