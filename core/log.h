/*
 * log: builds one line for each event, in logfmt or JSON, and passes it on.
 *
 * A line is built on the caller's stack, so no lock is needed.  The function of the log gets each
 * complete line: pool/log_writer for standard error, or a function of the program.
 *
 * Bytes below 0x20 and above 0x7e, quotes and backslashes are escaped, so a peer cannot forge a
 * line, and no text of others reaches a terminal as it is.
 *
 *   time=2026-11-24T05:57:21.123Z level=info msg=listening addr=127.0.0.1:7000
 *   {"time":"2026-11-24T05:57:21.123Z","level":"info","msg":"listening","addr":"127.0.0.1:7000"}
 *
 * Each server has its own logger.  There is no global one.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/xchg.h"
#include "core/base.h"
#include "core/atom.h"

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* For lines that are written at every level: listening, stats, stopped. */
#define LOG_ALWAYS LOG_ERROR

#define LOG_LINE_MAX 4096 /* with its line feed: PIPE_BUF, a longer write to a pipe is not atomic */

/**
 * log_call_fn(user, level, line):
 * Receives a line without a line feed, which is valid until the function returns. Must not log.
 * Thread: any, several at once.
 */
typedef void log_call_fn(void *user, enum xchg_log_level level, const char *line);

struct log {
  log_call_fn *call;
  void *user;     /* borrows; passed to call */
  atom_u32 level; /* enum log_level; log_set_level writes, every thread reads */
  enum log_format format;
};

/* A line on the caller's stack, between log_begin and log_end. */
struct log_line {
  struct log *log; /* borrows until log_end; NULL = the level is off */
  enum log_level level;
  size_t size;
  char text[LOG_LINE_MAX];
};

/**
 * log_init(log, call, user, level, format):
 * Pass lines of ${level} and more urgent ones to ${call}, with their level. The level of
 * log_begin_always is info. There is nothing to free.
 */
void log_init(struct log *log, log_call_fn *call, void *user, enum log_level level,
              enum log_format format);

/** From now on write lines of ${level} and more urgent ones. Thread: any. */
void log_set_level(struct log *log, enum log_level level);

/**
 * log_begin(line, log, level, msg):
 * Begin a line with time, level and ${msg}. log_begin_always writes at every configured level, and
 * its level is info.
 * Thread: any, each with its own ${line}.
 */
void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *msg);
void log_begin_always(struct log_line *line, struct log *log, const char *msg);

/**
 * Would ${log} write a line of ${level}? For callers that would have to prepare the line, for
 * example to format an address.
 */
static inline bool log_wants(const struct log *log, enum log_level level) {
  return atom_load_relaxed_u32(&log->level) >= level;
}

/**
 * Add a field. A value that does not fit is shortened, a number or key that does not fit is left
 * out, so the line stays well-formed. Keys are plain words.
 */
void log_str(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const void *value, size_t size);
void log_u64(struct log_line *line, const char *key, uint64_t value);

/** Add the field error with the text of the errno ${error}. */
void log_error(struct log_line *line, int error);

/** Pass the line on. */
void log_end(struct log_line *line);

/**
 * log_msg writes a line without fields, log_errno one with the field of log_error.
 * No function here changes errno.
 */
void log_msg(struct log *log, enum log_level level, const char *msg);
void log_errno(struct log *log, enum log_level level, const char *msg, int error);

#endif
