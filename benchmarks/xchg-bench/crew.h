/*
 * crew: the clients of one load thread, and when each of them does what.
 *
 * Closed loop: a client begins whenever it can.  Open loop: a cursor walks over the clients in the
 * order of the schedule (exchange k is connection k mod c's) and tells each what is due.  Two
 * queues, linked through the clients: `ready` of those that can go on at once, of which a turn
 * takes a few; `shut` of those whose connection failed, opened again after a pause that is the
 * same for all, so that the queue is in order of time.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include "client.h"

struct crew_queue {
  struct client *first, *last;
};

struct crew {
  struct client_env *env; /* borrows */
  struct client *clients; /* owns: the active ones, then the idle ones */
  uint32_t active, idle;
  uint64_t *starts; /* owns */
  uint64_t timeout_ns;
  struct crew_queue ready, shut;
  bool running; /* exchanges begin */

  /* the first connections: a bounded number at a time */
  uint32_t open_next; /* index of the next to open; up to active + idle */
  uint32_t opening, opening_max;
  uint32_t settled, to_settle; /* equal: all are made, or have failed */

  /* open loop: the next exchange is clients[cursor]'s, its round-th */
  uint32_t cursor;
  uint64_t round, due_ns;

  uint64_t pause_ns; /* before a connection that failed is tried again */
  uint64_t scan_ns, scan_every_ns;
};

/* Which of all clients a crew has: number = first + i * step. */
struct crew_share {
  uint32_t first, step;
  uint32_t active, idle; /* of this crew */
  uint32_t opening_max;
};

/**
 * crew_init(crew, env, share, timeout_ns):
 * Make the clients, all closed; idle ones are numbered behind all active ones.
 * Return: 0, or -1 (ENOMEM).
 */
int crew_init(struct crew *crew, struct client_env *env, const struct crew_share *share,
              uint64_t timeout_ns);

/** Close what is open and free. */
void crew_fini(struct crew *crew);

/** Open the first connections, as many as may be under way. */
void crew_open(struct crew *crew);

/** From now on exchanges begin. */
void crew_start(struct crew *crew);

/** epoll says ${events} of ${client}. */
void crew_event(struct crew *crew, struct client *client, uint32_t events);

/** Tell the clients what is due by env->now, and let some of those that are ready go on. */
void crew_turn(struct crew *crew);

/** Look for exchanges over the time-out, if it is time to. */
void crew_scan(struct crew *crew);

/** When crew_turn or crew_scan is next due; 0 = at once. */
uint64_t crew_due_ns(const struct crew *crew);

/** Exchanges that are due by ${now} and have not begun. */
uint64_t crew_backlog(struct crew *crew, uint64_t now);

/** Active and idle clients that were once connected (and verified). */
uint32_t crew_connected(const struct crew *crew, bool idle);

#endif
