/*
 * network: see network.h.  Each direction is a sequence of events.  Up: a segment arrives.  Down: a
 * segment arrives, and later its acknowledgement.
 */
#include "tests/sim/network.h"

#include "tests/sim/kernel.h"
#include "tests/sim/oracle.h"
#include "tests/sim/peer.h"

#include <assert.h>
#include <errno.h>

#define SYN_AGAIN_NS NS_PER_S
#define SYN_TRIES 4
#define SEGMENTS_MAX 8 /* a window of bytes travels in about this many segments */

static struct {
  struct port ports[PORTS_MAX];
  struct link links[LINKS_MAX];
  uint32_t ports_count, links_count;
} network;

static void transmit(struct link *link);

void network_reset(void) { network.ports_count = network.links_count = 0; }

struct port *network_port(uint32_t i) {
  return i < network.ports_count ? &network.ports[i] : NULL;
}

struct port *network_new_port(void) {
  if (network.ports_count == PORTS_MAX) {
    return NULL;
  }
  struct port *port = &network.ports[network.ports_count];
  *port = (struct port){.fd = -1, .number = (uint16_t)(7000 + network.ports_count++)};
  return port;
}

struct link *network_new_link(uint32_t i) {
  assert(network.links_count < LINKS_MAX);
  struct link *link = &network.links[network.links_count++];
  *link = (struct link){.port = &network.ports[i], .fd = -1};
  return link;
}

/* ---- delays ---- */

static uint64_t travel_ns(const struct link *link) {
  return link->delay_ns + prng_below(&world.prng, link->delay_ns + 1);
}

/* The arrival time of what is sent up now: after everything that was sent before. */
static uint64_t up_at(struct link *link) {
  link->up_ns = max_u64(link->up_ns, world.now_ns + travel_ns(link));
  return link->up_ns;
}

/* ---- the end of a connection ---- */

/* TCP's state CLOSE: nothing more is sent or received. */
static void close_both(struct link *link, int error) {
  link->error = link->broken = error;
  link->done = true;
  link->broken_ns = world.now_ns;
  kernel_signal(link->fd, 0);
}

void link_break(struct link *link, int error) {
  if (!link->done && link->state != LINK_CLOSED && link->state != LINK_REFUSED) {
    world_trace("peer %u: the connection breaks, errno %d", link->peer->number, error);
    close_both(link, error);
  }
}

static void reset_arrives(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (link->state == LINK_CLOSED || link->done) {
    link->done = true;
    return;
  }
  world_trace("peer %u: its reset arrives", link->peer->number);
  close_both(link, link->fin_up ? EPIPE : ECONNRESET); /* tcp_reset: EPIPE in CLOSE_WAIT */
}

static void reset_goes_down(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (!link->vanished && !link->peer_closed) {
    peer_was_reset(link->peer);
  }
}

/* The server's kernel answers with a reset: bytes not acknowledged by now are lost. */
static void reset_down(struct link *link) {
  if (!link->reset_down) {
    link->reset_down = link->done = true;
    oracle_resets(link);
    world_at(world.now_ns + travel_ns(link), reset_goes_down, link, 0);
  }
}

/* ---- the handshake ---- */

static void refuse(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  link->state = LINK_REFUSED;
  peer_was_refused(link->peer);
}

static void established(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  struct port *port = link->port;
  if (!port->listening) {
    link->state = LINK_REFUSED;
    oracle_missed(link);
    world_at(world.now_ns + travel_ns(link), reset_goes_down, link, 0);
    return;
  }
  if (port->queued == QUEUE_MAX) {
    world_fail("the simulator has no room in a backlog");
    return;
  }
  link->state = LINK_QUEUED;
  oracle_queued(link);
  port->queue[port->queued++] = link;
  world_trace("peer %u: may be accepted", link->peer->number);
  kernel_signal(port->fd, EPOLLIN);
}

static void connected(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  world_at(up_at(link), established, link, 0); /* the ACK */
  peer_connected(link->peer);
}

static void syn(void *object, uint64_t tries) {
  struct link *link = object;
  struct port *port = link->port;
  if (!port->listening) {
    world_at(world.now_ns + travel_ns(link), refuse, link, 0);
  } else if (port->filtered || port->queued >= port->backlog) {
    if (tries == SYN_TRIES) {
      refuse(link, 0);
    } else {
      world_at(world.now_ns + SYN_AGAIN_NS, syn, link, tries + 1);
    }
  } else {
    link->state = LINK_SYN;
    oracle_syn(link);
    world_at(world.now_ns + travel_ns(link), connected, link, 0);
  }
}

void link_connect(struct link *link) { world_at(world.now_ns + travel_ns(link), syn, link, 0); }

uint32_t port_events(const struct port *port) { return port->queued > 0 ? EPOLLIN : 0; }

