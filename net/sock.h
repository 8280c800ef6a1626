/*
 * sock: reading, writing and asking one connected socket, and the only place where an errno gets a
 * meaning.
 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include "core/xchg.h"
#include "core/addr.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum io {
  IO_OK,    /* some bytes went */
  IO_AGAIN, /* none can go now */
  IO_EOF,   /* the peer has sent its last byte */
  IO_ERROR, /* the connection is gone; errno says why */
};

/**
 * Read up to ${size} bytes into ${data}; ${*count} is how many came (0 unless IO_OK). EINTR is
 * repeated.
 */
enum io sock_recv(int fd, void *data, size_t size, size_t *count);

/**
 * Write up to ${size} (1 at least) bytes; ${*count} is how many the kernel took. Never raises
 * SIGPIPE.
 */
enum io sock_send(int fd, const void *data, size_t size, size_t *count);

/**
 * Write what ${count} ${parts} (1 to IOV_MAX, 1 byte at least in all) describe, one behind the
 * other, in one call; ${*sent} is how many bytes the kernel took. Else as sock_send.
 */
enum io sock_sendv(int fd, const struct iovec *parts, int count, size_t *sent);

/**
 * Bytes given to the kernel that the peer has not acknowledged (SIOCOUTQ; a sent FIN counts as
 * one); on AF_UNIX memory that it has not read. 0 where the socket cannot say.
 */
uint32_t sock_unacked(int fd);

/**
 * Let the close of ${fd} that follows be a reset which throws away what was not acknowledged; else
 * the kernel goes on offering it, for minutes, to a peer that takes none. Failures are ignored.
 */
void sock_abort(int fd);

/** How a connection that failed with ${error} is counted: XCHG_RESET or XCHG_ERROR. */
enum xchg_reason sock_reason(int error);

enum sock_accepted {
  ACCEPTED,         /* a connection */
  ACCEPT_NONE,      /* the queue is empty */
  ACCEPT_NEXT,      /* this one failed on its own account; there may be more */
  ACCEPT_EXHAUSTED, /* no descriptors or memory; later perhaps */
  ACCEPT_BROKEN,    /* the listener is of no use any more */
};

/**
 * Accept from ${fd}, nonblocking and close-on-exec; the descriptor goes to ${*peer_fd}, the peer's
 * address to ${*peer}. errno is set on all but ACCEPTED.
 */
enum sock_accepted sock_accept(int fd, int *peer_fd, struct addr *peer);

/** Set ${addr} from what the kernel gave; an unnamed or UNIX peer becomes ADDR_UNIX. */
void sock_addr_from(struct addr *addr, const struct sockaddr_storage *from);

/** Write ${listen} as the kernel wants it; return the size. ":port" becomes IPv6 (::). */
socklen_t sock_addr_to(const struct addr_listen *listen, struct sockaddr_storage *to);

#endif
