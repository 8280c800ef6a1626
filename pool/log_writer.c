/*
 * log_writer: see log_writer.h.
 *
 * The thread has two batches.  Others fill one under the mutex while it writes the other without
 * the mutex.  A line in a batch follows a header with its size and with the number of lines that
 * were lost before it.  Without a thread, the mutex is held for a write, which does not wait.
 *
 * If the thread does not end in time, it owns the writer from then on and frees it.
 */
#include "pool/log_writer.h"

#include "core/atom.h"
#include "core/sys.h"
#include "pool/forked.h"
#include "pool/thread.h"
#include "pool/signals.h"
#include "pool/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define BATCH_MAX ((size_t)64 * 1024)
#define PATH_TEXT_MAX 32
#define REPORT_MAX 160 /* the line that counts lost ones */
#define END_WAIT_NS NS_PER_S

struct header {
  uint32_t size; /* of the line, with its line feed */
  uint32_t lost; /* lines lost between the line before and this one */
};

struct batch {
  size_t size;
  char bytes[BATCH_MAX];
};

enum how {
  HOW_SEND,     /* a socket */
  HOW_NONBLOCK, /* opened again, or not open at all */
  HOW_THREAD,
};

struct log_writer {
  /* Owner. */
  enum how how;
  uint64_t process; /* forked_number of the process that has created or started the writer */
  bool started;
  pthread_t thread;              /* HOW_THREAD, once started */
  const struct sandbox *sandbox; /* borrows until the thread is up; NULL = none */

  /* Under the mutex. */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct batch *filling; /* one of the two batches */
  bool writes;           /* the thread writes the other one */
  uint32_t lost;         /* lines that did not fit since the last one that did */
  bool up;               /* the thread has entered the sandbox, or failed: */
  int refused;           /* the errno with which it has not; 0 = none */
  bool ending;           /* the thread shall write what is left, and end */
  bool ended;
  bool abandoned; /* no one waits for the thread, which frees the writer */

  /* The thread; if there is none, under the mutex. */
  int fd;                /* owns; -1 = all lines are lost */
  struct batch *writing; /* the other batch */
  uint64_t unwritten;    /* lines lost since the last one that was written */
  bool partial;          /* the last write ended within a line */
  struct log report;     /* for the line that counts lost ones */

  atom_u64 lost_all; /* lines lost so far; the thread that loses one adds, any thread reads */

  struct batch batches[2];
};

static void lock(struct log_writer *writer) {
  int result = pthread_mutex_lock(&writer->mutex);
  assert(result == 0);
}

static void unlock(struct log_writer *writer) {
  int result = pthread_mutex_unlock(&writer->mutex);
  assert(result == 0);
}

/* Tell the thread, or the one that waits for it, to look again; the mutex is held. */
static void tell(struct log_writer *writer) {
  int result = pthread_cond_broadcast(&writer->changed);
  assert(result == 0);
}

/* ---- writing ---- */

/** Try once. Return: as write(2). */
static ssize_t write_once(const struct log_writer *writer, const char *text, size_t size) {
  return writer->how == HOW_SEND ? sys_send(writer->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                 : sys_write(writer->fd, text, size);
}

/** Write ${text}. Return: was it written whole? */
static bool write_text(struct log_writer *writer, const char *text, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = write_once(writer, text + done, size - done);
    if (n == -1 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      break;
    }
    done += (size_t)n;
  }
  if (done > 0) {
    writer->partial = done < size;
  }
  return done == size;
}

/** The log_call_fn of writer->report. */
static void write_report(void *user, enum xchg_log_level level, const char *line) {
  struct log_writer *writer = user;
  char text[REPORT_MAX];
  (void)level; /* it is part of the line */
  int size = snprintf(text, sizeof(text), "%s\n", line);
  if (write_text(writer, text, (size_t)size)) {
    writer->unwritten = 0;
  }
}

/** Write how many lines were lost, if any. Return: false if that is not possible yet. */
static bool report_dropped(struct log_writer *writer) {
  if (writer->unwritten > 0) {
    struct log_line line;
    log_begin(&line, &writer->report, LOG_WARN, "lines lost");
    log_u64(&line, "count", writer->unwritten);
    log_end(&line);
  }
  return writer->unwritten == 0;
}

/** End a partial line. Return: false if that is not possible yet. */
static bool end_partial_line(struct log_writer *writer) {
  return !writer->partial || write_text(writer, "\n", 1);
}

