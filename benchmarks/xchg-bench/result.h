/*
 * result: adding up what the threads have counted; the struct is in bench.h.
 */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "counters.h"

/** Add the counts and histograms of ${counters} to ${result}. */
void result_add(struct result *result, const struct counters *counters);

/** Append an empty interval to ${result}. Return: the interval, or NULL if there is no room. */
struct interval *result_next_interval(struct result *result);

#endif
