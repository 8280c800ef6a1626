/*
 * load: threads that run exchanges against a server and measure them.
 *
 * Each of the -t threads has its own epoll set, connections, histograms and counters.  While they
 * measure, threads share nothing and allocate nothing.  Every received byte is compared.
 *
 * Closed loop: the next exchange begins when one ends.  Open loop: exchange k belongs to connection
 * k mod c and should start at start + k / R.  If its connection is busy then, it starts as soon as
 * possible, and its latency counts from the intended start.
 *
 * A connection that fails ends all its exchanges in flight with the same kind of error.  It is
 * opened again, after a pause if connecting failed or if nothing succeeded since its last failure.
 * A timeout counts from the actual start, so that a backlog of the schedule does not end working
 * connections.  --count counts successes and errors.  Errors of the first connections count, errors
 * of the warm-up do not.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench.h"

/* Descriptors that a process needs in addition to its connections and two for each thread. */
#define LOAD_DESCRIPTORS_BASE 64

/*
 * The rate over time, see schedule.h.  The loop is closed if both rates are 0.  The warm-up runs at
 * rate_from; within the window the rate changes linearly to rate_to.
 */
struct load_plan {
  double rate_from, rate_to; /* equal: constant */
  uint64_t duration_ns;      /* of the measured window; NEVER = until the count or a signal */
};

/**
 * load_run(options, plan, result):
 * Open all connections, idle ones too, warm up, measure and stop.  If stderr is a terminal, show
 * progress on it.  load_interrupt ends the run early and sets result->interrupted.  The limit of
 * descriptors is the caller's: a connection without one fails.
 * Return: 0, or -1 with errno if the run could not begin (threads, memory, descriptors).  Failures
 * of connections are counted in ${result}.
 */
int load_run(const struct options *options, const struct load_plan *plan, struct result *result);

/**
 * End the current run, and every later one before it begins.
 * Thread: the one that calls load_run, or its signal handler; async-signal-safe.
 */
void load_interrupt(void);

#endif
