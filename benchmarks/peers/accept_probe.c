/*
 * accept_probe: measures accept4 in a server that loads this object (LD_PRELOAD).  At the end it
 * prints `accepts=N longest_accept_ns=N` to standard error.
 *
 * ACCEPT_PROBE_TABLE=off refuses to duplicate a descriptor to a high number.  The server's table of
 * descriptors then grows while clients arrive.
 *
 * Only the acceptor calls accept4, and it has ended when the destructor runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HIGH 100 /* a descriptor above the server's own */

static uint64_t accepts, longest_ns;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* rules-ok: the names and parameters of libc's functions */
int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags) {
  uint64_t start_ns = now_ns();
  int got = (int)syscall(SYS_accept4, fd, address, size, flags);
  uint64_t took_ns = now_ns() - start_ns;
  if (got != -1) {
    accepts++;
    longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
  }
  return got;
}

int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  long argument = va_arg(arguments, long);
  va_end(arguments);
  const char *table = getenv("ACCEPT_PROBE_TABLE");
  if (command == F_DUPFD_CLOEXEC && argument > HIGH && table != NULL && strcmp(table, "off") == 0) {
    errno = EINVAL;
    return -1;
  }
  return (int)syscall(SYS_fcntl, fd, command, argument);
}

__attribute__((destructor)) static void report(void) {
  if (accepts > 0) {
    fprintf(stderr, "accepts=%llu longest_accept_ns=%llu\n", (unsigned long long)accepts,
            (unsigned long long)longest_ns);
  }
}
