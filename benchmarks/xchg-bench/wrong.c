/*
 * wrong: see wrong.h.  The bytes are escaped here, because a report is read on a terminal.  The
 * hint compares what came with what other exchanges send.
 */
#include "wrong.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SHOWN 32

/* Bytes that must agree before an answer looks like the client's own message. */
#define ALIKE 8

static_assert(4 * SHOWN < BENCH_EXAMPLE_MAX, "an escaped byte has at most four characters");

static const char greeting[] = "Message from server";

/* Write ${size} bytes, at most SHOWN, to ${text}; all but printable ones as C escapes. */
static void escape(const uint8_t *bytes, size_t size, char text[BENCH_EXAMPLE_MAX]) {
  char *at = text;
  for (size_t i = 0; i < size && i < SHOWN; i++) {
    const uint8_t byte = bytes[i];
    if (byte == '\\' || byte == '"') {
      at += sprintf(at, "\\%c", byte);
    } else if (byte >= 0x20 && byte < 0x7f) {
      *at++ = (char)byte;
    } else if (byte == '\n' || byte == '\r' || byte == '\t') {
      at += sprintf(at, "\\%c", byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't');
    } else {
      at += sprintf(at, "\\x%02x", byte);
    }
  }
  *at = 0;
}

/* The place of the first byte in ${answer} that differs; at most its size. */
static size_t find_difference(const struct wrong_answer *answer) {
  size_t at = 0;
  while (answer->expected != NULL && at < answer->size &&
         answer->done + at < answer->expected->total) {
    uint8_t byte;
    message_copy(answer->expected, answer->done + at, &byte, 1);
    if (byte != answer->data[at]) {
      break;
    }
    at++;
  }
  return at;
}

static bool begins_with(const struct wrong_answer *answer, const char *text) {
  const size_t size = strlen(text);
  return answer->size >= size && memcmp(answer->data, text, size) == 0;
}

/* Is ${answer} what the client itself has sent? */
static bool is_echo(const struct wrong_answer *answer) {
  uint8_t bytes[SHOWN];
  if (answer->own == NULL) {
    return false;
  }
  const size_t size = message_copy(answer->own, 0, bytes, min_u64(sizeof(bytes), answer->size));
  return size > 0 && size >= min_u64(ALIKE, answer->own->total) &&
         memcmp(answer->data, bytes, size) == 0;
}

/* Which exchange ${answer} looks like; NULL = none. */
static const char *find_hint(const struct wrong_answer *answer) {
  if (begins_with(answer, greeting)) {
    return "The server greets its clients; does it run another exchange? Try -x greet.";
  }
  if (begins_with(answer, "HTTP/")) {
    return "The answer is HTTP; xchg-bench is no HTTP client. Try wrk.";
  }
  if (is_echo(answer)) {
    return "The server returned the message; does it run another exchange? Try -x echo or -x line.";
  }
  if (answer->is_first) {
    return "No answer was right so far; do -x, --frame, --greeting and --reply match the server?";
  }
  return NULL;
}

void wrong_note(struct wrong_example *example, const struct wrong_answer *answer, uint64_t now_ns) {
  uint8_t wanted[SHOWN] = {0};
  const size_t at = find_difference(answer);
  const char *hint = find_hint(answer);
  *example = (struct wrong_example){
      .at_ns = now_ns, .connection = answer->connection, .offset = answer->done + at};
  if (answer->expected != NULL) {
    escape(wanted, message_copy(answer->expected, example->offset, wanted, sizeof(wanted)),
           example->wanted);
  }
  escape(answer->data + at, answer->size - at, example->received);
  if (hint != NULL) {
    snprintf(example->hint, sizeof(example->hint), "%s", hint);
  }
}
