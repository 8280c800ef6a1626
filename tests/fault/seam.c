/*
 * seam: core/sys.h's functions once more, with an order book before the kernel.
 *
 * Each call takes a number of its kind; where an order says so it fails with the order's errno
 * instead of asking the kernel.  A recv, send or sendmsg that an order shortens leaves the kernel's
 * own readiness as it is, so that an edge-triggered owner would wait for an edge that never comes:
 * such a descriptor is registered anew before the next epoll_wait, which raises it.
 *
 * This is the one place in the tree with a mutable global: it stands for the kernel, of which there
 * is also only one.
 */
#include "tests/fault/seam.h"

#include "tests/fault/fault.h"

#include "core/atom.h"

#include <errno.h>

#define FOLLOWED_MAX 1024      /* descriptors */
#define SHORTENED_PARTS_MAX 64 /* of what sendmsg gathers, once it is cut */

struct order {
  atom_u64 count; /* calls so far */
  atom_u64 first; /* number of the first call that fails; 0 = none */
  atom_u64 last;  /* ... and of the last */
  atom_u64 error;
  atom_u64 cut; /* bytes at most; 0 = all */
};

/* How a descriptor is registered with epoll, to be repeated. */
struct followed {
  int epoll_fd; /* -1 = it is not */
  bool raise;   /* its edge is due */
  struct epoll_event event;
};

static struct {
  struct order orders[FAULT_CALLS];
  atom_u64 hits;
  atom_u64 bad_closes;
  bool follow;
  struct followed followed[FOLLOWED_MAX];
} kernel;

/* ---- orders ---- */

void fault_heal(void) {
  for (int i = 0; i < FAULT_CALLS; i++) {
    atom_store_relaxed_u64(&kernel.orders[i].first, 0);
    atom_store_relaxed_u64(&kernel.orders[i].cut, 0);
  }
}

void fault_reset(void) {
  fault_heal();
  for (int i = 0; i < FAULT_CALLS; i++) {
    atom_store_relaxed_u64(&kernel.orders[i].count, 0);
  }
  atom_store_relaxed_u64(&kernel.hits, 0);
  atom_store_relaxed_u64(&kernel.bad_closes, 0);
  fault_follow(false);
}

void fault_fail(enum fault_call call, uint64_t nth, int error, uint64_t times) {
  struct order *order = &kernel.orders[call];
  uint64_t first = atom_load_relaxed_u64(&order->count) + nth;
  atom_store_relaxed_u64(&order->error, (uint64_t)error);
  atom_store_relaxed_u64(&order->last, times > UINT64_MAX - first ? UINT64_MAX : first + times - 1);
  atom_store_relaxed_u64(&order->first, first);
}

void fault_shorten(enum fault_call call, size_t bytes) {
  atom_store_relaxed_u64(&kernel.orders[call].cut, bytes);
}

void fault_follow(bool on) {
  kernel.follow = on;
  for (int i = 0; i < FOLLOWED_MAX; i++) {
    kernel.followed[i] = (struct followed){.epoll_fd = -1};
  }
}

uint64_t fault_count(enum fault_call call) {
  return atom_load_relaxed_u64(&kernel.orders[call].count);
}

uint64_t fault_hits(void) { return atom_load_relaxed_u64(&kernel.hits); }

uint64_t fault_bad_closes(void) { return atom_load_relaxed_u64(&kernel.bad_closes); }

const char *fault_name(enum fault_call call) {
  static const char *const names[FAULT_CALLS] = {
      "accept4",    "recv",      "send",       "sendmsg", "write", "shutdown", "close", "ioctl",
      "setsockopt", "epoll_ctl", "epoll_wait", "poll",    "map",   "remap",    "unmap"};
  return names[call];
}

/* Count a call. Return: does an order make it fail (errno is set)? */
static bool fails(enum fault_call call) {
  struct order *order = &kernel.orders[call];
  uint64_t number = atom_add_relaxed_u64(&order->count, 1) + 1;
  uint64_t first = atom_load_relaxed_u64(&order->first);
  if (first == 0 || number < first || number > atom_load_relaxed_u64(&order->last)) {
    return false;
  }
  atom_add_relaxed_u64(&kernel.hits, 1);
  errno = (int)atom_load_relaxed_u64(&order->error);
  return true;
}

/* ---- edges ---- */

static struct followed *followed_of(int fd) {
  return kernel.follow && fd >= 0 && fd < FOLLOWED_MAX ? &kernel.followed[fd] : NULL;
}

