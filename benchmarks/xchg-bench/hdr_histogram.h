/*
 * hdr_histogram: a log-linear histogram of times with three significant digits, 1 us to 60 s.
 *
 * Values are nanoseconds.  Below 2^11 each value has its own bucket.  Above, each power of two is
 * split into 2^10 equal buckets, so the width of a bucket is at most a thousandth of its values.
 * This is the layout of HdrHistogram by G. Tene, and its tools read the output of hdr_write_hgrm.
 * A value above HDR_MAX_NS is recorded as HDR_MAX_NS and counted as clamped.  Recording is O(1)
 * and allocates nothing.
 *
 * Thread: one writer at a time.  Histograms of several threads are added after the threads end.
 */
#ifndef BENCH_HDR_HISTOGRAM_H
#define BENCH_HDR_HISTOGRAM_H

#include "core/base.h"

#include <stdio.h>

#define HDR_SUB_BITS 10                      /* 2^10 buckets for each power of two */
#define HDR_MAX_NS (UINT64_C(60) * NS_PER_S) /* below 2^36 */
#define HDR_BUCKETS (((36 - HDR_SUB_BITS) << HDR_SUB_BITS) + (1 << HDR_SUB_BITS))

struct hdr_histogram {
  uint64_t count;
  uint64_t clamped; /* the part of count that was above HDR_MAX_NS */
  uint64_t min_ns;  /* exact; UINT64_MAX while empty */
  uint64_t max_ns;  /* exact, before clamping */
  double sum_ns;    /* for mean and deviation, before clamping */
  double sum_squares;
  uint64_t buckets[HDR_BUCKETS];
};

/** Empty ${histogram}.  It has about 220 KiB, too much for a stack. */
void hdr_reset(struct hdr_histogram *histogram);

/** Count ${value_ns} once. */
void hdr_record(struct hdr_histogram *histogram, uint64_t value_ns);

/** Count ${value_ns} ${times} times. */
void hdr_record_many(struct hdr_histogram *histogram, uint64_t value_ns, uint64_t times);

/** Add all values of ${from} to ${to}. */
void hdr_add(struct hdr_histogram *to, const struct hdr_histogram *from);

/**
 * hdr_percentile(histogram, percent):
 * Return: the value that ${percent} (0..100) of all values do not exceed, as HdrHistogram's
 * getValueAtPercentile.  It is the highest value of its bucket, but never above the maximum.
 * 0 if the histogram is empty.
 */
uint64_t hdr_percentile(const struct hdr_histogram *histogram, double percent);

/**
 * hdr_percentile_with(histogram, unfinished, percent):
 * Return: the larger of the percentile of ${histogram} alone and of both together, so that values
 * that were cut off count only if they make it worse.  At 100 it is the exact maximum.
 * ${unfinished} may be NULL.  0 if both are empty.
 */
uint64_t hdr_percentile_with(const struct hdr_histogram *histogram,
                             const struct hdr_histogram *unfinished, double percent);

/** The larger of the two maxima, or 0 if both are empty. */
uint64_t hdr_max_with(const struct hdr_histogram *histogram,
                      const struct hdr_histogram *unfinished);

/** Mean and population standard deviation in ns, or 0 if the histogram is empty. */
double hdr_mean(const struct hdr_histogram *histogram);
double hdr_stddev(const struct hdr_histogram *histogram);

/** The bucket of ${value_ns}, and the lowest and the highest value of ${bucket}. */
uint32_t hdr_bucket(uint64_t value_ns);
uint64_t hdr_bucket_low(uint32_t bucket);
uint64_t hdr_bucket_high(uint32_t bucket);

/**
 * Write HdrHistogram's percentile distribution (.hgrm) of ${histogram} with values in milliseconds,
 * as wrk2 does with -L.  The values are those of hdr_percentile_with; counts, mean and deviation
 * are those of ${histogram}.  The last line counts ${unfinished}, unless it is NULL.
 */
void hdr_write_hgrm(const struct hdr_histogram *histogram, const struct hdr_histogram *unfinished,
                    FILE *out);

#endif
