/*
 * network: listening sockets, connections, and the network between the two ends of a connection.
 *
 * Bytes in transit are counted, not copied.  The bytes of a peer are in its plan (peer.h), and
 * those of the server are compared when they are given to the kernel.  The server's end of a
 * connection behaves as TCP of Linux does; a comment at each function names its model.
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
  LINK_REFUSED,  /* no listener, or the peer gave up */
  LINK_SYN,      /* half open */
  LINK_QUEUED,   /* ready to be accepted */
  LINK_ACCEPTED, /* a descriptor has it */
  LINK_CLOSED    /* its descriptor was closed */
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
  uint64_t up_ns;     /* when the last byte in transit arrives */
  uint64_t unread_ns; /* bytes are unread: when the server last read */
  struct {
    uint64_t end, at_ns;
  } arrivals[ARRIVALS_MAX]; /* the last ones */
  uint32_t arrivals_count;
  uint64_t urgent;   /* a read stops here once */
  bool urgent_there; /* an urgent byte has arrived */
  bool fin_up;       /* the peer's FIN has arrived */
  bool fin_read;     /* the server was told of it */
  bool blocked;      /* the peer waits for room to send */

  /* the server's bytes */
  uint64_t down_written, down_arrived, down_acked, down_taken;
  bool moving;  /* a segment is in transit */
  bool nospace; /* SOCK_NOSPACE: the server wants to know when there is room */
  bool shut;    /* no more will be written */
  bool fin_moving, fin_down, fin_acked;
  bool reset_down; /* a reset was sent */

  int error;  /* sk_err: reported once */
  int broken; /* the errno that ended it; stays */
  bool done;  /* CLOSE: both directions are shut */
  bool vanished;
  bool peer_closed;
  uint64_t acked_ns;  /* when the acknowledged bytes last grew */
  uint64_t broken_ns; /* when it broke */
};

struct port {
  int fd; /* -1 = closed */
  bool listening;
  bool filtered; /* SYNs are dropped, as by a filter or in a SO_REUSEPORT group without it */
  uint16_t number;
  uint32_t backlog;
  struct link *queue[QUEUE_MAX]; /* oldest first */
  uint32_t queued;
};

void network_reset(void);

/** The ${i}th listening socket that was made; NULL after the last. */
struct port *network_port(uint32_t i);

/** A new listening socket. Return: NULL where there are too many. */
struct port *network_new_port(void);

/** A new connection to port ${i}; the caller sets its peer and its buffers. */
struct link *network_new_link(uint32_t i);

/* ---- the peer's actions ---- */

/** Begin the handshake. */
void link_connect(struct link *link);

/** Bytes that may be sent now. */
uint64_t link_room(const struct link *link);

/** Send ${count} more bytes, followed by an urgent byte if ${urgent}. */
void link_peer_send(struct link *link, uint64_t count, bool urgent);
void link_peer_fin(struct link *link);
void link_peer_reset(struct link *link);

/** close(2): a reset if bytes are unread, else a FIN. */
void link_peer_close(struct link *link);

/** Take ${count} bytes that have arrived. */
void link_peer_take(struct link *link, uint64_t count);

/** The peer disappears silently; the server's kernel gives it up later. */
void link_vanish(struct link *link);

/* ---- the actions of the server's kernel ---- */

/** The network fails: the next call reports ${error}. */
void link_break(struct link *link, int error);

uint32_t port_events(const struct port *port);
uint32_t link_events(struct link *link);

/** accept4(2) without the descriptor: the oldest connection, or NULL (EAGAIN). */
struct link *port_accept(struct port *port);
void port_close(struct port *port);

/** recv(2): the number of the peer's bytes from up_read on; 0; or -1 with errno. */
ssize_t link_recv(struct link *link, size_t size);

/** send(2); the kernel takes at most ${most} bytes even if there is more room. */
ssize_t link_send(struct link *link, size_t size, size_t most);

/** shutdown(2) of the direction down. */
int link_shutdown(struct link *link);

/** close(2). */
void link_close(struct link *link);

/** When the oldest unread byte arrived, or a later time if that is long ago. */
uint64_t link_oldest_ns(const struct link *link);

/** SIOCOUTQ. */
int link_unacked(const struct link *link);

#endif
