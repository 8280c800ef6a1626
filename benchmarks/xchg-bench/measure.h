/*
 * measure: CPU time, context switches and memory of processes over a window.
 *
 * The values come from /proc by process id, so any server can be measured, and xchg-bench itself.
 * load_run calls the two functions at the edges of the measured window.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench.h"

/* The counters at the start.  No descriptor is kept open. */
struct measure {
  int pids[BENCH_PIDS_MAX];
  uint32_t count;
  bool known;                /* all processes could be read */
  uint64_t at_ns;            /* when they were read */
  double cpu_s;              /* of all processes and their children, living or waited for */
  uint64_t context_switches; /* of all their living threads */
};

/**
 * measure_begin(measure, pids, count):
 * Store the counters of ${count} processes ${pids}, at most BENCH_PIDS_MAX; pid 0 is the calling
 * process.  Without a process, or if one cannot be read, the usage is unknown.
 */
void measure_begin(struct measure *measure, const int *pids, uint32_t count);

/**
 * measure_end(measure, usage):
 * Write to ${usage} what the processes used since measure_begin and the memory that they hold now.
 * usage->known is false if one of them could not be read at either time.
 */
void measure_end(struct measure *measure, struct usage *usage);

#endif
