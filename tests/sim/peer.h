/*
 * peer: a simulated client: what it will say, how fast, what it reads, and how it ends.
 *
 * All of that is chosen before it connects; what it does then depends on the network alone.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include "tests/sim/reference_framing.h"
#include "tests/sim/network.h"

#include "core/addr.h"

/* What a peer does when it has sent what it has to. */
enum peer_end {
  END_WAIT,  /* wait for the server's end */
  END_FIN,   /* half-close, read to the end */
  END_CLOSE, /* close, whatever comes */
  END_RESET, /* reset */
  END_VANISH /* the machine is switched off */
};

struct peer {
  uint32_t number;
  struct link *link;
  struct addr addr;

  /* the plan */
  uint8_t *out; /* borrows from the arena: what it will send, if nobody stops it */
  uint32_t out_size;
  struct piece *pieces; /* likewise: how the contract cuts it */
  uint32_t pieces_count;
  uint32_t end_at; /* so many bytes are sent, then: */
  enum peer_end end;
  bool lockstep;      /* sends a message when the reply to the last one is there */
  bool talks_on;      /* sends on though the server has ended its side */
  bool reads;         /* else it takes nothing from read_end on */
  uint64_t read_end;  /* bytes */
  uint64_t send_ns;   /* between two pieces, at most */
  uint64_t piece_max; /* bytes */
  uint64_t read_ns;
  uint64_t read_max;
  unsigned urgent; /* permille of the pieces behind which an urgent byte comes */

  /* what has become of it */
  uint32_t sent;
  uint32_t step;                /* in step: the message under way */
  bool is_connected, has_ended; /* its own side */
  bool reading;                 /* a read is due */
  bool writing;                 /* likewise */
  bool saw_fin, was_reset, was_refused;
};

/** Make ${count} peers. */
void peers_make(uint32_t count);

/** Let them come. */
void peers_start(void);

/** The ${i}th; NULL beyond the last. */
struct peer *peer_at(uint32_t i);

/* ---- what the network tells ---- */

void peer_connected(struct peer *peer);
void peer_was_refused(struct peer *peer);
void peer_was_reset(struct peer *peer);

/** Bytes or the end have come. */
void peer_arrived(struct peer *peer);

/** There may be room to send. An event. */
void peer_may_send(void *peer, uint64_t unused);

#endif
