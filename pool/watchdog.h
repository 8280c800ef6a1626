/*
 * watchdog: decides from a worker's turn and its progress whether a handler blocks it.
 *
 * A worker stores when its turn began, and 0 while it waits.  It counts its steps (turns of
 * connections and tasks) and its messages.  The acceptor looks at these now and then.  A turn in
 * which neither has changed for longer than the limit is an episode, however long the turn is: a
 * worker that is only busy makes progress.  It is reported when it begins and when it is over.
 * Pure: the caller passes the time.
 */
#ifndef POOL_WATCHDOG_H
#define POOL_WATCHDOG_H

#include "core/base.h"

#include <stdbool.h>

/* What a look finds. */
struct watchdog_sight {
  uint64_t turn_ns; /* begin of the turn; 0 = it waits */
  uint64_t steps, messages;
};

/* What was seen of one worker. */
struct watchdog_state {
  struct watchdog_sight sight;
  uint64_t since_ns; /* it has made no progress since then */
  uint64_t seen_ns;  /* when it was last seen so */
  bool blocked;      /* that is an episode */
};

enum watchdog_result {
  WATCHDOG_OK,
  WATCHDOG_BLOCKED, /* an episode has begun: no progress since since_ns */
  WATCHDOG_OVER,    /* the episode is over: it lasted until after seen_ns */
};

/**
 * watchdog_look(watchdog, sight, now_ns, limit_ns, before):
 * Record ${sight}.
 * Return: what to report; ${*before} is the state before this look, with the times of the episode.
 */
enum watchdog_result watchdog_look(struct watchdog_state *watchdog,
                                   const struct watchdog_sight *sight, uint64_t now_ns,
                                   uint64_t limit_ns, struct watchdog_state *before);

/**
 * When to look again: ${limit_ns} after ${now_ns} if the worker waits or is blocked, else a quarter
 * of it, or just after the limit.  So a callback of twice the limit is always reported, and one of
 * 5/4 of the limit if the worker was busy before.
 */
uint64_t watchdog_next_ns(const struct watchdog_state *watchdog, uint64_t now_ns,
                          uint64_t limit_ns);

#endif
