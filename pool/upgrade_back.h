/*
 * upgrade_back: how an upgrade is turned back, in its old process.
 *
 *   STEP_KILL    the new process is killed, and its end is awaited (in pool/upgrade)
 *   STEP_RETURN  what was under way becomes connections here again
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_BACK_H
#define POOL_UPGRADE_BACK_H

#include "pool/upgrade_state.h"

/* For the canary to be served, for TOTALS, for acceptors, and for a parent that was killed. */
#define UPGRADE_ANSWER_NS (5 * NS_PER_S)

/**
 * Kill the new process in the next turn.  Nothing that was under way is served before its end is
 * known.  A parent that comes back is not killed before STEP_HOLD, because it has no connection
 * then: the end of the channel tells it, and it stays the parent.
 */
void upgrade_turn_back(struct upgrade *upgrade, const char *why);

/**
 * upgrade_kill(upgrade, now_ns):
 * Kill the new process at the deadline.  The kernel does not let a child kill the first process of
 * a container.  Such a parent gets UPGRADE_ANSWER_NS.  Then what is under way counts as taken,
 * because the parent takes it when it goes on.
 * Return: has the new process ended, or is its time over?
 */
bool upgrade_kill(struct upgrade *upgrade, uint64_t now_ns);

/** Accept again. Return: have both acceptors answered? */
bool upgrade_release(struct upgrade *upgrade);

/** Go on in STEP_RETURN.  A thread that is late is waited for, except by a stop. */
void upgrade_tend_return(struct upgrade *upgrade, uint64_t now_ns);

/** The upgrade is over with ${code}, for xchgd --upgrade. */
void upgrade_set_outcome(struct upgrade *upgrade, uint64_t code);

/** There is no new process, or it is of no use: close everything. No upgrade is under way then. */
void upgrade_close_all(struct upgrade *upgrade);

#endif
