/*
 * check_histogram: buckets are contiguous, quantiles are never too low and at most a sixteenth too
 * high, sums and the counts below a power of two are exact.
 */
#include "core/histogram.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdlib.h>

static uint64_t next(uint64_t *random) { /* the step of splitmix64 spreads the numbers */
  *random += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t x = *random;
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  return x ^ x >> 27;
}

START_TEST(buckets_are_in_order) {
  uint32_t last = 0;
  for (uint64_t value = 0; value < 100000; value++) {
    uint32_t bucket = histogram_bucket(value);
    ck_assert(bucket == last || bucket == last + 1);
    last = bucket;
  }
  ck_assert_uint_eq(histogram_bucket((UINT64_C(1) << HISTOGRAM_BITS) - 1), HISTOGRAM_BUCKETS - 1);
  ck_assert_uint_eq(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}
END_TEST

START_TEST(without_values_quantiles_are_0) {
  static struct histogram histogram;
  ck_assert_uint_eq(histogram_quantile(&histogram, 0), 0);
  ck_assert_uint_eq(histogram_quantile(&histogram, 1000), 0);
}
END_TEST

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

#define VALUES 5000

START_TEST(quantiles_are_at_most_a_sixteenth_too_high) {
  static struct histogram histogram;
  static uint64_t values[VALUES];
  uint64_t random = (uint64_t)_i + 1;
  for (size_t i = 0; i < VALUES; i++) {
    values[i] = next(&random) >> (24 + next(&random) % 40);
    histogram_record(&histogram, values[i]);
  }
  qsort(values, VALUES, sizeof(values[0]), by_value);
  for (uint32_t permille = 1; permille <= 1000; permille++) {
    uint64_t exact = values[(VALUES * permille + 999) / 1000 - 1];
    uint64_t got = histogram_quantile(&histogram, permille);
    ck_assert_uint_ge(got, exact);
    ck_assert_uint_le(got, exact + exact / HISTOGRAM_FINE);
  }
  ck_assert_uint_eq(histogram_quantile(&histogram, 1000), values[VALUES - 1]);
}
END_TEST

START_TEST(sums_add_every_bucket) {
  static struct histogram a, b, sum;
  histogram_record(&a, 5);
  histogram_record(&b, 1000);
  histogram_record(&b, 7);
  histogram_merge(&sum, &a);
  histogram_merge(&sum, &b);
  ck_assert_uint_eq(histogram_quantile(&sum, 333), 5);
  ck_assert_uint_eq(histogram_quantile(&sum, 600), 7);
  ck_assert_uint_eq(histogram_quantile(&sum, 1000), 1000);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.sum), 1012);
  histogram_record(&sum, UINT64_MAX); /* a clock that went wrong: the sum stays a number */
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.sum), UINT64_C(1012) - 1);
}
END_TEST

/* Small limits and powers of two are ends of buckets, so the counts are exact. */
START_TEST(below_counts_exactly) {
  static struct histogram histogram;
  uint64_t values = 0, below = 0;
  uint32_t bucket = 0;
  for (uint64_t value = 0; value < 3000; value++) {
    histogram_record(&histogram, value);
    values++;
  }
  for (uint64_t limit = 0; limit <= HISTOGRAM_FINE; limit++) {
    ck_assert_uint_eq(histogram_below(&histogram, limit, &bucket, &below), limit);
    ck_assert_uint_eq(histogram_below(&histogram, limit, &bucket, &below), limit);
  }
  for (uint32_t power = 5; power <= HISTOGRAM_BITS; power++) {
    uint64_t limit = UINT64_C(1) << power;
    uint64_t want = min_u64(limit, values);
    ck_assert_uint_eq(histogram_below(&histogram, limit, &bucket, &below), want);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {buckets_are_in_order, 1},
      {without_values_quantiles_are_0, 1},
      {quantiles_are_at_most_a_sixteenth_too_high, 8},
      {sums_add_every_bucket, 1},
      {below_counts_exactly, 1},
  };
  return run_suite("histogram", tests, count_of(tests));
}
