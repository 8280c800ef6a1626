/*
 * measure: what processes used between two moments: CPU, context switches, memory.
 *
 * Asked from /proc by process id, so that a server of any make can be measured, and the harness
 * itself.  load_run calls the two functions at the edges of the measured window.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench.h"

/* The counters at the beginning; the caller's memory, no descriptor is kept open. */
struct measure {
  int pids[BENCH_PIDS_MAX];
  uint32_t count;
  bool known;                /* every process could be asked */
  uint64_t at_ns;            /* when */
  double cpu_s;              /* of all, and of their children, waited for or living */
  uint64_t context_switches; /* of all their live threads */
};

/**
 * measure_begin(measure, pids, count):
 * Note the counters of the ${count} processes ${pids}, at most BENCH_PIDS_MAX; a pid of 0 is the
 * caller's own process.  With no process, or one that cannot be asked, the result is unknown.
 */
void measure_begin(struct measure *measure, const int *pids, uint32_t count);

/**
 * measure_end(measure, usage):
 * Write what the processes used since measure_begin into ${usage}, and what memory they hold now.
 * usage->known is false where one of them could not be asked at either time.
 */
void measure_end(struct measure *measure, struct usage *usage);

#endif
