/*
 * check_plan: the runs that a plan does, with a simulated load.
 *
 * The simulated server answers up to `capacity` exchanges per second with a latency of 1 ms.  Above
 * that rate the latency is 1 s.  The variables are static because a plan_load has no argument for
 * them; each test runs in its own process.
 */
#include "xchg-bench/plan.h"
#include "xchg-bench/objective.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 256

static struct load_plan seen[RUNS_MAX];
static double seen_rate[RUNS_MAX];
static uint32_t seen_count;
static double capacity = 1e12;
static uint32_t interrupt_at = RUNS_MAX, fail_at = RUNS_MAX;
static bool is_noisy;
static double capacity_later = 1e12; /* in runs of more than PROBE_SECONDS */
#define PROBE_SECONDS 2

static int pretend(const struct options *options, const struct load_plan *plan,
                   struct result *result) {
  ck_assert_uint_lt(seen_count, RUNS_MAX);
  seen[seen_count] = *plan;
  seen_rate[seen_count] = options->rate;
  if (seen_count == fail_at) {
    errno = EMFILE;
    return -1;
  }
  double rate = plan->rate_to > 0 ? plan->rate_to : 500;
  result->seconds = plan->duration_ns == NEVER ? 1 : (double)plan->duration_ns / 1e9;
  double most = result->seconds > PROBE_SECONDS ? fmin(capacity, capacity_later) : capacity;
  bool is_over = rate > most || (is_noisy && seen_count % 2 == 0);
  result->exchanges = (uint64_t)(fmin(rate, most) * result->seconds);
  result->target_rate = plan->rate_to;
  result->has_latency = true;
  hdr_record(result->latency, is_over ? NS_PER_S : NS_PER_MS + seen_count);
  result->errors[ERROR_TIMEOUT] = seen_count;
  result->interrupted = seen_count == interrupt_at;
  result->intervals_count = 1;
  result->intervals[0] = (struct interval){.seconds = result->seconds, .exchanges = 1};
  result->client = (struct usage){
      .known = true, .cpu_s = 0.5, .seconds = 1, .context_switches = 3, .resident_bytes = 100};
  seen_count++;
  return 0;
}

static struct options *make_options(void) {
  struct options *options = calloc(1, sizeof(*options));
  ck_assert_ptr_nonnull(options);
  options->repeat = 1;
  options->duration_ns = 10 * NS_PER_S;
  return options;
}

/* Do the runs of ${options}; the progress of a search is discarded. */
static void run(struct plan *plan, const struct options *options) {
  FILE *nowhere = fopen("/dev/null", "w");
  ck_assert_ptr_nonnull(nowhere);
  ck_assert_int_eq(plan_run(plan, options, pretend, nowhere), 0);
  fclose(nowhere);
}

