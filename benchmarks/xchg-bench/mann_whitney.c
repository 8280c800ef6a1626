/*
 * mann_whitney: see mann_whitney.h.
 *
 * The exact distribution: the number of orders of m and n values with U = u is the coefficient of
 * x^u in the Gaussian binomial coefficient
 *
 *   (1 - x^(n+1)) (1 - x^(n+2)) ... (1 - x^(n+m))  /  ( (1 - x) (1 - x^2) ... (1 - x^m) )
 *
 * It is computed one factor at a time.  Each quotient is such a coefficient itself, so all numbers
 * are whole, and below 2^53 up to m = n = 20.  A double holds them exactly.
 *
 * The approximation: U is nearly normal with mean m n / 2.  With N = m + n and t the size of each
 * group of equal values, its variance is m n / 12 (N + 1 - sum (t^3 - t) / (N (N - 1))).  Half a
 * step is subtracted as a continuity correction.
 */
#include "mann_whitney.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define U_MAX (MANN_WHITNEY_EXACT_MAX * MANN_WHITNEY_EXACT_MAX)

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void sort(double *values, size_t count) {
  if (count > 0) {
    qsort(values, count, sizeof(*values), by_value);
  }
}

double quantile_of(const double *sorted, size_t count, double part) {
  assert(part >= 0 && part <= 1);
  if (count == 0) {
    return NAN;
  }
  double at = part * (double)(count - 1);
  size_t below = (size_t)at;
  if (below + 1 >= count) {
    return sorted[count - 1];
  }
  return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

double median_of(double *values, size_t count) {
  sort(values, count);
  return quantile_of(values, count, 0.5);
}

/* Count the orders of ${m} and ${n} values (at most MANN_WHITNEY_EXACT_MAX each) by their U. */
static void count_orders(size_t m, size_t n, double ways[U_MAX + 1]) {
  memset(ways, 0, (U_MAX + 1) * sizeof(*ways));
  ways[0] = 1;
  for (size_t i = 1; i <= m; i++) {
    for (size_t u = m * n; u >= n + i; u--) {
      ways[u] -= ways[u - n - i];
    }
    for (size_t u = i; u <= m * n; u++) {
      ways[u] += ways[u - i];
    }
  }
}

/* The share of orders whose U is at least as far from the middle as ${u}, on either side. */
static double exact_p(double u, size_t m, size_t n) {
  double ways[U_MAX + 1], tail = 0, all = 0;
  count_orders(m, n, ways);
  double nearer = fmin(u, (double)(m * n) - u);
  for (size_t i = 0; i <= m * n; i++) {
    all += ways[i];
    tail += (double)i <= nearer ? ways[i] : 0;
  }
  return fmin(1, 2 * tail / all);
}

static double normal_p(double u, size_t count_a, size_t count_b, double ties) {
  double m = (double)count_a, n = (double)count_b, all = m + n;
  double variance = m * n / 12 * (all + 1 - ties / (all * (all - 1)));
  double away = fabs(u - m * n / 2) - 0.5;
  if (variance <= 0 || away <= 0) {
    return 1;
  }
  return erfc(away / sqrt(variance) / sqrt(2));
}

/* How many of ${values} equal ${value}. */
static size_t count_equal(const double *values, size_t count, double value) {
  size_t equal = 0;
  for (size_t i = 0; i < count; i++) {
    equal += values[i] >= value && values[i] <= value;
  }
  return equal;
}

/* The sum of t^3 - t over the groups of equal values, as t^2 - 1 for each value of a group. */
static double sum_ties(const double *of, size_t count, const double *other, size_t count_other) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) {
    double t = (double)(count_equal(of, count, of[i]) + count_equal(other, count_other, of[i]));
    sum += t * t - 1;
  }
  return sum;
}

struct mann_whitney mann_whitney_test(const double *a, size_t count_a, const double *b,
                                      size_t count_b) {
  struct mann_whitney test = {.u = 0, .p = 1};
  if (count_a == 0 || count_b == 0) {
    return test;
  }
  for (size_t i = 0; i < count_a; i++) {
    for (size_t j = 0; j < count_b; j++) {
      test.u += a[i] > b[j] ? 1 : a[i] < b[j] ? 0 : 0.5;
    }
  }
  double ties = sum_ties(a, count_a, b, count_b) + sum_ties(b, count_b, a, count_a);
  test.exact = ties <= 0 && count_a <= MANN_WHITNEY_EXACT_MAX && count_b <= MANN_WHITNEY_EXACT_MAX;
  test.p =
      test.exact ? exact_p(test.u, count_a, count_b) : normal_p(test.u, count_a, count_b, ties);
  return test;
}
