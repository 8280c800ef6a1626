/*
 * check_mann_whitney: quantiles of known sets, the exact probability, and the approximation.
 *
 * The exact probability is compared with a count over every order for all sizes up to six, and with
 * published critical values.  The approximation is compared with the exact value and with one
 * computed by hand.
 */
#include "xchg-bench/mann_whitney.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SMALL 6

START_TEST(quantiles) {
  double values[] = {5, 1, 4, 2, 3};
  ck_assert_double_eq(median_of(values, 5), 3);
  ck_assert_double_eq(values[0], 1); /* sorted now */
  ck_assert_double_eq(quantile_of(values, 5, 0), 1);
  ck_assert_double_eq(quantile_of(values, 5, 0.25), 2);
  ck_assert_double_eq(quantile_of(values, 5, 0.75), 4);
  ck_assert_double_eq(quantile_of(values, 5, 1), 5);
  ck_assert_double_eq(quantile_of(values, 4, 0.5), 2.5);
  ck_assert_double_eq(quantile_of(values, 4, 0.25), 1.75);
  ck_assert_double_eq(quantile_of(values, 1, 0.9), 1);
  ck_assert(isnan(quantile_of(values, 0, 0.5)));
  ck_assert(isnan(median_of(values, 0)));
}
END_TEST

/* The values are 0 .. m+n-1, and ${mask} says which belong to a.  U is counted pair by pair. */
static double split(unsigned mask, size_t all, double *a, double *b) {
  size_t in_a = 0, in_b = 0, u = 0;
  for (size_t i = 0; i < all; i++) {
    if (mask >> i & 1) {
      a[in_a++] = (double)i;
      u += in_b; /* the values of b that are lower */
    } else {
      b[in_b++] = (double)i;
    }
  }
  return (double)u;
}

