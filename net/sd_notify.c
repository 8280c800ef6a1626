/* sd_notify: see sd_notify.h. */
#include "net/sd_notify.h"

#include "core/base.h"
#include "core/sys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

int sd_notify_open(struct sd_notify *notify, const char *path) {
  notify->fd = -1;
  if (path == NULL) {
    return 0;
  }
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length < 2 || length >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) {
    return fail(EINVAL);
  }
  memcpy(to.sun_path, path, length);
  if (path[0] == '@') {
    to.sun_path[0] = 0;
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1) {
    return -1;
  }
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  if (connect(fd, (const struct sockaddr *)&to, size) == -1) {
    int error = errno;
    sys_close(fd);
    return fail(error);
  }
  notify->fd = fd;
  return 0;
}

void sd_notify_close(struct sd_notify *notify) {
  if (notify->fd != -1) {
    sys_close(notify->fd);
    notify->fd = -1;
  }
}

void sd_notify_send(const struct sd_notify *notify, const char *state) {
  if (notify->fd != -1) {
    (void)sys_send(notify->fd, state, strlen(state), MSG_NOSIGNAL);
  }
}
