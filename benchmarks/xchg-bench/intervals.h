/*
 * intervals: one interval a second, gathered from the threads' slots by the coordinator.
 *
 * Row s is closed when every thread has left second s behind; a thread that was late to hand a slot
 * over has its counts in the interval of the slot's first second.  Thread: the coordinator's.
 */
#ifndef BENCH_INTERVALS_H
#define BENCH_INTERVALS_H

#include "result.h"

struct intervals {
  struct result *result;           /* borrows */
  struct counters **counters;      /* borrows: one a thread */
  const struct schedule *schedule; /* borrows; NULL = closed loop */
  uint32_t threads;
  uint32_t second;                 /* of the interval that is open */
  uint64_t lead_ns;                /* of the schedule, before the window */
  uint64_t errors;                 /* of all intervals that are closed */
  struct hdr_histogram *histogram; /* owns: of the interval that is open */
};

/** Return: 0, or -1 (ENOMEM).  The caller then fills in what is borrowed. */
int intervals_init(struct intervals *intervals);
void intervals_fini(struct intervals *intervals);

/** Close the intervals that are complete; return the last one of them, NULL where there is none. */
const struct interval *intervals_gather(struct intervals *intervals);

/** The threads have ended: close the remaining intervals, the last at ${seconds}. */
void intervals_finish(struct intervals *intervals, double seconds);

#endif
