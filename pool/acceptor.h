/*
 * acceptor: the one thread that accepts.
 *
 *          no descriptors or memory; no room under XCHG_OVERLOAD=wait
 *   OPEN ------------------------------------------------------------> PAUSED
 *        <------------------------------------------------------------ no listener is watched
 *          a connection ends, a queue has a place; 100 ms (exhausted)
 *
 * A stop changes neither state: SYNs are filtered, and accepting goes on.  After the grace, a
 * listener whose backlog is empty is closed.  After the drain timeout all are closed.  The thread
 * ends after the last listener, when the model has nothing left to reap.
 *
 * The acceptor looks for room before it accepts, and only the acceptor reduces room.  So there is
 * always a place for an accepted descriptor.  The one exception is a thread or child that the
 * system refuses: that connection is deferred and tried first.
 */
#ifndef POOL_ACCEPTOR_H
#define POOL_ACCEPTOR_H

#include "net/reactor.h"
#include "net/listener.h"
#include "pool/exhaustion.h"
#include "pool/pause_clock.h"
#include "pool/model.h"
#include "pool/accept_batch.h"

/* A listener as the acceptor sees it. */
struct accept_source {
  struct source source; /* first */
  struct acceptor *acceptor;
  struct listener *listener; /* borrows until the thread ends; closes it */
  uint32_t index;
  struct accept_batch batch;
  atom_u64 accepted; /* descriptors that accept returned; the acceptor writes, any thread reads */
};

enum accept_state { ACCEPT_OPEN, ACCEPT_PAUSED };

struct acceptor;

enum acceptor_what { ACCEPTOR_HOLD, ACCEPTOR_RELEASE, ACCEPTOR_LEAVE, ACCEPTOR_ADOPT };

/* What the acceptor shall do between two waits: pool/acceptor_order. */
struct acceptor_order {
  struct task task; /* of kind TASK_ORDER */
  void (*run)(struct acceptor_order *order, struct acceptor *acceptor);
  enum acceptor_what what;
  struct acceptor *acceptor; /* borrows, for acceptor_order_reach; NULL = there is none */
  struct conn_batch *batch;  /* borrows, or NULL */
  uint32_t count;            /* connections that come from another process */
  uint64_t taken;            /* bit i: another process listens at the ith listener */
  struct wake *wake;         /* borrows: signalled afterwards */
  atom_u32 answered;         /* 1: it is done, and the acceptor does not touch it any more */
};

/* What the acceptor borrows until its thread ends. */
struct acceptor_setup {
  const struct config *config;
  struct log *log;
  struct admission *admission;
  struct model *model;
  struct listener *listeners;
  uint32_t listeners_count;
};

struct acceptor {
  struct acceptor_setup setup;
  struct reactor reactor;
  struct slab accept_sources;
  struct accept_source *source_of[CONFIG_LISTEN_MAX]; /* by the listener's index */
  struct stats stats; /* this thread writes; stats.accepted stays 0: see struct accept_source */
  struct histogram batches;  /* likewise: connections accepted for one event */
  struct pause_clock pauses; /* likewise */
  enum accept_state state;
  uint32_t room;  /* connections for which there is room, at least: only this thread reduces it */
  bool held;      /* paused, although there is room: acceptor_hold */
  bool exhausted; /* paused because descriptors or memory are exhausted */
  bool has_deferred;             /* there is a deferred connection */
  struct accepted_conn deferred; /* owns its descriptor while has_deferred */
  uint32_t live_seen;            /* live connections when it paused */
  uint64_t retry_ns;             /* when to try again although none has ended */
  uint64_t stop_ns;              /* when the stop began; NEVER = no stop */
  bool stopping_now;             /* ... without grace or drain timeout */
  bool finished;                 /* the thread may end */
  uint64_t watch_ns;             /* when to look for blocked workers; NEVER = never */
  struct exhaustion episode;
  uint32_t failed_in_row; /* accepts that failed because of their connection */
  uint64_t log_accept_ns; /* when a failed accept may be logged again */

  atom_u64 turn_ns;                      /* when its turn began; 0 = it waits; any thread reads */
  atom_u32 listener_failed;              /* 1: a listener has failed; main reads */
  struct inbox inbox;                    /* tasks only */
  struct task drain_task, stop_now_task; /* the sender's until sent */
};

/**
 * Prepare the inbox, which comes first because admission needs its wake. Return: 0, or -1 with
 * errno.
 */
int acceptor_open_inbox(struct acceptor *acceptor);

/** Prepare the rest. Return: 0, or -1 with errno; acceptor_close is due in both cases. */
int acceptor_open(struct acceptor *acceptor, const struct acceptor_setup *setup);
void acceptor_close(struct acceptor *acceptor);

/** In a forked child: the same, and close the descriptor of a connection that is deferred. */
void acceptor_abandon(struct acceptor *acceptor);

/** Connections accepted from the ${i}th listener, or from all. Thread: any. */
static inline uint64_t acceptor_accepted_by(const struct acceptor *acceptor, uint32_t i) {
  const struct accept_source *entry = acceptor->source_of[i];
  return entry == NULL ? 0 : atom_load_relaxed_u64(&entry->accepted);
}
static inline uint64_t acceptor_accepted(const struct acceptor *acceptor) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < acceptor->setup.listeners_count; i++) {
    sum += acceptor_accepted_by(acceptor, i);
  }
  return sum;
}

/** Accept until a stop is complete. Thread: the acceptor's. */
void acceptor_run(struct acceptor *acceptor);

/**
 * acceptor_wait(acceptor): one wait of acceptor_run, for events and tasks, and for room while it is
 * paused or ending.  It announces the wait, checks once more, then sleeps.  A function of its own
 * for tests/explore.  Thread: the acceptor's.
 */
void acceptor_wait(struct acceptor *acceptor);

/**
 * Accept nothing while ${acceptor->held}; the queues of the listeners stay. Thread: the acceptor's,
 * or main's before it runs.
 */
void acceptor_hold(struct acceptor *acceptor);

/** Send a graceful stop, or one without grace and drain timeout; each at most once. Thread: any. */
static inline void acceptor_send_drain(struct acceptor *acceptor, uint64_t stop_ns) {
  acceptor->drain_task = (struct task){.kind = TASK_DRAIN, .time_ns = stop_ns};
  inbox_push_mpsc(&acceptor->inbox, &acceptor->drain_task);
}
static inline void acceptor_send_stop_now(struct acceptor *acceptor) {
  acceptor->stop_now_task = (struct task){.kind = TASK_STOP_NOW, .time_ns = sys_now_ns()};
  inbox_push_mpsc(&acceptor->inbox, &acceptor->stop_now_task);
}

#endif
