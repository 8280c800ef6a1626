/*
 * load: threads that run exchanges against a server, and measure them.
 *
 * One thread per -t, each with its own epoll set, connections, histograms and counters; nothing is
 * shared while measuring, and nothing is allocated. A connection's every byte is compared with what
 * it must be.  Closed loop: the next exchange begins when one ends.  Open loop: the k-th exchange
 * of all belongs to connection k mod c and should start at start + k / R; when its connection is
 * busy then, it starts as soon as it can, and its latency counts from when it should have.
 *
 * A connection that fails takes all its exchanges in flight with it, each counted under the same
 * kind; it is opened again, after a pause where connecting failed or nothing went well since the
 * last failure.  The time-out runs from an exchange's real start, so that a backlog of the schedule
 * does not cut connections that answer.  Successes and errors together are what a count ends at.
 * Errors of the first connections, before the warm-up, are counted; those of the warm-up are not.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench.h"

/* Descriptors that a run needs beside its connections. */
#define LOAD_DESCRIPTORS_BASE 64

/*
 * The rate over time, see schedule.h: with both rates 0 the loop is closed.  A warm-up runs at the
 * first rate; from one to the other it changes evenly over the window.
 */
struct load_plan {
  double rate_from, rate_to; /* equal: constant */
  uint64_t duration_ns;      /* of the measured window; NEVER: until the count or a signal */
};

/**
 * load_run(options, plan, result):
 * Open all connections (idle ones too), warm up, measure, stop.  Prints the live line on a
 * terminal's stderr.
 * Return: 0, or -1 with errno where the run could not even begin (threads, memory, descriptors);
 * what happened to connections is in ${result}. A SIGINT (load_interrupt) ends the measurement
 * early and sets result->interrupted.
 */
int load_run(const struct options *options, const struct load_plan *plan, struct result *result);

/** End the present run. Async-signal-safe. */
void load_interrupt(void);

#endif
