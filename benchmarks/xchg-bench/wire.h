/*
 * wire: recv and send of a connection, as sock_recv and sock_send of net/sock are, but without the
 * cancellation points that glibc puts around both in a program with threads: four atomic operations
 * an exchange, one per cent of its cost, for threads that nobody cancels.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "net/sock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* house-ok: the thread sanitizer learns of what a message orders from libc's calls alone. */
#ifdef __SANITIZE_THREAD__
/* The calls themselves, as recv(2) and send(2). */
static inline long wire_recvfrom(int fd, void *data, size_t size) {
  return recv(fd, data, size, 0);
}
static inline long wire_sendto(int fd, const void *data, size_t size) {
  return send(fd, data, size, MSG_NOSIGNAL);
}
#else
/* The same, straight to the kernel. */
static inline long wire_recvfrom(int fd, void *data, size_t size) {
  return syscall(SYS_recvfrom, fd, data, size, 0, NULL, NULL);
}
static inline long wire_sendto(int fd, const void *data, size_t size) {
  return syscall(SYS_sendto, fd, data, size, MSG_NOSIGNAL, NULL, 0);
}
#endif

/* Of the two calls: what net/sock makes of their errors. */
static inline enum io wire_failed(void) { return errno == EAGAIN ? IO_AGAIN : IO_ERROR; }

/** Return: IO_OK with the bytes in ${*count}, IO_EOF, IO_AGAIN, or IO_ERROR with errno. */
static inline enum io wire_recv(int fd, void *data, size_t size, size_t *count) {
  long got;
  do {
    got = wire_recvfrom(fd, data, size);
  } while (got == -1 && errno == EINTR);
  *count = got > 0 ? (size_t)got : 0;
  if (got == -1) {
    return wire_failed();
  }
  return got == 0 ? IO_EOF : IO_OK;
}

/** Return: IO_OK with what the kernel took in ${*count}, IO_AGAIN, or IO_ERROR with errno. */
static inline enum io wire_send(int fd, const void *data, size_t size, size_t *count) {
  long put;
  do {
    put = wire_sendto(fd, data, size);
  } while (put == -1 && errno == EINTR);
  *count = put > 0 ? (size_t)put : 0;
  return put == -1 ? wire_failed() : IO_OK;
}

#endif
