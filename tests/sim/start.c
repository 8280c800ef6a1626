/*
 * start: the libc functions that the server calls when it starts and ends, led here by --wrap.
 *
 * Threads are coroutines.  Semaphores and joins are waits of the simulated world.  Sockets and
 * eventfds are its descriptors.  Socket options are not kept.
 */
#include "tests/sim/kernel.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>

int __wrap_epoll_create1(int flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t size);
int __wrap_listen(int fd, int backlog);
int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_sem_wait(sem_t *semaphore);
int __wrap_sem_post(sem_t *semaphore);
ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned flags);
int __real_sem_post(sem_t *semaphore);

static bool fails(int error) {
  world_call();
  errno = error;
  bool failed = prng_chance(&world.prng, plan.faults.start);
  if (failed) {
    world_trace("the start is refused, errno %d", error);
  }
  return failed;
}

/* ---- descriptors ---- */

int __wrap_epoll_create1(int flags) {
  (void)flags;
  return fails(EMFILE) ? -1 : kernel_open(FILE_EPOLL, NULL);
}

int __wrap_eventfd(unsigned count, int flags) {
  (void)count;
  (void)flags;
  return fails(ENFILE) ? -1 : kernel_open(FILE_EVENT, NULL);
}

/* Simulated descriptors have no table that grows; the server does without. */
int __wrap_fcntl(int fd, int command, ...) {
  (void)fd;
  (void)command;
  errno = EINVAL;
  return -1;
}

int __wrap_socket(int domain, int type, int protocol) {
  (void)type;
  (void)protocol;
  if (fails(domain == AF_INET6 ? EAFNOSUPPORT : ENOBUFS)) {
    return -1;
  }
  struct port *port = network_new_port();
  port->fd = kernel_open(FILE_PORT, port);
  return port->fd;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
  (void)level;
  (void)name;
  (void)value;
  (void)size;
  (void)kernel_file(fd, FILE_PORT);
  return fails(ENOMEM) ? -1 : 0;
}

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t size) {
  (void)addr;
  (void)size;
  (void)kernel_file(fd, FILE_PORT);
  return fails(EADDRINUSE) ? -1 : 0;
}

int __wrap_listen(int fd, int backlog) {
  struct port *port = kernel_file(fd, FILE_PORT)->object;
  if (fails(EADDRINUSE)) {
    return -1;
  }
  port->listening = true;
  port->backlog = (uint32_t)backlog;
  return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *size) {
  const struct port *port = kernel_file(fd, FILE_PORT)->object;
  const struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port->number)};
  if (fails(ENOBUFS)) {
    return -1;
  }
  memcpy(addr, &in, sizeof(in));
  *size = sizeof(in);
  return 0;
}

/* ---- threads ---- */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument) {
  (void)attributes;
  if (fails(EAGAIN)) {
    return EAGAIN;
  }
  int number = world_spawn(run, argument);
  *thread = (pthread_t)number;
  return number == -1 ? EAGAIN : 0;
}

int __wrap_pthread_join(pthread_t thread, void **result) {
  (void)result;
  world_join((int)thread);
  return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name) {
  (void)thread;
  world_trace("is called %s", name);
  return 0;
}

int __wrap_sem_wait(sem_t *semaphore) {
  world_call();
  while (sem_trywait(semaphore) == -1) {
    world_wait(semaphore, NEVER);
  }
  return 0;
}

int __wrap_sem_post(sem_t *semaphore) {
  world_call();
  int result = __real_sem_post(semaphore);
  world_wake(semaphore);
  return result;
}

ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned flags) {
  (void)flags;
  memset(bytes, 0x5a, size);
  return (ssize_t)size;
}
