/*
 * slow_start: a plug-in for tests/live/test_drain_delay.py whose on_start reads the FIFO in
 * SLOW_START to its end.
 */
#include "core/xchg.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int on_start(struct xchg_server *server) {
  char byte;
  const char *path = getenv("SLOW_START");
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  (void)server;
  while (fd != -1 && read(fd, &byte, 1) == 1) {
  }
  return fd == -1 || close(fd) == -1 ? -1 : 0;
}

static const struct xchg_handler handler = {.size = sizeof(handler), .on_start = on_start};

XCHG_PLUGIN(handler)
