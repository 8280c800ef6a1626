/*
 * check_hdr_histogram: percentiles are compared with an exact sort of the same values, for
 * distributions of many shapes.  A sum of histograms is compared with one histogram of all values.
 * The tests also cover clamping, and read the .hgrm form back.
 *
 * The seed is printed, and CHECK_SEED sets it.
 */
#include "xchg-bench/hdr_histogram.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALUES 20000

static const double percents[] = {0.001, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999, 100};

static struct hdr_histogram all, part;
static uint64_t values[VALUES];
static uint64_t state;

static uint64_t random_next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/* Above 0, at most 1. */
static double random_unit(void) { return ((double)(random_next() >> 11) + 1) * 0x1p-53; }

static void seed(void) {
  const char *text = getenv("CHECK_SEED");
  state = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)getpid() * 0x9e3779b97f4a7c15;
  printf("CHECK_SEED=%" PRIu64 "\n", state);
  state |= 1;
}

static uint64_t uniform_small(void) { return random_next() % 3000; }
static uint64_t uniform_wide(void) { return random_next() % (HDR_MAX_NS + 1); }
static uint64_t exponential(void) { return (uint64_t)(-log(random_unit()) * 150e3); }
static uint64_t logarithmic(void) { return (uint64_t)exp(random_unit() * log((double)HDR_MAX_NS)); }
static uint64_t two_peaks(void) {
  return random_next() % 100 == 0 ? 200 * NS_PER_MS + random_next() % NS_PER_MS
                                  : 20 * NS_PER_US + random_next() % NS_PER_US;
}
static uint64_t constant(void) { return 123456789; }
static uint64_t powers(void) { return (UINT64_C(1) << random_next() % 36) - random_next() % 2; }
static uint64_t zero(void) { return 0; }

static uint64_t (*const shapes[])(void) = {uniform_small, uniform_wide, exponential, logarithmic,
                                           two_peaks,     constant,     powers,      zero};

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* The rank of ${percent} of ${count}, in whole thousandths of a percent. */
static size_t exact_rank(double percent, size_t count) {
  size_t thousandths = (size_t)llround(percent * 1000);
  size_t rank = (thousandths * count + 99999) / 100000;
  return rank == 0 ? 1 : rank;
}

/* The exact value or up to a thousandth more, and never above the maximum. */
static void compare_sorted(const struct hdr_histogram *histogram, const uint64_t *sorted,
                           size_t count) {
  for (size_t i = 0; i < count_of(percents); i++) {
    uint64_t exact = sorted[exact_rank(percents[i], count) - 1];
    uint64_t got = hdr_percentile(histogram, percents[i]);
    ck_assert_msg(got >= exact && got - exact <= exact / 1000 && got <= histogram->max_ns,
                  "p%g of %zu: %" PRIu64 ", not %" PRIu64, percents[i], count, got, exact);
  }
  ck_assert_uint_eq(histogram->min_ns, sorted[0]);
  ck_assert_uint_eq(histogram->max_ns, sorted[count - 1]);
  ck_assert_uint_eq(histogram->count, count);
}

static void compare_moments(const struct hdr_histogram *histogram, const uint64_t *sorted,
                            size_t count) {
  long double sum = 0, squares = 0;
  for (size_t i = 0; i < count; i++) {
    sum += (long double)sorted[i];
  }
  long double mean = sum / (long double)count;
  for (size_t i = 0; i < count; i++) {
    squares += ((long double)sorted[i] - mean) * ((long double)sorted[i] - mean);
  }
  double stddev = (double)sqrtl(squares / (long double)count);
  ck_assert_double_eq_tol(hdr_mean(histogram), (double)mean, 1e-9 * (double)mean + 1e-9);
  /* Differences of squares: the digits that the mean's square takes are lost. */
  ck_assert_double_eq_tol(hdr_stddev(histogram), stddev,
                          1e-6 * (double)mean + 1e-6 * stddev + 1e-9);
}

START_TEST(percentiles_are_those_of_a_sort) {
  static const size_t counts[] = {1, 2, 3, 10, 100, 999, 1000, 1001, VALUES};
  seed();
  for (size_t n = 0; n < count_of(counts); n++) {
    hdr_reset(&all);
    for (size_t i = 0; i < counts[n]; i++) {
      values[i] = shapes[_i]();
      hdr_record(&all, values[i]);
    }
    qsort(values, counts[n], sizeof(*values), by_value);
    compare_sorted(&all, values, counts[n]);
    compare_moments(&all, values, counts[n]);
    ck_assert_uint_eq(all.clamped, 0);
  }
}
END_TEST

