/*
 * log: one line an event, logfmt or JSON, to a descriptor or a function, and never a wait.
 *
 * A line is composed on the caller's stack and leaves in one write of at most LOG_LINE_MAX bytes,
 * so that lines of several threads never mix on a pipe and no lock is needed.  A full pipe, a
 * stopped terminal, a full disk or a reader that is gone costs the line and nothing else: lost
 * lines are counted and the next line that gets through is preceded by one that says how many. To
 * that end a pipe or terminal is opened a second time through /proc/self/fd with O_NONBLOCK (the
 * flag of the shared description is left alone), a socket is written with MSG_DONTWAIT, and where
 * neither works the descriptor is polled first. Bytes below 0x20, 0x7f and above, quotes and
 * backslashes are escaped: a peer cannot write a line.
 *
 *   time=2026-11-24T05:57:21.123Z level=info msg=listening addr=127.0.0.1:7000
 *   {"time":"2026-11-24T05:57:21.123Z","level":"info","msg":"listening","addr":"127.0.0.1:7000"}
 *
 * A pipe whose reader is gone raises SIGPIPE, which only the process can ignore: whoever logs to a
 * pipe does (xchgd does).  A stream that takes half a line gets a line feed before the next one.
 *
 * The logger belongs to the server object; there is no global one.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/xchg.h"
#include "core/base.h"
#include "core/atom.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* Written whatever the level is: listening, stats, stopped. */
#define LOG_ALWAYS LOG_ERROR

#define LOG_LINE_MAX 4096 /* PIPE_BUF: a longer write to a pipe would not be atomic */

/**
 * log_call_fn(user, level, line): takes a line, which ends with a 0 and has no line feed, and lives
 * until it returns.  Thread: any, several at once.  Must not log.
 */
typedef void log_call_fn(void *user, enum xchg_log_level level, const char *line);

struct log {
  int fd;  /* owns where log_init opened it anew, else borrows log_init's; -1: every line is lost */
  int how; /* log.c's own: plain write, nonblocking write, send, poll first, call */
  log_call_fn *call; /* in place of ${fd}, or NULL */
  void *user;        /* borrows: ${call}'s */
  enum log_level level;
  enum log_format format;
  atom_u64 dropped; /* lines lost since the last one that got through; any thread */
  atom_u32 partial; /* the last write stopped within a line; any thread */
};

/* A line under construction; lives on the caller's stack between log_begin and log_end. */
struct log_line {
  struct log *log; /* borrows until log_end; NULL: the level is off and nothing is composed */
  enum log_level level;
  size_t size;
  char text[LOG_LINE_MAX];
};

/**
 * log_init(log, fd, level, format):
 * Make ${log} write lines of ${level} and more urgent ones to ${fd}.  Never fails: where nothing
 * can be opened, lines are counted as lost.
 * Own: ${fd} stays the caller's.
 */
void log_init(struct log *log, int fd, enum log_level level, enum log_format format);

/**
 * log_init_call(log, call, user, level, format):
 * Let ${log} hand its lines to ${call} instead, with their level (that of log_begin_always: info).
 * Nothing is opened, no line is lost, and log_fini has nothing to do.
 */
void log_init_call(struct log *log, log_call_fn *call, void *user, enum log_level level,
                   enum log_format format);

/** Close what log_init opened. */
void log_fini(struct log *log);

/**
 * log_begin(line, log, level, msg): start a line: time=..., level=..., msg=${msg}. The level's word
 * is that of ${level}; log_begin_always writes at every configured level, with the word "info".
 * Thread: any; each with a ${line} of its own.
 */
void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *msg);
void log_begin_always(struct log_line *line, struct log *log, const char *msg);

/**
 * Add a field. A value that does not fit any more is cut (a number: left out), and further fields
 * are ignored where they do not fit; the line stays well-formed. Keys are plain words.
 */
void log_str(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const void *value, size_t size);
void log_u64(struct log_line *line, const char *key, uint64_t value);

/** Write the line, whole or not at all. */
void log_end(struct log_line *line);

/**
 * log_msg: a line without further fields; log_errno: one with error=${strerror}.
 * Like all of the above they leave errno as it was.
 */
void log_msg(struct log *log, enum log_level level, const char *msg);
void log_errno(struct log *log, enum log_level level, const char *msg, int error);

#endif
