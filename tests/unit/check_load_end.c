/*
 * check_load_end: what the end of a run cuts off, and what is too late.
 *
 * No check depends on the speed of the machine: counts must add up, and ages have a least value.
 */
#include "xchg-bench/counters.h"
#include "xchg-bench/intervals.h"
#include "xchg-bench/load.h"
#include "xchg-bench/objective.h"

#include "tests/fixtures/load.h"
#include "tests/fixtures/run_suite.h"
#include "tests/unit/load_server.h"

#include <check.h>

/* Every exchange that was due ended or was unfinished, also where nothing answers. */
START_TEST(test_open_loop_loses_nothing) {
  static const struct {
    enum load_fault fault;
    double rate;
    uint64_t warmup_ns, dropped_min;
  } cases[] = {{FAULT_NONE, 1000, 0, 0},
               {FAULT_MUTE, 1000, 0, 490},
               {FAULT_MUTE, 1000, 100 * NS_PER_MS, 490},
               {FAULT_NONE, 1e9, 0, 1},
               {FAULT_MUTE, 1e9, 0, 499999900}};
  struct load_server server = {.fault = cases[_i].fault};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 5);
  options.rate = cases[_i].rate;
  options.warmup_ns = cases[_i].warmup_ns;
  options.duration_ns = 500 * NS_PER_MS;
  struct result *result = fixture_run(&options);
  const uint64_t due = (uint64_t)(options.rate / 2);
  const uint64_t all = result->exchanges + result_errors(result) + result->unfinished;
  ck_assert_uint_eq(all, due);
  ck_assert_uint_le(result->dropped, result->unfinished);
  ck_assert_uint_ge(result->dropped, cases[_i].dropped_min);
  ck_assert_uint_eq(result->unfinished_times[TIMES_LATENCY]->count, result->unfinished);
  ck_assert_uint_eq(result->unfinished_times[TIMES_LATENCY]->max_ns, result->unfinished_oldest_ns);
  if (cases[_i].fault == FAULT_MUTE) {
    ck_assert_uint_eq(result->exchanges, 0);
    ck_assert_uint_ge(result->unfinished_oldest_ns, 499 * NS_PER_MS);
    ck_assert_uint_ge(result_percentile(result, TIMES_LATENCY, 50), 240 * NS_PER_MS);
    ck_assert_uint_le(result_percentile(result, TIMES_LATENCY, 50), 260 * NS_PER_MS);
  }
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* A closed loop has one exchange in flight for each connection and place in the pipeline. */
START_TEST(test_closed_loop_tells_what_is_in_flight) {
  struct load_server server = {.fault = FAULT_MUTE};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 5);
  options.pipeline = _i == 0 ? 1 : 4;
  options.count = _i == 2 ? 3 : 0;
  options.warmup_ns = 200 * NS_PER_MS;
  options.duration_ns = 300 * NS_PER_MS;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges + result_errors(result), 0);
  ck_assert_uint_eq(result->unfinished, _i == 0 ? 5 : _i == 1 ? 20 : 3);
  ck_assert_uint_eq(result->dropped, 0);
  ck_assert_uint_ge(result->unfinished_oldest_ns, 301 * NS_PER_MS); /* the warm-up counts */
  ck_assert_uint_eq(result->unfinished_times[TIMES_FIRST_BYTE]->count, result->unfinished);
  ck_assert_uint_ge(result_percentile(result, TIMES_LATENCY, 99), 301 * NS_PER_MS);
  ck_assert(result->intervals[0].is_last);
  ck_assert_uint_eq(result->intervals[0].unfinished, result->unfinished);
  ck_assert_uint_ge(result->intervals[0].max_ns, 301 * NS_PER_MS);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* After the last of --count nothing is unfinished. */
START_TEST(test_a_count_leaves_nothing_unfinished) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.pipeline = 4;
  options.warmup_ns = 50 * NS_PER_MS;
  options.count = 5;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 5);
  ck_assert_uint_eq(result->unfinished, 0);
  ck_assert_uint_eq(result->unfinished_oldest_ns, 0);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* An answer 15 ms after the limit is an error although the sweep would come later. */
