/*
 * sleep_flag: wakes a thread that waits, and only then, without losing a wake-up.
 *
 *   the owner of the flag:                            a thread that publishes something:
 *     sleep_flag_prepare; look again;                   publish (release);
 *     something is there: sleep_flag_cancel, go on;     if sleep_flag_clear: write to the eventfd
 *     else wait in the kernel, sleep_flag_finish
 *
 * Every write of the flag is an exchange with acquire and release, the clears included.  So all
 * writes form one chain of synchronisation: each exchange sees what was published before an earlier
 * one.  If the owner's exchange comes first, the publisher reads 1 and wakes the owner.  If the
 * publisher's comes first, the owner's second look finds the item.  A plain load or store in place
 * of any exchange, or a look that is left out, loses a wake-up.  A burst of items costs one wake
 * because the flag stays 0, never because a publisher skips the check.
 */
#ifndef POOL_SLEEP_FLAG_H
#define POOL_SLEEP_FLAG_H

#include "core/atom.h"

#include <stdbool.h>

struct sleep_flag {
  atom_u32 waits; /* 1: the owner waits, or is about to */
};

/** Announce a wait; look again afterwards. Thread: the owner, like cancel and finish. */
static inline void sleep_flag_prepare(struct sleep_flag *flag) {
  atom_exchange_acq_rel_u32(&flag->waits, 1); /* pairs with sleep_flag_clear */
}

/** Withdraw the announcement: the second look has found something. */
static inline void sleep_flag_cancel(struct sleep_flag *flag) {
  atom_exchange_acq_rel_u32(&flag->waits, 0); /* pairs with sleep_flag_clear */
}

/** Withdraw the announcement after the wait. */
static inline void sleep_flag_finish(struct sleep_flag *flag) {
  atom_exchange_acq_rel_u32(&flag->waits, 0); /* pairs with sleep_flag_clear */
}

/**
 * Release what the caller has published. Return: does the owner wait, so that the caller must
 * signal its eventfd? Thread: any.
 */
static inline bool sleep_flag_clear(struct sleep_flag *flag) {
  return atom_exchange_acq_rel_u32(&flag->waits, 0) != 0; /* pairs with the owner's exchanges */
}

#endif
