/*
 * check_merge: a merged report equals the report of one load generator with all the values.
 *
 * Percentiles are the same; rates, counts and errors are added; a server that several reports
 * watched counts once.  Reports that cannot be merged are refused.
 */
#include "tests/fixtures/report.h"
#include "tests/fixtures/run_suite.h"

#include "xchg-bench/histogram_read.h"
#include "xchg-bench/json_read.h"
#include "xchg-bench/merge.h"

#include <fcntl.h>

#define REPORTS 3

static struct report reports[REPORTS], merged;

/* Make reports of ${runs} runs each. */
static void make_reports(bool open_loop, uint32_t runs) {
  for (uint64_t i = 0; i < REPORTS; i++) {
    fixture_options(&reports[i].options);
    reports[i].path = "x.json";
    reports[i].runs = calloc(runs, sizeof(struct result *));
    ck_assert_ptr_nonnull(reports[i].runs);
    for (reports[i].runs_count = 0; reports[i].runs_count < runs; reports[i].runs_count++) {
      reports[i].runs[reports[i].runs_count] =
          fixture_result(open_loop, 10 * i + reports[i].runs_count);
    }
  }
}

static void free_reports(void) {
  for (uint32_t i = 0; i < REPORTS; i++) {
    report_fini(&reports[i]);
  }
}

static void merge(void) {
  const char *wrong = merge_reports(&merged, reports, REPORTS);
  ck_assert_msg(wrong == NULL, "%s", wrong);
}

START_TEST(histograms_are_added) {
  static struct hdr_histogram all;
  make_reports(true, 2);
  merge();
  ck_assert_uint_eq(merged.runs_count, 2);
  for (uint32_t run = 0; run < 2; run++) {
    hdr_reset(&all);
    for (uint32_t i = 0; i < REPORTS; i++) {
      hdr_add(&all, reports[i].runs[run]->latency);
    }
    ck_assert_mem_eq(merged.runs[run]->latency->buckets, all.buckets, sizeof(all.buckets));
    ck_assert_uint_eq(merged.runs[run]->latency->clamped, REPORTS);
    ck_assert_uint_eq(hdr_percentile(merged.runs[run]->latency, 99), hdr_percentile(&all, 99));
    ck_assert_uint_eq(merged.runs[run]->uncorrected->count, REPORTS * FIXTURE_VALUES);
    ck_assert_uint_eq(merged.runs[run]->connect->count, REPORTS * FIXTURE_VALUES / 100);
    ck_assert_uint_eq(merged.runs[run]->first_byte->count, REPORTS * FIXTURE_VALUES);
  }
  merge_fini(&merged);
  free_reports();
}
END_TEST

START_TEST(rates_counts_and_errors_are_summed) {
  make_reports(true, 1);
  reports[1].runs[0]->seconds = 5;
  double rates = 0;
  uint64_t exchanges = 0;
  for (uint32_t i = 0; i < REPORTS; i++) {
    rates += (double)reports[i].runs[0]->exchanges / reports[i].runs[0]->seconds;
    exchanges += reports[i].runs[0]->exchanges;
  }
  merge();
  const struct result *sum = merged.runs[0];
  ck_assert_uint_eq(sum->exchanges, exchanges);
  ck_assert_double_eq_tol((double)sum->exchanges / sum->seconds, rates, 1e-9 * rates);
  ck_assert_double_eq(sum->target_rate, 15000);
  ck_assert_uint_eq(sum->bytes_out, 999 * (0 + 10 + 20));
  ck_assert_uint_eq(sum->errors[ERROR_TIMEOUT], 0 + 10 + 20 + 3 * ERROR_TIMEOUT);
  ck_assert_uint_eq(sum->errnos[ECONNRESET], 2 * 30);
  ck_assert_uint_eq(sum->late, 17 * 30);
  ck_assert_uint_eq(sum->late_max_ns, 1234567 + 20);
  ck_assert_uint_eq(sum->dropped, 12);
  ck_assert_uint_eq(sum->unfinished, 3 * 9 + 30);
  ck_assert_uint_eq(sum->unfinished_oldest_ns, 5 * NS_PER_MS + 20);
  ck_assert_uint_eq(sum->unfinished_times[TIMES_LATENCY]->count, 3 * 9 + 30);
  ck_assert_double_eq(sum->found_rate, 3 * 4900);
  ck_assert_double_eq(sum->thread_waiting_max, 0.25);
  ck_assert(sum->starved);
  ck_assert_uint_eq(sum->connected, 21);
  ck_assert_double_eq_tol(sum->client.cpu_s, 31, 1e-9);
  ck_assert(sum->harness_bound);
  ck_assert_uint_eq(merged.options.connections, 21);
  ck_assert_uint_eq(merged.options.threads, 9);
  ck_assert_double_eq(merged.options.rate, 15000);
  merge_fini(&merged);
  free_reports();
}
END_TEST

