/*
 * watchdog: which worker is held by a handler for too long?
 *
 * A worker says when its turn began, and 0 while it waits.  Somebody else (the acceptor) looks now
 * and then; a turn that is seen twice, the second time older than the limit, is an episode, told
 * once when it begins and once when it is over.  Pure: keeps what it saw, asks nobody for the time.
 */
#ifndef POOL_WATCHDOG_H
#define POOL_WATCHDOG_H

#include "core/base.h"

#include <stdbool.h>

/* What was seen of one worker. */
struct watchdog_state {
  uint64_t turn_ns; /* beginning of the turn that was seen last; 0 = it waited */
  bool blocked;     /* ... which is an episode */
  uint64_t seen_ns; /* when it was last seen in it */
};

enum watchdog_result {
  WATCHDOG_OK,
  WATCHDOG_BLOCKED, /* an episode has begun: its turn lasts since turn_ns */
  WATCHDOG_OVER,    /* it is over: it lasted until after seen_ns */
};

/**
 * watchdog_look(watched, turn_ns, now_ns, limit_ns):
 * Take down that the worker is in the turn that began at ${turn_ns} (0 = it waits).
 * Return: what is to be told; ${*before} is then what had been seen until this look, the
 * episode's.
 */
enum watchdog_result watchdog_look(struct watchdog_state *watchdog, uint64_t turn_ns,
                                   uint64_t now_ns, uint64_t limit_ns,
                                   struct watchdog_state *before);

/**
 * When the worker must be looked at again so that no episode is missed: just behind the limit of
 * the turn that was seen, else a limit from ${now_ns}.
 */
uint64_t watchdog_next_ns(const struct watchdog_state *watchdog, uint64_t now_ns,
                          uint64_t limit_ns);

#endif
