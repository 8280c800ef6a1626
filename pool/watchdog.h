/*
 * watchdog: decides from turn times whether a handler blocks a worker.
 *
 * A worker stores when its turn began, and 0 while it waits.  The acceptor looks at that time now
 * and then.  A turn that is seen twice, the second time older than the limit, is an episode.  It is
 * reported when it begins and when it is over.  Pure: the caller passes the time.
 */
#ifndef POOL_WATCHDOG_H
#define POOL_WATCHDOG_H

#include "core/base.h"

#include <stdbool.h>

/* What was seen of one worker. */
struct watchdog_state {
  uint64_t turn_ns; /* begin of the turn that was seen last; 0 = it waited */
  bool blocked;     /* that turn is an episode */
  uint64_t seen_ns; /* when it was last seen in that turn */
};

enum watchdog_result {
  WATCHDOG_OK,
  WATCHDOG_BLOCKED, /* an episode has begun: its turn lasts since turn_ns */
  WATCHDOG_OVER,    /* the episode is over: it lasted until after seen_ns */
};

/**
 * watchdog_look(watchdog, turn_ns, now_ns, limit_ns, before):
 * Record that the worker is in the turn that began at ${turn_ns} (0 = it waits).
 * Return: what to report; ${*before} is the state before this look, with the times of the episode.
 */
enum watchdog_result watchdog_look(struct watchdog_state *watchdog, uint64_t turn_ns,
                                   uint64_t now_ns, uint64_t limit_ns,
                                   struct watchdog_state *before);

/**
 * When to look again so that no episode is missed: just after the limit of the turn that was seen,
 * or ${limit_ns} after ${now_ns} if the worker waits or is blocked.
 */
uint64_t watchdog_next_ns(const struct watchdog_state *watchdog, uint64_t now_ns,
                          uint64_t limit_ns);

#endif
