/*
 * check_report_text: the lines that scripts look for, and all other values of a result.
 */
#include "xchg-bench/report.h"
#include "xchg-bench/result.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <math.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Make the result and the options of all tests; the caller frees both. */
static struct options *make_options(void) {
  struct options *options = calloc(1, sizeof(*options));
  ck_assert_ptr_nonnull(options);
  memcpy(options->target, "127.0.0.1:7000", 15);
  options->threads = 2;
  options->connections = 10;
  options->duration_ns = 10 * NS_PER_S;
  options->repeat = 1;
  return options;
}

static struct result *make_result(bool open_loop) {
  struct result *result = result_create(open_loop, 2);
  ck_assert_ptr_nonnull(result);
  result->has_latency = true;
  result->seconds = 2;
  result->exchanges = 1000;
  result->bytes_in = 2048;
  result->bytes_out = 4096;
  result->target_rate = open_loop ? 600 : 0;
  result->connected = 10;
  for (uint64_t i = 1; i <= 1000; i++) {
    hdr_record(result->latency, i * NS_PER_US);
    hdr_record(result->first_byte, i * NS_PER_US / 2);
    if (open_loop) {
      hdr_record(result->uncorrected, i * NS_PER_US / 4);
    }
  }
  hdr_record(result->connect, 70 * NS_PER_US);
  result->client = (struct usage){.known = true,
                                  .cpu_s = 0.01,
                                  .seconds = 2,
                                  .context_switches = 500,
                                  .resident_bytes = 2097152};
  result->intervals_count = 2;
  result->intervals[0] = (struct interval){.seconds = 1, .exchanges = 400};
  result->intervals[1] = (struct interval){.at_s = 1, .seconds = 1, .exchanges = 600};
  return result;
}

static char *text_of(const struct options *options, const struct result *result) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  ck_assert_ptr_nonnull(out);
  report_text_begin(out, options);
  report_text(out, options, result);
  fclose(out);
  return text;
}

static void must_hold(const char *text, const char *part) {
  ck_assert_msg(strstr(text, part) != NULL, "no '%s' in:\n%s", part, text);
}

static void must_not_hold(const char *text, const char *part) {
  ck_assert_msg(strstr(text, part) == NULL, "'%s' in:\n%s", part, text);
}

