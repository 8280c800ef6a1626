/*
 * mann_whitney: statistics of a few runs that assume no distribution: quantiles, the median and the
 * Mann-Whitney U test.
 *
 * The test says how probable it is that two sets of values come from the same distribution.  It
 * looks only at the order of the values.  Pure functions; nothing is allocated.
 */
#ifndef BENCH_MANN_WHITNEY_H
#define BENCH_MANN_WHITNEY_H

#include "core/base.h"

#include <stdbool.h>

/* The probability is exact for up to this many values on each side without ties. */
#define MANN_WHITNEY_EXACT_MAX 20

struct mann_whitney {
  double u;   /* pairs whose larger value is in the first set; an equal pair counts half */
  double p;   /* two-sided; 1 if a set is empty or all values are equal */
  bool exact; /* counted over all orders; else the normal approximation, corrected for ties */
};

/**
 * quantile_of(sorted, count, part):
 * Return: the quantile ${part} (0..1) of ${count} ${sorted} values, interpolated between
 * neighbours; 0.5 is the median.  NAN if ${count} is 0.
 */
double quantile_of(const double *sorted, size_t count, double part);

/** The median of ${count} ${values}, which are sorted in place. */
double median_of(double *values, size_t count);

/** Test ${count_a} values ${a} against ${count_b} values ${b}, in any order. */
struct mann_whitney mann_whitney_test(const double *a, size_t count_a, const double *b,
                                      size_t count_b);

#endif
