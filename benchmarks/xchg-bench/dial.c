/* dial: see dial.h. */
#include "dial.h"

#include "core/sys.h"
#include "net/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#define WAIT_MAX_NS (2 * NS_PER_S)

int dial_socket(int family, const struct addr *from, bool nodelay) {
  const int on = 1;
  const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd == -1) {
    return -1;
  }
  if (from != NULL) {
    struct addr_listen source = {.addr = *from};
    struct sockaddr_storage address;
    source.addr.port = 0;
    const socklen_t size = sock_addr_to(&source, &address);
    if (sys_setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) == -1 ||
        bind(fd, (struct sockaddr *)&address, size) == -1) {
      goto close;
    }
  }
  if (!nodelay || sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0) {
    return fd;
  }
close:;
  const int error = errno;
  sys_close(fd);
  errno = error;
  return -1;
}

/* Is ${fd} connected after at most ${wait_ms}?  Else errno says why not: EINTR after a signal. */
static bool is_connected(int fd, int wait_ms) {
  struct pollfd ready = {.fd = fd, .events = POLLOUT};
  int error = 0;
  socklen_t size = sizeof(error);
  const int count = poll(&ready, 1, wait_ms);
  if (count == -1) {
    return false;
  }
  if (count == 0) {
    errno = ETIMEDOUT;
    return false;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) {
    return false;
  }
  errno = error;
  return error == 0;
}

/* Connect to ${addr}. Return: the socket, or -1 with errno. */
static int try_address(const struct options *options, const struct addr *addr) {
  const struct addr_listen target = {.addr = *addr, .mode = -1};
  struct sockaddr_storage address;
  const socklen_t size = sock_addr_to(&target, &address);
  const uint64_t wait_ns = min_u64(options->timeout_ns, WAIT_MAX_NS);
  const struct addr *from = options->bind_count > 0 ? &options->bind[0] : NULL;
  const int fd = dial_socket(address.ss_family, from, true);
  if (fd == -1) {
    return -1;
  }
  if (connect(fd, (struct sockaddr *)&address, size) == 0 ||
      (errno == EINPROGRESS && is_connected(fd, (int)max_u64(1, wait_ns / NS_PER_MS)))) {
    return fd;
  }
  const int error = errno;
  sys_close(fd);
  errno = error;
  return -1;
}

uint32_t dial_choose(struct options *options, struct first_connection *first) {
  for (uint32_t i = 0; i < options->addresses_count && options->addresses_count > 1; i++) {
    const uint64_t before_ns = sys_now_ns();
    const int fd = try_address(options, &options->addresses[i]);
    if (fd != -1) {
      options->address.addr = options->addresses[i];
      *first = (struct first_connection){.fd = fd, .connect_ns = sys_now_ns() - before_ns};
      return i + 1;
    }
    if (errno == EINTR) {
      break;
    }
  }
  return 0;
}

bool dial_take_first(struct first_connection *first, int *fd, uint64_t *connect_ns) {
  if (first == NULL || first->fd == -1) {
    return false;
  }
  *fd = first->fd;
  *connect_ns = first->connect_ns;
  first->fd = -1;
  return true;
}
