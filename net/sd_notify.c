/* sd_notify: see sd_notify.h. */
#include "net/sd_notify.h"

#include "core/base.h"
#include "core/sys.h"
#include "core/log.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

int sd_notify_open(struct sd_notify *notify, const char *path) {
  *notify = (struct sd_notify){.fd = -1};
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

bool sd_notify_pending(const struct sd_notify *notify) { return notify->pending[0] != NULL; }

/* Log ${what} of ${state}, with ${error} unless it is 0. */
static void log_state(struct log *log, enum log_level level, const char *what, const char *state,
                      int error) {
  struct log_line line;
  log_begin(&line, log, level, what);
  log_str(&line, "state", state);
  if (error != 0) {
    log_error(&line, error);
  }
  log_end(&line);
}

/* Is there no room at the moment? Any other error means that the manager is gone. */
static bool is_full(int error) {
  return error == EAGAIN || error == EINTR || error == ENOBUFS || error == ENOMEM;
}

/* Return: 1 if ${text} was sent, 0 if there is no room for it, -1 on another failure. */
static int send_text(struct sd_notify *notify, const char *text) {
  if (sys_send(notify->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) != -1) {
    return 1;
  }
  return is_full(errno) ? 0 : -1;
}

static void log_failure(struct sd_notify *notify, const char *text, struct log *log) {
  notify->failed = true;
  log_state(log, LOG_WARN, "cannot send to NOTIFY_SOCKET", text, errno);
}

/* Send the first pending state. Return: false if there is no room for it. */
static bool send_first(struct sd_notify *notify, struct log *log) {
  const char *state = notify->pending[0];
  int sent = send_text(notify, state);
  if (sent == 0) {
    return false;
  }
  if (sent == -1) {
    log_failure(notify, state, log);
  } else if (notify->delayed) {
    log_state(log, LOG_INFO, "sent to NOTIFY_SOCKET", state, 0);
  }
  memmove(&notify->pending[0], &notify->pending[1],
          sizeof(notify->pending) - sizeof(notify->pending[0]));
  notify->pending[SD_NOTIFY_PENDING_MAX - 1] = NULL;
  return true;
}

bool sd_notify_try(struct sd_notify *notify, const char *text, struct log *log) {
  if (notify->fd == -1) {
    return true;
  }
  int sent = sd_notify_pending(notify) ? 0 : send_text(notify, text);
  if (sent == -1 && !notify->failed) {
    log_failure(notify, text, log);
  }
  return sent != 0;
}

void sd_notify_retry(struct sd_notify *notify, struct log *log) {
  while (sd_notify_pending(notify)) {
    if (!send_first(notify, log)) {
      return;
    }
  }
  notify->delayed = false;
}

void sd_notify_send(struct sd_notify *notify, const char *state, struct log *log) {
  if (notify->fd == -1) {
    return;
  }
  int others = 0;
  for (int i = 0; i < SD_NOTIFY_PENDING_MAX; i++) {
    const char *pending = notify->pending[i];
    if (pending != NULL && pending != state) {
      notify->pending[others++] = pending;
    }
  }
  assert(others < SD_NOTIFY_PENDING_MAX);
  notify->pending[others] = state;
  sd_notify_retry(notify, log);
  if (sd_notify_pending(notify) && !notify->delayed) {
    notify->delayed = true;
    log_state(log, LOG_WARN, "NOTIFY_SOCKET is full: sending later", state, 0);
  }
}