struct link *port_accept(struct port *port) {
  if (port->queued == 0) {
    errno = EAGAIN;
    return NULL;
  }
  struct link *link = port->queue[0];
  if (world.mutant == MUTANT_ACCEPT && prng_chance(&world.prng, 20)) {
    return link;
  }
  port->queued--;
  for (uint32_t i = 0; i < port->queued; i++) {
    port->queue[i] = port->queue[i + 1];
  }
  link->state = LINK_ACCEPTED;
  return link;
}

void port_close(struct port *port) {
  port->listening = false;
  port->fd = -1;
  for (uint32_t i = 0; i < port->queued; i++) {
    struct link *link = port->queue[i];
    oracle_missed(link);
    link->state = LINK_CLOSED;
    reset_down(link);
  }
  port->queued = 0;
}

/* ---- up ---- */

static void bytes_arrive(void *object, uint64_t end) {
  struct link *link = object;
  bool deaf = world.mutant == MUTANT_FIN && link->shut;
  if (link->state == LINK_CLOSED || link->state == LINK_REFUSED || deaf) {
    reset_down(link);
    return;
  }
  if (link->done) {
    return;
  }
  if (link->up_arrived == link->up_read) {
    link->unread_ns = world.now_ns;
  }
  link->up_arrived = end;
  link->arrivals[link->arrivals_count % ARRIVALS_MAX].end = end;
  link->arrivals[link->arrivals_count++ % ARRIVALS_MAX].at_ns = world.now_ns;
  world_trace("peer %u: bytes arrive, up to %llu", link->peer->number, (unsigned long long)end);
  kernel_signal(link->fd, EPOLLIN);
}

uint64_t link_oldest_ns(const struct link *link) {
  uint64_t oldest_ns = world.now_ns;
  for (uint32_t i = 0; i < ARRIVALS_MAX && i < link->arrivals_count; i++) {
    if (link->arrivals[i].end > link->up_read) {
      oldest_ns = min_u64(oldest_ns, link->arrivals[i].at_ns);
    }
  }
  return oldest_ns;
}

static void urgent_arrives(void *object, uint64_t at) {
  struct link *link = object;
  if (link->state != LINK_CLOSED && !link->done) {
    link->urgent = at;
    link->urgent_there = true;
    kernel_signal(link->fd, EPOLLPRI);
  }
}

static void fin_arrives(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (link->done || link->fin_up) {
    return;
  }
  link->fin_up = true;
  link->unread_ns = link->up_arrived == link->up_read ? world.now_ns : link->unread_ns;
  world_trace("peer %u: its FIN arrives", link->peer->number);
  kernel_signal(link->fd, 0);
}

uint64_t link_room(const struct link *link) {
  return link->rcvbuf - (link->up_sent - link->up_read);
}

void link_peer_send(struct link *link, uint64_t count, bool urgent) {
  if (urgent) {
    world_at(up_at(link), urgent_arrives, link, link->up_sent + count);
  }
  link->up_sent += count;
  world_at(up_at(link), bytes_arrive, link, link->up_sent);
}

void link_peer_fin(struct link *link) { world_at(up_at(link), fin_arrives, link, 0); }

void link_peer_reset(struct link *link) {
  link->peer_closed = true;
  world_at(up_at(link), reset_arrives, link, 0);
}

void link_peer_close(struct link *link) {
  if (link->peer_closed) {
    return;
  }
  if (link->down_arrived > link->down_taken) {
    link_peer_reset(link);
  } else {
    link->peer_closed = true;
    link_peer_fin(link);
  }
}

static void give_up(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (link->down_written > link->down_acked || link->shut) {
    link_break(link, ETIMEDOUT);
  }
}

void link_vanish(struct link *link) {
  link->vanished = true;
  world_at(world.now_ns + prng_scaled(&world.prng, NS_PER_S, 60 * NS_PER_S), give_up, link, 0);
}

/*
 * tcp_recvmsg: bytes that have arrived come first, even after an error or an end.  The error is
 * reported once, and then the stream has ended.  A read stops at an urgent mark.
 */
ssize_t link_recv(struct link *link, size_t size) {
  uint64_t there = link->up_arrived - link->up_read;
  if (link->urgent_there && link->urgent > link->up_read) {
    there = min_u64(there, link->urgent - link->up_read);
  }
  if (there == 0) {
    if (link->error != 0) {
      errno = link->error;
      link->error = 0;
      return -1;
    }
    if (link->fin_up || link->done) {
      link->fin_read = true;
      return 0;
    }
    errno = EAGAIN;
    return -1;
  }
  if (link->urgent_there && link->urgent <= link->up_read) {
    link->urgent_there = false;
  }
  uint64_t count = min_u64(there, size);
  link->up_read += count;
  link->unread_ns = world.now_ns;
  if (link->blocked) {
    link->blocked = false;
    world_at(world.now_ns + travel_ns(link), peer_may_send, link->peer, 0);
  }
  return (ssize_t)count;
}

/* ---- down ---- */