START_TEST(equal_lengths_stay) {
  make_reports(false, 1);
  merge();
  ck_assert_double_eq_tol(merged.runs[0]->seconds, 2.5, 1e-12);
  ck_assert_ptr_null(merged.runs[0]->uncorrected);
  merge_fini(&merged);
  free_reports();
}
END_TEST

/* The percentiles of an interval are unknown. */
START_TEST(intervals_are_added_row_by_row) {
  make_reports(true, 1);
  reports[2].runs[0]->intervals_count = 2; /* it ended earlier */
  merge();
  const struct result *sum = merged.runs[0];
  ck_assert_uint_eq(sum->intervals_count, FIXTURE_INTERVALS);
  ck_assert_uint_eq(sum->intervals[0].exchanges, 600 + 610 + 620);
  ck_assert_uint_eq(sum->intervals[2].exchanges, 602 + 612);
  ck_assert_uint_eq(sum->intervals[1].errors, 3);
  ck_assert_double_eq(sum->intervals[0].target_rate, 15000);
  ck_assert_double_eq(sum->intervals[2].seconds, 0.5);
  ck_assert_uint_eq(sum->intervals[0].p99_ns, 0);
  ck_assert_uint_eq(sum->intervals[0].max_ns, 4004004 + 20);
  merge_fini(&merged);
  free_reports();
}
END_TEST

START_TEST(a_server_counts_once) {
  make_reports(true, 1);
  double first = reports[0].runs[0]->server.cpu_s;
  merge(); /* all watched 41 and 42 */
  ck_assert_double_eq_tol(merged.runs[0]->server.cpu_s, first, 1e-12);
  ck_assert_uint_eq(merged.options.pids_count, 2);
  merge_fini(&merged);
  reports[1].options.pids[0] = 51; /* and 42 */
  merge();
  ck_assert(!merged.runs[0]->server.known);
  ck_assert_uint_eq(merged.options.pids_count, 3);
  merge_fini(&merged);
  reports[1].options.pids[1] = 52;
  merge();
  ck_assert(merged.runs[0]->server.known);
  ck_assert_double_eq_tol(merged.runs[0]->server.cpu_s, first + reports[1].runs[0]->server.cpu_s,
                          1e-9);
  merge_fini(&merged);
  reports[1].runs[0]->server.known = false;
  merge();
  ck_assert_double_eq_tol(merged.runs[0]->server.cpu_s, first, 1e-12);
  merge_fini(&merged);
  free_reports();
}
END_TEST

START_TEST(targets_are_listed_once) {
  make_reports(true, 1);
  snprintf(reports[1].options.target, sizeof(reports[1].options.target), "127.0.0.1:700");
  merge();
  ck_assert_str_eq(merged.options.target, "127.0.0.1:7000,127.0.0.1:700");
  merge_fini(&merged);
  snprintf(reports[2].options.target, sizeof(reports[2].options.target), "27.0.0.1:7000,a:1");
  merge();
  ck_assert_str_eq(merged.options.target, "127.0.0.1:7000,127.0.0.1:700,27.0.0.1:7000,a:1");
  merge_fini(&merged);
  reports[1].options.target[0] = 0; /* an empty text is in no list */
  merge();
  ck_assert_str_eq(merged.options.target, "127.0.0.1:7000,27.0.0.1:7000,a:1");
  merge_fini(&merged);
  memset(reports[2].options.target, 'x', sizeof(reports[2].options.target) - 1);
  merge();
  ck_assert_uint_eq(strlen(merged.options.target), sizeof(merged.options.target) - 1);
  merge_fini(&merged);
  free_reports();
}
END_TEST

