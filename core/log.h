/*
 * log: writes one line for each event, in logfmt or JSON, and never blocks.
 *
 * A line is built on the caller's stack and written with one call of at most LOG_LINE_MAX bytes.
 * So lines of several threads do not mix on a pipe, and no lock is needed.
 *
 * If the descriptor does not accept a line at once (full pipe, stopped terminal, full disk, closed
 * reader), the line is lost and counted.  The next line that is written is preceded by a line with
 * the count.  To avoid blocking, a pipe or terminal is opened again through /proc/self/fd with
 * O_NONBLOCK, because that flag of the shared description must not change.  A socket is written
 * with MSG_DONTWAIT.  If neither works, the descriptor is polled before each write.
 *
 * Bytes below 0x20 and above 0x7e, quotes and backslashes are escaped, so a peer cannot forge a
 * line.
 *
 *   time=2026-11-24T05:57:21.123Z level=info msg=listening addr=127.0.0.1:7000
 *   {"time":"2026-11-24T05:57:21.123Z","level":"info","msg":"listening","addr":"127.0.0.1:7000"}
 *
 * A write to a pipe without a reader raises SIGPIPE.  A process that logs to a pipe must ignore it,
 * as xchgd does.  After a partial write, the next line begins with a line feed.
 *
 * Each server has its own logger.  There is no global one.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/xchg.h"
#include "core/base.h"
#include "core/atom.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* For lines that are written at every level: listening, stats, stopped. */
#define LOG_ALWAYS LOG_ERROR

#define LOG_LINE_MAX 4096 /* PIPE_BUF; a longer write to a pipe is not atomic */

/**
 * log_call_fn(user, level, line):
 * Receives a line without a line feed, which is valid until the function returns. Must not log.
 * Thread: any, several at once.
 */
typedef void log_call_fn(void *user, enum xchg_log_level level, const char *line);

struct log {
  int fd;            /* owns if log_init has opened it, else borrows; -1 = all lines are lost */
  int how;           /* an enum of log.c: how to write */
  log_call_fn *call; /* used instead of fd, or NULL */
  void *user;        /* borrows; passed to call */
  enum log_level level;
  enum log_format format;
  atom_u64 dropped; /* lines lost since the last one written; any thread */
  atom_u32 partial; /* the last write ended within a line; any thread */
};

/* A line on the caller's stack, between log_begin and log_end. */
struct log_line {
  struct log *log; /* borrows until log_end; NULL = the level is off */
  enum log_level level;
  size_t size;
  char text[LOG_LINE_MAX];
};

/**
 * log_init(log, fd, level, format):
 * Write lines of ${level} and more urgent ones to ${fd}. Cannot fail: if ${fd} is not open, lines
 * are counted as lost.
 * Own: ${fd} stays the caller's.
 */
void log_init(struct log *log, int fd, enum log_level level, enum log_format format);

/**
 * log_init_call(log, call, user, level, format):
 * Pass lines to ${call} instead, with their level. The level of log_begin_always is info. Nothing
 * is opened, no line is lost, and log_fini does nothing.
 */
void log_init_call(struct log *log, log_call_fn *call, void *user, enum log_level level,
                   enum log_format format);

/** Close what log_init has opened. */
void log_fini(struct log *log);

/**
 * log_begin(line, log, level, msg):
 * Begin a line with time, level and ${msg}. log_begin_always writes at every configured level, and
 * its level is info.
 * Thread: any, each with its own ${line}.
 */
void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *msg);
void log_begin_always(struct log_line *line, struct log *log, const char *msg);

/**
 * Add a field. A value that does not fit is shortened, a number or key that does not fit is left
 * out, so the line stays well-formed. Keys are plain words.
 */
void log_str(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const void *value, size_t size);
void log_u64(struct log_line *line, const char *key, uint64_t value);

/** Write the line, or count it as lost. */
void log_end(struct log_line *line);

/**
 * log_msg writes a line without fields, log_errno one with the field error=strerror(${error}).
 * No function here changes errno.
 */
void log_msg(struct log *log, enum log_level level, const char *msg);
void log_errno(struct log *log, enum log_level level, const char *msg, int error);

#endif
