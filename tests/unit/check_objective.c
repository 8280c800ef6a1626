/*
 * check_objective: how objectives are parsed, refused and decided.
 */
#include "xchg-bench/objective.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <math.h>
#include <string.h>

START_TEST(objectives_are_read) {
  static const struct {
    const char *text;
    double percent;
    char op;
    double value;
  } cases[] = {
      {"p99<2ms", 99, '<', 2e6},
      {"p99.9<5ms", 99.9, '<', 5e6},
      {"p50>100us", 50, '>', 1e5},
      {"p100=1s", 100, '=', 1e9},
      {"max<60s", 100, '<', 60e9},
      {"errors=0", OBJECTIVE_ERRORS, '=', 0},
      {"errors<1k", OBJECTIVE_ERRORS, '<', 1000},
      {"rate>1000", OBJECTIVE_RATE, '>', 1000},
      {"p99<=5ms", 99, '<', 5e6},
      {"p99>=5ms", 99, '>', 5e6},
      {"errors<1%", OBJECTIVE_ERRORS, '<', 1},
      {"errors<=0.5%", OBJECTIVE_ERRORS, '<', 0.5},
      {"dropped=0", OBJECTIVE_DROPPED, '=', 0},
      {"dropped<=100%", OBJECTIVE_DROPPED, '<', 100},
      {"unfinished<1k", OBJECTIVE_UNFINISHED, '<', 1000},
      {"rate>1.5M", OBJECTIVE_RATE, '>', 1.5e6},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    struct objective c;
    ck_assert_msg(objective_parse(cases[i].text, &c) == 0, "'%s' is refused", cases[i].text);
    ck_assert_str_eq(c.text, cases[i].text);
    ck_assert_double_eq_tol(c.percent, cases[i].percent, 1e-9);
    ck_assert_int_eq(c.op, cases[i].op);
    ck_assert(c.or_equal == (strchr(c.text, '=') > strpbrk(c.text, "<>") && c.op != '='));
    ck_assert(c.is_share == (strchr(c.text, '%') != NULL));
    ck_assert_double_eq_tol(c.value, cases[i].value, 1e-3);
  }
}
END_TEST

START_TEST(what_is_no_condition_is_refused) {
  static const char *const texts[] = {
      "",
      "p99",
      "p99<",
      "<2ms",
      "99<2ms",
      "p<2ms",
      "p0<2ms",
      "p101<2ms",
      "p99<2",
      "p99<=",
      "p99<==2ms",
      "p99>==2ms",
      "p99==2ms",
      "p99=<2ms",
      "p99<2%",
      "max<1%",
      "rate>5%",
      "errors<%",
      "errors<101%",
      "errors<1%%",
      "errors<1 %",
      "errors<-1%",
      "dropped<1ms",
      "unfinish=0",
      "p99<<2ms",
      "p99 < 2ms",
      "p99<2ms ",
      "p-1<2ms",
      "p1k<2ms",
      "errors=",
      "errors=0ms",
      "error=0",
      "rate>1ms",
      "latency<2ms",
      "p99<2ms,errors=0",
      "P99<2ms",
      "p99!2ms",
      "p99.99999999999999999<2ms",
      "errors=00000000000000000000000000000000000000000000000000000000000000000000"};
  for (size_t i = 0; i < count_of(texts); i++) {
    struct objective c = {.text = "kept"};
    ck_assert_msg(objective_parse(texts[i], &c) == -1, "'%s' is taken", texts[i]);
    ck_assert_str_eq(c.text, "kept");
  }
}
END_TEST

START_TEST(lists_are_read_to_their_limit) {
  struct objective list[BENCH_SLO_MAX];
  uint32_t count = 7;
  ck_assert_int_eq(objective_parse_list("p99<5ms,errors=0", list, &count), 0);
  ck_assert_uint_eq(count, 2);
  ck_assert_str_eq(list[1].text, "errors=0");
  char text[16 * (BENCH_SLO_MAX + 1)] = "errors=0";
  for (int i = 1; i < BENCH_SLO_MAX; i++) {
    strncat(text, ",errors=0", sizeof(text) - strlen(text) - 1);
  }
  ck_assert_int_eq(objective_parse_list(text, list, &count), 0);
  ck_assert_uint_eq(count, BENCH_SLO_MAX);
  strncat(text, ",errors=0", sizeof(text) - strlen(text) - 1);
  ck_assert_int_eq(objective_parse_list(text, list, &count), -1);
  ck_assert_int_eq(objective_parse_list("", list, &count), -1);
  ck_assert_int_eq(objective_parse_list("errors=0,", list, &count), -1);
  ck_assert_int_eq(objective_parse_list(",errors=0", list, &count), -1);
  ck_assert_uint_eq(count, BENCH_SLO_MAX);
}
END_TEST