START_TEST(what_differs_is_refused) {
  static const char *const whys[] = {"different numbers of runs", "different exchanges",
                                     "latencies", "open and closed"};
  make_reports(true, 2);
  struct result *run = reports[2].runs[1];
  struct hdr_histogram *uncorrected = run->uncorrected;
  for (size_t i = 0; i < count_of(whys); i++) {
    reports[1].runs_count = i == 0 ? 1 : 2;
    reports[1].options.exchange.exchange = i == 1 ? EXCHANGE_ECHO : EXCHANGE_LINE;
    run->has_latency = i != 2;
    run->uncorrected = i == 3 ? NULL : uncorrected;
    const char *wrong = merge_reports(&merged, reports, REPORTS);
    ck_assert_ptr_nonnull(wrong);
    ck_assert_msg(strstr(wrong, whys[i]) != NULL, "%s", wrong);
  }
  run->uncorrected = uncorrected;
  free_reports();
}
END_TEST

START_TEST(sums_that_no_report_holds_are_refused) {
  make_reports(true, 1);
  struct result *run = reports[1].runs[0];
  uint64_t *const counts[] = {&run->exchanges, &run->bytes_in,  &run->late,
                              &run->dropped,   &run->errors[0], &run->intervals[1].exchanges};
  for (size_t i = 0; i < count_of(counts); i++) {
    const uint64_t before = *counts[i];
    *counts[i] = HISTOGRAM_COUNT_MAX;
    ck_assert_ptr_nonnull(strstr(merge_reports(&merged, reports, REPORTS), "too large"));
    *counts[i] = before;
  }
  reports[1].options.rate = REPORT_RATE_MAX;
  ck_assert_ptr_nonnull(strstr(merge_reports(&merged, reports, REPORTS), "too large"));
  reports[1].options.rate = 0;
  reports[1].options.connections = UINT32_MAX;
  merge();
  ck_assert_uint_eq(merged.options.connections, UINT32_MAX);
  merge_fini(&merged);
  free_reports();
}
END_TEST

/* ---- files ---- */

static char paths[REPORTS][32];

static void write_reports(void) {
  make_reports(true, 1);
  for (uint32_t i = 0; i < REPORTS; i++) {
    fixture_report(paths[i], &reports[i].options, reports[i].runs, 1);
  }
}

static void remove_reports(void) {
  for (uint32_t i = 0; i < REPORTS; i++) {
    unlink(paths[i]);
  }
  free_reports();
}

static int merge_paths(const char *json, FILE *out, FILE *errors) {
  const char *const list[] = {paths[0], paths[1], paths[2]};
  return merge_files(list, REPORTS, json, out, errors);
}

START_TEST(text_and_json_are_written) {
  char json[32];
  write_reports();
  merge();
  fixture_file(json, "", 0);
  FILE *out = open_output();
  ck_assert_int_eq(merge_paths(json, out, stderr), BENCH_OK);
  fclose(out);
  ck_assert_ptr_nonnull(strstr(output, "3 harnesses merged"));
  struct report back;
  ck_assert_int_eq(report_read(&back, json, stderr), 0);
  ck_assert_uint_eq(back.runs[0]->exchanges, merged.runs[0]->exchanges);
  ck_assert_mem_eq(back.runs[0]->latency, merged.runs[0]->latency, sizeof(struct hdr_histogram));
  ck_assert_uint_eq(back.runs[0]->intervals[0].p99_ns, 0);
  report_fini(&back);
  merge_fini(&merged);
  unlink(json);
  remove_reports();
}
END_TEST

START_TEST(a_double_is_refused) {
  write_reports();
  const char *twice[] = {paths[0], paths[1], paths[0]};
  FILE *out = fopen("/dev/null", "w"), *errors = open_output();
  ck_assert_int_eq(merge_files(twice, 3, NULL, out, errors), BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "an earlier report has the same run"));
  ck_assert_ptr_nonnull(strstr(output, paths[0]));
  char merged_path[32];
  fixture_file(merged_path, "", 0);
  errors = open_output();
  ck_assert_int_eq(merge_files((const char *const *)twice, 2, merged_path, out, errors), BENCH_OK);
  fclose(errors);
  const char *part[] = {merged_path, paths[1]}; /* a part of a merged report counts too */
  errors = open_output();
  ck_assert_int_eq(merge_files(part, 2, NULL, out, errors), BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "an earlier report has the same run"));
  const char *other[] = {merged_path, paths[2]};
  errors = open_output();
  ck_assert_int_eq(merge_files(other, 2, NULL, out, errors), BENCH_OK);
  fclose(errors);
  ck_assert_str_eq(output, ""); /* they overlap, and their work is the same */
  fclose(out);
  unlink(merged_path);
  remove_reports();
}
END_TEST

