/*
 * model: where an accepted connection runs.
 *
 * Four answers, one interface; the acceptor, the connection and the exchange are the same under
 * each.
 *
 *   pool       model_pool.c       one of N workers, over its queue
 *   iterative  model_iterative.c  the acceptor's own thread, one at a time
 *   fork       model_fork.c       a child process
 *   thread     model_thread.c     a thread of its own
 */
#ifndef POOL_MODEL_H
#define POOL_MODEL_H

#include "core/histogram.h"
#include "pool/inbox.h"
#include "pool/admission.h"

#include <stdbool.h>

struct model;
struct latency_stats;
struct stats;

/* What every model borrows from the server, for as long as it lives. */
struct model_setup {
  const struct config *config;
  const struct xchg_handler *handler;
  struct admission *admission;
  struct log *log;
  struct wake *done;          /* signalled by a thread of the model that ends */
  struct xchg_server *server; /* for the handler; may be NULL */
  bool custom_handler;        /* the handler is a program's own: who knows what it does */
};

struct model_ops {
  /**
   * Start what runs before the first connection. Return: 0 when all of it runs, or -1 with errno
   * and nothing left running.
   */
  int (*start)(struct model *model);

  /**
   * Can another connection be placed now (the total limit apart)? What this says yes to, place
   * takes, unless the system refuses. Acceptor.
   */
  bool (*has_room)(struct model *model);

  /** Connections placed and not ended. Acceptor. */
  uint32_t (*live)(struct model *model);

  /**
   * Run ${guest}. Return: 0; 1 if a sleeping thread was woken for it; -1 with errno if the system
   * refuses, the descriptor stays the caller's. Acceptor.
   */
  int (*dispatch)(struct model *model, const struct accepted_conn *accepted);

  /** Collect what has ended (children, threads). NULL = nothing to collect. Acceptor. */
  void (*reap)(struct model *model);

  /**
   * The server stops since ${stop_ns}: everything that is live finishes. Once, before last. Any
   * thread.
   */
  void (*stop)(struct model *model, uint64_t stop_ns);

  /**
   * Close everything that is live. Once, after stop. Any thread. NULL = stop's patience decides.
   */
  void (*stop_now)(struct model *model);

  /** The ${i}th worker's inbox, or NULL beyond the last. Any thread. NULL = there is none. */
  struct inbox *(*inbox)(struct model *model, uint32_t i);

  /**
   * See which workers are held by a handler, log and avoid them.  Return: when to look again,
   * NEVER = not. Acceptor. NULL = nobody looks.
   */
  uint64_t (*watch)(struct model *model, uint64_t now_ns);

  /**
   * No connection will be placed any more. Return: true when nothing is left that settle must
   * collect; else called again after settle. Acceptor.
   */
  bool (*finish)(struct model *model);

  /** Threads of the model that still run. Any thread. */
  uint32_t (*running)(struct model *model);

  /** Add all counters to ${sum}. Any thread. */
  void (*add_totals)(struct model *model, struct stats *totals);

  /** Add what is known of the hand-off's pace to ${sum}. Any thread. NULL = nothing. */
  void (*add_latency)(struct model *model, struct latency_stats *totals);

  /** Wait for the threads, which are about to end, and free everything. */
  void (*destroy)(struct model *model);
};

/* How fast it goes: what the server tells about itself beside its counters. */
struct latency_stats {
  struct histogram handoff_ns;   /* from accept4's return to the first callback */
  struct histogram turn_ns;      /* a worker's turn: how long an event may wait for the others */
  struct histogram queue_depth;  /* guests in the queue of the worker that was chosen, before */
  struct histogram accept_batch; /* connections accepted for one event of a listener */
};

/* The head of every model. */
struct model {
  const struct model_ops *ops;
  struct model_setup setup;
};

/** Make a model. Return: NULL with errno. */
struct model *model_pool_create(const struct model_setup *setup);
struct model *model_iterative_create(const struct model_setup *setup);
struct model *model_fork_create(const struct model_setup *setup);
struct model *model_thread_create(const struct model_setup *setup);

#endif
