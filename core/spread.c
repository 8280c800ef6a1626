/* spread: see spread.h. */
#include "core/spread.h"

#include <assert.h>

static_assert(SPREAD_BITS > SPREAD_FINE_BITS && SPREAD_BITS < 64, "a bucket is made of shifts");

void spread_sum(struct spread *sum, const struct spread *from) {
  for (size_t i = 0; i < SPREAD_BUCKETS; i++) {
    uint64_t count = atom_load_relaxed_u64(&from->counts[i]);
    atom_store_relaxed_u64(&sum->counts[i], atom_load_relaxed_u64(&sum->counts[i]) + count);
  }
  uint64_t max = max_u64(atom_load_relaxed_u64(&sum->max), atom_load_relaxed_u64(&from->max));
  atom_store_relaxed_u64(&sum->max, max);
}

/* The largest value of bucket ${i}. */
static uint64_t bucket_end(uint32_t i) {
  if (i < SPREAD_FINE) {
    return i;
  }
  uint32_t shift = i / SPREAD_FINE - 1;
  return ((UINT64_C(1) * SPREAD_FINE + i % SPREAD_FINE + 1) << shift) - 1;
}

uint64_t spread_quantile(const struct spread *spread, uint32_t permille) {
  assert(permille <= 1000);
  uint64_t all = 0, below = 0;
  for (size_t i = 0; i < SPREAD_BUCKETS; i++) {
    all += atom_load_relaxed_u64(&spread->counts[i]);
  }
  uint64_t wanted = (all * permille + 999) / 1000;
  for (uint32_t i = 0; i < SPREAD_BUCKETS && all > 0; i++) {
    below += atom_load_relaxed_u64(&spread->counts[i]);
    if (below >= wanted && below > 0) {
      return min_u64(bucket_end(i), atom_load_relaxed_u64(&spread->max));
    }
  }
  return atom_load_relaxed_u64(&spread->max);
}
