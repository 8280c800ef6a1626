/*
 * log: see log.h.
 *
 * After each step the text of a line is valid except for its end.  A value that does not fit is
 * shortened between two characters, never within an escape, and its quote is closed.  Room for
 * what log_end adds is reserved.
 *
 * `dropped` counts each lost line.  A writer first subtracts the count that it finds, writes it as
 * a line, and adds it again if that line is lost, too.  Several threads may subtract at once.  A
 * thread that has subtracted more than there was adds it again.  Until then the count is negative,
 * which is taken as 0.
 *
 * A write to a terminal, a stream socket or a full disk may end within a line.  `partial` records
 * it, and the next write begins with a line feed.
 */
#include "core/log.h"

#include "core/sys.h"
#include "core/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* log.how */
enum { HOW_WRITE, HOW_NONBLOCK, HOW_SEND, HOW_POLL, HOW_CALL };

#define LINE_END 2                         /* '}' and '\n' */
#define TEXT_MAX (LOG_LINE_MAX - LINE_END) /* room for fields */
#define ESCAPE_MAX 7                       /* "\u00NN" and its 0 */
#define U64_TEXT_MAX 21                    /* 20 digits and their 0 */
#define PATH_TEXT_MAX 32

static const char *const level_words[] = {"error", "warn", "info", "debug"};

/* ---- the descriptor ---- */

/** Open the file of ${fd} again, with its own flags. Return: the new descriptor, or -1. */
static int reopen(int fd) {
  char path[PATH_TEXT_MAX];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

void log_init(struct log *log, int fd, enum log_level level, enum log_format format) {
  *log = (struct log){.fd = fd, .how = HOW_WRITE, .level = level, .format = format};
  struct stat status;
  if (fd < 0 || fstat(fd, &status) == -1) {
    log->fd = -1; /* a connection may soon get this number */
    return;
  }
  if (S_ISSOCK(status.st_mode)) {
    log->how = HOW_SEND;
    return;
  }
  if (S_ISFIFO(status.st_mode) || isatty(fd)) {
    int own = reopen(fd);
    log->how = own == -1 ? HOW_POLL : HOW_NONBLOCK;
    log->fd = own == -1 ? fd : own;
  }
}

void log_init_call(struct log *log, log_call_fn *call, void *user, enum log_level level,
                   enum log_format format) {
  *log = (struct log){.fd = -1, .how = HOW_CALL, .level = level, .format = format};
  log->call = call;
  log->user = user;
}

void log_fini(struct log *log) {
  if (log->how == HOW_CALL) {
    return;
  }
  if (log->how == HOW_NONBLOCK) {
    sys_close(log->fd);
  }
  log->fd = -1;
  log->how = HOW_WRITE;
}

/** Is ${fd} writable, without an error or hang-up? */
static bool writable(int fd) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
  return sys_poll(&poll_fd, 1, 0) == 1 && poll_fd.revents == POLLOUT;
}

/** Try once. Return: as write(2). */
static ssize_t write_once(const struct log *log, const char *text, size_t size) {
  if (log->how == HOW_SEND) {
    return sys_send(log->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  if (log->how == HOW_POLL && !writable(log->fd)) {
    return -1;
  }
  return sys_write(log->fd, text, size);
}

/** Write as much of ${text} as possible without waiting. Return: was it all? */
static bool write_text(struct log *log, const char *text, size_t size) {
  size_t done = 0;
  while (done < size) {
    errno = 0;
    ssize_t n = write_once(log, text + done, size - done);
    if (n == -1 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      break;
    }
    done += (size_t)n;
  }
  if (done > 0 && done < size) {
    atom_exchange_acq_rel_u32(&log->partial, 1);
  }
  return done == size;
}

/* ---- lost lines ---- */

/** Subtract the count of lost lines, so that no other thread reports them. Return: the count. */
static uint64_t take_dropped(struct log *log) {
  uint64_t lost = atom_load_relaxed_u64(&log->dropped);
  if (lost == 0 || lost > INT64_MAX) {
    return 0;
  }
  uint64_t found = atom_add_relaxed_u64(&log->dropped, 0 - lost);
  if (found < lost || found > INT64_MAX) {
    atom_add_relaxed_u64(&log->dropped, lost);
    return 0;
  }
  return lost;
}

static void line_begin(struct log_line *line, struct log *log, enum log_level level,
                       const char *msg);
static size_t line_finish(struct log_line *line);

/** Write how many lines were lost, if any. Return: false if that line is lost, too. */
static bool report_dropped(struct log *log) {
  uint64_t lost = take_dropped(log);
  if (lost == 0) {
    return true;
  }
  struct log_line line;
  line_begin(&line, log, LOG_WARN, "lines lost");
  log_u64(&line, "count", lost);
  if (write_text(log, line.text, line_finish(&line))) {
    return true;
  }
  atom_add_relaxed_u64(&log->dropped, lost);
  return false;
}

/** End a partial line. Return: false if that is not possible yet. */
static bool end_partial_line(struct log *log) {
  if (atom_load_relaxed_u32(&log->partial) == 0 ||
      atom_exchange_acq_rel_u32(&log->partial, 0) == 0) {
    return true;
  }
  if (write_text(log, "\n", 1)) {
    return true;
  }
  atom_exchange_acq_rel_u32(&log->partial, 1);
  return false;
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

/** Complete a line. Return: its length. */
static size_t line_finish(struct log_line *line) {
  if (line->log->format == LOG_JSON) {
    put(line, "}", 1);
  }
  put(line, "\n", 1);
  return line->size;
}

void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *msg) {
  if (level > log->level) {
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
  size_t size = line_finish(line);
  if (log->how == HOW_CALL) {
    line->text[size - 1] = 0; /* replaces the line feed */
    log->call(log->user, (enum xchg_log_level)line->level, line->text);
  } else if (!end_partial_line(log) || !report_dropped(log) || !write_text(log, line->text, size)) {
    atom_add_relaxed_u64(&log->dropped, 1);
  }
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
  log_str(&line, "error", strerror(error));
  log_end(&line);
}
