/*
 * fuzz_conn_socket: a whole connection over a pair of UNIX sockets; see conn_play.h.
 */
#include "tests/fuzz/conn_play.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct { int client, server; } line = {-1, -1};

void line_open(size_t room, enum addr_family *family) {
  int fds[2], bytes = (int)room; /* the kernel raises it to its minimum */
  fuzz_holds(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0,
             "there is a pair of sockets");
  fuzz_holds(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0,
             "the size of the buffer is set");
  line.client = fds[0];
  line.server = fds[1];
  *family = ADDR_UNIX;
}

int line_server(void) { return line.server; }

int line_epoll(void) { return -1; }

size_t line_put(const uint8_t *bytes, size_t size) {
  ssize_t put = line.client == -1 ? -1 : send(line.client, bytes, size, MSG_NOSIGNAL);
  fuzz_holds(
      put != -1 || line.client == -1 || errno == EAGAIN || errno == EPIPE || errno == ECONNRESET,
      "a send succeeds or waits");
  return put == -1 ? 0 : (size_t)put;
}

enum got line_get(uint8_t *bytes, size_t size, size_t *count) {
  ssize_t got = recv(line.client, bytes, size, 0);
  *count = got > 0 ? (size_t)got : 0;
  if (got == -1) {
    return errno == EAGAIN ? GOT_NOTHING : GOT_RESET;
  }
  return got > 0 ? GOT_BYTES : GOT_END;
}

size_t line_unread(void) {
  int bytes = 0;
  fuzz_holds(ioctl(line.server, FIONREAD, &bytes) == 0, "the server's descriptor is open");
  return (size_t)bytes;
}

void line_part(enum part part) {
  if (part == PART_HALF_CLOSE) {
    shutdown(line.client, SHUT_WR);
  } else if (part != PART_SILENCE) {
    line_close(); /* a reset if bytes are unread */
  }
}

void line_close(void) {
  if (line.client != -1) {
    close(line.client);
    line.client = -1;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  conn_play(data, size);
  return 0;
}
