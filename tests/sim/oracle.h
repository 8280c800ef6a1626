/*
 * oracle: knows what each peer must get, and when and why each connection may end.
 *
 * Its sources are the plans of the peers (peer.h), the simulated network, and the callbacks that
 * the engine makes: opened, a message, closed with a reason.  The plans determine every byte of the
 * other two.
 *
 *   bytes    each message is the next of the peer's stream, as reference_framing.c splits it; each
 *            byte given to the kernel is the next of greeting and replies
 *   ends     each reason has its conditions (check_end.c); all queued output went to the kernel
 *   times    no time-out fires early or much too late; nothing that is ready stays unhandled
 *            (check_deadlines.c)
 *   totals   every counter of the server equals what was seen
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include "tests/sim/peer.h"

#include "core/xchg.h"
#include "core/stats.h"

#include <sys/types.h>

struct xchg_server;

/* What is known of a connection, the server's side of it. */
struct record {
  uint8_t *expect; /* the arena's: all that must be sent, as far as it is due */
  uint64_t expect_size;
  uint64_t expect_max;
  uint32_t handed;    /* messages that the handler got */
  uint64_t handed_to; /* behind the last byte of those */
  bool last_by_end;   /* ... of which the stream's end has ended the last one */
  bool accepted, opened, closed;
  bool kernel_closed; /* close(2) */
  bool was_blocked;   /* more than XCHG_MAX_PENDING has waited */
  bool all_acked;     /* when it was closed the peer had everything */
  bool syn_in_time;   /* the handshake had begun when the stop did */
  int injected;       /* errno of a call that was made to fail, 0 = none */
  enum xchg_reason reason;
  uint64_t queued_ns, accepted_ns, opened_ns, closed_ns;
  uint64_t touched_ns;  /* a byte was read or written */
  uint64_t sent_ns;     /* ... written */
  uint64_t shut_ns;     /* half-closed */
  uint64_t shut_begun;  /* ... having read so many bytes of an unfinished message */
  uint64_t waits_ns;    /* since when output waits; 0 = none does */
  uint64_t idle_out_ns; /* ... though there is room */
};

struct oracle {
  struct record records[LINKS_MAX];
  uint64_t calls;
  uint64_t accepted, bytes_in, bytes_out, messages;
  uint64_t ended[XCHG_REASONS]; /* as the handler was told */
  uint64_t refused;             /* accepted and closed without a word to the handler */
  bool no_memory;               /* something that wanted memory was refused it */
  uint64_t no_map_ns;           /* when a mapping was last refused */
  uint64_t lost_maps;
  uint64_t accept_ns;          /* when accept4 last failed */
  uint64_t freed_ns;           /* when a connection was last closed */
  uint64_t turn_ns;            /* the longest turn of a thread so far */
  uint64_t stop_ns;            /* NEVER = not yet */
  uint64_t stop_now_ns;        /* when everything is closed; NEVER = no stop yet */
  uint64_t turns[THREADS_MAX]; /* when the turn under way of each thread began */
  uint32_t polls[THREADS_MAX]; /* waits in a row that took no time and led to nothing */
  uint64_t timeouts[THREADS_MAX];
  bool over; /* the server has ended: nothing is due any more */
};

extern struct oracle oracle;

void oracle_reset(void);

/** Note at each piece of ${peer}'s stream what the server will have sent by then. */
void oracle_expect(struct peer *peer);

struct record *record_of(const struct link *link);

/** Hear what ${server}, which was opened and not started, tells its handler. */
void oracle_listen(struct xchg_server *server);

/* ---- what the network tells (see network.c for when) ---- */

void oracle_syn(struct link *link);
void oracle_queued(struct link *link);
void oracle_missed(struct link *link);
void oracle_resets(struct link *link);

/* ---- what the calls tell ---- */

void oracle_accepted(struct link *link);
void oracle_accept_failed(void);

/** ${count} bytes from ${from} on were read. */
void oracle_read(struct link *link, uint64_t from, uint64_t count);

/** ${data} was given to the kernel, of which it took ${count}. */
void oracle_wrote(struct link *link, const void *data, uint64_t count);
void oracle_shut(struct link *link);
void oracle_closes(struct link *link);

/** The kernel has kept a thread from what it was about to do: a wait more is no fault of its. */
void oracle_excuse(void);

/** A wait that began at ${began_ns} has ended with ${ready} events. */
void oracle_waited(int ready, uint64_t began_ns);

/* ---- check_end.c ---- */

/** Is ${reason} right? Fails the run where it is not. */
void check_end_reason(const struct link *link, enum xchg_reason reason);

/** Is it right to call close(2) now? */
void check_end_close(const struct link *link);

/* ---- check_deadlines.c ---- */

/** Look at everything now and then, from now on. */
void check_deadlines_start(void);

/** How much later than it should something may be. */
uint64_t check_patience_ns(void);

/** How much too early a time-out may seem: turns have a length. */
uint64_t check_slack_ns(void);

/** The server has stopped: do its counters agree? */
void check_totals(struct stats *stats);

/** And has each peer what it should have? */
void check_peers(void);

#endif
