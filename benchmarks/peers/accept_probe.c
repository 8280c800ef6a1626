/*
 * accept_probe: xchgd that measures how long each accept takes.  At its end it prints
 * `accepts=N longest_accept_ns=N` to standard error.
 *
 * It is linked from xchgd's objects with --wrap: sock_accept and fcntl are redirected to the
 * functions below.  ACCEPT_PROBE_TABLE=off refuses to duplicate a descriptor to a high number.  The
 * server's table of descriptors then grows while clients arrive.
 *
 * Only the acceptor calls sock_accept, and it has ended when the destructor runs.
 */
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HIGH 100 /* a descriptor above the server's own */

static uint64_t accepts, longest_ns;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* rules-ok: the names that the linker gives, here and below */
enum sock_accepted __real_sock_accept(int fd, int *peer_fd, struct addr *peer);
enum sock_accepted __wrap_sock_accept(int fd, int *peer_fd, struct addr *peer);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);

enum sock_accepted __wrap_sock_accept(int fd, int *peer_fd, struct addr *peer) {
  uint64_t start_ns = now_ns();
  enum sock_accepted result = __real_sock_accept(fd, peer_fd, peer);
  uint64_t took_ns = now_ns() - start_ns;
  if (result == ACCEPTED) {
    accepts++;
    longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
  }
  return result;
}

int __wrap_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  long argument = va_arg(arguments, long);
  va_end(arguments);
  const char *table = getenv("ACCEPT_PROBE_TABLE");
  if (command == F_DUPFD_CLOEXEC && argument > HIGH && table != NULL && strcmp(table, "off") == 0) {
    errno = EINVAL;
    return -1;
  }
  return __real_fcntl(fd, command, argument);
}

__attribute__((destructor)) static void report(void) {
  if (accepts > 0) {
    fprintf(stderr, "accepts=%llu longest_accept_ns=%llu\n", (unsigned long long)accepts,
            (unsigned long long)longest_ns);
  }
}
