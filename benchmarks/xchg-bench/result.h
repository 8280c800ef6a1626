/*
 * result: what all threads together have counted; the struct is in bench.h.
 */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "tally.h"

/** Add what ${tally} has counted to ${result}: counters and histograms, no percentile averaged. */
void result_add(struct result *result, const struct tally *tally);

/** The next interval of ${result}, empty, now counted; NULL where there is no more room. */
struct interval *result_next_interval(struct result *result);

#endif
