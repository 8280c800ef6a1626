/* upgrade_socket: see upgrade_socket.h. */
#include "net/upgrade_socket.h"

#include "core/sys.h"
#include "net/sock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG 8

static int open_socket(void) {
  return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Return: 0, or -1 with errno. */
static int bind_socket(struct upgrade_socket *s) {
  struct sockaddr_storage to;
  socklen_t size = sock_addr_to(&s->addr, &to);
  if (size == 0 || socket_file_prepare(&s->file, &s->addr) == -1) {
    return -1;
  }
  s->fd = open_socket();
  if (s->fd == -1) {
    return -1;
  }
  (void)fchmod(s->fd, (mode_t)s->addr.mode); /* socket_file_claim adds what is missing */
  if (bind(s->fd, (const struct sockaddr *)&to, size) == -1 ||
      socket_file_claim(&s->file, &s->addr) != NULL) {
    return -1;
  }
  return listen(s->fd, BACKLOG);
}

int upgrade_socket_open(struct upgrade_socket *s, const struct addr_listen *addr) {
  *s = (struct upgrade_socket){.fd = -1, .addr = *addr};
  int result = bind_socket(s);
  int error = errno;
  socket_file_unlock(&s->file);
  if (result == -1) {
    upgrade_socket_close(s);
  }
  return result == 0 ? 0 : fail(error);
}

void upgrade_socket_close(struct upgrade_socket *s) {
  if (s->file.open) {
    (void)socket_file_remove(&s->file, &s->addr); /* if it stays, the next start replaces it */
    socket_file_close(&s->file);
  }
  if (s->fd != -1) {
    sys_close(s->fd);
    s->fd = -1;
  }
}

int upgrade_socket_accept(const struct upgrade_socket *s, uid_t *uid, pid_t *pid) {
  struct ucred peer;
  socklen_t size = sizeof(peer);
  int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd == -1) {
    return -1;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1) {
    int error = errno;
    sys_close(fd);
    return fail(error);
  }
  *uid = peer.uid;
  *pid = peer.pid;
  return fd;
}

int upgrade_socket_connect(const struct addr_listen *addr) {
  struct sockaddr_storage to;
  socklen_t size = sock_addr_to(addr, &to);
  int fd = open_socket();
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