/* sk_stream_is_writeable: a third of the buffer is free. */
static bool writable(const struct link *link) {
  return 3 * (link->sndbuf - (link->down_written - link->down_acked)) >= link->sndbuf;
}

/* sk_stream_write_space */
static void tell_space(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (link->nospace && writable(link)) {
    link->nospace = false;
    kernel_signal(link->fd, EPOLLOUT);
  }
}

static void ack_arrives(void *object, uint64_t end) {
  struct link *link = object;
  if (link->done || end <= link->down_acked) {
    return;
  }
  link->down_acked = end;
  link->acked_ns = world.now_ns;
  tell_space(link, 0);
}

static void fin_ack_arrives(void *object, uint64_t value) {
  (void)value;
  ((struct link *)object)->fin_acked = true;
}

static void fin_goes_down(void *object, uint64_t value) {
  (void)value;
  struct link *link = object;
  if (link->vanished || link->reset_down || link->done) {
    return;
  }
  link->fin_down = true;
  world_at(world.now_ns + travel_ns(link), fin_ack_arrives, link, 0);
  if (!link->peer_closed) {
    peer_arrived(link->peer);
  }
}

static void segment_arrives(void *object, uint64_t size) {
  struct link *link = object;
  link->moving = false;
  if (link->vanished || link->reset_down || link->done) {
    return;
  }
  if (link->peer_closed) {
    link_peer_reset(link); /* no process is there to take it */
    return;
  }
  link->down_arrived += size;
  assert(link->down_arrived - link->down_taken <= link->window);
  world_at(world.now_ns + travel_ns(link), ack_arrives, link, link->down_arrived);
  transmit(link);
  peer_arrived(link->peer);
}

/* Send as the window allows, one segment at a time; after the last byte the FIN. */
static void transmit(struct link *link) {
  uint64_t left = link->down_written - link->down_arrived;
  uint64_t room = link->window - (link->down_arrived - link->down_taken);
  if (link->moving || link->vanished || link->reset_down || link->done) {
    return;
  }
  if (left > 0 && room > 0) {
    uint64_t most = min_u64(left, room);
    uint64_t size = min_u64(most, prng_between(&world.prng, 1, most) + link->window / SEGMENTS_MAX);
    link->moving = true;
    world_at(world.now_ns + travel_ns(link), segment_arrives, link, size);
  } else if (left == 0 && link->shut && !link->fin_moving) {
    link->fin_moving = true;
    world_at(world.now_ns + travel_ns(link), fin_goes_down, link, 0);
  }
}

void link_peer_take(struct link *link, uint64_t count) {
  link->down_taken += count;
  transmit(link);
}

/*
 * tcp_sendmsg: an error is reported once, then EPIPE.  A sender that got less than it asked for is
 * told when there is room.
 */
ssize_t link_send(struct link *link, size_t size, size_t most) {
  if (link->error != 0 || link->done || link->shut) {
    errno = link->error != 0 ? link->error : EPIPE;
    link->error = 0;
    return -1;
  }
  uint64_t count = min_u64(size, link->sndbuf - (link->down_written - link->down_acked));
  if (count > most) {
    count = most; /* memory is short: the sender is told later, whatever the peer does */
    link->nospace = true;
    world_at(world.now_ns + NS_PER_MS, tell_space, link, 0);
  }
  link->nospace = link->nospace || count < size;
  if (count == 0) {
    errno = EAGAIN;
    return -1;
  }
  link->down_written += count;
  transmit(link);
  return (ssize_t)count;
}

int link_shutdown(struct link *link) {
  if (link->done) {
    errno = ENOTCONN;
    return -1;
  }
  link->shut = true;
  transmit(link);
  return 0;
}

/* tcp_close: a reset if bytes are unread; else what was written is still sent. */
void link_close(struct link *link) {
  link->fd = -1;
  link->state = LINK_CLOSED;
  link->shut = true;
  if (!link->done && link->up_arrived > link->up_read) {
    reset_down(link);
  } else {
    transmit(link);
  }
}

int link_unacked(const struct link *link) {
  uint64_t acked = world.mutant == MUTANT_ACK ? link->down_written : link->down_acked;
  return (int)(link->down_written - acked) + (link->shut && !link->fin_acked ? 1 : 0);
}

/* tcp_poll. */
uint32_t link_events(struct link *link) {
  bool in_shut = link->fin_up || link->done;
  bool out_shut = link->shut || link->done;
  uint32_t events = 0;
  events |= in_shut && out_shut ? EPOLLHUP : 0;
  events |= in_shut ? EPOLLIN | EPOLLRDHUP : 0;
  events |= link->up_arrived > link->up_read ? EPOLLIN : 0;
  events |= link->urgent_there ? EPOLLPRI : 0;
  events |= link->error != 0 ? EPOLLERR : 0;
  if (out_shut || writable(link)) {
    events |= EPOLLOUT;
  } else {
    link->nospace = true;
  }
  return events;
}