START_TEST(first_lines_are_those_of_wrk) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  char *text = text_of(options, result);
  const char *first = "Running 10s test @ 127.0.0.1:7000\n  2 threads and 10 connections\n";
  ck_assert_int_eq(strncmp(text, first, strlen(first)), 0);
  must_hold(text, "\n    Latency ");
  must_hold(text, "\n    First byte ");
  must_hold(text, "\n    Connect ");
  must_hold(text, "\n    Req/Sec       500.00     100.00     600.00    100.00%\n");
  must_hold(text, "\n  1000 requests in 2.00s, 2.00KB read, 4.00KB sent\n");
  must_hold(text, "\nRequests/sec:     500.00\n");
  must_hold(text, "\nTransfer/sec:     1.00KB\n");
  must_hold(text,
            "Harness: 0.5 % of a CPU, 10.00us of CPU and 0.500 context switches per exchange, "
            "2.00MB resident");
  static const char *const absent[] = {"Errors", "Target",      "Schedule",     "harness-bound",
                                       "Server", "Interrupted", "Distribution", "Connected:"};
  for (size_t i = 0; i < count_of(absent); i++) {
    must_not_hold(text, absent[i]);
  }
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(lengths_are_told) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  options->idle = 7;
  options->count = 50;
  char *text = text_of(options, result);
  must_hold(text, "Running 50 exchanges or 10s test @");
  must_hold(text, "10 connections, 7 idle\n");
  must_hold(text, "Connected: 10 of 10, idle 0 of 7");
  free(text);
  options->duration_ns = NEVER;
  options->repeat = 3;
  text = text_of(options, result);
  must_hold(text, "Running 3 x 50 exchanges test @");
  free(text);
  options->count = 0;
  options->repeat = 1;
  options->steps = 3;
  options->step_ns = 2 * NS_PER_S;
  text = text_of(options, result);
  must_hold(text, "Running 6s test @");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(open_loop_tells_target_and_lateness) {
  struct options *options = make_options();
  struct result *result = make_result(true);
  options->percentiles = options->uncorrected = true;
  result->late = 5;
  result->late_max_ns = 3 * NS_PER_MS;
  result->dropped = 2;
  char *text = text_of(options, result);
  must_hold(text, "\nTarget/sec:       600.00\nRequests/sec:     500.00\n");
  must_hold(text, "Schedule: 5 begun more than 1ms late, at most 3.00ms; 2 dropped");
  must_hold(text, "Latency Distribution (from the intended start)\n     50.000%  500.22us\n");
  must_hold(text, "Latency Distribution (uncorrected: from the real start)");
  must_hold(text, "    100.000%  1.00ms\n");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(errors_are_told_by_kind_and_errno) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  result->errors[ERROR_CONNECT] = 3;
  result->errors[ERROR_SHORT] = 1;
  result->errnos[ECONNREFUSED] = 2;
  result->errnos[ETIMEDOUT] = 1;
  char *text = text_of(options, result);
  must_hold(text, "  Errors: connect 3, reset 0, timeout 0, wrong 0, short 1\n");
  must_hold(text, "  Errno: ETIMEDOUT 1, ECONNREFUSED 2\n");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(what_spoils_a_figure_is_told) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  options->pids_count = 1;
  result->harness_bound = true;
  result->thread_busy_max = 0.987;
  result->interrupted = true;
  char *text = text_of(options, result);
  must_hold(text, "harness-bound: a thread of the load generator used 98.7 % of a CPU");
  must_hold(text, "Interrupted");
  must_hold(text, "Server: CPU time unknown");
  free(text);
  result->server = (struct usage){.known = true, .cpu_s = 1, .seconds = 2, .resident_bytes = 1024};
  text = text_of(options, result);
  must_hold(text, "Server: 50.0 % of a CPU, 1000.00us of CPU");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

/* A maximum and a percentile count what is unfinished; mean and deviation do not. */
START_TEST(what_is_unfinished_is_told) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  char *text = text_of(options, result);
  must_hold(text, "  Unfinished: 0 at the end\n");
  free(text);
  options->percentiles = true;
  result->unfinished = 2;
  result->unfinished_oldest_ns = 3 * NS_PER_S / 2;
  hdr_record_many(result->unfinished_times[TIMES_LATENCY], 3 * NS_PER_S / 2, 2);
  text = text_of(options, result);
  must_hold(text, "  Unfinished: 2 at the end, the oldest after 1.50s\n");
  must_hold(text, "    Latency     500.50us   288.67us      1.50s ");
  must_hold(text, "    100.000%  1.50s\n");
  free(text);
  hdr_reset(result->latency); /* nothing answers */
  text = text_of(options, result);
  must_hold(text, "    Latency            -          -      1.50s          -\n");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(starvation_is_told) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  result->starved = result->harness_bound = true;
  result->thread_waiting_max = 0.831;
  char *text = text_of(options, result);
  must_hold(text, "starved: a thread of the load generator waited 83.1 % of the time for a CPU");
  must_not_hold(text, "harness-bound");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(the_first_wrong_answer_is_told) {
  struct options *options = make_options();
  struct result *result = make_result(false);
  result->wrong = (struct wrong_example){.at_ns = 1,
                                         .connection = 4,
                                         .offset = 7,
                                         .wanted = "a\\n",
                                         .received = "b",
                                         .hint = "Try it."};
  char *text = text_of(options, result);
  must_hold(text,
            "  First wrong answer: connection 4, byte 7\n    wanted    \"a\\n\"\n"
            "    received  \"b\"\n    Try it.\n");
  free(text);
  result->wrong.wanted[0] = result->wrong.hint[0] = 0;
  text = text_of(options, result);
  must_hold(text, "    wanted    nothing\n    received  \"b\"\n  Unfinished");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(nothing_divides_by_nothing) {
  struct options *options = make_options();
  struct result *result = result_create(true, 1);
  ck_assert_ptr_nonnull(result);
  options->percentiles = options->uncorrected = true;
  result->has_latency = true;
  result->client.known = true;
  result->intervals_count = 1;
  char *text = text_of(options, result);
  must_hold(text, "    Latency            -");
  must_not_hold(text, "nan");
  must_not_hold(text, "inf");
  free(text);
  result->has_latency = false;
  text = text_of(options, result);
  must_hold(text, "No latency");
  must_not_hold(text, "    Latency ");
  must_not_hold(text, "Distribution");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

START_TEST(runs_stand_in_a_table_with_medians) {
  struct options *options = make_options();
  struct result *runs[] = {make_result(false), make_result(false), make_result(false)};
  runs[0]->exchanges = 5000;
  runs[2]->errors[ERROR_RESET] = 4;
  runs[2]->unfinished = 12;
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  report_text_runs(out, options, runs, 3);
  fclose(out);
  must_hold(text, "\n1                 -      2500.00");
  must_hold(text, "\nMedian            -       500.00");
  must_hold(text, "        4         12\n");
  free(text);
  options->steps = 3;
  out = open_memstream(&text, &size);
  report_text_runs(out, options, runs, 3);
  fclose(out);
  must_hold(text, "Step");
  must_not_hold(text, "Median");
  free(text);
  for (size_t i = 0; i < count_of(runs); i++) {
    result_destroy(runs[i]);
  }
  free(options);
}
END_TEST

START_TEST(csv_has_a_row_a_second) {
  struct result *result = make_result(true);
  result->intervals[0].target_rate = 600;
  result->intervals[0].p50_ns = 1500;
  result->intervals[0].waiting_max = NAN;
  result->intervals[1].seconds = 0.5;
  result->intervals[1].waiting_max = 0.25;
  result->intervals[1].is_last = true;
  result->intervals[1].unfinished = 3;
  result->intervals[1].unfinished_oldest_ns = 2500;
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  report_csv(out, result);
  fclose(out);
  ck_assert_str_eq(text,
                   "at_s,seconds,exchanges,rate,target_rate,errors,bytes_in,bytes_out,p50_us,"
                   "p90_us,p99_us,max_us,waiting_max,unfinished,unfinished_oldest_us\n"
                   "0.000,1.000,400,400.00,600.00,0,0,0,1.500,,,,,,\n"
                   "1.000,0.500,600,1200.00,,0,0,0,,,,,0.2500,3,2.500\n");
  free(text);
  result_destroy(result);
}
END_TEST

/* A run that was interrupted before its window, with or without a schedule. */
START_TEST(no_value_is_shown_as_zero) {
  static const char *const zeros[] = {"0.00us", "0.000us", "0.0 %", "0.00us of CPU", " nan", "inf"};
  struct options *options = make_options();
  options->percentiles = options->uncorrected = true;
  struct result *result = result_create(_i != 0, 1);
  ck_assert_ptr_nonnull(result);
  result->target_rate = _i != 0 ? 100 : 0;
  result->client.known = true;
  char *text = text_of(options, result);
  for (size_t i = 0; i < count_of(zeros); i++) {
    must_not_hold(text, zeros[i]);
  }
  must_hold(text, " 99.000%  -\n");
  must_hold(text, "Requests/sec:          -\n");
  must_hold(text, "Transfer/sec:          -\n");
  must_hold(text, "Harness: - % of a CPU, ");
  free(text);
  size_t size;
  FILE *out = open_memstream(&text, &size);
  report_text_runs(out, options, &result, 1);
  report_html(out, options, result);
  hdr_write_hgrm(result->latency, result->unfinished_times[TIMES_LATENCY], out);
  result_next_interval(result)->waiting_max = NAN;
  report_csv(out, result);
  fclose(out);
  for (size_t i = 0; i < count_of(zeros); i++) {
    must_not_hold(text, zeros[i]);
  }
  must_hold(text, "            -          -          -          -          -");
  must_hold(text, "<td>whole exchange</td><td>0</td><td>-</td>");
  must_hold(text, "<td>- %</td><td>-</td><td>-</td>");
  must_hold(text, "<strong>- exchanges a second</strong>");
  must_hold(text, "#[Mean    =            -, StdDeviation   =            -]");
  must_hold(text, "\n0.000,0.000,0,,,0,0,0,,,,,,,\n");
  free(text);
  result_destroy(result);
  free(options);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {first_lines_are_those_of_wrk, 1},
      {lengths_are_told, 1},
      {open_loop_tells_target_and_lateness, 1},
      {errors_are_told_by_kind_and_errno, 1},
      {what_spoils_a_figure_is_told, 1},
      {nothing_divides_by_nothing, 1},
      {what_is_unfinished_is_told, 1},
      {starvation_is_told, 1},
      {the_first_wrong_answer_is_told, 1},
      {runs_stand_in_a_table_with_medians, 1},
      {csv_has_a_row_a_second, 1},
      {no_value_is_shown_as_zero, 2},
  };
  return run_suite("report_text", tests, count_of(tests));
}
