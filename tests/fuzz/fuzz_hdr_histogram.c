/*
 * fuzz_hdr_histogram: the sum of two histograms equals one histogram of all values.  A percentile
 * exceeds the value itself by at most a thousandth, which is the width of a bucket.
 *
 * Input: the number of values for the first histogram, then the values.  A value is one byte that
 * says how many bits it has, and 8 bytes.
 */
#include "tests/fuzz/fuzz.h"

#include "hdr_histogram.h"

#include <math.h>

#define VALUES_MAX 64

static int by_value(const void *a, const void *b) {
  uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
  return left < right ? -1 : left > right;
}

static void check_bucket(uint64_t value) {
  uint64_t clamped = min_u64(value, HDR_MAX_NS);
  uint32_t bucket = hdr_bucket(value);
  uint64_t low = hdr_bucket_low(bucket), high = hdr_bucket_high(bucket);
  fuzz_holds(low <= clamped && clamped <= high, "a value lies in its bucket");
  fuzz_holds((high - low) * 1000 <= low, "a bucket is a thousandth of its values at most");
  fuzz_holds(hdr_bucket(low) == bucket && (bucket == 0 || hdr_bucket(low - 1) == bucket - 1),
             "buckets adjoin");
}

/* ${histogram} holds the ${count} ${values}, which are sorted. */
static void check_percentiles(const struct hdr_histogram *histogram, const uint64_t *values,
                              size_t count) {
  static const double percents[] = {50, 99.9, 100};
  uint64_t before = 0;
  for (size_t i = 0; i < count_of(percents); i++) {
    uint64_t got = hdr_percentile(histogram, percents[i]);
    size_t rank = (size_t)ceil(percents[i] / 100 * (double)count - 1e-9);
    uint64_t want = values[rank == 0 ? 0 : rank - 1];
    uint64_t clamped = min_u64(want, HDR_MAX_NS);
    fuzz_holds(got >= before && got <= histogram->max_ns, "percentiles rise up to the maximum");
    fuzz_holds(got >= clamped && got - clamped <= clamped / 1000, "a percentile is a value's");
    before = got;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct hdr_histogram parts[2], all;
  uint64_t values[VALUES_MAX];
  size_t count = 0;
  struct fuzz_input input = {data, size};
  uint8_t first = fuzz_byte(&input);
  hdr_reset(&parts[0]);
  hdr_reset(&parts[1]);
  hdr_reset(&all);
  while (input.left > 0 && count < VALUES_MAX) {
    uint64_t value = 0;
    unsigned bits = fuzz_byte(&input) % 65;
    for (int i = 0; i < 8; i++) {
      value = value << 8 | fuzz_byte(&input);
    }
    value = bits == 0 ? 0 : value >> (64 - bits);
    check_bucket(value);
    hdr_record(&parts[count >= first], value);
    hdr_record(&all, value);
    values[count++] = value;
  }
  hdr_add(&parts[0], &parts[1]);
  fuzz_holds(parts[0].count == count && all.count == count, "every value is counted");
  fuzz_holds(memcmp(parts[0].buckets, all.buckets, sizeof(all.buckets)) == 0, "buckets add up");
  fuzz_holds(parts[0].min_ns == all.min_ns && parts[0].max_ns == all.max_ns &&
                 parts[0].clamped == all.clamped,
             "the ends add up");
  fuzz_holds(fabs(parts[0].sum_ns - all.sum_ns) <= all.sum_ns * 1e-12, "sums add up");
  if (count > 0) {
    qsort(values, count, sizeof(values[0]), by_value);
    check_percentiles(&parts[0], values, count);
    fuzz_holds(all.min_ns == values[0] && all.max_ns == values[count - 1], "the ends are exact");
  }
  return 0;
}
