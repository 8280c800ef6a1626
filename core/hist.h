/*
 * hist: a log-linear histogram of times, three significant digits from 1 us to 60 s.
 *
 * Values are nanoseconds.  Below 2^11 each value has a bucket of its own; above, each power of two
 * is split into 2^10 equal buckets, so that a bucket is never wider than a thousandth of its values
 * (the layout of HdrHistogram by G. Tene, whose tools read what hist_write_hgrm writes).  A value
 * beyond HIST_MAX_NS is recorded as HIST_MAX_NS and counted as clamped.  Recording is O(1) and
 * allocates nothing. One writer at a time; histograms of several threads are added when they have
 * ended.
 */
#ifndef CORE_HIST_H
#define CORE_HIST_H

#include "core/base.h"

#include <stdio.h>

#define HIST_SUB_BITS 10                      /* buckets a power of two: 2^10 */
#define HIST_MAX_NS (UINT64_C(60) * NS_PER_S) /* below 2^36 */
#define HIST_BUCKETS (((36 - HIST_SUB_BITS) << HIST_SUB_BITS) + (1 << HIST_SUB_BITS))

struct hist {
  uint64_t count;
  uint64_t clamped; /* of them, beyond HIST_MAX_NS */
  uint64_t min_ns;  /* exact; UINT64_MAX while empty */
  uint64_t max_ns;  /* exact, before clamping */
  double sum_ns;    /* for mean and deviation, before clamping */
  double sum_squares;
  uint64_t buckets[HIST_BUCKETS];
};

/** Empty ${hist}, which the caller owns (some 220 KiB: not on a stack). */
void hist_reset(struct hist *hist);

/** Count ${value_ns} once. */
void hist_record(struct hist *hist, uint64_t value_ns);

/** Add everything that ${from} holds to ${to}. */
void hist_add(struct hist *to, const struct hist *from);

/**
 * hist_percentile(hist, percent): the value that ${percent} (0..100) of all values do not exceed:
 * the highest value that its bucket stands for, never above the maximum; 0 where the histogram is
 * empty.  Like HdrHistogram's getValueAtPercentile.
 */
uint64_t hist_percentile(const struct hist *hist, double percent);

/** Mean and standard deviation (of the population) in ns; 0 where empty. */
double hist_mean(const struct hist *hist);
double hist_stddev(const struct hist *hist);

/** The bucket of ${value_ns}; the lowest and the highest value of ${bucket}. */
uint32_t hist_bucket(uint64_t value_ns);
uint64_t hist_bucket_low(uint32_t bucket);
uint64_t hist_bucket_high(uint32_t bucket);

/**
 * Write HdrHistogram's percentile distribution (.hgrm), values in milliseconds, as wrk2 does with
 * -L.
 */
void hist_write_hgrm(const struct hist *hist, FILE *out);

#endif
