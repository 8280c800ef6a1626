/*
 * spread: how values are spread, in few buckets: sixteen for each doubling, so that a quantile is
 * at most a sixteenth too high.
 *
 * One writer, like a block of core/stats; readers on other threads see each count grow.  For what a
 * server tells about itself; who measures uses xchg-bench/hdr_histogram.
 */
#ifndef CORE_SPREAD_H
#define CORE_SPREAD_H

#include "core/base.h"
#include "core/atom.h"

#define SPREAD_BITS 40 /* larger values count as the largest: 18 minutes in ns */
#define SPREAD_FINE_BITS 4
#define SPREAD_FINE (1u << SPREAD_FINE_BITS) /* buckets a doubling */
#define SPREAD_BUCKETS (SPREAD_FINE * (SPREAD_BITS - SPREAD_FINE_BITS + 1))

struct spread {
  atom_u64 counts[SPREAD_BUCKETS];
  atom_u64 max;
};

/** The bucket of ${value}: its top five bits and their place. */
static inline uint32_t spread_bucket(uint64_t value) {
  value = min_u64(value, (UINT64_C(1) << SPREAD_BITS) - 1);
  if (value < SPREAD_FINE) {
    return (uint32_t)value;
  }
  uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - SPREAD_FINE_BITS;
  return SPREAD_FINE * shift + (uint32_t)(value >> shift);
}

/** Count ${value}. Thread: the writer. */
static inline void spread_add(struct spread *spread, uint64_t value) {
  atom_u64 *count = &spread->counts[spread_bucket(value)];
  atom_store_relaxed_u64(count, atom_load_relaxed_u64(count) + 1);
  if (value > atom_load_relaxed_u64(&spread->max)) {
    atom_store_relaxed_u64(&spread->max, value);
  }
}

/** Add ${from}, which may be written meanwhile, to ${sum}, which only the caller sees. */
void spread_sum(struct spread *sum, const struct spread *from);

/**
 * spread_quantile(spread, permille):
 * Return: a value that at least ${permille} thousandths of all are not above: the end of a bucket,
 * the largest value at most; 0 where nothing was counted.
 */
uint64_t spread_quantile(const struct spread *spread, uint32_t permille);

#endif
