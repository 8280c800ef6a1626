/*
 * seam: the functions of core/sys.h as the tests below that seam declare them.
 *
 * Each program links its own bodies.  seam.c here asks the kernel unless a test has ordered a
 * failure (tests/fault/fault.h); fail_nth, sim, explore and a fuzz target have others.
 */
#ifndef TESTS_FAULT_SEAM_H
#define TESTS_FAULT_SEAM_H

#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/** Nanoseconds of CLOCK_MONOTONIC, or of a simulated clock. */
uint64_t sys_now_ns(void);
int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags);
ssize_t sys_recv(int fd, void *data, size_t size, int flags);
ssize_t sys_send(int fd, const void *data, size_t size, int flags);
ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t sys_write(int fd, const void *data, size_t size);
int sys_shutdown(int fd, int how);
int sys_close(int fd);
int sys_ioctl(int fd, unsigned long request, int *value);
int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size);
int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);
int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms);
int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms);
void *sys_map(size_t size);
void *sys_remap(void *old, size_t old_size, size_t new_size);
int sys_unmap(void *memory, size_t size);
int sys_discard(void *memory, size_t size);

/** Advice only. */
static inline int sys_no_huge_pages(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0;
}

#endif