/* Visit every order of m and n values, as the set of a's positions. */
START_TEST(exact_is_what_counting_every_order_gives) {
  size_t m = (size_t)_i / SMALL + 1, n = (size_t)_i % SMALL + 1;
  double a[2 * SMALL], b[2 * SMALL], us[1 << 2 * SMALL];
  size_t orders = 0;
  for (unsigned mask = 0; mask < 1u << (m + n); mask++) {
    if ((size_t)__builtin_popcount(mask) == m) {
      us[orders++] = split(mask, m + n, a, b);
    }
  }
  size_t wrong = 0;
  for (unsigned mask = 0; mask < 1u << (m + n); mask++) {
    if ((size_t)__builtin_popcount(mask) != m) {
      continue;
    }
    double u = split(mask, m + n, a, b), middle = (double)(m * n) / 2;
    size_t as_far = 0;
    for (size_t i = 0; i < orders; i++) {
      as_far += fabs(us[i] - middle) >= fabs(u - middle);
    }
    double p = (double)as_far / (double)orders;
    struct mann_whitney test = mann_whitney_test(a, m, b, n);
    bool same = test.exact && fabs(test.u - u) < 1e-9;
    /* Around the middle both tails overlap, and 2 * tail is limited to 1. */
    wrong += !same || fabs(test.p - p) > 1e-12;
  }
  ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* Make ${n} values a side with ${a} below ${b}, except for ${crossed} pairs (at most n^2). */
static void shift(size_t n, size_t crossed, double *a, double *b) {
  for (size_t i = 0; i < n; i++) {
    a[i] = (double)i;
    b[i] = (double)(n + i);
  }
  for (size_t i = 0; crossed > 0; i++) { /* raise a's highest above some of b's lowest */
    size_t step = crossed < n ? crossed : n;
    a[n - 1 - i] = (double)(n + step) - 0.5 - (double)i * 1e-3;
    crossed -= step;
  }
}

static struct mann_whitney shifted(size_t n, size_t crossed) {
  double a[MANN_WHITNEY_EXACT_MAX], b[MANN_WHITNEY_EXACT_MAX];
  shift(n, crossed, a, b);
  return mann_whitney_test(a, n, b, n);
}

/* Published two-sided critical values at 5 %: a U up to the value is significant, above not. */
START_TEST(critical_values_of_the_tables) {
  static const struct {
    size_t n, critical;
  } table[] = {{4, 0}, {5, 2}, {6, 5}, {7, 8}, {8, 13}, {10, 23}, {12, 37}, {15, 64}, {20, 127}};
  for (size_t i = 0; i < count_of(table); i++) {
    struct mann_whitney test = shifted(table[i].n, table[i].critical);
    ck_assert(test.exact);
    ck_assert_double_eq_tol(test.u, (double)table[i].critical, 1e-9);
    ck_assert_double_le(test.p, 0.05);
    ck_assert_double_gt(shifted(table[i].n, table[i].critical + 1).p, 0.05);
  }
  ck_assert_double_eq_tol(shifted(4, 0).p, 2.0 / 70, 1e-12);
  ck_assert_double_eq_tol(shifted(8, 0).p, 2.0 / 12870, 1e-12);
  ck_assert_double_eq_tol(shifted(20, 0).p / (2.0 / 137846528820.0), 1, 1e-12);
  ck_assert_double_eq_tol(shifted(3, 0).p, 0.1, 1e-12);
}
END_TEST

START_TEST(approximation_is_near_the_exact_one) {
  for (size_t crossed = 20; crossed <= 200; crossed += 12) {
    double a[MANN_WHITNEY_EXACT_MAX], b[MANN_WHITNEY_EXACT_MAX];
    shift(MANN_WHITNEY_EXACT_MAX, crossed, a, b);
    struct mann_whitney exact =
        mann_whitney_test(a, MANN_WHITNEY_EXACT_MAX, b, MANN_WHITNEY_EXACT_MAX);
    b[MANN_WHITNEY_EXACT_MAX - 1] = b[MANN_WHITNEY_EXACT_MAX - 2]; /* above all of a: U stays */
    struct mann_whitney near =
        mann_whitney_test(a, MANN_WHITNEY_EXACT_MAX, b, MANN_WHITNEY_EXACT_MAX);
    ck_assert(exact.exact);
    ck_assert(!near.exact);
    ck_assert_double_eq_tol(near.u, exact.u, 1e-12);
    ck_assert_double_eq_tol(near.p, exact.p, 0.005);
  }
}
END_TEST

/*
 * By hand: a = 1 2 2 3, b = 2 3 4 4: U = 2.5, ties 3^3-3 + 2 (2^3-2) = 36, variance
 * 16/12 (9 - 36/56).
 */
START_TEST(ties_are_corrected_for) {
  static const double a[] = {1, 2, 2, 3}, b[] = {2, 3, 4, 4};
  struct mann_whitney test = mann_whitney_test(a, 4, b, 4);
  double z = (5.5 - 0.5) / sqrt(16.0 / 12 * (9 - 36.0 / 56));
  ck_assert(!test.exact);
  ck_assert_double_eq_tol(test.u, 2.5, 1e-12);
  ck_assert_double_eq_tol(test.p, erfc(z / sqrt(2)), 1e-12);
  struct mann_whitney other = mann_whitney_test(b, 4, a, 4);
  ck_assert_double_eq_tol(other.u, 13.5, 1e-12);
  ck_assert_double_eq_tol(other.p, test.p, 1e-12);
}
END_TEST

START_TEST(nothing_to_tell) {
  static const double equal[] = {7, 7, 7, 7, 7};
  ck_assert_double_eq(mann_whitney_test(equal, 5, equal, 5).p, 1);
  ck_assert_double_eq(mann_whitney_test(equal, 5, equal, 0).p, 1);
  ck_assert_double_eq(mann_whitney_test(equal, 0, equal, 0).p, 1);
  ck_assert_double_eq(mann_whitney_test(equal, 1, equal, 1).p, 1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {quantiles, 1},
      {exact_is_what_counting_every_order_gives, SMALL * SMALL},
      {critical_values_of_the_tables, 1},
      {approximation_is_near_the_exact_one, 1},
      {ties_are_corrected_for, 1},
      {nothing_to_tell, 1},
  };
  return run_suite("mann_whitney", tests, count_of(tests));
}