/* Runs at different times, or of different work, are merged with a warning. */
START_TEST(what_was_not_measured_together_is_told) {
  static const char *const warnings[] = {"", "were measured at the same time for 0.500s of 2.500s",
                                         "measured at the same time for 0.000s",
                                         "differs: size uniform:16,1024 and 100, pipeline 4 and 1"};
  make_reports(true, 1);
  reports[1].runs[0]->started_ms = reports[0].runs[0]->started_ms + (_i == 1   ? 2000
                                                                     : _i == 2 ? 60000
                                                                               : 100);
  if (_i == 3) {
    reports[1].options.size = (struct size_spec){.kind = SIZE_FIXED, .a = 100};
    reports[1].options.pipeline = 1;
  }
  reports[1].options.connections = 100; /* the parts of a load may differ in it */
  for (uint32_t i = 0; i < 2; i++) {
    fixture_report(paths[i], &reports[i].options, reports[i].runs, 1);
  }
  const char *two[] = {paths[0], paths[1]};
  FILE *out = fopen("/dev/null", "w"), *errors = open_output();
  ck_assert_int_eq(merge_files(two, 2, NULL, out, errors), BENCH_OK);
  fclose(errors);
  fclose(out);
  ck_assert_msg(strstr(output, warnings[_i]) != NULL, "%s", output);
  ck_assert_int_eq(output[0] == 0, _i == 0);
  unlink(paths[0]);
  unlink(paths[1]);
  free_reports();
}
END_TEST

START_TEST(json_to_the_output) {
  write_reports();
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  ck_assert_ptr_nonnull(out);
  ck_assert_int_eq(merge_paths("-", out, stderr), BENCH_OK);
  fclose(out);
  struct json_document document;
  struct json_fault fault;
  ck_assert_int_eq(json_parse(&document, text, size, &fault), 0);
  json_document_fini(&document);
  free(text);
  remove_reports();
}
END_TEST

START_TEST(faults_are_told) {
  write_reports();
  FILE *errors = open_output(), *out = fopen("/dev/null", "w");
  ck_assert_int_eq(merge_paths("/nonexistent/out.json", out, errors), BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "cannot write '/nonexistent/out.json'"));
  errors = open_output();
  ck_assert_int_eq(merge_paths("/dev/full", out, errors), BENCH_FAILED);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "cannot write '/dev/full'"));
  errors = open_output();
  ck_assert_int_eq(merge_files(NULL, 0, NULL, out, errors), BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "merge: want"));
  unlink(paths[1]);
  fixture_file(paths[1], "[1", 2);
  errors = open_output();
  ck_assert_int_eq(merge_paths(NULL, out, errors), BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "not JSON: byte 2"));
  fclose(out);
  remove_reports();
}
END_TEST

START_TEST(options_of_the_command_line) {
  write_reports();
  char json[32];
  fixture_file(json, "", 0);
  char *good[] = {(char[]){"merge"}, paths[0], (char[]){"--json"}, json, paths[1], NULL};
  fflush(stdout);
  int out = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
  ck_assert_int_eq(dup2(null, STDOUT_FILENO), STDOUT_FILENO);
  int code = merge_main(5, good);
  ck_assert_int_eq(dup2(out, STDOUT_FILENO), STDOUT_FILENO);
  close(null);
  close(out);
  ck_assert_int_eq(code, BENCH_OK);
  struct report back;
  ck_assert_int_eq(report_read(&back, json, stderr), 0);
  ck_assert_uint_eq(back.options.connections, 14);
  report_fini(&back);
  char *bad[] = {(char[]){"merge"}, paths[0], (char[]){"--yaml"}, NULL};
  ck_assert_int_eq(merge_main(3, bad), BENCH_USAGE);
  char *open[] = {(char[]){"merge"}, paths[0], (char[]){"--json"}, NULL};
  ck_assert_int_eq(merge_main(3, open), BENCH_USAGE);
  unlink(json);
  remove_reports();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {histograms_are_added, 1},      {rates_counts_and_errors_are_summed, 1},
      {equal_lengths_stay, 1},        {intervals_are_added_row_by_row, 1},
      {a_server_counts_once, 1},      {targets_are_listed_once, 1},
      {what_differs_is_refused, 1},   {sums_that_no_report_holds_are_refused, 1},
      {text_and_json_are_written, 1}, {json_to_the_output, 1},
      {a_double_is_refused, 1},       {what_was_not_measured_together_is_told, 4},
      {faults_are_told, 1},           {options_of_the_command_line, 1},
  };
  return run_suite("merge", tests, count_of(tests));
}
