/* peer: see peer.h.  A peer has two activities, sending and reading; each step is an event. */
#include "tests/sim/peer.h"

#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/sim/workload.h"

#include <errno.h>
#include <string.h>

static struct {
  struct peer peers[LINKS_MAX];
  uint32_t count;
} crowd;

static uint64_t pick(uint64_t low, uint64_t high) { return prng_scaled(&world.prng, low, high); }

static bool chance(unsigned permille) { return prng_chance(&world.prng, permille); }

struct peer *peer_at(uint32_t i) {
  return i < crowd.count ? &crowd.peers[i] : NULL;
}

/* ---- the plan ---- */

static void choose_address(struct peer *peer) {
  static const uint8_t v6[] = {0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
  uint8_t bytes[16] = {127, 0, 0, (uint8_t)pick(1, 5)};
  if (chance(150)) {
    bytes[0] = 10;
  }
  if (chance(200)) {
    memcpy(bytes, v6, sizeof(bytes));
    bytes[7] = (uint8_t)pick(1, 5);
    bytes[15] = (uint8_t)pick(1, 200);
    addr_from_ipv6(&peer->addr, bytes, 1000);
  } else {
    addr_from_ipv4(&peer->addr, bytes, 1000);
  }
}

static void choose_end(struct peer *peer) {
  static const enum peer_end ends[2][10] = {{END_FIN, END_FIN, END_FIN, END_FIN, END_FIN, END_WAIT,
                                             END_WAIT, END_CLOSE, END_RESET, END_VANISH},
                                            {END_WAIT, END_WAIT, END_WAIT, END_WAIT, END_WAIT,
                                             END_FIN, END_FIN, END_CLOSE, END_RESET, END_VANISH}};
  peer->end = ends[plan.config.messages > 0][prng_below(&world.prng, 10)];
  peer->end_at = peer->out_size;
  if (chance(peer->end >= END_CLOSE ? 600 : 30)) {
    peer->end_at = (uint32_t)prng_between(&world.prng, 0, peer->out_size);
  }
  peer->lockstep = plan.config.frame.kind != XCHG_FRAME_RAW && chance(400);
  peer->talks_on = chance(300) || peer->out_size > 1000000;
  peer->reads = chance(850);
  peer->read_end = peer->reads ? UINT64_MAX : pick(0, 20000);
}

static void choose_pace(struct peer *peer) {
  struct link *link = peer->link;
  peer->send_ns = pick(0, chance(100) ? 3 * NS_PER_S : 20 * NS_PER_MS);
  peer->read_ns = pick(0, chance(100) ? NS_PER_S : 5 * NS_PER_MS);
  peer->piece_max = pick(1 + peer->out_size / 60, 1 + peer->out_size);
  peer->read_max = pick(chance(800) ? 4096 : 16, 65536);
  peer->urgent = chance(50) ? 300 : 0;
  link->delay_ns = pick(NS_PER_US, chance(100) ? 150 * NS_PER_MS : 5 * NS_PER_MS);
  link->sndbuf = (uint32_t)pick(chance(500) ? 16384 : 256, 65536);
  link->rcvbuf = (uint32_t)pick(chance(500) ? 16384 : 512, 65536);
  link->window = (uint32_t)pick(chance(500) ? 16384 : 256, 65536);
  if (!peer->reads && chance(700)) { /* small buffers, so that it matters */
    link->sndbuf = (uint32_t)pick(256, 2048);
    link->window = (uint32_t)pick(256, 1024);
    peer->read_end = pick(0, 2000);
  }
}

void peers_make(uint32_t count) {
  crowd.count = count;
  for (uint32_t i = 0; i < count; i++) {
    struct peer *peer = &crowd.peers[i];
    *peer = (struct peer){.number = i};
    choose_address(peer);
    workload_make(peer);
    peer->link = network_new_link((uint32_t)prng_below(&world.prng, plan.config.listen_count));
    peer->link->peer = peer;
    choose_end(peer);
    choose_pace(peer);
    world_trace("peer %u: %u bytes, %u pieces, end %d at %u%s%s%s", i, peer->out_size,
                peer->pieces_count, (int)peer->end, peer->end_at, peer->lockstep ? ", in step" : "",
                peer->talks_on ? ", talks on" : "", peer->reads ? "" : ", stops reading");
  }
}

/* ---- sending ---- */

static void send_later(struct peer *peer) {
  if (!peer->writing) {
    peer->writing = true;
    world_at(world.now_ns + prng_below(&world.prng, peer->send_ns + 1), peer_may_send, peer, 0);
  }
}

static void end(struct peer *peer) {
  peer->has_ended = true;
  world_trace("peer %u: ends as %d", peer->number, (int)peer->end);
  switch (peer->end) {
    case END_WAIT:
      peer->has_ended = peer->saw_fin;
      if (peer->saw_fin) {
        link_peer_close(peer->link);
      }
      break;
    case END_FIN:
      link_peer_fin(peer->link);
      break;
    case END_CLOSE:
      link_peer_close(peer->link);
      break;
    case END_RESET:
      link_peer_reset(peer->link);
      break;
    case END_VANISH:
      link_vanish(peer->link);
      break;
  }
}

/* Where a peer has to stop that waits for each reply: at the end of the current message. */
static uint32_t step_end(struct peer *peer) {
  const struct piece *piece = &peer->pieces[peer->step];
  if (peer->step < peer->pieces_count && piece->kind == PIECE_MESSAGE && peer->sent == piece->end &&
      peer->link->down_taken >= piece->answered) {
    piece = &peer->pieces[++peer->step];
  }
  return peer->step < peer->pieces_count ? piece->end : peer->out_size;
}

void peer_may_send(void *object, uint64_t unused) {
  (void)unused;
  struct peer *peer = object;
  struct link *link = peer->link;
  peer->writing = false;
  if (!peer->is_connected || peer->has_ended || peer->was_reset || link->peer_closed) {
    return;
  }
  uint32_t stop = peer->lockstep ? (uint32_t)min_u64(step_end(peer), peer->end_at) : peer->end_at;
  uint64_t left = stop > peer->sent ? stop - peer->sent : 0;
  uint64_t count =
      min_u64(min_u64(left, link_room(link)), prng_between(&world.prng, 1, peer->piece_max));
  if (peer->sent < peer->head && chance(700)) { /* split the header anywhere */
    count = min_u64(count, prng_between(&world.prng, 1, peer->head - peer->sent));
  }
  if (count > 0) {
    peer->sent += (uint32_t)count;
    link_peer_send(link, count, chance(peer->urgent));
  } else if (left > 0) {
    link->blocked = true;
    return;
  } else if (peer->sent < peer->end_at) {
    return; /* the next reply lets it continue */
  }
  if (peer->sent >= peer->end_at) {
    end(peer);
  } else {
    send_later(peer);
  }
}

/* ---- reading ---- */

/* The server has ended its side, and everything was read. */
static void saw_end(struct peer *peer) {
  world_trace("peer %u: sees the end", peer->number);
  peer->saw_fin = true;
  if (peer->talks_on && peer->sent < peer->end_at) {
    peer->lockstep = false;
    send_later(peer);
    return;
  }
  if (!peer->has_ended) {
    peer->has_ended = true;
    link_peer_close(peer->link);
  }
}

static void read_some(void *object, uint64_t unused) {
  (void)unused;
  struct peer *peer = object;
  struct link *link = peer->link;
  peer->reading = false;
  if (link->vanished || peer->was_reset || (peer->has_ended && link->peer_closed)) {
    return;
  }
  uint64_t there = link->down_arrived - link->down_taken;
  uint64_t may = sub_sat_u64(peer->read_end, link->down_taken);
  uint64_t count = min_u64(min_u64(there, may), peer->read_max);
  if (count > 0) {
    link_peer_take(link, count);
    world_trace("peer %u: takes %u bytes", peer->number, (unsigned)count);
    if (peer->lockstep) {
      send_later(peer);
    }
  }
  if (link->fin_down && link->down_taken == link->down_arrived && !peer->saw_fin) {
    saw_end(peer);
  } else if (there > count && may > count) {
    peer_arrived(peer);
  }
}

void peer_arrived(struct peer *peer) {
  if (!peer->reading) {
    peer->reading = true;
    world_at(world.now_ns + prng_below(&world.prng, peer->read_ns + 1), read_some, peer, 0);
  }
}

/* ---- start and end ---- */

void peer_connected(struct peer *peer) {
  world_trace("peer %u: connected", peer->number);
  peer->is_connected = true;
  send_later(peer);
}

void peer_was_refused(struct peer *peer) {
  world_trace("peer %u: refused", peer->number);
  peer->was_refused = true;
}

void peer_was_reset(struct peer *peer) {
  world_trace("peer %u: sees a reset", peer->number);
  peer->was_reset = true;
  peer->is_connected = false;
}

static void come(void *object, uint64_t unused) {
  (void)unused;
  struct peer *peer = object;
  link_connect(peer->link);
}

static void break_off(void *object, uint64_t error) {
  struct peer *peer = object;
  link_break(peer->link, (int)error);
}

/* The network fails for some of them. */
static void plan_break(struct peer *peer) {
  static const int errors[] = {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET, ENETDOWN};
  if (chance(plan.faults.breaks)) {
    uint64_t error = (uint64_t)errors[prng_below(&world.prng, count_of(errors))];
    world_at(world.now_ns + pick(NS_PER_US, 5 * NS_PER_S), break_off, peer, error);
  }
}

/* They come at once, at any time, or at about the time of the stop. */
void peers_start(void) {
  uint64_t stop_ns = sub_sat_u64(plan.stop_ns, world.now_ns);
  uint64_t way = prng_below(&world.prng, 3);
  for (uint32_t i = 0; i < crowd.count; i++) {
    uint64_t wait_ns = 0;
    if (way == 1 || (way == 0 && chance(100))) {
      wait_ns = prng_below(&world.prng, stop_ns + NS_PER_MS);
    } else if (way == 2) {
      wait_ns = sub_sat_u64(stop_ns, pick(0, 50 * NS_PER_MS));
    }
    world_at(world.now_ns + wait_ns, come, &crowd.peers[i], 0);
    plan_break(&crowd.peers[i]);
  }
}
