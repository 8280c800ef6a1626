/*
 * holder: a plug-in for tests/live/test_handler.py that executes lines.
 *
 *   hold PATH   reads the FIFO to its end, which blocks its worker, then answers "held"
 *   thread      answers the name of its thread
 *   later       answers "timer", from a timer
 *   count       answers the number of lines
 *   calls       post and offload: answers "posted" and "worked", or the text of errno
 *   finish      ends the connection
 *   pause       answers "paused" and pauses the connection
 *   other       is echoed
 *
 * It greets with "hello", writes each start and end to standard error, and does not start if
 * HOLDER_DECLINES is set, nor if the file HOLDER_ONCE, which it makes, is there.  If HOLDER_STOP is
 * set, on_stop writes msg=on_stop and reads that FIFO to its end.  If HOLDER_FORKS is set, on_start
 * forks a child, which has copies of all descriptors, and reads that FIFO to its end.
 */
#include "core/xchg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define WORD_MAX 256

struct state {
  unsigned lines;
};

static void say(struct xchg_conn *conn, const char *word) {
  const struct iovec parts[] = {{(void *)(uintptr_t)word, strlen(word)},
                                {(void *)(uintptr_t) "\n", 1}};
  (void)xchg_sendv(conn, parts, 2);
}

/* Read ${path} to its end. Return: 0, or -1 with errno. */
static int wait_for(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return -1;
  }
  while (read(fd, &byte, 1) == 1) {
  }
  return close(fd);
}

static void hold(struct xchg_conn *conn, const char *path) {
  say(conn, wait_for(path) == -1 ? strerror(errno) : "held");
}

static void posted(struct xchg_conn *conn, void *argument) {
  if (conn != NULL) {
    say(conn, argument);
  }
}

static void work(void *argument) { (void)argument; }

static void call(struct xchg_conn *conn) {
  if (xchg_post(xchg_server_of(conn), xchg_id(conn), posted, (void *)(uintptr_t) "posted") == -1) {
    say(conn, strerror(errno));
  }
  if (xchg_offload(conn, work, posted, (void *)(uintptr_t) "worked") == -1) {
    say(conn, strerror(errno));
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct state *state = xchg_state(conn);
  char line[WORD_MAX] = "", text[WORD_MAX];
  memcpy(line, message->data, message->size < WORD_MAX ? message->size : WORD_MAX - 1);
  state->lines++;
  if (strncmp(line, "hold ", 5) == 0) {
    hold(conn, line + 5);
  } else if (strcmp(line, "thread") == 0) {
    prctl(PR_GET_NAME, text);
    say(conn, text);
  } else if (strcmp(line, "later") == 0) {
    (void)xchg_timer(conn, 1000000);
  } else if (strcmp(line, "pause") == 0) {
    (void)xchg_pause(conn);
    say(conn, "paused");
  } else if (strcmp(line, "count") == 0) {
    snprintf(text, sizeof(text), "%u", state->lines);
    say(conn, text);
  } else if (strcmp(line, "calls") == 0) {
    call(conn);
  } else if (strcmp(line, "finish") == 0) {
    (void)xchg_finish(conn);
  } else {
    say(conn, line);
  }
}

/* Leave a child that ends when the FIFO ${path} has been written. */
static void fork_child(const char *path) {
  pid_t pid = fork();
  if (pid == -1) {
    abort();
  }
  if (pid == 0) {
    _exit(wait_for(path) == 0 ? 0 : 1);
  }
}

static int on_start(struct xchg_server *server) {
  fprintf(stderr, "holder starts%s\n", server == NULL ? " nothing" : "");
  const char *once = getenv("HOLDER_ONCE");
  if (getenv("HOLDER_FORKS") != NULL) {
    fork_child(getenv("HOLDER_FORKS"));
  }
  int fd = once == NULL ? -1 : open(once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd != -1) {
    close(fd);
  }
  return getenv("HOLDER_DECLINES") == NULL && (once == NULL || fd != -1) ? 0 : -1;
}

static void on_stop(struct xchg_server *server) {
  const char *path = getenv("HOLDER_STOP");
  (void)server;
  if (path != NULL) {
    fprintf(stderr, "msg=on_stop pid=%d\n", (int)getpid());
    if (wait_for(path) == -1) {
      abort();
    }
  }
}

static void on_open(struct xchg_conn *conn) { say(conn, "hello"); }

static void on_timer(struct xchg_conn *conn) { say(conn, "timer"); }

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  const struct state *state = xchg_state(conn);
  fprintf(stderr, "holder closes %s after %u\n", xchg_reason_name(reason), state->lines);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .state_size = sizeof(struct state),
                                            .on_start = on_start,
                                            .on_stop = on_stop,
                                            .on_open = on_open,
                                            .on_message = on_message,
                                            .on_timer = on_timer,
                                            .on_close = on_close};

XCHG_PLUGIN(handler)
