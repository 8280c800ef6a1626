/*
 * acceptor: the one thread that accepts.
 *
 *          no descriptors or memory; no room under XCHG_OVERLOAD=wait
 *   OPEN ------------------------------------------------------------> PAUSED
 *        <------------------------------------------------------------ no listener is watched
 *          a connection ends, a queue has a place; 100 ms (exhausted)
 *
 * A stop changes neither: SYNs are filtered, and accepting goes on as before.  When the grace is
 * over, a listener whose queue is empty is closed (all of them, when the patience is over), and
 * with the last one the thread ends, as soon as the model has nothing left to collect.
 *
 * Before it accepts it looks for room, and only it makes room less, so that an accepted descriptor
 * always has a place to go; the one exception is a thread or child that the system refuses: that
 * guest is kept in hand and tried first.  The batch of accepts for one event adapts, so that it
 * seldom ends in an accept4 that finds nothing.
 */
#ifndef POOL_ACCEPTOR_H
#define POOL_ACCEPTOR_H

#include "net/reactor.h"
#include "net/listener.h"
#include "pool/model.h"

#define ACCEPT_BATCH_MAX 64

/* A listener as the acceptor sees it. */
struct accept_source {
  struct source source; /* first */
  struct acceptor *acceptor;
  struct listener *listener; /* borrows until the thread ends; closes it */
  uint32_t index;
  uint32_t batch;    /* accepts for one event */
  uint32_t full;     /* batches in a row that found all they looked for */
  uint32_t patience; /* such batches before it looks for more */
  bool probing;      /* it has just begun to */
};

enum accept_state { ACCEPT_OPEN, ACCEPT_PAUSED };

struct acceptor {
  const struct config *config; /* borrows, like all that follow */
  struct log *log;
  struct admission *admission;
  struct model *model;
  struct listener *listeners;
  uint32_t listeners_count;

  struct reactor reactor;
  struct slab accept_sources;
  struct accept_source *source_of[CONFIG_LISTEN_MAX]; /* by the listener's index */
  struct stats stats;                                 /* this thread writes */
  struct histogram batches; /* likewise: connections accepted for one event */
  enum accept_state state;
  bool exhausted;                /* paused for want of descriptors or memory */
  bool has_deferred;             /* a guest waits in hand */
  struct accepted_conn deferred; /* owns its descriptor while holding */
  uint32_t live_seen;            /* connections when it was exhausted */
  uint64_t retry_ns;             /* when to try again though none ended */
  uint64_t stop_ns;              /* NEVER = no stop */
  bool stopping_now;             /* ... and everything is closed now */
  bool finished;                 /* LAST */
  uint64_t watch_ns;             /* when to look for workers that are held; NEVER = not */

  uint64_t episode_ns;      /* since when there is an episode of exhaustion; NEVER = none */
  uint64_t exhausted_ns;    /* when it was last exhausted */
  uint64_t exhausted_count; /* in this episode */
  uint32_t failed_in_row;   /* accepts that failed on a connection's account */
  uint64_t log_accept_ns;   /* when a failed accept may be logged again */

  atom_u32 listener_failed;              /* 1: a listener broke; read by main */
  struct inbox inbox;                    /* letters only */
  struct task drain_task, stop_now_task; /* the sender's until sent */
};

struct acceptor_setup {
  const struct config *config;
  struct log *log;
  struct admission *admission;
  struct model *model;
  struct listener *listeners;
  uint32_t listeners_count;
};

/** The inbox comes first, since admission needs its wake. Return: 0, or -1 with errno. */
int acceptor_open_inbox(struct acceptor *acceptor);

/** Prepare, with the inbox open. Return: 0, or -1 with errno; acceptor_close is due either way. */
int acceptor_open(struct acceptor *acceptor, const struct acceptor_setup *setup);
void acceptor_close(struct acceptor *acceptor);

/** Accept until a stop is complete. Thread: the acceptor's. */
void acceptor_run(struct acceptor *acceptor);

/**
 * acceptor_wait(acceptor): one wait of acceptor_run, for events, letters and, while it is paused or
 * ending, for what others release: their wake is asked for, then it is looked once more, and only
 * then slept.  A function of its own for tests/explore.  Thread: the acceptor's.
 */
void acceptor_wait(struct acceptor *acceptor);

/**
 * Send the stop, once; and that it be over at once, once, which is a stop by itself. Thread: any.
 */
void acceptor_send_drain(struct acceptor *acceptor, uint64_t stop_ns);
void acceptor_send_stop_now(struct acceptor *acceptor);

#endif
