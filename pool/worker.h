/*
 * worker: the event loop of one worker, for many connections.
 *
 * One turn: wait (unless work is left), dispatch events, requeued sources and timers, free what has
 * ended, then take tasks and accepted connections.  Every model uses this code.  A pool's worker
 * has an inbox and runs until it is told that no connection will come.  A single worker (models
 * thread and fork) waits with poll, opens no descriptor of its own and ends with its one
 * connection.
 *
 * Publications fill the send queues of members, which send at their next turn.  After
 * max_pending_bytes / 2 published bytes the worker stops running tasks until every turn that was
 * requested by then has been served: published_turn is reactor.requeues_asked at that moment, and
 * tasks run again once reactor.requeues_served has reached it.  This repeats until the members had
 * the turns that they need to send the bytes.  Otherwise a member that reads would look slow.
 * While connections are parked (net/conn_pack.h), published_turn is NEVER, because they may come
 * back.
 */
#ifndef POOL_WORKER_H
#define POOL_WORKER_H

#include "core/histogram.h"
#include "core/metrics.h"
#include "net/conn.h"
#include "pool/inbox.h"
#include "pool/task.h"
#include "pool/admission.h"
#include "pool/parked.h"

/* The buffer of every read of a worker; a connection that fills it waits for its next turn. */
#define WORKER_INPUT_BYTES ((size_t)64 * 1024)

struct worker {
  /* constant once open */
  const struct config *config;
  struct admission *admission; /* borrows: shared */
  uint32_t index;
  bool single; /* for one connection */

  /* the owner's */
  struct reactor reactor;
  struct slab conns;
  struct conn_ctx ctx;
  uint64_t trim_at_ns;  /* when free memory returns to the kernel; NEVER = there is none */
  uint64_t stop_now_ns; /* when the drain timeout is over; NEVER = no stop */
  uint32_t stop_cursor; /* slots below have been told of the stop */
  bool stopping;        /* other slots have not */
  struct task *tasks;   /* calls and publications that were taken and have not run, oldest first */
  struct task **tasks_end;
  uint64_t published_bytes; /* published since tasks last waited for the members */
  uint64_t published_turn;  /* tasks wait until requeues_served has reached this */
  uint64_t published_turns; /* further turns of the members that tasks wait for */
  bool no_more_conns;       /* no connection will come */
  bool stopping_now;        /* stop_now_ns has passed */
  uint8_t *input;           /* owns: front, input buffer, staging block */

  struct inbox inbox; /* others push, the owner takes; a single worker has none */
  struct task drain_task, stop_now_task, no_more_conns_task; /* the sender's until sent */
  struct parked parked;                                      /* likewise */
  struct stats stats;        /* the owner writes, all threads read */
  atom_u64 turn_ns;          /* likewise: when its turn began; 0 = it waits */
  struct histogram handoffs; /* likewise: ns from accept4's return to the first callback */
  struct histogram turns;    /* likewise: ns that a turn took; a sample, see worker.c */
  uint32_t turns_count;
  CACHE_ALIGNED atom_u32
      live; /* connections handed over and not ended: the acceptor adds, the owner subtracts */
};

struct worker_setup {
  const struct config *config;
  const struct xchg_handler *handler;
  struct admission *admission;
  struct xchg_server *server; /* for the handler; may be NULL */
  struct log *log;            /* borrows; NULL = none */
  uint32_t index;
};

/** Prepare a worker with an inbox and an epoll set. Return: 0, or -1 with errno. */
int worker_open(struct worker *worker, const struct worker_setup *setup);

/**
 * Prepare a worker for one connection; ${stop} wakes it when the server stops. Return: 0, or -1
 * (ENOMEM).
 */
int worker_open_single(struct worker *worker, const struct worker_setup *setup,
                       const struct wake *stop);
void worker_close(struct worker *worker);

/**
 * In a forked child: free the copy of ${worker}, which has an inbox, and close the descriptors that
 * the child has of it. Nothing is sent or called, and no task is freed.
 */
void worker_abandon(struct worker *worker);

/** The worker with ${inbox}. */
static inline struct worker *worker_of_inbox(struct inbox *inbox) {
  return container_of(inbox, struct worker, inbox);
}

/** Discard tasks that came too late, when no thread runs ${worker} any more. Return: any? */
bool worker_discard(struct worker *worker);

/** Serve until no connection will come and all have ended. Thread: the worker's. */
void worker_run(struct worker *worker);

/**
 * Serve ${accepted}, which live already counts, until it ends; tasks are taken meanwhile. Thread:
 * the worker's.
 */
void worker_serve(struct worker *worker, const struct accepted_conn *accepted);

/** Give the connection of a single worker the id of the ${number}th connection. */
void worker_number_single(struct worker *worker, uint64_t number);

/**
 * worker_serve_single(worker, accepted, stop_ns): the same for a single worker.  When its wake is
 * signalled, ${*stop_ns} is the time when the stop began.
 */
void worker_serve_single(struct worker *worker, const struct accepted_conn *accepted,
                         const atom_u64 *stop_ns);

/** Fill in what is known of ${worker} at ${now_ns}, except busy_ns. Thread: any. */
void worker_look(const struct worker *worker, uint64_t now_ns, struct metrics_worker *seen);

/** Send the tasks of the stop. Thread: any, once each. */
static inline void worker_send_drain(struct worker *worker, uint64_t stop_ns) {
  worker->drain_task = (struct task){.kind = TASK_DRAIN, .time_ns = stop_ns};
  inbox_push_mpsc(&worker->inbox, &worker->drain_task);
}
static inline void worker_send_stop_now(struct worker *worker) {
  worker->stop_now_task = (struct task){.kind = TASK_STOP_NOW};
  inbox_push_mpsc(&worker->inbox, &worker->stop_now_task);
}
static inline void worker_send_no_more_conns(struct worker *worker) {
  worker->no_more_conns_task = (struct task){.kind = TASK_NO_MORE_CONNS};
  inbox_push_mpsc(&worker->inbox, &worker->no_more_conns_task);
}
void worker_send_leave(struct worker *worker, uint64_t leave_ns); /* before a drain; no stop_now */

#endif
