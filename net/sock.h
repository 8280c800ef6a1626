/*
 * sock: system calls on one socket, and the only place that classifies errno.
 *
 * Keeps no state.  Runs on the thread that owns the descriptor.  Reads and writes never block: they
 * do not rely on O_NONBLOCK, which a child that shares the descriptor can clear.
 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include "core/xchg.h"
#include "core/sys.h"
#include "core/addr.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum io {
  IO_OK,    /* some bytes were transferred */
  IO_AGAIN, /* none can be transferred now */
  IO_EOF,   /* the end of the stream */
  IO_ERROR, /* the connection has failed with errno */
};

/** What the errno of a read or write that returned -1 means: IO_AGAIN or IO_ERROR. */
enum io sock_failed(void);

/** Read up to ${size} bytes; ${*count} is how many came (0 unless IO_OK). Repeats after EINTR. */
static inline enum io sock_recv(int fd, void *data, size_t size, size_t *count) {
  ssize_t got;
  do {
    got = sys_recv(fd, data, size, MSG_DONTWAIT);
  } while (got == -1 && errno == EINTR);
  *count = got > 0 ? (size_t)got : 0;
  return got > 0 ? IO_OK : got == 0 ? IO_EOF : sock_failed();
}

/** Write up to ${size} (1 at least) bytes; ${*count} is how many went. Never raises SIGPIPE. */
static inline enum io sock_send(int fd, const void *data, size_t size, size_t *count) {
  ssize_t put;
  do {
    put = sys_send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (put == -1 && errno == EINTR);
  *count = put > 0 ? (size_t)put : 0;
  return put >= 0 ? IO_OK : sock_failed();
}

/**
 * Write ${count} ${parts} (1 to IOV_MAX parts with 1 byte at least) in one call; ${*sent} is how
 * many bytes went.  Otherwise like sock_send.
 */
enum io sock_sendv(int fd, const struct iovec *parts, int count, size_t *sent);

/**
 * Bytes in the kernel that the peer has not acknowledged (SIOCOUTQ); a sent FIN counts as one.  On
 * AF_UNIX: memory that the peer has not read.  0 if the call fails.
 */
uint32_t sock_unacked(int fd);

/**
 * Let the next close of ${fd} be a reset, which discards unacknowledged bytes.  Otherwise the
 * kernel offers them for minutes to a peer that does not read.  Failures are ignored.
 */
void sock_abort(int fd);

/** The reason of a connection that failed with ${error}: XCHG_RESET or XCHG_ERROR. */
enum xchg_reason sock_reason(int error);

enum sock_accepted {
  ACCEPTED,         /* a connection */
  ACCEPT_NONE,      /* the queue is empty */
  ACCEPT_NEXT,      /* this connection failed; there may be more */
  ACCEPT_EXHAUSTED, /* no descriptors or no memory: try later */
  ACCEPT_BROKEN,    /* the listener does not work any more */
};

/**
 * Accept a connection from ${fd}, nonblocking and close-on-exec: descriptor in ${*peer_fd}, address
 * in ${*peer}.  errno is set unless the result is ACCEPTED.
 */
enum sock_accepted sock_accept(int fd, int *peer_fd, struct addr *peer);

/** Convert ${from} to ${addr}. Every other family than IPv4 and IPv6 becomes ADDR_UNIX. */
void sock_addr_from(struct addr *addr, const struct sockaddr_storage *from);

/**
 * Convert ${listen} to ${to}. Every other family becomes IPv6.
 * Return: the size, or 0 with errno ENODEV if the address names an interface that does not exist.
 */
socklen_t sock_addr_to(const struct addr_listen *listen, struct sockaddr_storage *to);

/**
 * sock_peer(fd, uid, pid):
 * The user and the process that connected the UNIX socket ${fd}. Return: 0, or -1 with errno.
 */
int sock_peer(int fd, uint32_t *uid, uint32_t *pid);

#endif
