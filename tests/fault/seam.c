/* seam: the functions of core/sys.h: each carries out an order of the test, or asks the kernel. */
#include "tests/fault/seam.h"

#include "core/atom.h"
#include "tests/fault/fault.h"

#include <errno.h>

static atom_u64 bad_closes;

void fault_reset(void) {
  orders_reset();
  atom_store_relaxed_u64(&bad_closes, 0);
}

uint64_t fault_bad_closes(void) { return atom_load_relaxed_u64(&bad_closes); }

const char *fault_name(enum fault_call call) {
  static const char *const names[FAULT_CALLS] = {
      "accept4",    "recv",      "send",       "sendmsg", "write", "shutdown", "close", "ioctl",
      "setsockopt", "epoll_ctl", "epoll_wait", "poll",    "map",   "remap",    "unmap"};
  return names[call];
}

/* Does a transfer on ${fd} fail? Then its edge is due. */
static bool transfer_fails(enum fault_call call, int fd) {
  bool failed = orders_fails(call);
  if (failed) {
    orders_raise_later(fd);
  }
  return failed;
}

static size_t shortened(enum fault_call call, int fd, size_t size) {
  size_t left = orders_shortened(call, size);
  if (left < size) {
    orders_raise_later(fd);
  }
  return left;
}

uint64_t sys_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  return orders_fails(FAULT_ACCEPT) ? -1 : accept4(fd, addr, size, flags);
}

ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  return transfer_fails(FAULT_RECV, fd) ? -1
                                        : recv(fd, data, shortened(FAULT_RECV, fd, size), flags);
}

ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  return transfer_fails(FAULT_SEND, fd) ? -1
                                        : send(fd, data, shortened(FAULT_SEND, fd, size), flags);
}

ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  if (transfer_fails(FAULT_SENDMSG, fd)) {
    return -1;
  }
  size_t size = orders_message_size(message), left = shortened(FAULT_SENDMSG, fd, size);
  return left == size ? sendmsg(fd, message, flags) : orders_sendmsg(fd, message, left, flags);
}

ssize_t sys_write(int fd, const void *data, size_t size) {
  return orders_fails(FAULT_WRITE) ? -1 : write(fd, data, size);
}

int sys_shutdown(int fd, int how) { return orders_fails(FAULT_SHUTDOWN) ? -1 : shutdown(fd, how); }

int sys_close(int fd) {
  bool failed = orders_fails(FAULT_CLOSE);
  int error = errno;
  orders_forget(fd);
  int result = close(fd);
  if (result == -1) {
    atom_add_relaxed_u64(&bad_closes, 1);
  }
  if (failed) {
    errno = error;
    return -1;
  }
  return result;
}

int sys_ioctl(int fd, unsigned long request, int *value) {
  return orders_fails(FAULT_IOCTL) ? -1 : ioctl(fd, request, value);
}

int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size) {
  return orders_fails(FAULT_SETSOCKOPT) ? -1 : setsockopt(fd, level, name, value, size);
}

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  if (orders_fails(FAULT_EPOLL_CTL)) {
    return -1;
  }
  orders_watched(fd, epoll_fd, op == EPOLL_CTL_DEL ? NULL : event);
  return epoll_ctl(epoll_fd, op, fd, event);
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  if (orders_fails(FAULT_EPOLL_WAIT)) {
    return errno == 0 ? 0 : -1;
  }
  orders_raise(epoll_fd);
  return epoll_wait(epoll_fd, events, max, timeout_ms);
}

int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  return orders_fails(FAULT_POLL) ? -1 : poll(fds, count, timeout_ms);
}

void *sys_map(size_t size) {
  if (orders_fails(FAULT_MAP)) {
    return MAP_FAILED;
  }
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *sys_remap(void *old, size_t old_size, size_t new_size) {
  return orders_fails(FAULT_REMAP) ? MAP_FAILED : mremap(old, old_size, new_size, MREMAP_MAYMOVE);
}

int sys_unmap(void *memory, size_t size) {
  return orders_fails(FAULT_UNMAP) ? -1 : munmap(memory, size);
}

int sys_discard(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0; /* memory that stays mapped may keep its content */
}
