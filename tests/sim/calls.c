/*
 * calls: the functions of core/sys.h over the simulated kernel, with the errors that the plan
 * orders.
 *
 * Each error is one that the manual page of the call documents, with the effect that it has in the
 * kernel: an accept4 that fails because of one connection removes that connection from the queue,
 * and one that lacks descriptors does not.
 */
#include "tests/fault/seam.h"

#include "tests/sim/kernel.h"
#include "tests/sim/memory.h"
#include "tests/sim/mover.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>

/* Begin a call. */
static void call(void) {
  world_call();
  oracle.calls++;
  int self = world_self();
  if (self != -1 && oracle.turns[self] != 0) {
    oracle.turn_ns = max_u64(oracle.turn_ns, world.now_ns - oracle.turns[self]);
  }
}

static bool chance(unsigned permille) { return !oracle.over && prng_chance(&world.prng, permille); }

/* Fail with one of ${errors}, a list that ends with 0. */
static int inject(const char *name, int fd, const int *errors) {
  uint64_t count = 0;
  while (errors[count] != 0) {
    count++;
  }
  errno = errors[prng_below(&world.prng, count)];
  world_trace("%s(%d) = errno %d, injected", name, fd, errno);
  return -1;
}

static const int interrupted[] = {EINTR, 0};
static const int out_of_memory[] = {ENOMEM, 0};

uint64_t sys_now_ns(void) { return world.now_ns; }

/* ---- accept4 ---- */

static void give_address(const struct link *link, struct sockaddr *to, unsigned *size) {
  const struct addr *addr = &link->peer->addr;
  if (addr->family == ADDR_IPV6) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(addr->port)};
    memcpy(&in6.sin6_addr, addr->bytes, sizeof(in6.sin6_addr));
    memcpy(to, &in6, sizeof(in6));
    *size = sizeof(in6);
  } else {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(addr->port)};
    memcpy(&in.sin_addr, addr->bytes, sizeof(in.sin_addr));
    memcpy(to, &in, sizeof(in));
    *size = sizeof(in);
  }
}

/* Return: does this accept4 fail? */
static bool accept_fails(int fd, struct port *port) {
  static const int aborted[] = {
      ECONNABORTED, EPROTO,     ENETDOWN,    ENOPROTOOPT, EHOSTDOWN, ENONET,
      EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, EPERM,       0};
  const struct faults *faults = &plan.faults;
  if (chance(faults->eintr)) {
    inject("accept4", fd, interrupted);
  } else if (world.now_ns >= faults->starve_ns && world.now_ns < faults->starved_ns) {
    const int starving[] = {faults->starve_errno, 0};
    inject("accept4", fd, starving);
  } else if (port->queued > 0 && chance(faults->accept)) {
    struct link *link = port_accept(port);
    link->state = LINK_CLOSED;
    link->done = true;
    inject("accept4", fd, aborted);
  } else {
    return false;
  }
  oracle_accept_failed();
  return true;
}

int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  call();
  assert((flags & SOCK_NONBLOCK) != 0);
  struct port *port = kernel_file(fd, FILE_PORT)->object;
  if (accept_fails(fd, port)) {
    return -1;
  }
  struct link *link = port_accept(port);
  if (link == NULL) {
    world_trace("accept4(%d) = EAGAIN", fd);
    errno = EAGAIN;
    return -1;
  }
  oracle_accepted(link);
  link->fd = kernel_open(FILE_LINK, link);
  give_address(link, addr, size);
  world_trace("accept4(%d) = %d, peer %u", fd, link->fd, link->peer->number);
  return link->fd;
}

/* ---- a connection ---- */

ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  static const int errors[] = {ENOMEM, ENOBUFS, ECONNREFUSED, 0};
  call();
  struct link *link = kernel_file(fd, FILE_LINK)->object;
  (void)flags;
  if (chance(plan.faults.eintr)) {
    return inject("recv", fd, interrupted);
  }
  if (chance(plan.faults.recv)) {
    (void)inject("recv", fd, errors);
    record_of(link)->injected = errno;
    return -1;
  }
  uint64_t from = link->up_read;
  ssize_t got = link_recv(link, size);
  int error = errno;
  if (got > 0) {
    bool drop = world.mutant == MUTANT_DROP && got > 1 && prng_chance(&world.prng, 50);
    memcpy(data, link->peer->out + from + (drop ? 1 : 0), (size_t)got);
    oracle_read(link, from, (uint64_t)got);
  }
  world_trace("recv(%d, %zu) = %zd%s%s", fd, size, got, got == -1 ? ", " : "",
              got == -1 ? strerrorname_np(error) : "");
  errno = error;
  return got;
}

