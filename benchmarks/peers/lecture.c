/*
 * lecture: see lecture.h.  Blocking calls without timeouts.
 */
#include "benchmarks/peers/lecture.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool send_all(int fd, const char *data, size_t size) {
  while (size > 0) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent == -1) {
      return false;
    }
    data += sent;
    size -= (size_t)sent;
  }
  return true;
}

/* Small, because the server with a thread per connection has one on each stack. */
#define CHUNK 4096

static void echo(int fd) {
  char buffer[CHUNK];
  ssize_t size;
  do {
    size = recv(fd, buffer, sizeof(buffer), 0);
  } while (size > 0 && send_all(fd, buffer, (size_t)size));
}

static void greet(int fd) {
  char buffer[CHUNK];
  if (!send_all(fd, PEER_GREETING, PEER_GREETING_SIZE)) {
    return;
  }
  for (;;) {
    ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
    if (size <= 0 || memchr(buffer, 0, (size_t)size) != NULL) {
      return;
    }
  }
}

void lecture_serve(int fd, enum peer_exchange exchange) {
  if (exchange == PEER_ECHO) {
    echo(fd);
  } else if (exchange == PEER_GREET) {
    greet(fd);
  } else {
    send_all(fd, PEER_GREETING, PEER_GREETING_SIZE);
  }
  close(fd);
}

int lecture_accept(int listener) {
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd != -1) {
      return fd;
    }
    if (errno != EINTR && errno != ECONNABORTED) {
      peer_die("cannot accept");
    }
  }
}
