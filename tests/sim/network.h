/*
 * network: listening sockets, connections, and the network between a connection's two ends.
 *
 * What travels is counted, not copied: the peer's bytes are its plan's (oracle.h has them), the
 * server's are compared as soon as they are given to the kernel.  A connection, as the server's
 * kernel has it, behaves as Linux' TCP does: see the comments at each function for what was taken
 * over.
 *
 *   up:    read <= arrived <= sent             sent - read    <= rcvbuf
 *   down:  taken <= arrived <= written         written - acked <= sndbuf
 *          acked <= arrived                    arrived - taken <= window
 */
#ifndef TESTS_SIM_NETWORK_H
#define TESTS_SIM_NETWORK_H

#include "tests/sim/world.h"

#include <sys/types.h>

#define PORTS_MAX 3
#define LINKS_MAX 64
#define QUEUE_MAX 64
#define ARRIVALS_MAX 32

struct peer;
struct oracle_link;

enum link_state {
  LINK_NEW,      /* no SYN has come */
  LINK_REFUSED,  /* nobody listens; or it was given up */
  LINK_SYN,      /* half open */
  LINK_QUEUED,   /* may be accepted */
  LINK_ACCEPTED, /* a descriptor has it */
  LINK_CLOSED    /* ... had it */
};

struct link {
  struct peer *peer;
  struct port *port;
  enum link_state state;
  int fd; /* -1 = no descriptor has it */
  uint32_t sndbuf, rcvbuf, window;
  uint64_t delay_ns; /* one way; each segment takes up to twice as long */

  /* the peer's bytes */
  uint64_t up_sent, up_arrived, up_read;
  uint64_t up_ns;     /* when the last of what is on its way arrives */
  uint64_t unread_ns; /* something lies unread: since when nothing was read */
  struct {
    uint64_t end, at_ns;
  } arrivals[ARRIVALS_MAX]; /* the last ones */
  uint32_t arrivals_count;
  uint64_t urgent;   /* a read stops here once */
  bool urgent_there; /* ... since an urgent byte came */
  bool fin_up;       /* the peer's FIN has arrived */
  bool fin_read;     /* ... and the server was told */
  bool blocked;      /* the peer waits for room to send */

  /* the server's */
  uint64_t down_written, down_arrived, down_acked, down_taken;
  bool moving;  /* a segment is on its way */
  bool nospace; /* SOCK_NOSPACE: somebody wants to know when there is */
  bool shut;    /* no more will be written */
  bool fin_moving, fin_down, fin_acked;
  bool reset_down; /* a reset was sent */

  int error;  /* sk_err: told once */
  int broken; /* the errno that ended it; stays */
  bool done;  /* CLOSE: both ways are shut */
  bool vanished;
  bool peer_closed;
  uint64_t acked_ns;  /* acknowledgement last advanced */
  uint64_t broken_ns; /* when it broke */
};

struct port {
  int fd; /* -1 = closed */
  bool listening;
  bool filtered; /* SYNs are dropped */
  uint16_t number;
  uint32_t backlog;
  struct link *queue[QUEUE_MAX]; /* oldest first */
  uint32_t queued;
};

void network_reset(void);

/** The ${i}th of the listening sockets that were made; NULL beyond the last. */
struct port *network_port(uint32_t i);

/** A new listening socket. Return: NULL where there are too many. */
struct port *network_new_port(void);

/** A new connection to port ${i}; its peer and its buffers are the caller's to set. */
struct link *network_new_link(uint32_t i);

/* ---- what the peer does ---- */

/** Begin the handshake. */
void link_connect(struct link *link);

/** Bytes that may be sent now. */
uint64_t link_room(const struct link *link);

/** Send ${count} bytes more; and an urgent one behind them where ${urgent}. */
void link_peer_send(struct link *link, uint64_t count, bool urgent);
void link_peer_fin(struct link *link);
void link_peer_reset(struct link *link);

/** close(2): a reset where something lies unread, else a FIN. */
void link_peer_close(struct link *link);

/** Take ${count} bytes out of what has arrived. */
void link_peer_take(struct link *link, uint64_t count);

/** The peer is never heard of again; the server's kernel gives it up later. */
void link_vanish(struct link *link);

/* ---- what the server's kernel does ---- */

/** The network has failed under it: ${error} is what the next call says. */
void link_break(struct link *link, int error);

uint32_t port_events(const struct port *port);
uint32_t link_events(struct link *link);

/** accept4(2) but for the descriptor: the oldest connection, or NULL (EAGAIN). */
struct link *port_accept(struct port *port);
void port_close(struct port *port);

/** recv(2): how many bytes of the peer's from up_read on; 0; or -1 with errno. */
ssize_t link_recv(struct link *link, size_t size);

/** send(2), the kernel taking at most ${most} bytes though it may have room for more. */
ssize_t link_send(struct link *link, size_t size, size_t most);

/** shutdown(2) of the way down. */
int link_shutdown(struct link *link);

/** close(2). */
void link_close(struct link *link);

/** When the oldest byte that lies unread has arrived, or later where that is long ago. */
uint64_t link_oldest_ns(const struct link *link);

/** SIOCOUTQ. */
int link_unacked(const struct link *link);

#endif