/* Every bucket begins where the one before ends, and holds at most a thousandth of its values. */
START_TEST(buckets_adjoin) {
  uint64_t next = 0;
  for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
    uint64_t low = hdr_bucket_low(i), high = hdr_bucket_high(i);
    bool narrow = low < 2048 ? low == high : low <= high && (high - low + 1) * 1000 <= low;
    bool found =
        (low > HDR_MAX_NS || hdr_bucket(low) == i) && (high > HDR_MAX_NS || hdr_bucket(high) == i);
    if (low != next || !narrow || !found) { /* an assertion each would take its time */
      ck_abort_msg("bucket %u: %" PRIu64 " to %" PRIu64, i, low, high);
    }
    next = high + 1;
  }
  ck_assert_uint_eq(next, UINT64_C(1) << 36);
}
END_TEST

START_TEST(empty_has_no_values) {
  hdr_reset(&all);
  ck_assert_uint_eq(hdr_percentile(&all, 0), 0);
  ck_assert_uint_eq(hdr_percentile(&all, 99), 0);
  ck_assert_double_eq(hdr_mean(&all), 0);
  ck_assert_double_eq(hdr_stddev(&all), 0);
  ck_assert_uint_eq(all.min_ns, UINT64_MAX);
}
END_TEST

START_TEST(beyond_the_end_is_clamped_and_counted) {
  hdr_reset(&all);
  hdr_record(&all, HDR_MAX_NS);
  ck_assert_uint_eq(all.clamped, 0);
  hdr_record(&all, HDR_MAX_NS + 1);
  hdr_record(&all, 100 * NS_PER_S);
  hdr_record(&all, UINT64_MAX);
  ck_assert_uint_eq(all.clamped, 3);
  ck_assert_uint_eq(all.count, 4);
  ck_assert_uint_eq(all.buckets[hdr_bucket(HDR_MAX_NS)], 4);
  ck_assert_uint_eq(all.max_ns, UINT64_MAX);
  ck_assert_uint_ge(hdr_percentile(&all, 100), HDR_MAX_NS);
  ck_assert_uint_le(hdr_percentile(&all, 100), HDR_MAX_NS + HDR_MAX_NS / 1000);
}
END_TEST

START_TEST(added_is_as_recorded_in_one) {
  static struct hdr_histogram sum;
  seed();
  hdr_reset(&all);
  hdr_reset(&sum);
  for (size_t s = 0; s < count_of(shapes); s++) {
    hdr_reset(&part);
    for (size_t i = 0; i < 500; i++) {
      uint64_t value = shapes[s]() + (i == 77 ? HDR_MAX_NS : 0);
      hdr_record(&part, value);
      hdr_record(&all, value);
    }
    hdr_add(&sum, &part);
  }
  hdr_reset(&part);
  hdr_add(&sum, &part); /* an empty one changes nothing */
  ck_assert_uint_eq(sum.count, all.count);
  ck_assert_uint_eq(sum.clamped, all.clamped);
  ck_assert_uint_eq(sum.min_ns, all.min_ns);
  ck_assert_uint_eq(sum.max_ns, all.max_ns);
  ck_assert_double_eq_tol(sum.sum_ns, all.sum_ns, 1e-12 * all.sum_ns);
  ck_assert_double_eq_tol(sum.sum_squares, all.sum_squares, 1e-12 * all.sum_squares);
  ck_assert_mem_eq(sum.buckets, all.buckets, sizeof(sum.buckets));
}
END_TEST

START_TEST(many_are_as_recorded_one_by_one) {
  static struct hdr_histogram many;
  hdr_reset(&all);
  hdr_reset(&many);
  for (uint64_t value = 1; value < 3 * HDR_MAX_NS; value = value * 7 + 3) {
    for (uint64_t i = 0; i < value % 5; i++) {
      hdr_record(&all, value);
    }
    if (value % 5 > 0) {
      hdr_record_many(&many, value, value % 5);
    }
  }
  ck_assert_uint_eq(many.count, all.count);
  ck_assert_uint_eq(many.clamped, all.clamped);
  ck_assert_uint_eq(many.min_ns, all.min_ns);
  ck_assert_uint_eq(many.max_ns, all.max_ns);
  ck_assert_double_eq_tol(many.sum_ns, all.sum_ns, 1e-9 * all.sum_ns);
  ck_assert_double_eq_tol(many.sum_squares, all.sum_squares, 1e-9 * all.sum_squares);
  ck_assert_mem_eq(many.buckets, all.buckets, sizeof(many.buckets));
}
END_TEST

