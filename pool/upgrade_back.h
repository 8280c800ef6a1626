/*
 * upgrade_back: the ways in which an upgrade ends, in its old process.
 *
 *   turned back  the new process is killed (STEP_KILL, in pool/upgrade), then what was under way
 *                becomes connections here again (STEP_RETURN)
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_BACK_H
#define POOL_UPGRADE_BACK_H

#include "pool/upgrade_state.h"

/* For the canary to be served, for TOTALS, and for acceptors. */
#define UPGRADE_ANSWER_NS (5 * NS_PER_S)

/**
 * Kill the new process in the next turn; nothing is served before its end is known.  A parent that
 * comes back is not killed while it has no connection: it learns of it by the end of the channel.
 */
void upgrade_turn_back(struct upgrade *upgrade, const char *why);

/**
 * upgrade_kill(upgrade, now_ns):
 * Kill the new process when its time is over.  The kernel kills no first process of a container
 * from within.  If that goes on later, it takes what was under way to it, so that is gone.
 * Return: is it of no concern any more?
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
