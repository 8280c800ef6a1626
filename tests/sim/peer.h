/*
 * peer: a simulated client: what it sends, how fast, what it reads, and how it ends.
 *
 * All of that is chosen before it connects.  What it does then depends only on the network.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include "tests/fixtures/reference_framing.h"
#include "tests/sim/network.h"

#include "core/addr.h"

/* What a peer does after it has sent what it plans to. */
enum peer_end {
  END_WAIT,  /* wait for the server's end */
  END_FIN,   /* half-close, read to the end */
  END_CLOSE, /* close at once */
  END_RESET, /* reset */
  END_VANISH /* disappear silently */
};

struct peer {
  uint32_t number;
  struct link *link;
  struct addr addr;

  /* the plan */
  uint8_t *out; /* borrows from the arena: what it will send unless it is stopped */
  uint32_t out_size;
  uint32_t head;        /* of those, bytes of a PROXY header; 0 = there is none */
  bool bad_head;        /* it is no valid one */
  bool is_local;        /* it says LOCAL */
  struct piece *pieces; /* borrows likewise: how reference_framing.c splits it */
  uint32_t pieces_count;
  uint32_t end_at; /* bytes that it sends before its end */
  enum peer_end end;
  bool lockstep;      /* sends a message after the reply to the one before */
  bool talks_on;      /* continues to send after the server has ended its side */
  bool reads;         /* false: stops reading at read_end */
  uint64_t read_end;  /* bytes */
  uint64_t send_ns;   /* between two writes, at most */
  uint64_t piece_max; /* bytes */
  uint64_t read_ns;
  uint64_t read_max;
  unsigned urgent; /* permille of the writes that are followed by an urgent byte */

  /* the state */
  uint32_t sent;
  uint32_t step;                /* lockstep: the current message */
  bool is_connected, has_ended; /* its own side */
  bool reading;                 /* a read is due */
  bool writing;                 /* a write is due */
  bool saw_fin, was_reset, was_refused;
};

/** Make ${count} peers. */
void peers_make(uint32_t count);

/** Let them connect. */
void peers_start(void);

/** The ${i}th; NULL after the last. */
struct peer *peer_at(uint32_t i);

/* ---- reported by the network ---- */

void peer_connected(struct peer *peer);
void peer_was_refused(struct peer *peer);
void peer_was_reset(struct peer *peer);

/** Bytes or the end have come. */
void peer_arrived(struct peer *peer);

/** An event: there may be room to send. */
void peer_may_send(void *peer, uint64_t unused);

#endif