/* The most of ${size} bytes that the kernel takes. */
static size_t most(size_t size) {
  return chance(plan.faults.shorten) ? prng_below(&world.prng, size + 1) : size;
}

static ssize_t give(int fd, const void *data, size_t size) {
  static const int errors[] = {ENOBUFS, ENOMEM, EHOSTUNREACH, ENETUNREACH, ENETDOWN, 0};
  struct link *link = kernel_file(fd, FILE_LINK)->object;
  if (chance(plan.faults.eintr)) {
    return inject("send", fd, interrupted);
  }
  if (chance(plan.faults.send)) {
    (void)inject("send", fd, errors);
    record_of(link)->injected = errno;
    return -1;
  }
  ssize_t put = link_send(link, size, most(size));
  int error = errno;
  if (put > 0) {
    oracle_wrote(link, data, (uint64_t)put);
  }
  world_trace("send(%d, %zu) = %zd%s%s", fd, size, put, put == -1 ? ", " : "",
              put == -1 ? strerrorname_np(error) : "");
  errno = error;
  return put;
}

ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  call();
  assert((flags & MSG_NOSIGNAL) != 0);
  if (world.mutant == MUTANT_FLIP && size > 0 && size < 4096 && prng_chance(&world.prng, 20)) {
    uint8_t other[4096];
    memcpy(other, data, size);
    other[size - 1] ^= 1;
    return give(fd, other, size);
  }
  return give(fd, data, size);
}

/* The built-in exchanges send nothing by reference. */
ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  (void)message;
  (void)flags;
  world_fail("sendmsg(%d) is not simulated", fd);
  return -1;
}

int sys_shutdown(int fd, int how) {
  call();
  struct link *link = kernel_file(fd, FILE_LINK)->object;
  assert(how == SHUT_WR);
  int result = link_shutdown(link);
  world_trace("shutdown(%d) = %d", fd, result);
  if (result == 0) {
    oracle_shut(link);
  }
  return result;
}

int sys_close(int fd) {
  call();
  if (!kernel_is_open(fd)) {
    world_fail("descriptor %d is closed but was not open", fd);
    return -1;
  }
  world_trace("close(%d)", fd);
  struct port *port;
  for (uint32_t i = 0; (port = network_port(i)) != NULL; i++) {
    if (port->fd == fd) {
      kernel_close(fd);
      port_close(port);
      return 0;
    }
  }
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    struct link *link = peer_at(i)->link;
    if (link->fd == fd) {
      oracle_closes(link);
      kernel_close(fd);
      link_close(link);
      return 0;
    }
  }
  kernel_close(fd);
  return 0;
}

int sys_ioctl(int fd, unsigned long request, int *value) {
  call();
  assert(request == SIOCOUTQ);
  *value = link_unacked(kernel_file(fd, FILE_LINK)->object);
  world_trace("ioctl(%d, SIOCOUTQ) = %d", fd, *value);
  return 0;
}

int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size) {
  static const int errors[] = {ENOMEM, ENOBUFS, 0};
  call();
  (void)value;
  (void)size;
  if (chance(plan.faults.option)) {
    return inject("setsockopt", fd, errors);
  }
  if (level == SOL_SOCKET && (name == SO_ATTACH_FILTER || name == SO_BINDTOIFINDEX)) {
    ((struct port *)kernel_file(fd, FILE_PORT)->object)->filtered = true;
  }
  world_trace("setsockopt(%d, %d, %d)", fd, level, name);
  return 0;
}

ssize_t sys_write(int fd, const void *data, size_t size) {
  call();
  (void)data;
  assert(size == sizeof(uint64_t));
  if (chance(plan.faults.eintr)) {
    return inject("write", fd, interrupted);
  }
  (void)kernel_file(fd, FILE_EVENT);
  world_trace("write(%d)", fd);
  kernel_event_add(fd);
  return (ssize_t)size;
}