static void raise_later(int fd) {
  struct followed *followed = followed_of(fd);
  if (followed != NULL) {
    followed->raise = true;
  }
}

/* ${size}, or less where an order cuts it. */
static size_t cut(enum fault_call call, int fd, size_t size) {
  uint64_t most = atom_load_relaxed_u64(&kernel.orders[call].cut);
  if (most == 0 || size <= most) {
    return size;
  }
  raise_later(fd);
  return most;
}

static void raise_edges(int epoll_fd) {
  for (int fd = 0; kernel.follow && fd < FOLLOWED_MAX; fd++) {
    struct followed *followed = &kernel.followed[fd];
    if (followed->raise && followed->epoll_fd == epoll_fd) {
      followed->raise = false;
      (void)epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &followed->event);
    }
  }
}

/* ---- the calls ---- */

uint64_t sys_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  return fails(FAULT_ACCEPT) ? -1 : accept4(fd, addr, size, flags);
}

ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  if (fails(FAULT_RECV)) {
    raise_later(fd);
    return -1;
  }
  return recv(fd, data, cut(FAULT_RECV, fd, size), flags);
}

ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  if (fails(FAULT_SEND)) {
    raise_later(fd);
    return -1;
  }
  return send(fd, data, cut(FAULT_SEND, fd, size), flags);
}

ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  if (fails(FAULT_SENDMSG)) {
    raise_later(fd);
    return -1;
  }
  size_t size = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    size += message->msg_iov[i].iov_len;
  }
  size_t left = cut(FAULT_SENDMSG, fd, size);
  if (left == size) {
    return sendmsg(fd, message, flags);
  }
  struct iovec parts[SHORTENED_PARTS_MAX];
  struct msghdr shorter = *message;
  shorter.msg_iov = parts;
  shorter.msg_iovlen = 0;
  while (left > 0 && shorter.msg_iovlen < SHORTENED_PARTS_MAX) {
    struct iovec *part = &parts[shorter.msg_iovlen];
    *part = message->msg_iov[shorter.msg_iovlen++];
    part->iov_len = part->iov_len < left ? part->iov_len : left;
    left -= part->iov_len;
  }
  return sendmsg(fd, &shorter, flags);
}

ssize_t sys_write(int fd, const void *data, size_t size) {
  return fails(FAULT_WRITE) ? -1 : write(fd, data, size);
}

int sys_shutdown(int fd, int how) { return fails(FAULT_SHUTDOWN) ? -1 : shutdown(fd, how); }

int sys_close(int fd) {
  bool failed = fails(FAULT_CLOSE);
  int error = errno;
  struct followed *followed = followed_of(fd);
  if (followed != NULL) {
    *followed = (struct followed){.epoll_fd = -1};
  }
  int result = close(fd);
  if (result == -1) {
    atom_add_relaxed_u64(&kernel.bad_closes, 1);
  }
  if (failed) {
    errno = error;
    return -1;
  }
  return result;
}

int sys_ioctl(int fd, unsigned long request, int *value) {
  return fails(FAULT_IOCTL) ? -1 : ioctl(fd, request, value);
}

int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size) {
  return fails(FAULT_SETSOCKOPT) ? -1 : setsockopt(fd, level, name, value, size);
}

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  if (fails(FAULT_EPOLL_CTL)) {
    return -1;
  }
  struct followed *followed = followed_of(fd);
  if (followed != NULL && op == EPOLL_CTL_DEL) {
    followed->epoll_fd = -1;
  } else if (followed != NULL) {
    followed->epoll_fd = epoll_fd;
    followed->event = *event;
  }
  return epoll_ctl(epoll_fd, op, fd, event);
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  if (fails(FAULT_EPOLL_WAIT)) {
    return errno == 0 ? 0 : -1;
  }
  raise_edges(epoll_fd);
  return epoll_wait(epoll_fd, events, max, timeout_ms);
}

int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  return fails(FAULT_POLL) ? -1 : poll(fds, count, timeout_ms);
}

void *sys_map(size_t size) {
  if (fails(FAULT_MAP)) {
    return MAP_FAILED;
  }
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *sys_remap(void *old, size_t old_size, size_t new_size) {
  return fails(FAULT_REMAP) ? MAP_FAILED : mremap(old, old_size, new_size, MREMAP_MAYMOVE);
}

int sys_unmap(void *memory, size_t size) { return fails(FAULT_UNMAP) ? -1 : munmap(memory, size); }
