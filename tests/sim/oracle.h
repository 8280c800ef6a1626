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
 *   times    no timeout fires early or much too late; nothing that is ready stays unhandled
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

/* What is known of the server's end of a connection. */
struct record {
  uint8_t *expect; /* in the arena: all output that is due so far */
  uint64_t expect_size;
  uint64_t expect_max;
  uint32_t handed;    /* messages that the handler got */
  uint64_t handed_to; /* position after the last byte of those */
  bool last_by_end;   /* the end of stream ended the last one */
  bool accepted, opened, closed;
  bool kernel_closed; /* close(2) */
  bool was_blocked;   /* more than XCHG_MAX_PENDING was queued */
  bool all_acked;     /* the peer had acknowledged everything at the close */
  bool syn_in_time;   /* the handshake began before the stop */
  int injected;       /* errno of a call that was made to fail, 0 = none */
  enum xchg_reason reason;
  uint64_t queued_ns, accepted_ns, opened_ns, closed_ns;
  uint64_t touched_ns;  /* a byte was read or written */
  uint64_t sent_ns;     /* a byte was written */
  uint64_t shut_ns;     /* half-closed */
  uint64_t shut_begun;  /* bytes of an unfinished message that had been read then */
  uint64_t waits_ns;    /* since when output waits; 0 = none does */
  uint64_t idle_out_ns; /* since when it waits although there is room */
};

struct oracle {
  struct record records[LINKS_MAX];
  uint64_t calls;
  uint64_t accepted, bytes_in, bytes_out, messages;
  uint64_t ended[XCHG_REASONS]; /* as reported to the handler */
  uint64_t refused;             /* accepted, and closed without being opened */
  bool no_memory;               /* a request for memory was refused */
  uint64_t no_map_ns;           /* when a mapping was last refused */
  uint64_t lost_maps;
  uint64_t accept_ns;          /* when accept4 last failed */
  uint64_t freed_ns;           /* when a connection was last closed */
  uint64_t turn_ns;            /* the longest turn of a thread so far */
  uint64_t stop_ns;            /* NEVER = not yet */
  uint64_t stop_now_ns;        /* when everything is closed; NEVER = no stop yet */
  uint64_t turns[THREADS_MAX]; /* when the current turn of each thread began */
  uint32_t polls[THREADS_MAX]; /* waits in a row that took no time and led to nothing */
  uint64_t timeouts[THREADS_MAX];
  bool over; /* the server has ended: nothing is due any more */
};

extern struct oracle oracle;

void oracle_reset(void);

/** Note at each piece of ${peer}'s stream what the server will have sent by then. */
void oracle_expect(struct peer *peer);

struct record *record_of(const struct link *link);

/** Observe what ${server}, which was opened and not started, reports to its handler. */
void oracle_listen(struct xchg_server *server);

/* ---- reported by the network ---- */

void oracle_syn(struct link *link);
void oracle_queued(struct link *link);
void oracle_missed(struct link *link);
void oracle_resets(struct link *link);

/* ---- reported by the calls ---- */

void oracle_accepted(struct link *link);
void oracle_accept_failed(void);

/** ${count} bytes from ${from} on were read. */
void oracle_read(struct link *link, uint64_t from, uint64_t count);

/** The kernel took the first ${count} bytes of ${data}. */
void oracle_wrote(struct link *link, const void *data, uint64_t count);
void oracle_shut(struct link *link);
void oracle_closes(struct link *link);

/**
 * The kernel has delayed what a thread was about to do: its next wait does not count as useless.
 */
void oracle_excuse(void);

/** A wait that began at ${began_ns} has ended with ${ready} events. */
void oracle_waited(int ready, uint64_t began_ns);

/** When the clocks of ${link}'s connection began: at the accept, or at the end of its header. */
uint64_t oracle_begin_ns(const struct link *link);

/* ---- check_end.c ---- */

/** May a connection that waits for its PROXY header be closed, or half-closed by a stop? */
bool check_end_header(const struct link *link);

/** Fail the run unless ${reason} is right. */
void check_end_reason(const struct link *link, enum xchg_reason reason);

/** Fail the run unless close(2) is right now. */
void check_end_close(const struct link *link);

/* ---- check_deadlines.c ---- */

/** From now on, check every connection regularly. */
void check_deadlines_start(void);

/** How much later than its deadline something may happen. */
uint64_t check_patience_ns(void);

/** How much too early a timeout may appear, because turns have a length. */
uint64_t check_slack_ns(void);

/** The server has stopped: do its counters agree? */
void check_totals(struct stats *stats);

/** Has each peer received what it should? */
void check_peers(void);

#endif