/* ---- waiting ---- */

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  static const int errors[] = {ENOMEM, ENOSPC, 0};
  call();
  (void)kernel_file(epoll_fd, FILE_EPOLL);
  bool starting = oracle.turns[world_self()] == 0;
  if (op != EPOLL_CTL_DEL && chance(starting ? plan.faults.start : plan.faults.control)) {
    oracle.no_memory = true;
    oracle_accept_failed(); /* or the listeners are not watched for a while */
    return inject("epoll_ctl", fd, errors);
  }
  int error = kernel_control(epoll_fd, op, fd, event);
  world_trace("epoll_ctl(%d, %d, %d, 0x%x)", epoll_fd, op, fd, event->events);
  if (error != 0 && op != EPOLL_CTL_DEL) { /* DEL comes for listeners that were not added, too */
    world_fail("epoll_ctl(%d, %d, %d): %s", epoll_fd, op, fd, strerror(error));
  }
  errno = error;
  return error == 0 ? 0 : -1;
}

/* The latest end of a wait that begins now. */
static uint64_t end_of_wait(int timeout_ms) {
  uint64_t ns = (uint64_t)timeout_ms * NS_PER_MS;
  if (world.mutant == MUTANT_LATE) {
    ns += ns / 2;
  }
  return timeout_ms == -1 ? NEVER : world.now_ns + ns;
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  call();
  struct file *file = kernel_file(epoll_fd, FILE_EPOLL);
  timeout_ms = mover_move(epoll_fd, timeout_ms == 0) ? 0 : timeout_ms;
  uint64_t began_ns = world.now_ns, end_ns = end_of_wait(timeout_ms);
  if (chance(plan.faults.eintr)) {
    oracle_waited(0, began_ns);
    oracle_excuse();
    return inject("epoll_wait", epoll_fd, interrupted);
  }
  int ready = kernel_collect(epoll_fd, events, max);
  while (ready == 0 && world.now_ns < end_ns) {
    oracle.turns[world_self()] = world.now_ns; /* no turn while it waits */
    bool woken = world_wait(file, end_ns);
    ready = kernel_collect(epoll_fd, events, max);
    if (!woken) {
      break;
    }
  }
  world_trace("epoll_wait(%d, %d ms) = %d", epoll_fd, timeout_ms, ready);
  mover_waited(epoll_fd, timeout_ms == 0, ready);
  oracle_waited(ready, began_ns);
  return ready;
}

/* The simulated main thread waits for one descriptor only. */
int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  call();
  assert(count == 1);
  struct file *file = kernel_file(fds[0].fd, FILE_EVENT);
  uint64_t end_ns = end_of_wait(timeout_ms);
  while (file->count == 0 && world_wait(file, end_ns)) {
  }
  fds[0].revents = file->count > 0 ? POLLIN : 0;
  return file->count > 0 ? 1 : 0;
}

/* ---- memory ---- */

void *sys_map(size_t size) {
  call();
  bool starting = oracle.turns[world_self()] == 0;
  if (chance(starting ? plan.faults.start : plan.faults.map)) {
    oracle.no_memory = true;
    oracle.no_map_ns = world.now_ns;
    (void)inject("mmap", -1, out_of_memory);
    return MAP_FAILED;
  }
  void *at = memory_map(size);
  world_trace("mmap(%zu)", size);
  return at;
}

void *sys_remap(void *old, size_t old_size, size_t new_size) {
  call();
  if (chance(plan.faults.map)) {
    oracle.no_memory = true;
    (void)inject("mremap", -1, out_of_memory);
    return MAP_FAILED;
  }
  world_trace("mremap(%zu, %zu)", old_size, new_size);
  return memory_remap(old, old_size, new_size);
}

int sys_unmap(void *memory, size_t size) {
  call();
  world_trace("munmap(%zu)", size);
  if (chance(plan.faults.unmap)) {
    memory_lose(memory, size);
    return inject("munmap", -1, out_of_memory);
  }
  return memory_unmap(memory, size);
}

int sys_discard(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0; /* memory that stays mapped may keep its content */
}
