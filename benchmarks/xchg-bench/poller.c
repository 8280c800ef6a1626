/*
 * poller: see poller.h.  Linux before 5.11, some sandboxes and valgrind have no epoll_pwait2.  It
 * is not tried again after the first refusal.  The call goes by its number, because musl 1.2.3 does
 * not have it.
 */
#include "poller.h"

#include "core/sys.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

int poller_open(struct poller *poller) {
  *poller = (struct poller){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
  return poller->epoll_fd == -1 ? -1 : 0;
}

void poller_close(struct poller *poller) {
  if (poller->epoll_fd != -1) {
    sys_close(poller->epoll_fd);
    poller->epoll_fd = -1;
  }
}

int poller_add(struct poller *poller, int fd, void *pointer) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = pointer};
  return sys_epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int wait_coarse(const struct poller *poller, struct epoll_event *events, int max,
                       uint64_t ns) {
  const uint64_t ms = min_u64(ns / NS_PER_MS + (ns % NS_PER_MS != 0 ? 1 : 0), INT_MAX);
  return sys_epoll_wait(poller->epoll_fd, events, max, (int)ms);
}

int poller_wait(struct poller *poller, struct epoll_event *events, int max, uint64_t ns) {
  int count = -1;
  if (!poller->coarse) {
    const struct timespec timeout = {.tv_sec = (time_t)(ns / NS_PER_S),
                                     .tv_nsec = (long)(ns % NS_PER_S)};
    count = (int)syscall(SYS_epoll_pwait2, poller->epoll_fd, events, max, &timeout, NULL, 0);
    poller->coarse = count == -1 && (errno == ENOSYS || errno == EPERM);
  }
  if (poller->coarse) {
    count = wait_coarse(poller, events, max, ns);
  }
  assert(count >= 0 || errno == EINTR);
  return count > 0 ? count : 0;
}