static bool holds(const char *text, const struct result *result) {
  struct objective c;
  ck_assert_int_eq(objective_parse(text, &c), 0);
  return objective_is_met_by(&c, result);
}

START_TEST(results_decide) {
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  result->seconds = 2;
  result->exchanges = 2000;
  for (uint64_t i = 1; i <= 1000; i++) {
    hdr_record(result->latency, i * NS_PER_US);
  }
  result->errors[ERROR_WRONG] = 1;
  result->errors[ERROR_SHORT] = 2;
  ck_assert(holds("p50<502us", result));
  ck_assert(!holds("p50<499us", result));
  ck_assert(holds("max=1ms", result));
  ck_assert(holds("max>999us", result));
  ck_assert(!holds("max>1ms", result));
  ck_assert(holds("errors=3", result));
  ck_assert(!holds("errors=0", result));
  ck_assert(!holds("errors<3", result));
  ck_assert(holds("rate=1000", result));
  ck_assert(holds("rate>999.5", result));
  ck_assert(!holds("rate>1k", result));
  result_destroy(result);
}
END_TEST

START_TEST(nothing_recorded_keeps_no_latency) {
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  ck_assert(!holds("p99<60s", result));
  ck_assert(!holds("max<8000h", result));
  ck_assert(!holds("max>1us", result) && !holds("p50>=1us", result));
  ck_assert(!holds("errors>=0%", result) && !holds("unfinished>=0%", result));
  ck_assert(!holds("rate>0", result));
  char text[64];
  struct objective c;
  ck_assert_int_eq(objective_parse("p99<1s", &c), 0);
  ck_assert_str_eq(objective_format(&c, objective_value(&c, result), text, sizeof(text)),
                   "nothing recorded");
  result_destroy(result);
}
END_TEST

START_TEST(the_age_of_what_is_unfinished_keeps_nothing_alone) {
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  result->unfinished = 1;
  hdr_record(result->unfinished_times[TIMES_LATENCY], 700 * NS_PER_MS);
  ck_assert(!holds("max<500ms", result));
  ck_assert(!holds("max<10s", result) && !holds("max>500ms", result));
  char text[64];
  struct objective c;
  ck_assert_int_eq(objective_parse("max<500ms", &c), 0);
  ck_assert_str_eq(objective_format(&c, objective_value(&c, result), text, sizeof(text)),
                   "700.00ms");
  ck_assert_int_eq(objective_parse("max<10s", &c), 0);
  ck_assert_str_eq(objective_format(&c, objective_value(&c, result), text, sizeof(text)),
                   "nothing recorded");
  result_destroy(result);
}
END_TEST

START_TEST(an_equal_value_keeps_what_allows_it) {
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  result->seconds = 1;
  result->exchanges = 990;
  hdr_record(result->latency, 5 * NS_PER_MS);
  result->errors[ERROR_SHORT] = 10;
  ck_assert(holds("max<=5ms", result) && holds("max>=5ms", result) && !holds("max<5ms", result));
  ck_assert(holds("errors<=10", result) && holds("errors>=10", result));
  ck_assert(!holds("errors<10", result) && !holds("errors>10", result));
  ck_assert(holds("errors<=9.9k", result) && !holds("errors<=9", result));
  result_destroy(result);
}
END_TEST

/* Errors are a share of what ended; dropped and unfinished of all that was due. */
START_TEST(a_percentage_is_of_all_exchanges) {
  struct result *result = result_create(true, 1);
  ck_assert_ptr_nonnull(result);
  ck_assert(!holds("errors<100%", result)); /* of nothing */
  result->exchanges = 990;
  result->errors[ERROR_SHORT] = 10;
  ck_assert(holds("errors<=1%", result) && !holds("errors<1%", result));
  ck_assert(holds("dropped=0%", result) && holds("unfinished=0%", result));
  result->unfinished = 1000;
  result->dropped = 500;
  ck_assert(holds("errors=1%", result));
  ck_assert(holds("unfinished=50%", result) && holds("unfinished=1k", result));
  ck_assert(holds("dropped=25%", result) && holds("dropped<501", result));
  result_destroy(result);
}
END_TEST

