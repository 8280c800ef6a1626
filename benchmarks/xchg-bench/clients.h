/*
 * clients: the clients of one load thread, and when each of them does what.
 *
 * Closed loop: a client begins whenever it can.  Open loop: a cursor walks over the clients in the
 * order of the schedule (exchange k is connection k mod c's) and tells each what is due.  Two
 * queues, linked through the clients: `ready` of those that can go on at once, of which a turn
 * takes a few; `shut` of those whose connection failed, opened again after a pause that is the
 * same for all, so that the queue is in order of time.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include "client.h"

struct clients_queue {
  struct client *first, *last;
};

struct clients {
  struct client_env *env; /* borrows */
  struct client *all;     /* owns: the active ones, then the idle ones */
  uint32_t active, idle;
  uint64_t *starts; /* owns */
  uint64_t timeout_ns;
  struct clients_queue ready, retrying;
  bool running; /* exchanges begin */

  /* the first connections: a bounded number at a time */
  uint32_t open_next; /* index of the next to open; up to active + idle */
  uint32_t opening, opening_max;
  uint32_t first_done, first_total; /* equal: all are made, or have failed */

  /* open loop: the next exchange is clients[cursor]'s, its round-th */
  uint32_t cursor;
  uint64_t round, due_ns;

  uint64_t pause_ns; /* before a connection that failed is tried again */
  uint64_t scan_ns, scan_every_ns;
};

/* Which of all clients a clients has: number = first + i * step. */
struct clients_share {
  uint32_t first, step;
  uint32_t active, idle; /* of this clients */
  uint32_t opening_max;
};

/**
 * clients_init(clients, env, share, timeout_ns):
 * Make the clients, all closed; idle ones are numbered behind all active ones.
 * Return: 0, or -1 (ENOMEM).
 */
int clients_init(struct clients *clients, struct client_env *env, const struct clients_share *share,
                 uint64_t timeout_ns);

/** Close what is open and free. */
void clients_fini(struct clients *clients);

/** Open the first connections, as many as may be under way. */
void clients_open(struct clients *clients);

/** From now on exchanges begin. */
void clients_start(struct clients *clients);

/** epoll says ${events} of ${client}. */
void clients_on_event(struct clients *clients, struct client *client, uint32_t events);

/** Tell the clients what is due by env->now, and let some of those that are ready go on. */
void clients_run_ready(struct clients *clients);

/** Look for exchanges over the time-out, if it is time to. */
void clients_scan_timeouts(struct clients *clients);

/** When clients_run_ready or clients_scan_timeouts is next due; 0 = at once. */
uint64_t clients_due_ns(const struct clients *clients);

/** Exchanges that are due by ${now} and have not begun. */
uint64_t clients_backlog(struct clients *clients, uint64_t now);

/** Active and idle clients that were once connected (and verified). */
uint32_t clients_connected(const struct clients *clients, bool idle);

#endif
