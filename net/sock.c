/* sock: see sock.h. */
#include "net/sock.h"

#include "core/parse.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

enum io sock_failed(void) { return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_ERROR; }

enum io sock_sendv(int fd, const struct iovec *parts, int count, size_t *sent) {
  /* The kernel only reads the parts. msghdr has no const because recvmsg uses it, too. */
  struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
  ssize_t put;
  do {
    put = sys_sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (put == -1 && errno == EINTR);
  *sent = put > 0 ? (size_t)put : 0;
  return put == -1 ? sock_failed() : IO_OK;
}

uint32_t sock_unacked(int fd) {
  int bytes = 0;
  if (sys_ioctl(fd, SIOCOUTQ, &bytes) == -1 || bytes < 0) {
    return 0;
  }
  return (uint32_t)bytes;
}

void sock_abort(int fd) {
  const struct linger none = {.l_onoff = 1, .l_linger = 0};
  /* Without it the close is a graceful one: the kernel keeps the output until its own timeout. */
  (void)sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

enum xchg_reason sock_reason(int error) {
  switch (error) {
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
      return XCHG_RESET;
    default:
      return XCHG_ERROR;
  }
}

/*
 * accept(2) also returns network errors of the new connection, which do not concern the listener.
 * All unknown errors count as such.
 */
static enum sock_accepted accept_failed(int error) {
  switch (error) {
    case EAGAIN:
      return ACCEPT_NONE;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return ACCEPT_EXHAUSTED;
    case EBADF:
    case EFAULT:
    case EINVAL:
    case ENOTSOCK:
      return ACCEPT_BROKEN;
    default:
      return ACCEPT_NEXT;
  }
}

enum sock_accepted sock_accept(int fd, int *peer_fd, struct addr *peer) {
  struct sockaddr_storage from;
  socklen_t size = sizeof(from);
  from.ss_family = AF_UNSPEC;
  int got = sys_accept4(fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (got == -1) {
    return accept_failed(errno);
  }
  *peer_fd = got;
  sock_addr_from(peer, &from);
  return ACCEPTED;
}

void sock_addr_from(struct addr *addr, const struct sockaddr_storage *from) {
  if (from->ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)from;
    addr_from_ipv4(addr, (const uint8_t *)&in->sin_addr, ntohs(in->sin_port));
  } else if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
    addr_from_ipv6(addr, in6->sin6_addr.s6_addr, ntohs(in6->sin6_port));
  } else {
    *addr = (struct addr){.family = ADDR_UNIX};
  }
}

/* The index of the interface ${scope}, a name or else a number; 0 if there is none. */
static unsigned interface_of(const char *scope) {
  uint64_t index;
  unsigned named = if_nametoindex(scope);
  if (named != 0 || parse_u64(scope, &index) == -1 || index > INT32_MAX) {
    return named;
  }
  return (unsigned)index;
}

socklen_t sock_addr_to(const struct addr_listen *listen, struct sockaddr_storage *to) {
  memset(to, 0, sizeof(*to));
  if (listen->addr.family == ADDR_UNIX) {
    struct sockaddr_un *un = (struct sockaddr_un *)to;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, listen->path, sizeof(un->sun_path));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(listen->path) + 1);
  }
  if (listen->addr.family == ADDR_IPV4) {
    struct sockaddr_in *in = (struct sockaddr_in *)to;
    in->sin_family = AF_INET;
    in->sin_port = htons(listen->addr.port);
    memcpy(&in->sin_addr, listen->addr.bytes, sizeof(in->sin_addr));
    return sizeof(*in);
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(listen->addr.port);
  memcpy(&in6->sin6_addr, listen->addr.bytes, sizeof(in6->sin6_addr));
  if (listen->scope[0] != 0) {
    in6->sin6_scope_id = interface_of(listen->scope);
    if (in6->sin6_scope_id == 0) {
      errno = ENODEV;
      return 0;
    }
  }
  return sizeof(*in6);
}

int sock_peer(int fd, uint32_t *uid, uint32_t *pid) {
  struct ucred peer;
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1) {
    return -1;
  }
  *uid = peer.uid;
  *pid = (uint32_t)peer.pid;
  return 0;
}