START_TEST(test_an_answer_after_the_limit_is_an_error) {
  struct load_server server = {.fault = FAULT_STALL, .after = 0, .stall_ns = 515 * NS_PER_MS};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 1, 1);
  options.count = 1;
  options.timeout_ns = 500 * NS_PER_MS;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 0);
  ck_assert_uint_eq(result->errors[ERROR_TIMEOUT], 1);
  ck_assert_uint_ge(result->latency->min_ns, 500 * NS_PER_MS);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* What is over the limit when the window ends is an error, and not unfinished. */
START_TEST(test_over_the_limit_at_the_end_is_an_error) {
  struct load_server server = {.fault = FAULT_MUTE};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 1, 3);
  options.timeout_ns = 970 * NS_PER_MS; /* the sweeps are 60 ms apart */
  options.duration_ns = NS_PER_S;
  struct result *result = fixture_run(&options);
  ck_assert_uint_ge(result->errors[ERROR_TIMEOUT] + result->unfinished, 3);
  ck_assert_uint_lt(result->unfinished_oldest_ns, options.timeout_ns);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

static const struct {
  enum load_fault fault;
  const char *objective;
  double rate;
  uint64_t count, duration_s;
  bool aborted;
} hurries[] = {
    {FAULT_MUTE, "max<500ms", 0, 0, 3600, true},
    {FAULT_MUTE, "p99<500ms", 1000, 0, 50, true}, /* 500 of 50000 are 1 % */
    {FAULT_RESET, "errors<10", 0, 0, 3600, true},
    {FAULT_RESET, "errors<0.1%", 1000, 0, 50, true},
    {FAULT_RESET, "errors<1%", 0, 500, 3600, true},
    {FAULT_NONE, "errors=0", 100, 0, 2, false},
    {FAULT_MUTE, "errors<100%", 100, 0, 2, false},
    {FAULT_MUTE, "unfinished=0", 100, 0, 2, false}, /* the answers may still come */
};

/* A run whose objective is lost ends early; its result misses the objective. */
START_TEST(test_fail_fast) {
  struct load_server server = {.fault = hurries[_i].fault};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.rate = hurries[_i].rate;
  options.count = hurries[_i].count;
  options.duration_ns = hurries[_i].duration_s * NS_PER_S;
  options.fail_fast = true;
  options.slo_count = 1;
  ck_assert_int_eq(objective_parse(hurries[_i].objective, &options.slo[0]), 0);
  struct result *result = fixture_run(&options);
  ck_assert(result->aborted == hurries[_i].aborted);
  if (hurries[_i].aborted) {
    ck_assert_double_lt(result->seconds, (double)hurries[_i].duration_s);
    ck_assert(!result->interrupted);
    ck_assert(!objective_is_met_by(&options.slo[0], result));
  } else {
    ck_assert_double_eq_tol(result->seconds, (double)hurries[_i].duration_s, 1e-6);
  }
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* A thread without a CPU ends a slot late; its waiting is a share of the interval all the same. */
START_TEST(test_waiting_is_at_most_the_interval) {
  struct counters *counters = counters_create(false, NEVER);
  struct result *result = result_create(false, 1);
  struct intervals intervals;
  ck_assert_int_eq(intervals_init(&intervals), 0);
  intervals.result = result;
  intervals.counters = &counters;
  intervals.threads = 1;
  intervals.length_s = 1;
  counters_set_window(counters, 0, NEVER);
  counters_wait(counters, 3 * NS_PER_S);
  ck_assert(counters_next_slot(counters, NS_PER_S));
  if (_i == 0) { /* complete */
    ck_assert_ptr_nonnull(intervals_gather(&intervals, 1));
  }
  intervals_finish(&intervals, _i == 0 ? 1 : 0.5);
  ck_assert_uint_eq(result->intervals_count, 1);
  ck_assert_double_eq(result->intervals[0].waiting_max, 1);
  intervals_fini(&intervals);
  result_destroy(result);
  counters_destroy(counters);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_open_loop_loses_nothing, 5},
      {test_closed_loop_tells_what_is_in_flight, 3},
      {test_a_count_leaves_nothing_unfinished, 1},
      {test_an_answer_after_the_limit_is_an_error, 1},
      {test_over_the_limit_at_the_end_is_an_error, 1},
      {test_fail_fast, count_of(hurries)},
      {test_waiting_is_at_most_the_interval, 2},
  };
  return run_suite("load_end", tests, count_of(tests));
}
