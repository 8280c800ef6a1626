/*
 * check_compare: the table of compare with medians, ratios, p and the mark for noise, and what
 * compare refuses.
 */
#include "tests/fixtures/report.h"
#include "tests/fixtures/run_suite.h"

#include "xchg-bench/compare.h"

#include <math.h>

#define RUNS_MAX 8

static struct options options;

/* Write a report with ${count} runs of one second each, with these numbers of exchanges. */
static void write_runs(char path[32], const uint64_t *exchanges, uint32_t count) {
  struct result *runs[RUNS_MAX] = {NULL};
  for (uint32_t i = 0; i < count; i++) {
    runs[i] = fixture_result(false, i + 1);
    runs[i]->exchanges = exchanges[i];
    runs[i]->seconds = 1;
  }
  fixture_report(path, &options, runs, count);
  for (uint32_t i = 0; i < count; i++) {
    result_destroy(runs[i]);
  }
}

/* Copy the line of the table that begins with ${label} to ${line}. */
static void find_row(const char *label, char line[512]) {
  char begin[64];
  snprintf(begin, sizeof(begin), "\n%s ", label);
  const char *found = strstr(output, begin);
  ck_assert_msg(found != NULL, "no '%s' in:\n%s", label, output);
  snprintf(line, 512, "%.*s", (int)strcspn(found + 1, "\n"), found + 1);
}

static void compare(const char *const *paths, uint32_t count) {
  FILE *out = open_output();
  ck_assert_int_eq(compare_files(paths, count, NAN, out, stderr), BENCH_OK);
  fclose(out);
}

/* Values of A and B, their ratio, and the rest of the line. */
static const struct {
  uint64_t a[RUNS_MAX], b[RUNS_MAX];
  uint32_t count_a, count_b;
  const char *row;
} cases[] = {
    /* all of B are above all of A: p = 2 / C(8, 4) */
    {{100, 101, 102, 103}, {203, 202, 201, 200}, 4, 4, "101.500 201.500 1.985 0.0286"},
    /* alternating: U = 10 of 16 */
    {{100, 102, 104, 106}, {101, 103, 105, 107}, 4, 4, "103.000 104.000 1.010 ~ 0.6857"},
    /* equal: no difference */
    {{100, 100, 100, 100, 100}, {100, 100, 100, 100}, 5, 4, "100.000 100.000 1.000 ~ 1.0000"},
    /* too few runs on a side, although far apart */
    {{100, 101, 102}, {1000, 1001, 1002, 1003}, 3, 4, "101.000 1001.5 9.916 ~ -"},
    {{100}, {200}, 1, 1, "100.000 200.000 2.000 ~ -"},
    {{0, 0, 0, 0}, {5, 6, 7, 8}, 4, 4, "0.000 6.500 - 0.0211"},
};

/* ${line} after its label, with each run of spaces replaced by one. */
static void squeeze(const char *line, const char *label, char out[512]) {
  size_t size = 0;
  for (line += strlen(label); *line != 0; line++) {
    if (*line != ' ') {
      out[size++] = *line;
    } else if (size > 0 && out[size - 1] != ' ') {
      out[size++] = ' ';
    }
  }
  out[size] = 0;
}

