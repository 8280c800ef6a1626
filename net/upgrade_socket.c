/* upgrade_socket: see upgrade_socket.h. */
#include "net/upgrade_socket.h"

#include "core/sys.h"
#include "net/fd_socket.h"

#include <errno.h>
#include <sys/socket.h>

int upgrade_socket_accept(const struct listener *listener, uid_t *uid) {
  struct ucred peer;
  socklen_t size = sizeof(peer);
  int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd == -1) {
    return -1;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1) {
    int error = errno;
    sys_close(fd);
    return fail(error);
  }
  *uid = peer.uid;
  return fd;
}

int upgrade_socket_connect(const struct addr_listen *addr) {
  struct sockaddr_storage to;
  socklen_t size = sock_addr_to(addr, &to);
  int fd = fd_socket_make();
  if (fd == -1) {
    return -1;
  }
  if (connect(fd, (const struct sockaddr *)&to, size) == -1) {
    int error = errno;
    sys_close(fd);
    return fail(error);
  }
  return fd;
}
