/*
 * seam: the functions of core/sys.h for runs of fail_nth.
 *
 * Each function consults the ledger first and then asks the kernel.  A thread that waits lets the
 * others run.  The edge of what an order leaves undone is raised at the next wait, because the
 * kernel does not know of it.
 */
#include "tests/fault/seam.h"

#include "core/base.h"
#include "tests/fail_nth/scheduler.h"
#include "tests/fail_nth/log.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"
#include "tests/fixtures/orders.h"

#include <errno.h>

uint64_t sys_now_ns(void) { return scheduler_now_ns(); }

/* ---- connections ---- */

int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  if (ledger_fails(CALL_ACCEPT4, fd)) {
    return -1;
  }
  int got = accept4(fd, addr, size, flags);
  if (got == -1) {
    return -1;
  }
  ledger_accepted(got, (const struct sockaddr_storage *)addr, *size);
  if (ledger_sabotage(SABOTAGE_COUNT)) {
    (void)sys_close(got);
    errno = ECONNABORTED;
    return -1;
  }
  return got;
}

/* Has a shortened read left something? */
static bool more_waits(int fd) {
  int waiting = 0;
  return ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  if (ledger_fails(CALL_RECV, fd)) {
    return errno == ERROR_EOF ? 0 : -1;
  }
  size_t left = ledger_shorten(CALL_RECV, fd, size);
  ssize_t got = recv(fd, data, left, flags);
  if (left < size && (got != (ssize_t)left || !more_waits(fd))) {
    int error = errno;
    ledger_not_shortened();
    errno = error;
  }
  return got;
}

ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  if (ledger_kind(fd) == KIND_NOTIFY) {
    return ledger_fails(CALL_SEND_NOTIFY, fd) ? -1 : send(fd, data, size, flags);
  }
  if (ledger_fails(CALL_SEND, fd)) {
    return -1;
  }
  size = ledger_shorten(CALL_SEND, fd, size);
  if (size > 0 && ledger_sabotage(SABOTAGE_BYTE)) {
    const char other = (char)(*(const char *)data ^ 1);
    return send(fd, &other, 1, flags);
  }
  return send(fd, data, size, flags);
}

ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  if (ledger_fails(CALL_SENDMSG, fd)) {
    return -1;
  }
  size_t size = orders_message_size(message), left = ledger_shorten(CALL_SENDMSG, fd, size);
  return left == size ? sendmsg(fd, message, flags) : orders_sendmsg(fd, message, left, flags);
}

int sys_shutdown(int fd, int how) {
  return ledger_fails(CALL_SHUTDOWN, fd) ? -1 : shutdown(fd, how);
}

int sys_close(int fd) {
  bool failed = ledger_fails(CALL_CLOSE, fd);
  int error = errno;
  if (ledger_kind(fd) == KIND_CONN && ledger_sabotage(SABOTAGE_LOST)) {
    return 0;
  }
  int result = close(fd);
  ledger_closed(fd, result);
  if (ledger_sabotage(SABOTAGE_TWICE)) {
    ledger_closed(fd, close(fd));
  }
  errno = error;
  return failed ? -1 : result;
}

int sys_ioctl(int fd, unsigned long request, int *value) {
  return ledger_fails(CALL_IOCTL, fd) ? -1 : ioctl(fd, request, value);
}

int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size) {
  return ledger_fails(CALL_SETSOCKOPT, fd) ? -1 : real_setsockopt(fd, level, name, value, size);
}

/* ---- waiting ---- */

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  if (op == EPOLL_CTL_DEL) {
    scheduler_progress();
  } else if (ledger_fails(op == EPOLL_CTL_ADD ? CALL_EPOLL_ADD : CALL_EPOLL_MOD, fd)) {
    return -1;
  }
  orders_watched(fd, epoll_fd, op == EPOLL_CTL_DEL ? NULL : event);
  return epoll_ctl(epoll_fd, op, fd, event);
}

static uint64_t until_ns(int timeout_ms) {
  return timeout_ms < 0 ? NEVER : scheduler_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

/*
 * A wait that fails takes its time, too: else a thread that waits in a loop would stop the clock.
 */
static int fail_waiting(void) {
  int error = errno;
  scheduler_pause(scheduler_now_ns() + NS_PER_MS);
  errno = error;
  return error == ERROR_NOTHING ? 0 : -1;
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  if (ledger_fails(CALL_EPOLL_WAIT, -1)) {
    return fail_waiting();
  }
  uint64_t until = until_ns(timeout_ms);
  for (;;) {
    orders_raise(epoll_fd);
    int ready = epoll_wait(epoll_fd, events, max, 0);
    if (ready != 0 || scheduler_now_ns() >= until) {
      scheduler_progress();
      scheduler_pause(0); /* a turn for the others */
      return ready;
    }
    scheduler_pause(until);
  }
}

/* poll(2), without the readiness that an order hides from a connection. */
static int poll_kernel(struct pollfd *fds, unsigned count) {
  int ready = poll(fds, count, 0);
  for (unsigned i = 0; i < count && ready > 0; i++) {
    if (ledger_kind(fds[i].fd) != KIND_CONN || fds[i].revents == 0) {
      continue;
    }
    fds[i].revents &= (short)(ledger_silent(CALL_RECV) ? POLLOUT : ~0);
    fds[i].revents &= (short)(ledger_silent(CALL_SEND) ? ~POLLOUT : ~0);
    ready -= fds[i].revents == 0;
  }
  return ready;
}

int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  if (ledger_fails(CALL_POLL, -1)) {
    for (unsigned i = 0; i < count; i++) {
      fds[i].revents = 0;
    }
    return fail_waiting();
  }
  uint64_t until = until_ns(timeout_ms);
  for (;;) {
    int ready = poll_kernel(fds, count);
    if (ready != 0 || scheduler_now_ns() >= until) {
      scheduler_progress();
      return ready;
    }
    scheduler_pause(until);
  }
}

ssize_t sys_write(int fd, const void *data, size_t size) {
  if (ledger_kind(fd) == KIND_LOG || fd == -1) { /* -1: fstat has failed */
    if (ledger_fails(CALL_WRITE_LOG, fd)) {
      return -1;
    }
    size = ledger_shorten(CALL_WRITE_LOG, fd, size);
    log_keep(data, size);
    return (ssize_t)size;
  }
  if (ledger_fails(CALL_WRITE_WAKE, fd)) {
    return -1;
  }
  return ledger_sabotage(SABOTAGE_WAKE) ? (ssize_t)size : write(fd, data, size);
}

/* ---- memory ---- */

void *sys_map(size_t size) {
  if (ledger_fails(CALL_MMAP, -1)) {
    return MAP_FAILED;
  }
  void *memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) {
    ledger_mapped(memory, size);
  }
  return memory;
}

void *sys_remap(void *old, size_t old_size, size_t new_size) {
  if (ledger_fails(CALL_MREMAP, -1)) {
    return MAP_FAILED;
  }
  void *memory = mremap(old, old_size, new_size, MREMAP_MAYMOVE);
  if (memory != MAP_FAILED && ledger_unmapped(old)) {
    ledger_mapped(memory, new_size);
  }
  return memory;
}

int sys_unmap(void *memory, size_t size) {
  if (ledger_fails(CALL_MUNMAP, -1)) {
    ledger_map_lost(memory);
    return -1;
  }
  if (ledger_sabotage(SABOTAGE_UNMAP)) {
    return 0;
  }
  return ledger_unmapped(memory) ? munmap(memory, size) : -1;
}

int sys_discard(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0; /* memory that stays mapped may keep its content */
}
