/*
 * result: what all threads together have counted; the struct is in bench.h.
 */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "counters.h"

/** Add the counts and histograms of ${counters} to ${result}. */
void result_add(struct result *result, const struct counters *counters);

/** The next interval of ${result}, empty, now counted; NULL where there is no more room. */
struct interval *result_next_interval(struct result *result);

#endif
