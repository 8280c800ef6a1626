/*
 * listener: one listening address, from bind to a stop that loses no client.
 *
 *   listener          listener_stop
 *   TCP               a classic BPF filter drops every SYN.  No handshake begins; those in flight
 *                     complete and are accepted.  The client's repeated SYN finds a closed port or
 *                     the next server.  Where the filter is refused (without CAP_NET_ADMIN on some
 *                     kernels), the socket is bound to a network interface that does not exist: it
 *                     refuses every SYN, and handshakes in flight complete, except under SYN
 *                     cookies.  Where both are refused, a warning says that clients can be lost
 *   UNIX              the socket file is removed and the socket shut down for reading.  Its queue
 *                     can still be accepted
 *   from LISTEN_FDS   only closed: its queue belongs to the next process, and a filter would stay
 *                     on the shared socket.  listener_adopt removes a filter that it finds
 *   handed over       only closed, until listener_own: the process that this one replaces listens
 *
 * A listener's file status flags are shared with the process that passed it and with children that
 * were forked.  Such a process can clear O_NONBLOCK at any time.  So each listener has SO_RCVTIMEO:
 * an accept that blocks ends within some milliseconds.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "core/atom.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/sock.h"
#include "net/socket_file.h"

#include <stdbool.h>

struct listener {
  int fd;                  /* owns; -1 = closed */
  struct log *log;         /* borrows: for what fails later */
  struct addr_listen addr; /* after listener_open with the real port */
  atom_u32 closed;         /* 1: listener_close was called; any thread */
  bool inherited;          /* from LISTEN_FDS, and shared with other processes */
  enum listener_use use;
  bool handed_over;        /* from the process that this one replaces */
  bool shared;             /* handed over, and that process may go on with it */
  bool stopped;            /* listener_stop was called: an empty queue is the end */
  struct socket_file file; /* of a UNIX address of our own */
  int sndbuf;              /* UNIX: for each connection, which does not inherit it; 0 = leave it */
};

/**
 * listener_open(listener, addr, config, log):
 * Bind and listen.  ":port" falls back to IPv4 on a machine without IPv6.  A stale UNIX socket file
 * is replaced, a live one or another file is not.  A listener of USE_REQUESTS takes packets
 * (SOCK_SEQPACKET), and XCHG_USER owns its file.
 * Return: 0, or -1 with errno, after one line in the log.
 */
int listener_open(struct listener *listener, const struct addr_listen *addr,
                  const struct config *config, struct log *log);

/**
 * Take over ${fd}, passed by LISTEN_FDS.
 * Return: 0; or -1 after one line in the log if it is no listening stream socket, or one that is
 * bound to a network interface that does not exist and so accepts no client.  The caller then still
 * owns ${fd}.
 */
int listener_adopt(struct listener *listener, int fd, const struct config *config, struct log *log);

/**
 * listener_inherit(listener, fd, addr, config, log):
 * Take over ${fd}, on which the process listens that this one replaces: it is bound as ${addr}
 * says.  It and its socket file stay that process's until listener_own.  What fails is logged.
 */
void listener_inherit(struct listener *listener, int fd, const struct addr_listen *addr,
                      const struct config *config, struct log *log);

/**
 * Before the first accept: if ${listener} was handed over, its backlog and options become those of
 * ${config}.  What fails is logged.
 */
void listener_configure(struct listener *listener, const struct config *config);

/**
 * listener_own(listener, inode, device, sets_mode):
 * The other process listens no more at ${listener}, which was handed over.  Own its socket file, if
 * ${inode} is not 0, and give it its mode if that is another one now.  What fails is logged.
 */
void listener_own(struct listener *listener, uint64_t inode, uint64_t device, bool sets_mode);

/**
 * Accept one connection into ${accepted}, except the fields ip_slot and listener.  EINVAL of a UNIX
 * listener after listener_stop is ACCEPT_NONE.
 */
enum sock_accepted listener_accept(const struct listener *listener, struct accepted_conn *accepted);

/** Let no new connection enter the queue; see the table above. What fails is logged. */
void listener_stop(struct listener *listener);

/**
 * Close ${listener} if it is open.  Remove the socket file unless another has replaced it.  A
 * failure is logged.  Only the first call does something, so main may call it while the acceptor
 * waits for its threads.
 */
void listener_close(struct listener *listener);

/** In a forked child: close the copy of ${listener}. The socket file is the parent's. */
void listener_abandon(struct listener *listener);

#endif
