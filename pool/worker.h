/*
 * worker: a reactor that runs the exchange of many connections at once.
 *
 * One turn: wait (unless something is to be done), serve ready events, continuations and timers,
 * free what ended, then take letters and guests. The same code serves every model: a pool's worker
 * has an inbox and runs until it is told that no guest will come; a worker for one connection
 * (thread, fork) waits with poll, takes no descriptor of its own and ends with its connection.
 */
#ifndef POOL_WORKER_H
#define POOL_WORKER_H

#include "core/histogram.h"
#include "net/conn.h"
#include "pool/inbox.h"
#include "pool/task.h"
#include "pool/admission.h"

/* Where every read of a worker goes; a connection that fills it gives way to the others. */
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
  uint64_t trim_at_ns;  /* when memory is given back; NEVER = nothing was freed since */
  uint64_t stop_now_ns; /* when what is live is closed; NEVER = no stop */
  uint32_t stop_cursor; /* the stop has reached the slots below */
  bool stopping;        /* ... and goes on */
  struct task *tasks;   /* calls and issues that were taken and not dealt with, oldest first */
  struct task **tasks_end;
  uint64_t published_bytes; /* that issues have brought since members were last waited for */
  uint64_t published_turn;  /* when the reactor has served so many, they have been sent */
  bool no_more_conns;       /* no guest will come */
  bool stopping_now;        /* stop_now_ns has passed */
  uint8_t *input;           /* owns */

  struct inbox inbox; /* others put in, the owner takes; not for a single one */
  struct task drain_task, stop_now_task, no_more_conns_task; /* the sender's until sent */
  struct stats stats;                                        /* the owner writes, all read */
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
 * Deal with letters that came too late, once nobody runs ${worker} any more. Return: were there
 * any?
 */
bool worker_discard(struct worker *worker);

/** Serve until no guest will come and all connections have ended. Thread: the worker's. */
void worker_run(struct worker *worker);

/**
 * Serve ${guest}, already counted in live, to its end; other letters are taken meanwhile. Thread:
 * the worker's.
 */
void worker_serve(struct worker *worker, const struct accepted_conn *accepted);

/** Let the id of a single worker's connection be that of the ${number}th. */
void worker_number_single(struct worker *worker, uint32_t number);

/**
 * worker_serve_single(worker, guest, stop_ns): the same for a single worker; when its wake fires,
 * ${*stop_ns} says when the stop began.
 */
void worker_serve_single(struct worker *worker, const struct accepted_conn *accepted,
                         const atom_u64 *stop_ns);

/** Send the letters. Thread: any, once each. */
void worker_send_drain(struct worker *worker, uint64_t stop_ns);
void worker_send_stop_now(struct worker *worker);
void worker_send_no_more_conns(struct worker *worker);

#endif
