/*
 * clients: the clients of one load thread, and when each of them does what.
 *
 * Closed loop: a client begins an exchange whenever it can.  Open loop: exchange k of the schedule
 * belongs to connection k mod c.  A cursor walks over the clients in this order and makes each
 * ready when its exchange is due.  It skips rounds that are over, because a ready client begins all
 * that is due.  So a rate that cannot be reached costs no time.
 *
 * Two queues link the clients.  `ready` has those that can continue at once; clients_run_ready
 * runs a few of them.  `retrying` has those whose connection failed; they are opened again after a
 * pause.  The pause is the same for all, so this queue is in order of time.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include "client.h"

struct clients_queue {
  struct client *first, *last;
};

struct clients {
  struct client_env *env; /* borrows */
  struct client *all;     /* owns: first the active clients, then the idle ones */
  uint32_t active, idle;
  uint64_t *starts; /* owns */
  struct clients_queue ready, retrying;
  bool running;      /* exchanges may begin */
  atom_u32 *stopped; /* borrows: not 0 = run no more ready clients */

  /* the first connections, of which opening_max may be under way */
  uint32_t open_next; /* index of the next to open; up to active + idle */
  uint32_t opening, opening_max;
  uint32_t first_done, first_total; /* equal once all are made or have failed */

  /* open loop: the next exchange is number round of client all[cursor] */
  uint32_t cursor;
  uint64_t round, due_ns;

  uint64_t pause_ns; /* before a failed connection is tried again */
  uint64_t scan_ns, scan_every_ns;
};

/* The share of one thread: clients first, first + step, first + 2 step ... */
struct clients_share {
  uint32_t first, step;
  uint32_t active, idle; /* of this thread */
  uint32_t opening_max;
};

/**
 * clients_init(clients, env, share):
 * Make the clients, all closed; the caller sets stopped.  Idle clients are numbered after all
 * active ones.
 * Return: 0, or -1 (ENOMEM).
 */
int clients_init(struct clients *clients, struct client_env *env,
                 const struct clients_share *share);

/** Close all connections and free. */
void clients_fini(struct clients *clients);

/** Open first connections until opening_max are under way. */
void clients_open(struct clients *clients);

/** Let exchanges begin from now on. */
void clients_start(struct clients *clients);

/** Handle ${events} of epoll for ${client}. */
void clients_on_event(struct clients *clients, struct client *client, uint32_t events);

/** Tell the clients what is due at env->now, and run some of the ready ones. */
void clients_run_ready(struct clients *clients);

/** If the next scan is due, end the exchanges that have timed out. */
void clients_scan_timeouts(struct clients *clients);

/** End the exchanges that have timed out at env->now. */
void clients_end_late(struct clients *clients);

/** When clients_run_ready or clients_scan_timeouts is next due; 0 = at once. */
uint64_t clients_due_ns(const struct clients *clients);

/** The number of active (or idle) clients that are verified. */
uint32_t clients_connected(const struct clients *clients, bool idle);

#endif