/* A latency counts what is unfinished, if that makes it worse. */
START_TEST(what_is_unfinished_decides_a_latency) {
  struct result *result = result_create(false, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  for (int i = 0; i < 1000; i++) {
    hdr_record(result->latency, NS_PER_MS);
  }
  hdr_record(result->unfinished_times[TIMES_LATENCY], 2 * NS_PER_S);
  ck_assert(!holds("max<500ms", result) && holds("p99<2ms", result));
  hdr_record_many(result->unfinished_times[TIMES_LATENCY], NS_PER_US, 100000);
  ck_assert(!holds("p50<999us", result)); /* many young ones do not make it better */
  hdr_record_many(result->unfinished_times[TIMES_LATENCY], NS_PER_S, 10000);
  ck_assert(!holds("p99<2ms", result));
  result_destroy(result);
}
END_TEST

static bool is_lost(const char *text, const struct result *result, uint64_t total) {
  struct objective c;
  ck_assert_int_eq(objective_parse(text, &c), 0);
  return objective_is_lost(&c, result, total);
}

/* A run is over early only when nothing that may come can keep the objective. */
START_TEST(an_objective_is_lost_when_nothing_can_keep_it) {
  struct result *result = result_create(true, 1);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  hdr_record_many(result->latency, NS_PER_MS, 100);
  hdr_record_many(result->latency, NS_PER_S, 10);
  ck_assert(!is_lost("p99<500ms", result, 1000) && is_lost("p99<500ms", result, 999));
  ck_assert(is_lost("p50<500ms", result, 19) && !is_lost("p50<500ms", result, 20));
  ck_assert(!is_lost("p99<500ms", result, NEVER) && is_lost("max<500ms", result, NEVER));
  ck_assert(!is_lost("max<2s", result, NEVER) && !is_lost("max>2s", result, NEVER));
  hdr_record(result->unfinished_times[TIMES_LATENCY], 3 * NS_PER_S);
  ck_assert(is_lost("max<2s", result, NEVER) && is_lost("p99<500ms", result, 1000));
  result->errors[ERROR_RESET] = 10;
  ck_assert(is_lost("errors<10", result, NEVER) && !is_lost("errors<=10", result, NEVER));
  ck_assert(!is_lost("errors=10", result, NEVER) && is_lost("errors=9", result, NEVER));
  ck_assert(is_lost("errors<1%", result, 1000) && !is_lost("errors<=1%", result, 1000));
  ck_assert(!is_lost("errors<1%", result, NEVER) && !is_lost("errors>100", result, NEVER));
  ck_assert(!is_lost("rate>1G", result, 1) && !is_lost("dropped=0", result, 1));
  result_destroy(result);
}
END_TEST

START_TEST(values_are_written_in_their_unit) {
  static const struct {
    const char *objective;
    double value;
    const char *text;
  } cases[] = {{"p99<1s", 1.25e6, "1.25ms"},  {"errors=0", 3, "3"},
               {"rate>1", 1000, "1000.00/s"}, {"errors<1%", 0.25, "0.25%"},
               {"dropped=0", 12, "12"},       {"errors<1%", INFINITY, "nothing recorded"}};
  for (size_t i = 0; i < count_of(cases); i++) {
    struct objective c;
    char text[64];
    ck_assert_int_eq(objective_parse(cases[i].objective, &c), 0);
    ck_assert_str_eq(objective_format(&c, cases[i].value, text, sizeof(text)), cases[i].text);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {objectives_are_read, 1},
      {what_is_no_condition_is_refused, 1},
      {lists_are_read_to_their_limit, 1},
      {results_decide, 1},
      {nothing_recorded_keeps_no_latency, 1},
      {the_age_of_what_is_unfinished_keeps_nothing_alone, 1},
      {an_equal_value_keeps_what_allows_it, 1},
      {a_percentage_is_of_all_exchanges, 1},
      {what_is_unfinished_decides_a_latency, 1},
      {an_objective_is_lost_when_nothing_can_keep_it, 1},
      {values_are_written_in_their_unit, 1},
  };
  return run_suite("objective", tests, count_of(tests));
}