/* What was cut off makes a percentile worse, never better. */
START_TEST(unfinished_values_count_if_they_are_worse) {
  static const double wanted[] = {0, 1, 50, 90, 99, 99.9, 100};
  static struct hdr_histogram both;
  for (uint64_t age = 1; age < 100 * NS_PER_S; age *= 100) {
    hdr_reset(&all);
    hdr_reset(&part);
    for (uint64_t i = 1; i <= 1000; i++) {
      hdr_record(&all, i * NS_PER_US);
    }
    hdr_record_many(&part, age, 30);
    both = all;
    hdr_add(&both, &part);
    for (size_t i = 0; i < count_of(wanted); i++) {
      const uint64_t alone = hdr_percentile(&all, wanted[i]);
      const uint64_t together = hdr_percentile(&both, wanted[i]);
      ck_assert_uint_eq(hdr_percentile_with(&all, NULL, wanted[i]), alone);
      if (wanted[i] < 100) { /* 100 is exact and not the end of a bucket */
        ck_assert_uint_eq(hdr_percentile_with(&all, &part, wanted[i]), max_u64(alone, together));
      }
    }
    ck_assert_uint_eq(hdr_percentile_with(&all, &part, 100), max_u64(NS_PER_MS, age));
  }
  hdr_reset(&all);
  ck_assert_uint_eq(hdr_percentile_with(&all, &part, 50), hdr_percentile(&part, 50));
  hdr_reset(&part);
  ck_assert_uint_eq(hdr_percentile_with(&all, &part, 50), 0);
}
END_TEST

/* ---- the .hgrm form ---- */

static char text[65536];

static void write_text(void) {
  FILE *out = fmemopen(text, sizeof(text), "w");
  ck_assert_ptr_nonnull(out);
  hdr_write_hgrm(&all, NULL, out);
  ck_assert_int_eq(ferror(out), 0);
  fclose(out);
}

/* Check the row at ${line}, which follows one at ${*percentile} that had seen ${*seen}. */
static void check_row(const char *line, double *percentile, uint64_t *seen) {
  double value_ms, at;
  uint64_t below;
  char last[32];
  ck_assert_int_eq(sscanf(line, "%lf %lf %" SCNu64 " %31s", &value_ms, &at, &below, last), 4);
  ck_assert(at > *percentile || (at == 0 && *seen == 0));
  ck_assert_uint_ge(below, *seen);
  uint64_t value = hdr_percentile(&all, at * 100), counted = 0;
  ck_assert_double_eq_tol(value_ms, (double)value / 1e6, 0.0005001);
  for (uint32_t i = 0; i <= hdr_bucket(value); i++) {
    counted += all.buckets[i];
  }
  ck_assert_uint_eq(below, counted);
  if (at < 1) {
    ck_assert_double_eq_tol(atof(last), 1 / (1 - at), 0.0051 + 1e-6 / (1 - at));
  } else {
    ck_assert_str_eq(last, "inf");
  }
  *percentile = at;
  *seen = below;
}

START_TEST(hgrm_reads_back) {
  seed();
  hdr_reset(&all);
  for (size_t i = 0; i < VALUES; i++) {
    hdr_record(&all, shapes[_i]());
  }
  write_text();
  static const char head[] = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
  ck_assert_int_eq(strncmp(text, head, strlen(head)), 0);
  double percentile = 0;
  uint64_t seen = 0;
  char *line = text + strlen(head);
  size_t rows = 0;
  for (; *line != '#'; line = strchr(line, '\n') + 1, rows++) {
    check_row(line, &percentile, &seen);
  }
  ck_assert_double_eq(percentile, 1);
  ck_assert_uint_eq(seen, VALUES);
  ck_assert_uint_ge(rows, 2);
  double mean, stddev, max;
  uint64_t total;
  ck_assert_int_eq(sscanf(line,
                          "#[Mean    = %lf, StdDeviation   = %lf]\n"
                          "#[Max     = %lf, Total count    = %" SCNu64
                          "]\n#[Buckets =           26, SubBuckets     =         2048]\n",
                          &mean, &stddev, &max, &total),
                   4);
  ck_assert_double_eq_tol(mean, hdr_mean(&all) / 1e6, 0.0005001);
  ck_assert_double_eq_tol(stddev, hdr_stddev(&all) / 1e6, 0.0005001);
  ck_assert_double_eq_tol(max, (double)all.max_ns / 1e6, 0.0005001);
  ck_assert_uint_eq(total, VALUES);
}
END_TEST

START_TEST(hgrm_of_nothing) {
  hdr_reset(&all);
  write_text();
  ck_assert_ptr_nonnull(strstr(text, "1/(1-Percentile)\n\n#[Mean    =            -,"));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {percentiles_are_those_of_a_sort, count_of(shapes)},
      {buckets_adjoin, 1},
      {empty_has_no_values, 1},
      {beyond_the_end_is_clamped_and_counted, 1},
      {added_is_as_recorded_in_one, 1},
      {many_are_as_recorded_one_by_one, 1},
      {unfinished_values_count_if_they_are_worse, 1},
      {hgrm_reads_back, count_of(shapes)},
      {hgrm_of_nothing, 1},
  };
  return run_suite("hdr_histogram", tests, count_of(tests));
}
