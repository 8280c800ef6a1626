/*
 * histogram: counts values in 16 buckets for each power of two, so a quantile is at most 1/16 too
 * high.
 *
 * It has one writer, and readers on other threads see each count grow.  It is for the server's own
 * latencies.  xchg-bench measures with its hdr_histogram, which is finer.
 */
#ifndef CORE_HISTOGRAM_H
#define CORE_HISTOGRAM_H

#include "core/base.h"
#include "core/atom.h"

#define HISTOGRAM_BITS 40 /* larger values go to the last bucket; 2^40 ns are 18 minutes */
#define HISTOGRAM_FINE_BITS 4
#define HISTOGRAM_FINE (1u << HISTOGRAM_FINE_BITS) /* buckets for each power of two */
#define HISTOGRAM_BUCKETS (HISTOGRAM_FINE * (HISTOGRAM_BITS - HISTOGRAM_FINE_BITS + 1))

struct histogram {
  atom_u64 counts[HISTOGRAM_BUCKETS];
  atom_u64 max;
  atom_u64 sum; /* of all values, modulo 2^64 */
};

/** The bucket of ${value}, found from its top five bits and their position. */
static inline uint32_t histogram_bucket(uint64_t value) {
  if (value < HISTOGRAM_FINE) {
    return (uint32_t)value;
  }
  value = min_u64(value, (UINT64_C(1) << HISTOGRAM_BITS) - 1);
  uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_FINE_BITS;
  return HISTOGRAM_FINE * shift + (uint32_t)(value >> shift);
}

/** Count ${value}. Thread: the writer's. */
static inline void histogram_record(struct histogram *histogram, uint64_t value) {
  atom_u64 *count = &histogram->counts[histogram_bucket(value)];
  atom_store_relaxed_u64(count, atom_load_relaxed_u64(count) + 1);
  atom_store_relaxed_u64(&histogram->sum, atom_load_relaxed_u64(&histogram->sum) + value);
  if (value > atom_load_relaxed_u64(&histogram->max)) {
    atom_store_relaxed_u64(&histogram->max, value);
  }
}

/** Add ${from}, which may change meanwhile, to ${sum}, which only the caller uses. */
void histogram_merge(struct histogram *sum, const struct histogram *from);

/**
 * Count the values below ${limit}, which is at most HISTOGRAM_FINE or a power of two up to
 * 2^HISTOGRAM_BITS. ${*bucket} and ${*below} hold the position of the last call, at first 0 and 0,
 * so that a caller with rising limits walks the buckets only once. Return: ${*below}.
 */
uint64_t histogram_below(const struct histogram *histogram, uint64_t limit, uint32_t *bucket,
                         uint64_t *below);

/**
 * histogram_quantile(histogram, permille):
 * Return: a value that at least ${permille} thousandths of all values do not exceed. It is the end
 * of a bucket or, if lower, the largest value. It is 0 if nothing was counted.
 */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille);

#endif