START_TEST(one_run_is_what_the_options_say) {
  struct options *options = make_options();
  struct plan plan;
  options->rate = 250;
  run(&plan, options);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert_uint_eq(seen_count, 1);
  ck_assert(seen[0].rate_from == 250 && seen[0].rate_to == 250);
  ck_assert_uint_eq(seen[0].duration_ns, 10 * NS_PER_S);
  ck_assert_ptr_nonnull(plan.runs[0]->uncorrected);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_closed_loop_has_no_rate) {
  struct options *options = make_options();
  struct plan plan;
  options->duration_ns = NEVER;
  options->count = 100;
  run(&plan, options);
  ck_assert(seen[0].rate_from == 0 && seen[0].rate_to == 0 && seen_rate[0] == 0);
  ck_assert_uint_eq(seen[0].duration_ns, NEVER);
  ck_assert_ptr_null(plan.runs[0]->uncorrected);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(repetitions_are_runs) {
  struct options *options = make_options();
  struct plan plan;
  options->repeat = 4;
  run(&plan, options);
  ck_assert_uint_eq(plan.runs_count, 4);
  ck_assert_uint_eq(seen_count, 4);
  struct objective errors;
  ck_assert_int_eq(objective_parse("errors<2", &errors), 0);
  /* The runs had 0, 1, 2 and 3 errors. */
  ck_assert(plan_objective_value(&plan, options, &errors) == 1.5);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_ramp_is_one_run) {
  struct options *options = make_options();
  struct plan plan;
  options->ramp = true;
  options->ramp_from = 100;
  options->ramp_to = 900;
  options->ramp_ns = 7 * NS_PER_S;
  run(&plan, options);
  ck_assert_uint_eq(seen_count, 1);
  ck_assert(seen[0].rate_from == 100 && seen[0].rate_to == 900);
  ck_assert_uint_eq(seen[0].duration_ns, 7 * NS_PER_S);
  ck_assert(seen_rate[0] > 0);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(steps_are_runs_and_the_first_that_misses_decides) {
  struct options *options = make_options();
  struct plan plan;
  options->steps = 3;
  options->step_rate[0] = 10;
  options->step_rate[1] = 20;
  options->step_rate[2] = 40;
  options->step_ns = 3 * NS_PER_S;
  capacity = 15;
  run(&plan, options);
  ck_assert_uint_eq(plan.runs_count, 3);
  for (int i = 0; i < 3; i++) {
    ck_assert(seen[i].rate_from == options->step_rate[i]);
    ck_assert_uint_eq(seen[i].duration_ns, 3 * NS_PER_S);
  }
  struct objective objective;
  ck_assert_int_eq(objective_parse("errors=0", &objective), 0);
  ck_assert(plan_objective_value(&plan, options, &objective) == 1);
  ck_assert_int_eq(objective_parse("errors<9", &objective), 0);
  ck_assert(plan_objective_value(&plan, options, &objective) == 2);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(fail_fast_skips_the_steps_after_a_miss) {
  struct options *options = make_options();
  struct plan plan;
  options->steps = 3;
  options->step_rate[0] = 10;
  options->step_rate[1] = 20;
  options->step_rate[2] = 40;
  options->step_ns = 3 * NS_PER_S;
  options->fail_fast = _i == 1;
  options->slo_count = 2;
  ck_assert_int_eq(objective_parse("errors<9", &options->slo[0]), 0);
  ck_assert_int_eq(objective_parse("p99<2ms", &options->slo[1]), 0);
  capacity = 15;
  run(&plan, options);
  ck_assert_uint_eq(plan.runs_count, _i == 1 ? 2 : 3);
  ck_assert(plan_objective_value(&plan, options, &options->slo[1]) > 2e6);
  plan_fini(&plan);
  free(options);
}
END_TEST

static const double capacities[] = {1, 3, 77, 999, 1000, 1001, 31415, 2.5e6};

START_TEST(a_search_finds_the_capacity) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2ms", &options->search_objective), 0);
  capacity = capacities[_i];
  run(&plan, options);
  ck_assert_msg(plan.searched_rate <= capacity && plan.searched_rate * 1.03 + 1 >= capacity,
                "found %f of %f", plan.searched_rate, capacity);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert(seen[seen_count - 1].rate_to == plan.searched_rate);
  ck_assert_uint_eq(seen[seen_count - 1].duration_ns, options->duration_ns);
  for (uint32_t i = 0; i + 1 < seen_count; i++) {
    ck_assert_uint_eq(seen[i].duration_ns, plan_probe_ns(options));
  }
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_rate_that_is_not_reached_is_not_kept) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("errors<1G", &options->search_objective), 0);
  capacity = 5000;
  run(&plan, options);
  /* 98 % of a rate count as reached. */
  ck_assert_msg(plan.searched_rate > 5000 && plan.searched_rate < 5000 / 0.98 * 1.01, "found %f",
                plan.searched_rate);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(one_noisy_probe_of_two_changes_nothing) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2ms", &options->search_objective), 0);
  capacity = 8000;
  is_noisy = true;
  run(&plan, options);
  ck_assert_msg(plan.searched_rate <= 8000 && plan.searched_rate * 1.03 >= 8000, "found %f",
                plan.searched_rate);
  plan_fini(&plan);
  free(options);
}
END_TEST

/* A server that turns slow after a while passes the probes, and only a full run shows it. */
START_TEST(a_rate_counts_only_if_its_own_run_keeps_it) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse(_i == 0 ? "p99<2ms" : "errors<1G", &options->search_objective),
                   0);
  capacity = 31415;
  capacity_later = 36;
  run(&plan, options);
  ck_assert(plan.searched_rate == 0);
  ck_assert(plan.probed_rate > 30000);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert_uint_eq(seen[seen_count - 1].duration_ns, options->duration_ns);
  ck_assert(plan.runs[0]->found_rate == 0);
  plan_fini(&plan);
  free(options);
}
END_TEST

