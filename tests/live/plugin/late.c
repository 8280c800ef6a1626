/*
 * late: a plug-in for tests/live/test_late.py whose work and callbacks outlast a stop.
 *
 *   work PATH   offloads work that reads the FIFO to its end, then answers "worked"
 *   block PATH  reads the FIFO to its end in the callback, then answers "blocked"
 *
 * It writes to standard error when work begins and ends, when `done` is called and when the server
 * stops.  If LATE_STOP names a FIFO, on_stop then reads it to its end.
 */
#include "core/xchg.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORD_MAX 256

static void read_all(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    abort();
  }
  while (read(fd, &byte, 1) == 1) {
  }
  close(fd);
}

static void work(void *argument) {
  fprintf(stderr, "late work begins\n");
  read_all(argument);
  fprintf(stderr, "late work ends\n");
}

static void worked(struct xchg_conn *conn, void *argument) {
  fprintf(stderr, "late work is done%s\n", conn == NULL ? " for nobody" : "");
  if (conn != NULL) {
    (void)xchg_send(conn, "worked\n", 7);
  }
  free(argument);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char line[WORD_MAX] = "";
  memcpy(line, message->data, message->size < WORD_MAX ? message->size : WORD_MAX - 1);
  if (strncmp(line, "work ", 5) == 0) {
    char *path = strdup(line + 5);
    if (path == NULL || xchg_offload(conn, work, worked, path) == -1) {
      abort();
    }
  } else if (strncmp(line, "block ", 6) == 0) {
    fprintf(stderr, "late callback begins\n");
    read_all(line + 6);
    fprintf(stderr, "late callback ends\n");
    (void)xchg_send(conn, "blocked\n", 8);
  }
}

static void on_stop(struct xchg_server *server) {
  (void)server;
  fprintf(stderr, "late stops\n");
  const char *path = getenv("LATE_STOP");
  if (path != NULL) {
    read_all(path);
    fprintf(stderr, "late has stopped\n");
  }
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .on_message = on_message,
                                            .on_stop = on_stop};

XCHG_PLUGIN(handler)
