/* histogram: see histogram.h. */
#include "core/histogram.h"

#include <assert.h>

static_assert(HISTOGRAM_BITS > HISTOGRAM_FINE_BITS && HISTOGRAM_BITS < 64,
              "a bucket is made of shifts");

void histogram_merge(struct histogram *sum, const struct histogram *from) {
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    uint64_t count = atom_load_relaxed_u64(&from->counts[i]);
    atom_store_relaxed_u64(&sum->counts[i], atom_load_relaxed_u64(&sum->counts[i]) + count);
  }
  uint64_t max = max_u64(atom_load_relaxed_u64(&sum->max), atom_load_relaxed_u64(&from->max));
  atom_store_relaxed_u64(&sum->max, max);
  uint64_t values = atom_load_relaxed_u64(&from->sum);
  atom_store_relaxed_u64(&sum->sum, atom_load_relaxed_u64(&sum->sum) + values);
}

uint64_t histogram_below(const struct histogram *histogram, uint64_t limit, uint32_t *bucket,
                         uint64_t *below) {
  uint32_t end = limit == 0 ? 0 : histogram_bucket(limit - 1) + 1;
  for (; *bucket < end; (*bucket)++) {
    *below += atom_load_relaxed_u64(&histogram->counts[*bucket]);
  }
  return *below;
}

/* The largest value of bucket ${i}. */
static uint64_t bucket_end(uint32_t i) {
  if (i < HISTOGRAM_FINE) {
    return i;
  }
  uint32_t shift = i / HISTOGRAM_FINE - 1;
  return ((UINT64_C(1) * HISTOGRAM_FINE + i % HISTOGRAM_FINE + 1) << shift) - 1;
}

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille) {
  assert(permille <= 1000);
  uint64_t all = 0, below = 0;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    all += atom_load_relaxed_u64(&histogram->counts[i]);
  }
  uint64_t wanted = (all * permille + 999) / 1000;
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && all > 0; i++) {
    below += atom_load_relaxed_u64(&histogram->counts[i]);
    if (below >= wanted && below > 0) {
      return min_u64(bucket_end(i), atom_load_relaxed_u64(&histogram->max));
    }
  }
  return atom_load_relaxed_u64(&histogram->max);
}