/* At the edge, a lower rate that a probe kept is confirmed instead. */
START_TEST(the_next_lower_rate_is_confirmed) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2ms", &options->search_objective), 0);
  capacity = 10000;
  capacity_later = 9900;
  run(&plan, options);
  ck_assert_msg(plan.searched_rate <= 9900 && plan.searched_rate > 9000, "found %f",
                plan.searched_rate);
  ck_assert(plan.probed_rate > 9900);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert(plan.runs[0]->found_rate == plan.searched_rate);
  ck_assert(plan.runs[0]->target_rate == plan.searched_rate);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_rate_without_an_exchange_is_not_reached) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  options->duration_ns = NS_PER_S;
  ck_assert_int_eq(objective_parse("errors<1G", &options->search_objective), 0);
  capacity = 0;
  run(&plan, options);
  ck_assert(plan.searched_rate == 0 && plan.probed_rate == 0);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(where_no_rate_keeps_it_a_run_shows_why) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2us", &options->search_objective), 0);
  run(&plan, options);
  ck_assert(plan.searched_rate == 0);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert(plan.runs[0]->target_rate == 1);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_search_ends_where_nothing_breaks) {
  struct options *options = make_options();
  struct plan plan;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2ms", &options->search_objective), 0);
  run(&plan, options);
  ck_assert(plan.searched_rate > 1e8 && plan.searched_rate <= 1e9);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(an_interruption_keeps_what_was_measured) {
  struct options *options = make_options();
  struct plan plan;
  options->repeat = 10;
  interrupt_at = 2;
  run(&plan, options);
  ck_assert(plan.interrupted);
  ck_assert_uint_eq(plan.runs_count, 3);
  ck_assert_uint_eq(seen_count, 3);
  plan_fini(&plan);
  options->repeat = 1;
  options->search = true;
  ck_assert_int_eq(objective_parse("p99<2ms", &options->search_objective), 0);
  seen_count = 0;
  run(&plan, options);
  ck_assert(plan.interrupted);
  ck_assert_uint_eq(plan.runs_count, 1);
  ck_assert_uint_eq(seen_count, 3);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_run_that_cannot_begin_is_told) {
  struct options *options = make_options();
  struct plan plan;
  options->repeat = 3;
  fail_at = 1;
  errno = 0;
  ck_assert_int_eq(plan_run(&plan, options, pretend, stdout), -1);
  ck_assert_int_eq(errno, EMFILE);
  ck_assert_uint_eq(plan.runs_count, 1);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(a_sum_adds_histograms_and_rows) {
  struct options *options = make_options();
  struct plan plan;
  options->repeat = 3;
  options->rate = 100;
  run(&plan, options);
  struct result *sum = plan_sum(&plan, options);
  ck_assert_ptr_nonnull(sum);
  ck_assert(sum->seconds == 30);
  ck_assert_uint_eq(sum->exchanges, 3000);
  ck_assert_uint_eq(sum->latency->count, 3);
  ck_assert_uint_eq(sum->errors[ERROR_TIMEOUT], 3);
  ck_assert(sum->target_rate == 100);
  ck_assert_uint_eq(sum->intervals_count, 3);
  ck_assert(sum->intervals[2].at_s == 20);
  ck_assert(sum->client.known && sum->client.cpu_s == 1.5 && sum->client.resident_bytes == 100);
  ck_assert(!sum->server.known);
  result_destroy(sum);
  plan_fini(&plan);
  free(options);
}
END_TEST

START_TEST(probes_are_short) {
  struct options *options = make_options();
  ck_assert_uint_eq(plan_probe_ns(options), 2 * NS_PER_S);
  options->duration_ns = NS_PER_S;
  ck_assert_uint_eq(plan_probe_ns(options), 500 * NS_PER_MS);
  options->duration_ns = 3600 * NS_PER_S;
  ck_assert_uint_eq(plan_probe_ns(options), 5 * NS_PER_S);
  free(options);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {one_run_is_what_the_options_say, 1},
      {a_closed_loop_has_no_rate, 1},
      {repetitions_are_runs, 1},
      {a_ramp_is_one_run, 1},
      {steps_are_runs_and_the_first_that_misses_decides, 1},
      {fail_fast_skips_the_steps_after_a_miss, 2},
      {a_search_finds_the_capacity, count_of(capacities)},
      {a_rate_that_is_not_reached_is_not_kept, 1},
      {one_noisy_probe_of_two_changes_nothing, 1},
      {a_rate_counts_only_if_its_own_run_keeps_it, 2},
      {the_next_lower_rate_is_confirmed, 1},
      {a_rate_without_an_exchange_is_not_reached, 1},
      {where_no_rate_keeps_it_a_run_shows_why, 1},
      {a_search_ends_where_nothing_breaks, 1},
      {an_interruption_keeps_what_was_measured, 1},
      {a_run_that_cannot_begin_is_told, 1},
      {a_sum_adds_histograms_and_rows, 1},
      {probes_are_short, 1},
  };
  return run_suite("plan", tests, count_of(tests));
}
