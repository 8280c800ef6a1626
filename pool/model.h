/*
 * model: where an accepted connection runs.
 *
 * One interface of four models.  The acceptor, the connection and the handler are the same in each.
 *
 *   pool       model_pool.c       on one of N workers, through its queue
 *   iterative  model_iterative.c  on the acceptor's own thread, one at a time
 *   fork       model_fork.c       in a child process
 *   thread     model_thread.c     on its own thread
 */
#ifndef POOL_MODEL_H
#define POOL_MODEL_H

#include "core/histogram.h"
#include "pool/inbox.h"
#include "pool/admission.h"

#include <stdbool.h>

struct model;
struct latency_stats;
struct metrics_worker;
struct sandbox;
struct stats;

/* What a model borrows from the server until it is destroyed. */
struct model_setup {
  const struct config *config;
  const struct xchg_handler *handler;
  struct admission *admission;
  struct log *log;
  struct wake *done;             /* signalled by each thread of the model that ends */
  struct xchg_server *server;    /* for the handler; may be NULL */
  const struct sandbox *sandbox; /* for the threads of the pool; NULL = none */
  bool custom_handler;           /* the handler is not built in: it may block and use much stack */
};

/* The operations.  NULL in place of one means that there is nothing to do. */
struct model_ops {
  /**
   * Start the threads that run before the first connection. Return: 0 when all run, or -1 with
   * errno and no thread left.
   */
  int (*start)(struct model *model);

  /**
   * How many connections can be dispatched from now on, at least, apart from the total limit?  The
   * dispatch of that many fails only if the system refuses.  NULL = any number.  Acceptor.
   */
  uint32_t (*free_places)(struct model *model);

  /** Connections that were dispatched and have not ended. Acceptor. */
  uint32_t (*live)(struct model *model);

  /**
   * Run ${accepted}. Return: 0; 1 if that woke a sleeping thread; -1 with errno if the system
   * refuses, and the descriptor stays the caller's. Acceptor.
   */
  int (*dispatch)(struct model *model, const struct accepted_conn *accepted);

  /** Collect threads or children that have ended. Acceptor. */
  void (*reap)(struct model *model);

  /**
   * The server is stopping since ${stop_ns}: finish all live connections. Called once, before
   * finish. Any thread.
   */
  void (*stop)(struct model *model, uint64_t stop_ns);

  /**
   * Close all live connections. Called once, after stop. NULL = the drain timeout decides. Any
   * thread.
   */
  void (*stop_now)(struct model *model);

  /** The ${i}th worker's inbox, or NULL after the last. Any thread. */
  struct inbox *(*inbox)(struct model *model, uint32_t i);

  /**
   * Look for workers that a handler blocks, log them and avoid them.  Return: when to look again;
   * NEVER = not again. Acceptor.
   */
  uint64_t (*watch)(struct model *model, uint64_t now_ns);

  /**
   * No connection will be dispatched any more. Return: true when nothing is left to reap; after
   * false it is called again.  NULL = true. Acceptor.
   */
  bool (*finish)(struct model *model);

  /** Threads of the model that have not ended; NULL = none after finish. Any thread. */
  uint32_t (*running)(struct model *model);

  /** Add all counters to ${totals}. Any thread. */
  void (*add_totals)(struct model *model, struct stats *totals);

  /** Add the latencies of the hand-off to ${totals}. Any thread. */
  void (*add_latency)(struct model *model, const struct latency_stats *totals);

  /**
   * Fill in what is known of the ${i}th worker at ${now_ns}. Return: false after the last one; NULL
   * = there is none. Any thread.
   */
  bool (*look)(struct model *model, uint32_t i, uint64_t now_ns, struct metrics_worker *seen);

  /** Wait for the threads, which are about to end, and free everything. */
  void (*destroy)(struct model *model);

  /** In a forked child, which has none of the threads: free and close only. NULL = destroy does. */
  void (*abandon)(struct model *model);
};

/* Where a model adds its own latencies and queue lengths: sums, which the caller owns. */
struct latency_stats {
  struct histogram *handoff_ns;  /* from accept4's return to the first callback */
  struct histogram *turn_ns;     /* a worker's turn: how long an event may wait for the others */
  struct histogram *queue_depth; /* connections in the chosen worker's queue before the push */
};

/* What every model embeds. */
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
