/*
 * log: see log.h.
 *
 * After each step the text of a line is valid except for its end.  A value that does not fit is
 * shortened between two characters, never within an escape, and its quote is closed.  Room for
 * what log_end adds is reserved.
 */
#include "core/log.h"

#include "core/error_text.h"
#include "core/timestamp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LINE_END 2                         /* '}', and 0 or a line feed */
#define TEXT_MAX (LOG_LINE_MAX - LINE_END) /* room for fields */
#define ESCAPE_MAX 7                       /* "\u00NN" and its 0 */
#define U64_TEXT_MAX 21                    /* 20 digits and their 0 */

static const char *const level_words[] = {"error", "warn", "info", "debug"};

void log_init(struct log *log, log_call_fn *call, void *user, enum log_level level,
              enum log_format format) {
  *log = (struct log){.call = call, .user = user, .level = level, .format = format};
}

void log_set_level(struct log *log, enum log_level level) {
  atom_store_relaxed_u32(&log->level, level);
}

/* ---- a line ---- */

/** Append ${text}, which must fit. */
static void put(struct log_line *line, const char *text, size_t size) {
  memcpy(line->text + line->size, text, size);
  line->size += size;
}

/** Begin a field whose value has at least ${value_size} bytes. Return: does it fit? */
static bool put_key(struct log_line *line, const char *key, size_t value_size) {
  bool json = line->log->format == LOG_JSON;
  size_t key_size = strlen(key);
  size_t around = json ? sizeof(",\"\":") - 1 : sizeof(" =") - 1;
  size_t left = TEXT_MAX - line->size;
  if (left < around || left - around < key_size || left - around - key_size < value_size) {
    return false;
  }
  if (line->size > 0) {
    put(line, json ? "," : " ", 1);
  } else if (json) {
    put(line, "{", 1);
  }
  if (json) {
    put(line, "\"", 1);
  }
  put(line, key, key_size);
  put(line, json ? "\":" : "=", json ? 2 : 1);
  return true;
}

static bool must_escape(unsigned char byte) {
  return byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\';
}

/** Write ${byte} as it must be within quotes. Return: the length. */
static size_t escape(enum log_format format, unsigned char byte, char text[ESCAPE_MAX]) {
  if (!must_escape(byte)) {
    text[0] = (char)byte;
    return 1;
  }
  if (byte == '"' || byte == '\\') {
    text[0] = '\\';
    text[1] = (char)byte;
    return 2;
  }
  int size = format == LOG_JSON ? snprintf(text, ESCAPE_MAX, "\\u00%02x", byte)
                                : snprintf(text, ESCAPE_MAX, "\\x%02x", byte);
  return (size_t)size;
}

/** Does ${value} need quotes in logfmt? */
static bool must_quote(const unsigned char *value, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (must_escape(value[i]) || value[i] == ' ' || value[i] == '=') {
      return true;
    }
  }
  return size == 0;
}

void log_bytes(struct log_line *line, const char *key, const void *value, size_t size) {
  const unsigned char *bytes = value;
  if (line->log == NULL || !put_key(line, key, sizeof("\"\"") - 1)) {
    return;
  }
  enum log_format format = line->log->format;
  size_t quote = format == LOG_JSON || must_quote(bytes, size) ? 1 : 0;
  put(line, "\"", quote);
  for (size_t i = 0; i < size; i++) {
    char text[ESCAPE_MAX];
    size_t text_size = escape(format, bytes[i], text);
    if (TEXT_MAX - line->size < text_size + quote) {
      break;
    }
    put(line, text, text_size);
  }
  put(line, "\"", quote);
}

void log_str(struct log_line *line, const char *key, const char *value) {
  log_bytes(line, key, value, strlen(value));
}

void log_u64(struct log_line *line, const char *key, uint64_t value) {
  char text[U64_TEXT_MAX];
  size_t size = (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
  if (line->log != NULL && put_key(line, key, size)) {
    put(line, text, size);
  }
}

void log_error(struct log_line *line, int error) {
  char text[ERROR_TEXT_MAX];
  log_str(line, "error", error_text(error, text));
}

/** Begin a line, whatever the configured level is. */
static void line_begin(struct log_line *line, struct log *log, enum log_level level,
                       const char *msg) {
  char time[TIMESTAMP_TEXT_MAX];
  line->log = log;
  line->level = level;
  line->size = 0;
  log_str(line, "time", timestamp_format_wall(time));
  log_str(line, "level", level_words[level]);
  log_str(line, "msg", msg);
}

void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *msg) {
  if (level > atom_load_relaxed_u32(&log->level)) {
    line->log = NULL;
    return;
  }
  line_begin(line, log, level, msg);
}

void log_begin_always(struct log_line *line, struct log *log, const char *msg) {
  line_begin(line, log, LOG_INFO, msg);
}

void log_end(struct log_line *line) {
  struct log *log = line->log;
  if (log == NULL) {
    return;
  }
  int error = errno; /* callers use errno after they have logged */
  if (log->format == LOG_JSON) {
    put(line, "}", 1);
  }
  put(line, "", 1); /* its terminating 0 */
  log->call(log->user, (enum xchg_log_level)line->level, line->text);
  line->log = NULL;
  errno = error;
}

void log_msg(struct log *log, enum log_level level, const char *msg) {
  struct log_line line;
  log_begin(&line, log, level, msg);
  log_end(&line);
}

void log_errno(struct log *log, enum log_level level, const char *msg, int error) {
  struct log_line line;
  log_begin(&line, log, level, msg);
  log_error(&line, error);
  log_end(&line);
}
