/*
 * waiter: see waiter.h.  Linux before 5.11, some sandboxes and valgrind know no epoll_pwait2; what
 * is asked of it once and refused is not asked again.
 */
#include "waiter.h"

#include "core/sys.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

int waiter_open(struct waiter *waiter) {
  *waiter = (struct waiter){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
  return waiter->epoll_fd == -1 ? -1 : 0;
}

void waiter_close(struct waiter *waiter) {
  if (waiter->epoll_fd != -1) {
    sys_close(waiter->epoll_fd);
    waiter->epoll_fd = -1;
  }
}

int waiter_add(struct waiter *waiter, int fd, void *pointer) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = pointer};
  return sys_epoll_ctl(waiter->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int wait_coarse(const struct waiter *waiter, struct epoll_event *events, int max,
                       uint64_t ns) {
  const uint64_t ms = min_u64(ns / NS_PER_MS + (ns % NS_PER_MS != 0 ? 1 : 0), INT_MAX);
  return sys_epoll_wait(waiter->epoll_fd, events, max, (int)ms);
}

int waiter_wait(struct waiter *waiter, struct epoll_event *events, int max, uint64_t ns) {
  int count = -1;
  if (!waiter->coarse) {
    const struct timespec timeout = {.tv_sec = (time_t)(ns / NS_PER_S),
                                     .tv_nsec = (long)(ns % NS_PER_S)};
    count = epoll_pwait2(waiter->epoll_fd, events, max, &timeout, NULL);
    waiter->coarse = count == -1 && (errno == ENOSYS || errno == EPERM);
  }
  if (waiter->coarse) {
    count = wait_coarse(waiter, events, max, ns);
  }
  assert(count >= 0 || errno == EINTR);
  return count > 0 ? count : 0;
}