START_TEST(two_reports) {
  char a[32], b[32], line[512], got[512];
  fixture_options(&options);
  options.steps = 0;
  write_runs(a, cases[_i].a, cases[_i].count_a);
  write_runs(b, cases[_i].b, cases[_i].count_b);
  compare((const char *const[]){a, b}, 2);
  find_row("rate 1/s", line);
  squeeze(line, "rate 1/s", got);
  ck_assert_str_eq(got, cases[_i].row);
  unlink(a);
  unlink(b);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(each_is_compared_with_the_first) {
  char paths[3][32], line[512], got[512];
  fixture_options(&options);
  options.steps = 0;
  for (uint64_t i = 0; i < 3; i++) {
    write_runs(paths[i], (uint64_t[]){100 + 50 * i, 101 + 50 * i, 102 + 50 * i, 103 + 50 * i}, 4);
  }
  compare((const char *const[]){paths[0], paths[1], paths[2]}, 3);
  find_row("rate 1/s", line);
  squeeze(line, "rate 1/s", got);
  ck_assert_str_eq(got, "101.500 151.500 1.493 0.0286 201.500 1.985 0.0286");
  for (uint64_t i = 0; i < 3; i++) {
    ck_assert_ptr_nonnull(strstr(output, paths[i]));
    unlink(paths[i]);
  }
  config_fini(&options.exchange);
}
END_TEST

/* A row that no report has is left out; the others have their own values. */
START_TEST(rows_are_those_that_are_known) {
  char a[32], b[32], line[512];
  fixture_options(&options);
  options.steps = 0;
  struct result *closed = fixture_result(false, 1), *open = fixture_result(true, 1);
  closed->server.known = false;
  fixture_report(a, &options, &closed, 1);
  fixture_report(b, &options, &closed, 1);
  compare((const char *const[]){a, b}, 2);
  ck_assert_ptr_null(strstr(output, "\nserver CPU"));
  ck_assert_ptr_null(strstr(output, "\nuncorrected"));
  find_row("latency p99 us", line);
  double value;
  ck_assert_int_eq(sscanf(line, "latency p99 us %lf", &value), 1);
  ck_assert_double_eq_tol(value, (double)result_percentile(closed, TIMES_LATENCY, 99) / 1000,
                          0.051);
  find_row("unfinished", line);
  ck_assert_int_eq(sscanf(line, "unfinished %lf", &value), 1);
  ck_assert(value == (double)closed->unfinished);
  ck_assert_ptr_null(strstr(output, "\ndropped")); /* a closed loop has none */
  unlink(b);
  fixture_report(b, &options, &open, 1);
  compare((const char *const[]){a, b}, 2);
  find_row("server CPU us/exchange", line);
  ck_assert_ptr_nonnull(strstr(line, " - "));
  unlink(a);
  unlink(b);
  result_destroy(closed);
  result_destroy(open);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(faults_are_one_line) {
  char good[32], bad[32];
  fixture_options(&options);
  options.steps = 0;
  write_runs(good, (uint64_t[]){1}, 1);
  fixture_file(bad, "{\"schema\": 7}", 13);
  const char *const paths[] = {good, bad, good};
  static const struct {
    uint32_t count;
    const char *why;
  } table[] = {{0, "want 2 to"}, {1, "want 2 to"}, {2, "schema 7"}, {3, "schema 7"}};
  for (size_t i = 0; i < count_of(table); i++) {
    char *written = NULL;
    size_t size;
    FILE *out = open_memstream(&written, &size), *errors = open_output();
    ck_assert_int_eq(compare_files(paths, table[i].count, NAN, out, errors), BENCH_USAGE);
    fclose(errors);
    fclose(out);
    ck_assert_msg(strstr(output, table[i].why) != NULL, "%s", output);
    ck_assert_ptr_eq(strchr(output, '\n'), output + strlen(output) - 1);
    ck_assert_uint_eq(size, 0); /* no half of a table */
    free(written);
  }
  unlink(good);
  unlink(bad);
  config_fini(&options.exchange);
}
END_TEST

/* Runs at different rates are not samples of one distribution. */
START_TEST(steps_are_refused) {
  char path[32];
  fixture_options(&options);
  write_runs(path, (uint64_t[]){1, 2}, 2);
  FILE *errors = open_output();
  ck_assert_int_eq(compare_files((const char *const[]){path, path}, 2, NAN, stdout, errors),
                   BENCH_USAGE);
  fclose(errors);
  ck_assert_ptr_nonnull(strstr(output, "--step"));
  unlink(path);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(wrong_options_are_refused) {
  static const char *const wrong[] = {
      "--fast",          "--fail-above",     "--fail-above=",    "--fail-above=x",
      "--fail-above=-1", "--fail-above=5%%", "--fail-above=10k", "--fail-abov=5"};
  for (size_t i = 0; i < count_of(wrong); i++) {
    char *argv[] = {(char[]){"compare"}, strdup(wrong[i]), NULL};
    ck_assert_int_eq(compare_main(2, argv), BENCH_USAGE);
    free(argv[1]);
  }
}
END_TEST

/* What B has in comparison with A, and whether that is worse by more than 10 %. */
static const struct {
  uint64_t a[RUNS_MAX], b[RUNS_MAX];
  uint32_t count;
  int code;
} judged_cases[] = {
    {{1000}, {899}, 1, BENCH_MISSED},
    {{1000}, {920}, 1, BENCH_OK},
    {{1000}, {5000}, 1, BENCH_OK},
    {{1000, 1001, 1002, 1003}, {800, 801, 802, 803}, 4, BENCH_MISSED},
    {{900, 1000, 1000, 1400}, {500, 700, 1100, 1500}, 4, BENCH_OK}, /* noise */
    {{0}, {0}, 1, BENCH_OK},
    {{1000}, {0}, 1, BENCH_MISSED},
};

START_TEST(what_is_worse_fails) {
  char a[32], b[32];
  fixture_options(&options);
  options.steps = 0;
  write_runs(a, judged_cases[_i].a, judged_cases[_i].count);
  write_runs(b, judged_cases[_i].b, judged_cases[_i].count);
  FILE *out = open_output();
  const int code = compare_files((const char *const[]){a, b}, 2, 10, out, stderr);
  fclose(out);
  ck_assert_int_eq(code, judged_cases[_i].code);
  ck_assert(strstr(output, code == BENCH_OK ? "No report is worse" : "B is worse than A: rate"));
  unlink(a);
  unlink(b);
  config_fini(&options.exchange);
}
END_TEST

/* Each metric that is judged counts, and errors after none are too many. */
START_TEST(each_judged_metric_counts) {
  static const char *const names[] = {"errors", "latency p99 us", "server CPU us/exchange"};
  char a[32], b[32], want[64];
  fixture_options(&options);
  options.steps = 0;
  struct result *run = fixture_result(false, 1);
  memset(run->errors, 0, sizeof(run->errors));
  fixture_report(a, &options, &run, 1);
  if (_i == 0) {
    run->errors[ERROR_RESET] = 1;
  } else if (_i == 1) {
    for (int i = 0; i < FIXTURE_VALUES / 20; i++) {
      hdr_record(run->latency, NS_PER_S);
    }
  } else {
    run->server.cpu_s *= 2;
  }
  fixture_report(b, &options, &run, 1);
  FILE *out = open_output();
  ck_assert_int_eq(compare_files((const char *const[]){a, b}, 2, 10, out, stderr), BENCH_MISSED);
  fclose(out);
  snprintf(want, sizeof(want), "B is worse than A: %s", names[_i]);
  ck_assert_msg(strstr(output, want) != NULL, "%s", output);
  unlink(a);
  unlink(b);
  result_destroy(run);
  config_fini(&options.exchange);
}
END_TEST

START_TEST(different_work_is_told) {
  char a[32], b[32];
  fixture_options(&options);
  options.steps = 0;
  write_runs(a, (uint64_t[]){1000}, 1);
  options.connections = 9;
  options.size = (struct size_spec){.kind = SIZE_FIXED, .a = 100};
  write_runs(b, (uint64_t[]){1000}, 1);
  FILE *errors = open_output(), *null = fopen("/dev/null", "w");
  ck_assert_int_eq(compare_files((const char *const[]){a, b}, 2, NAN, null, errors), BENCH_OK);
  fclose(errors);
  ck_assert_msg(strstr(output, "size uniform:16,1024 and 100, connections 7 and 9\n") != NULL, "%s",
                output);
  errors = open_output();
  ck_assert_int_eq(compare_files((const char *const[]){a, a}, 2, NAN, null, errors), BENCH_OK);
  fclose(errors);
  fclose(null);
  ck_assert_str_eq(output, "");
  unlink(a);
  unlink(b);
  config_fini(&options.exchange);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {two_reports, count_of(cases)},
      {each_is_compared_with_the_first, 1},
      {rows_are_those_that_are_known, 1},
      {faults_are_one_line, 1},
      {steps_are_refused, 1},
      {wrong_options_are_refused, 1},
      {what_is_worse_fails, count_of(judged_cases)},
      {each_judged_metric_counts, 3},
      {different_work_is_told, 1},
  };
  return run_suite("compare", tests, count_of(tests));
}
