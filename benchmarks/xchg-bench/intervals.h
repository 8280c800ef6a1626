/*
 * intervals: the coordinator gathers the threads' slots into one row for each interval.
 *
 * An interval is closed when every thread has passed its end.  If a thread is late to hand a slot
 * over, its counts are in the interval in which the slot began.
 *
 * Thread: the coordinator.
 */
#ifndef BENCH_INTERVALS_H
#define BENCH_INTERVALS_H

#include "result.h"

struct intervals {
  struct result *result;           /* borrows */
  struct counters **counters;      /* borrows: one for each thread */
  const struct schedule *schedule; /* borrows; NULL = closed loop */
  uint32_t threads;
  double length_s;       /* of an interval */
  uint32_t second;       /* number of the open interval */
  uint64_t lead_ns;      /* of the schedule, before the window */
  uint64_t errors;       /* of all closed intervals */
  struct result *so_far; /* borrows: errors, latency and unfinished of all slots; NULL = none */
  struct hdr_histogram *histogram; /* owns: of the interval that was closed last */
};

/** Return: 0, or -1 (ENOMEM).  The caller then sets the borrowed fields. */
int intervals_init(struct intervals *intervals);
void intervals_fini(struct intervals *intervals);

/**
 * Close the intervals that are complete, ${elapsed_s} after the start of the window.  The last one
 * of a run is shorter.  Return: the last that was closed, or NULL.
 */
const struct interval *intervals_gather(struct intervals *intervals, double elapsed_s);

/**
 * Close the remaining intervals after the threads have ended; the last ends at ${seconds}.  The
 * percentiles of the last count what the result has as unfinished.
 */
void intervals_finish(struct intervals *intervals, double seconds);

#endif