/** Write a line, with its line feed, after those that were lost. */
static void write_line(struct log_writer *writer, const char *line, size_t size) {
  if (!end_partial_line(writer) || !report_dropped(writer) || !write_text(writer, line, size)) {
    writer->unwritten++;
    atom_add_relaxed_u64(&writer->lost_all, 1);
  }
}

/* ---- the thread ---- */

static void write_batch(struct log_writer *writer) {
  struct batch *batch = writer->writing;
  struct header header;
  for (size_t at = 0; at < batch->size; at += sizeof(header) + header.size) {
    memcpy(&header, batch->bytes + at, sizeof(header));
    writer->unwritten += header.lost;
    write_line(writer, batch->bytes + at + sizeof(header), header.size);
  }
  batch->size = 0;
}

static void swap_batches(struct log_writer *writer) {
  struct batch *full = writer->filling;
  writer->filling = writer->writing;
  writer->writing = full;
}

static void release(struct log_writer *writer) {
  if (writer->fd != -1) {
    sys_close(writer->fd);
  }
  free(writer);
}

static void *writer_main(void *argument) {
  struct log_writer *writer = argument;
  int refused = sandbox_enter(writer->sandbox, SANDBOX_LOG) == 0 ? 0 : errno;
  bool runs = refused == 0 || !sandbox_required(writer->sandbox);
  thread_set_name("xchg-log");
  lock(writer);
  writer->refused = refused;
  writer->up = true;
  tell(writer);
  while (runs) {
    while (writer->filling->size == 0 && !writer->ending) {
      int result = pthread_cond_wait(&writer->changed, &writer->mutex);
      assert(result == 0);
    }
    if (writer->filling->size == 0) {
      break;
    }
    swap_batches(writer);
    writer->writes = true;
    unlock(writer);
    write_batch(writer);
    lock(writer);
    writer->writes = false;
    tell(writer);
  }
  bool abandoned = writer->abandoned;
  writer->ended = true;
  tell(writer);
  unlock(writer);
  if (abandoned) {
    release(writer);
  }
  return NULL;
}

/* ---- its users ---- */

/* None of these calls can fail with these arguments. */
static void init_locks(struct log_writer *writer) {
  pthread_condattr_t attributes;
  int result = pthread_condattr_init(&attributes);
  assert(result == 0);
  result = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  assert(result == 0);
  result = pthread_cond_init(&writer->changed, &attributes);
  assert(result == 0);
  result = pthread_condattr_destroy(&attributes);
  assert(result == 0);
  result = pthread_mutex_init(&writer->mutex, NULL);
  assert(result == 0);
}

