/*
 * histogram: how values are spread, in few buckets: sixteen for each doubling, so that a quantile
 * is at most a sixteenth too high.
 *
 * One writer, like a block of core/stats; readers on other threads see each count grow.  For what a
 * server tells about itself; who measures uses xchg-bench/hdr_histogram.
 */
#ifndef CORE_HISTOGRAM_H
#define CORE_HISTOGRAM_H

#include "core/base.h"
#include "core/atom.h"

#define HISTOGRAM_BITS 40 /* larger values count as the largest: 18 minutes in ns */
#define HISTOGRAM_FINE_BITS 4
#define HISTOGRAM_FINE (1u << HISTOGRAM_FINE_BITS) /* buckets a doubling */
#define HISTOGRAM_BUCKETS (HISTOGRAM_FINE * (HISTOGRAM_BITS - HISTOGRAM_FINE_BITS + 1))

struct histogram {
  atom_u64 counts[HISTOGRAM_BUCKETS];
  atom_u64 max;
};

/** The bucket of ${value}: its top five bits and their place. */
static inline uint32_t histogram_bucket(uint64_t value) {
  value = min_u64(value, (UINT64_C(1) << HISTOGRAM_BITS) - 1);
  if (value < HISTOGRAM_FINE) {
    return (uint32_t)value;
  }
  uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_FINE_BITS;
  return HISTOGRAM_FINE * shift + (uint32_t)(value >> shift);
}

/** Count ${value}. Thread: the writer. */
static inline void histogram_record(struct histogram *histogram, uint64_t value) {
  atom_u64 *count = &histogram->counts[histogram_bucket(value)];
  atom_store_relaxed_u64(count, atom_load_relaxed_u64(count) + 1);
  if (value > atom_load_relaxed_u64(&histogram->max)) {
    atom_store_relaxed_u64(&histogram->max, value);
  }
}

/** Add ${from}, which may be written meanwhile, to ${sum}, which only the caller sees. */
void histogram_merge(struct histogram *sum, const struct histogram *from);

/**
 * histogram_quantile(spread, permille):
 * Return: a value that at least ${permille} thousandths of all are not above: the end of a bucket,
 * the largest value at most; 0 where nothing was counted.
 */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille);

#endif
