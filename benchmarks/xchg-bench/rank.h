/*
 * rank: what can be said of a few runs without assuming how they are distributed.
 *
 * Medians, quartiles, and the Mann-Whitney U test: how probable is it that two sets of values come
 * from the same distribution, judged by their order alone.  Pure; nothing allocates.
 */
#ifndef BENCH_RANK_H
#define BENCH_RANK_H

#include "core/base.h"

#include <stdbool.h>

/* Up to so many values a side, without ties, the probability is exact. */
#define RANK_EXACT_MAX 20

struct rank_test {
  double u;   /* pairs in which the first set's value is the larger; an equal pair counts half */
  double p;   /* two-sided; 1 where a set is empty or all values are equal */
  bool exact; /* counted over all orders; else the normal approximation, corrected for ties */
};

/** Sort ${count} ${values} upwards. */
void rank_sort(double *values, size_t count);

/**
 * rank_quantile(sorted, count, part):
 * The value below which ${part} (0..1) of the ${count} ${sorted} values are, interpolated between
 * neighbours: 0.25 and 0.75 are the quartiles, 0.5 is the median.  NAN where ${count} is 0.
 */
double rank_quantile(const double *sorted, size_t count, double part);

/** The median of ${count} ${values}, which it sorts. */
double rank_median(double *values, size_t count);

/** The test of ${count_a} values ${a} against ${count_b} values ${b}, in any order. */
struct rank_test rank_mann_whitney(const double *a, size_t count_a, const double *b,
                                   size_t count_b);

#endif