/* Open the file of ${fd} again, with flags of its own. Return: the new descriptor, or -1. */
static int reopen(int fd) {
  char path[PATH_TEXT_MAX];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* Choose how to write to ${fd}. Return: 0, or -1 with errno. */
static int open_descriptor(struct log_writer *writer, int fd, bool patient) {
  struct stat status;
  writer->fd = -1;
  writer->how = HOW_NONBLOCK;
  if (fstat(fd, &status) == -1) {
    return 0; /* not open: a connection may soon get this number */
  }
  bool waits = patient || S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
  if (S_ISSOCK(status.st_mode) && !patient) {
    writer->how = HOW_SEND;
  } else if (waits || (writer->fd = reopen(fd)) == -1) {
    writer->how = HOW_THREAD;
  }
  if (writer->fd == -1) {
    writer->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the caller may close its own */
  }
  return writer->fd == -1 ? -1 : 0;
}

struct log_writer *log_writer_create(int fd, enum log_format format, bool patient) {
  struct log_writer *writer = calloc(1, sizeof(*writer));
  if (writer == NULL) {
    return NULL;
  }
  if (forked_watch() == -1 || open_descriptor(writer, fd, patient) == -1) {
    int error = errno;
    free(writer);
    errno = error;
    return NULL;
  }
  writer->process = forked_number();
  writer->filling = &writer->batches[0];
  writer->writing = &writer->batches[1];
  log_init(&writer->report, write_report, writer, LOG_WARN, format);
  init_locks(writer);
  return writer;
}

/*
 * Wait until the thread has its name and is in the sandbox.
 * Return: as log_writer_start; there is no thread after -1.
 */
static int await_up(struct log_writer *writer) {
  lock(writer);
  while (!writer->up) {
    int result = pthread_cond_wait(&writer->changed, &writer->mutex);
    assert(result == 0);
  }
  int refused = writer->refused;
  unlock(writer);
  if (refused != 0 && sandbox_required(writer->sandbox)) {
    (void)pthread_join(writer->thread, NULL); /* cannot fail: joined once, by another */
    return fail(refused);
  }
  errno = refused;
  return refused != 0;
}

int log_writer_start(struct log_writer *writer, const struct sandbox *sandbox) {
  if (writer->started && writer->process == forked_number()) {
    return 0; /* a second thread would write from the same buffer */
  }
  int result = 0;
  if (writer->how == HOW_THREAD) {
    sigset_t before;
    writer->sandbox = sandbox;
    writer->up = writer->ended = false; /* a thread that was refused has left both set */
    signals_block_all(&before);
    int error = pthread_create(&writer->thread, NULL, writer_main, writer);
    signals_restore(&before);
    if (error != 0) {
      return fail(error);
    }
    result = await_up(writer);
    if (result == -1) {
      return -1;
    }
  }
  writer->started = true;
  writer->process = forked_number();
  return result;
}

/* Copy ${line} for the thread; the mutex is held. */
static void keep_line(struct log_writer *writer, const char *line, size_t size) {
  const struct header header = {.size = (uint32_t)size, .lost = writer->lost};
  struct batch *batch = writer->filling;
  if (sizeof(batch->bytes) - batch->size < sizeof(header) + size) {
    writer->lost++;
    atom_add_relaxed_u64(&writer->lost_all, 1);
    return;
  }
  writer->lost = 0;
  memcpy(batch->bytes + batch->size, &header, sizeof(header));
  memcpy(batch->bytes + batch->size + sizeof(header), line, size);
  batch->size += sizeof(header) + size;
  tell(writer);
}

uint64_t log_writer_lost(const struct log_writer *writer) {
  return atom_load_relaxed_u64(&writer->lost_all);
}

void log_writer_put(void *user, enum xchg_log_level level, const char *line) {
  struct log_writer *writer = user;
  char text[LOG_LINE_MAX + 1];
  (void)level; /* it is part of the line */
  if (writer->process != forked_number()) {
    return; /* a forked child: see the header */
  }
  int size = snprintf(text, sizeof(text), "%s\n", line);
  size_t text_size = min_u64((uint64_t)size, sizeof(text) - 1);
  text[text_size - 1] = '\n'; /* also of a line that was too long */
  if (writer->how == HOW_THREAD) {
    lock(writer);
    keep_line(writer, text, text_size);
    unlock(writer);
    return;
  }
  sigset_t before;
  signals_block_all(&before);
  lock(writer);
  write_line(writer, text, text_size);
  unlock(writer);
  signals_restore_without(&before, SIGPIPE);
}

static bool has_ended(const struct log_writer *writer) { return writer->ended; }

static bool is_empty(const struct log_writer *writer) {
  return writer->ended || (writer->filling->size == 0 && !writer->writes);
}

/** Wait for the thread, at most END_WAIT_NS; the mutex is held. Return: what ${is_done} says. */
static bool await(struct log_writer *writer, bool (*is_done)(const struct log_writer *writer)) {
  uint64_t until_ns = sys_now_ns() + END_WAIT_NS;
  const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                 .tv_nsec = (long)(until_ns % NS_PER_S)};
  int error = 0;
  while (!is_done(writer) && error == 0) {
    error = pthread_cond_timedwait(&writer->changed, &writer->mutex, &until);
  }
  return is_done(writer);
}

void log_writer_flush(struct log_writer *writer) {
  if (writer->process == forked_number() && writer->how == HOW_THREAD && writer->started) {
    lock(writer);
    (void)await(writer, is_empty); /* what it has not written by then may be lost */
    unlock(writer);
  }
}

/** End the thread, or leave ${writer} to it. Return: has it ended? */
static bool release_thread(struct log_writer *writer) {
  pthread_t thread = writer->thread;
  lock(writer);
  writer->ending = true;
  tell(writer);
  bool ended = await(writer, has_ended);
  writer->abandoned = !ended;
  unlock(writer);
  int result = ended ? pthread_join(thread, NULL) : pthread_detach(thread);
  assert(result == 0);
  return ended;
}

void log_writer_destroy(struct log_writer *writer) {
  if (writer == NULL) {
    return;
  }
  bool own = writer->process == forked_number() && writer->how == HOW_THREAD;
  if (own && !writer->started && writer->filling->size > 0) {
    (void)log_writer_start(writer, NULL); /* if the system refuses a thread, the lines are lost */
  }
  if (!own || !writer->started || release_thread(writer)) {
    release(writer);
  }
}
