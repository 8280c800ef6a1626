/*
 * listener: one address that clients connect to, from bind to a stop that loses nobody.
 *
 * The stop of a TCP listener that is ours alone: a classic BPF filter on the listening socket drops
 * every SYN, so that no new handshake begins, while those in flight complete and are accepted; the
 * client's repeated SYN finds a closed port or our successor.  A UNIX listener is unlinked and shut
 * for reading, which leaves its queue to be accepted.  A listener that was passed in (LISTEN_FDS)
 * is only left, since its queue belongs to the next process and a filter would stay behind on the
 * shared socket; one left behind by somebody else is taken off at the start.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/sock.h"

#include <stdbool.h>

struct listener {
  int fd;                  /* owns; -1 = closed */
  struct addr_listen addr; /* as it is bound: with the real port */
  bool inherited;          /* by LISTEN_FDS: shared with others */
  bool stopped;            /* a stop has begun: an empty queue is the end */
  uint64_t file;           /* UNIX: inode of the socket file that is ours, 0 = none */
  uint64_t device;
  int sndbuf; /* AF_UNIX does not inherit it: set on each connection; 0 = do not */
};

/**
 * listener_open(listener, where, config, log):
 * Bind and listen.  ":port" falls back to IPv4 where the machine has no IPv6.  A stale UNIX socket
 * file is replaced, a live or a foreign one is not.
 * Return: 0, or -1 with errno, after one line in the log.
 */
int listener_open(struct listener *listener, const struct addr_listen *addr,
                  const struct config *config, struct log *log);

/**
 * Take over ${fd}, passed by LISTEN_FDS. Return: 0, or -1 after one line in the log where it is no
 * listening stream socket; ${fd} is then still the caller's.
 */
int listener_adopt(struct listener *listener, int fd, const struct config *config, struct log *log);

/**
 * Accept one connection into ${guest} (all but ticket and listener). After listener_stop a UNIX
 * listener's EINVAL is ACCEPT_NONE.
 */
enum sock_accepted listener_accept(const struct listener *listener, struct accepted_conn *accepted);

/**
 * The stop begins: no new connection gets into the queue; a passed listener is closed (left) at
 * once.
 */
void listener_stop(struct listener *listener);

/** Close, if open; remove the socket file if it is still ours. */
void listener_close(struct listener *listener);

#endif
