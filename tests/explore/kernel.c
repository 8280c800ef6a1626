/*
 * kernel: the functions of core/sys.h for explored threads.
 *
 * It has what the hand-off needs: eventfds that are written, and epoll sets, edge-triggered, that
 * wait for one eventfd each.  Time stands still and no wait times out, so that a wake-up that a
 * timer would make good counts as lost.
 */
#include "core/sys.h"

#include "tests/explore/explore.h"
#include "tests/explore/memory.h"
#include "tests/explore/scenario.h"

uint64_t sys_now_ns(void) { return 1; }

ssize_t sys_write(int fd, const void *data, size_t size) {
  (void)data;
  memory_signal(fd);
  return (ssize_t)size;
}

/* The only event is the wake; its data is that of net/reactor. */
int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  bool edge = true;
  (void)max;
  scenario_mark_wait(epoll_fd, timeout_ms == 0);
  if (timeout_ms == 0) {
    edge = memory_poll(epoll_fd);
  } else {
    memory_wait(epoll_fd);
  }
  events[0] = (struct epoll_event){.events = EPOLLIN, .data.u64 = UINT64_MAX};
  return edge;
}

/* Outside of threads, when a worker is opened and closed. */
int sys_close(int fd) { return close(fd); }
int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  return epoll_ctl(epoll_fd, op, fd, event);
}
int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  return poll(fds, count, timeout_ms);
}
void *sys_map(size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
int sys_unmap(void *memory, size_t size) { return munmap(memory, size); }

int sys_discard(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0; /* memory that stays mapped may keep its content */
}
