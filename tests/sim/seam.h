/*
 * seam: core/sys.h's functions as the simulator has them: tests/sim/calls.c defines them.
 */
#ifndef TESTS_SIM_SEAM_H
#define TESTS_SIM_SEAM_H

#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/** Nanoseconds of the simulated clock. */
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

#endif
