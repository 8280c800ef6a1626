/*
 * pause_clock: the total time of all pauses up to now.
 *
 * One thread starts and stops it, any thread reads.  One word holds the whole state, so a reader
 * cannot see half of a change.  The writer's time is that of its turn, a little before that of a
 * reader, so a value that was read in a pause may exceed the next one by a turn.  So the largest
 * value that was read is kept.
 */
#ifndef POOL_PAUSE_CLOCK_H
#define POOL_PAUSE_CLOCK_H

#include "core/stats.h"

#include <stdbool.h>

#define PAUSE_CLOCK_RUNS (UINT64_C(1) << 63)

struct pause_clock {
  atom_u64
      state; /* the time in all; or PAUSE_CLOCK_RUNS and when it would have begun as one pause */
  atom_u64 read_ns; /* the largest time that was read; readers write */
};

/** A pause begins or ends. Thread: the writer's. */
static inline void pause_clock_start(struct pause_clock *clock, uint64_t now_ns) {
  uint64_t all_ns = atom_load_relaxed_u64(&clock->state);
  if ((all_ns & PAUSE_CLOCK_RUNS) == 0) {
    atom_store_relaxed_u64(&clock->state, PAUSE_CLOCK_RUNS | sub_sat_u64(now_ns, all_ns));
  }
}
static inline void pause_clock_stop(struct pause_clock *clock, uint64_t now_ns) {
  uint64_t state = atom_load_relaxed_u64(&clock->state);
  if ((state & PAUSE_CLOCK_RUNS) != 0) {
    atom_store_relaxed_u64(&clock->state, sub_sat_u64(now_ns, state & ~PAUSE_CLOCK_RUNS));
  }
}

/** Return: the time in all; ${*paused} says whether a pause lasts. Thread: any. */
static inline uint64_t pause_clock_ns(struct pause_clock *clock, uint64_t now_ns, bool *paused) {
  uint64_t state = atom_load_relaxed_u64(&clock->state);
  *paused = (state & PAUSE_CLOCK_RUNS) != 0;
  return stats_raise(&clock->read_ns,
                     *paused ? sub_sat_u64(now_ns, state & ~PAUSE_CLOCK_RUNS) : state);
}

#endif
