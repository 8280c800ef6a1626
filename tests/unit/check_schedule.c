/*
 * check_schedule: when exchanges should start.
 *
 * The reference is the definition: n(t), integrated numerically in long double, must reach k at
 * schedule_time_ns(k).
 */
#include "xchg-bench/schedule.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <math.h>

/* Exchanges wanted until ${ns}. */
static long double wanted(double from, double to, long double lead, long double ramp, uint64_t ns) {
  long double t = (long double)ns / 1e9L;
  if (t <= lead) {
    return from * t;
  }
  long double n = from * lead;
  t -= lead;
  const long double u = t < ramp ? t : ramp;
  n += from * u + (to - from) * u * u / (2 * ramp);
  return t > ramp ? n + to * (t - ramp) : n;
}

static struct schedule constant(double rate) {
  struct schedule schedule;
  schedule_init(&schedule, rate, rate, 5 * NS_PER_S, 10 * NS_PER_S);
  return schedule;
}

START_TEST(test_constant) {
  struct schedule schedule = constant(1000);
  for (uint64_t k = 0; k < 5000; k++) {
    ck_assert_uint_eq(schedule_time_ns(&schedule, k), k * NS_PER_MS);
  }
  ck_assert_double_eq(schedule_rate(&schedule, 7 * NS_PER_S), 1000);
}
END_TEST

START_TEST(test_one_a_second) {
  struct schedule schedule = constant(1);
  for (uint64_t k = 0; k < 100; k++) {
    ck_assert_uint_eq(schedule_time_ns(&schedule, k), k * NS_PER_S);
  }
}
END_TEST

/* A day at a rate with a period that no double holds: no drift, and never backwards. */
START_TEST(test_no_drift) {
  struct schedule schedule = constant(333333);
  const uint64_t day = UINT64_C(86400) * 333333;
  ck_assert_uint_eq(schedule_time_ns(&schedule, day), UINT64_C(86400) * NS_PER_S);
  uint64_t before = 0;
  for (uint64_t k = day; k < day + 100000; k++) {
    const uint64_t exact = (uint64_t)((unsigned __int128)k * NS_PER_S / 333333);
    const uint64_t time = schedule_time_ns(&schedule, k);
    ck_assert_uint_le(time > exact ? time - exact : exact - time, 1);
    ck_assert_uint_ge(time, before);
    before = time;
  }
}
END_TEST

/* Exchange k belongs to connection k mod c: one every c / R for each connection, evenly phased. */
START_TEST(test_phases) {
  struct schedule schedule = constant(1000);
  for (uint64_t connection = 0; connection < 8; connection++) {
    for (uint64_t round = 0; round < 100; round++) {
      ck_assert_uint_eq(schedule_time_ns(&schedule, round * 8 + connection),
                        round * 8 * NS_PER_MS + connection * NS_PER_MS);
    }
  }
}
END_TEST

static const struct {
  double from, to;
  uint64_t lead, ramp;
} ramps[] = {
    {100, 1000, 0, 10 * NS_PER_S},
    {1000, 100, 2 * NS_PER_S, 10 * NS_PER_S},
    {0, 500, 3 * NS_PER_S, 4 * NS_PER_S},
    {500, 501, NS_PER_S, 3600 * NS_PER_S},
    {1, 100000, 0, NS_PER_S},
};

START_TEST(test_ramps) {
  const double from = ramps[_i].from, to = ramps[_i].to;
  struct schedule schedule;
  schedule_init(&schedule, from, to, ramps[_i].lead, ramps[_i].ramp);
  const long double lead = (long double)ramps[_i].lead / 1e9L;
  const long double ramp = (long double)ramps[_i].ramp / 1e9L;
  const uint64_t end = ramps[_i].lead + ramps[_i].ramp * 2;
  uint64_t before = 0;
  for (uint64_t k = 1;; k += 7) {
    const uint64_t time = schedule_time_ns(&schedule, k);
    if (time > end) {
      break;
    }
    ck_assert_uint_ge(time, before);
    before = time;
    /* at most a nanosecond off; the tolerance of the count is two nanoseconds at that rate */
    const long double rate = schedule_rate(&schedule, time) + 1;
    const long double error = wanted(from, to, lead, ramp, time) - (long double)k;
    ck_assert_msg(fabsl(error) <= rate * 2e-9L + (long double)k * 1e-14L,
                  "%.0f..%.0f: exchange %lu at %lu ns, where %.9Lf are wanted", from, to,
                  (unsigned long)k, (unsigned long)time, wanted(from, to, lead, ramp, time));
  }
  ck_assert_uint_gt(before, end / 2);
}
END_TEST

START_TEST(test_rate_of_ramp) {
  struct schedule schedule;
  schedule_init(&schedule, 100, 300, 10 * NS_PER_S, 20 * NS_PER_S);
  ck_assert_double_eq(schedule_rate(&schedule, 0), 100);
  ck_assert_double_eq(schedule_rate(&schedule, 10 * NS_PER_S), 100);
  ck_assert_double_eq_tol(schedule_rate(&schedule, 20 * NS_PER_S), 200, 1e-9);
  ck_assert_double_eq(schedule_rate(&schedule, 30 * NS_PER_S), 300);
  ck_assert_double_eq(schedule_rate(&schedule, 3000 * NS_PER_S), 300);
}
END_TEST

START_TEST(test_ends_at_nothing) {
  struct schedule schedule;
  schedule_init(&schedule, 100, 0, 0, 2 * NS_PER_S);
  ck_assert_uint_lt(schedule_time_ns(&schedule, 99), 2 * NS_PER_S);
  ck_assert_uint_le(schedule_time_ns(&schedule, 100), 2 * NS_PER_S);
  ck_assert_uint_eq(schedule_time_ns(&schedule, 101), NEVER);
}
END_TEST

/* The number of exchanges before a time is the inverse of their times. */
static void check_counts(const struct schedule *schedule, uint64_t from, uint64_t step) {
  for (uint64_t k = from; k < from + 1000 * step; k += step) {
    const uint64_t time = schedule_time_ns(schedule, k);
    if (time == NEVER) {
      break;
    }
    const uint64_t before = schedule_count(schedule, time);
    ck_assert_uint_le(before, k);
    ck_assert(before == k || schedule_time_ns(schedule, before) == time);
    ck_assert_uint_gt(schedule_count(schedule, time + 1), k);
  }
}

START_TEST(test_count_is_the_inverse) {
  static const double rates[] = {1, 3, 7.5, 333333, 1e6, 1e9};
  struct schedule schedule;
  for (size_t i = 0; i < count_of(rates); i++) {
    schedule = constant(rates[i]);
    check_counts(&schedule, 0, 1);
    check_counts(&schedule, (uint64_t)(rates[i] * 86400), 1);
    ck_assert_uint_eq(schedule_count(&schedule, 0), 0);
  }
  ck_assert_uint_eq(schedule_count(&schedule, 3600 * NS_PER_S), UINT64_C(3600000000000));
  for (size_t i = 0; i < count_of(ramps); i++) {
    schedule_init(&schedule, ramps[i].from, ramps[i].to, ramps[i].lead, ramps[i].ramp);
    check_counts(&schedule, 0, 7);
    check_counts(&schedule, 100000, 1);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_constant, 1},        {test_one_a_second, 1},         {test_no_drift, 1},
      {test_phases, 1},          {test_ramps, count_of(ramps)},  {test_rate_of_ramp, 1},
      {test_ends_at_nothing, 1}, {test_count_is_the_inverse, 1},
  };
  return run_suite("schedule", tests, count_of(tests));
}
