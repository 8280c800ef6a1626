/*
 * compare: see compare.h.  A difference that may be noise is marked with `~`: p is above
 * COMPARE_P_MAX, or a side has fewer than COMPARE_RUNS_MIN runs, so that no p is computed.
 */
#include "compare.h"

#include "mann_whitney.h"
#include "units.h"
#include "escaped.h"
#include "metrics.h"
#include "work.h"
#include "report_read.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_WIDTH 34

struct row {
  const char *label;
  uint32_t metric;
};

#define TIME(times, metric) (METRICS_TIMES + (int)(times)*METRICS_TIME + (metric))
static const struct row rows[] = {
    {"rate 1/s", METRIC_RATE},
    {"target rate 1/s", METRIC_TARGET_RATE},
    {"errors", METRIC_ERRORS},
    {"unfinished", METRIC_UNFINISHED},
    {"dropped", METRIC_DROPPED},
    {"latency mean us", TIME(TIMES_LATENCY, METRIC_MEAN)},
    {"latency p50 us", TIME(TIMES_LATENCY, METRIC_P50)},
    {"latency p90 us", TIME(TIMES_LATENCY, METRIC_P90)},
    {"latency p99 us", TIME(TIMES_LATENCY, METRIC_P99)},
    {"latency p99.9 us", TIME(TIMES_LATENCY, METRIC_P99_9)},
    {"latency p99.99 us", TIME(TIMES_LATENCY, METRIC_P99_99)},
    {"latency max us", TIME(TIMES_LATENCY, METRIC_MAX)},
    {"uncorrected p99 us", TIME(TIMES_UNCORRECTED, METRIC_P99)},
    {"connect p50 us", TIME(TIMES_CONNECT, METRIC_P50)},
    {"connect p99 us", TIME(TIMES_CONNECT, METRIC_P99)},
    {"first byte p50 us", TIME(TIMES_FIRST_BYTE, METRIC_P50)},
    {"first byte p99 us", TIME(TIMES_FIRST_BYTE, METRIC_P99)},
    {"bytes in", METRIC_BYTES_IN},
    {"bytes out", METRIC_BYTES_OUT},
    {"client CPU us/exchange", METRICS_CLIENT + METRIC_CPU_US_PER_EXCHANGE},
    {"server CPU us/exchange", METRICS_SERVER + METRIC_CPU_US_PER_EXCHANGE},
    {"server CPUs busy", METRICS_SERVER + METRIC_UTILISATION},
    {"server context switches/exchange", METRICS_SERVER + METRIC_SWITCHES_PER_EXCHANGE},
    {"server resident bytes", METRICS_SERVER + METRIC_RESIDENT_BYTES},
};

/* What --fail-above judges: the metrics that repeat from run to run. */
static const struct judged {
  const char *label;
  uint32_t metric;
  bool is_more_worse;
} judged[] = {
    {"rate 1/s", METRIC_RATE, false},
    {"errors", METRIC_ERRORS, true},
    {"latency p50 us", TIME(TIMES_LATENCY, METRIC_P50), true},
    {"latency p90 us", TIME(TIMES_LATENCY, METRIC_P90), true},
    {"latency p99 us", TIME(TIMES_LATENCY, METRIC_P99), true},
    {"server CPU us/exchange", METRICS_SERVER + METRIC_CPU_US_PER_EXCHANGE, true},
};

/* A column: a report and the metrics of each of its runs. */
struct column {
  struct report report;
  double (*runs)[METRICS]; /* owns; report.runs_count of them */
  double *values;          /* owns; the selected metric of each run that has it */
  size_t known;            /* number of values */
  double median;           /* of values, which are sorted */
};

static int open_column(struct column *column, const char *path, FILE *errors) {
  if (report_read(&column->report, path, errors) == -1) {
    return -1;
  }
  uint32_t count = column->report.runs_count;
  if (column->report.options.steps > 0 && count > 1) {
    escaped_line(errors,
                 "xchg-bench: '%s': runs of --step have different rates and cannot be compared",
                 path);
    return -1;
  }
  column->runs = calloc(count, sizeof(*column->runs));
  column->values = calloc(count, sizeof(*column->values));
  if (column->runs == NULL || column->values == NULL) {
    escaped_line(errors, "xchg-bench: '%s': out of memory", path);
    return -1;
  }
  for (uint32_t i = 0; i < count; i++) {
    metrics_of(column->report.runs[i], column->runs[i]);
  }
  return 0;
}

static void close_column(struct column *column) {
  free(column->runs);
  free(column->values);
  report_fini(&column->report);
}

/* Copy ${metric} of all runs to the column's values. */
static void select_metric(struct column *column, uint32_t metric) {
  column->known = 0;
  for (uint32_t i = 0; i < column->report.runs_count; i++) {
    double value = column->runs[i][metric];
    if (!isnan(value)) {
      column->values[column->known++] = value;
    }
  }
  column->median = median_of(column->values, column->known);
}

static void print_value(FILE *out, double value) {
  if (isnan(value)) {
    fprintf(out, " %14s", "-");
  } else {
    fprintf(out, " %14.*f", fabs(value) < 1000 ? 3 : 1, value);
  }
}

/* Are there enough runs on both sides to tell a difference from noise? */
static bool has_enough(const struct column *first, const struct column *column) {
  return first->known >= COMPARE_RUNS_MIN && column->known >= COMPARE_RUNS_MIN;
}

/* Is the difference noise, as far as can be told? */
static bool is_noise(const struct column *first, const struct column *column) {
  return has_enough(first, column) &&
         mann_whitney_test(column->values, column->known, first->values, first->known).p >
             COMPARE_P_MAX;
}

/* Print ratio, mark and p of ${column} against ${first}. */
static void print_difference(FILE *out, const struct column *first, const struct column *column) {
  struct mann_whitney test =
      mann_whitney_test(column->values, column->known, first->values, first->known);
  bool enough = has_enough(first, column);
  double ratio = first->median > 0 ? column->median / first->median : NAN;
  bool both = first->known > 0 && column->known > 0;
  const char *mark = both && (!enough || test.p > COMPARE_P_MAX) ? "~" : "";
  if (isnan(ratio)) {
    fprintf(out, " %8s %-1s", "-", mark);
  } else {
    fprintf(out, " %8.3f %-1s", ratio, mark);
  }
  if (enough) {
    fprintf(out, " %7.4f", test.p);
  } else {
    fprintf(out, " %7s", "-");
  }
}

static void print_row(FILE *out, const struct row *row, struct column *columns, uint32_t count) {
  size_t known = 0;
  for (uint32_t i = 0; i < count; i++) {
    select_metric(&columns[i], row->metric);
    known += columns[i].known;
  }
  if (known == 0) {
    return;
  }
  fprintf(out, "%-*s", LABEL_WIDTH, row->label);
  for (uint32_t i = 0; i < count; i++) {
    print_value(out, columns[i].median);
    if (i > 0) {
      print_difference(out, &columns[0], &columns[i]);
    }
  }
  putc('\n', out);
}

static void print_head(FILE *out, const struct column *columns, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    const struct report *report = &columns[i].report;
    escaped_line(out,
                 "%c  %s: %" PRIu32 " run%s at %s, %" PRIu32 " threads, %" PRIu32 " connections",
                 'A' + (int)i, report->path, report->runs_count, report->runs_count == 1 ? "" : "s",
                 report->options.target, report->options.threads, report->options.connections);
  }
  fprintf(out, "\n%-*s %14s", LABEL_WIDTH, "medians", "A");
  for (uint32_t i = 1; i < count; i++) {
    fprintf(out, " %14c %7c/A   %7s", 'A' + (int)i, 'A' + (int)i, "p");
  }
  putc('\n', out);
}

static void print_table(FILE *out, struct column *columns, uint32_t count) {
  print_head(out, columns, count);
  for (size_t i = 0; i < count_of(rows); i++) {
    print_row(out, &rows[i], columns, count);
  }
  fprintf(out,
          "\n~  may be noise: two-sided Mann-Whitney U test, p > %.2f, or fewer than %d runs on a "
          "side\n",
          COMPARE_P_MAX, COMPARE_RUNS_MIN);
}

/* Warn if the reports' work differs; their figures then say nothing about the servers. */
static void warn_different(const struct column *columns, uint32_t count, FILE *errors) {
  char text[512];
  const struct report *first = &columns[0].report;
  for (uint32_t i = 1; i < count; i++) {
    const struct report *report = &columns[i].report;
    if (work_difference(&first->options, &report->options, WORK_OF_LOAD, text, sizeof(text))) {
      escaped_line(errors, "xchg-bench: warning: the work of '%s' and '%s' differs: %s",
                   first->path, report->path, text);
    }
  }
}

/* By how many percent is ${column} worse than ${first} in the selected metric?  0: not at all. */
static double worse_by(const struct column *first, const struct column *column,
                       const struct judged *row) {
  const double before = first->median, now = column->median;
  if (isnan(before) || isnan(now)) {
    return 0;
  }
  if (before <= 0) { /* no share can be told: any error after none is too many */
    return row->is_more_worse && now > 0 ? INFINITY : 0;
  }
  return (row->is_more_worse ? now - before : before - now) * 100 / before;
}

/* Print what is worse by more than ${percent} and not noise. Return: the exit code. */
static int judge(FILE *out, struct column *columns, uint32_t count, double percent) {
  bool is_worse = false;
  for (size_t row = 0; row < count_of(judged); row++) {
    select_metric(&columns[0], judged[row].metric);
    for (uint32_t i = 1; i < count; i++) {
      select_metric(&columns[i], judged[row].metric);
      const double by = worse_by(&columns[0], &columns[i], &judged[row]);
      if (by > percent && !is_noise(&columns[0], &columns[i])) {
        fprintf(out, "%c is worse than A: %s %.4g after %.4g, by more than %.4g %%\n", 'A' + (int)i,
                judged[row].label, columns[i].median, columns[0].median, percent);
        is_worse = true;
      }
    }
  }
  if (!is_worse) {
    fprintf(out, "No report is worse than A by more than %.4g %%\n", percent);
  }
  return is_worse ? BENCH_MISSED : BENCH_OK;
}

int compare_files(const char *const *paths, uint32_t count, double fail_above, FILE *out,
                  FILE *errors) {
  if (count < 2 || count > COMPARE_FILES_MAX) {
    fprintf(errors, "xchg-bench: compare: want 2 to %d JSON reports\n", COMPARE_FILES_MAX);
    return BENCH_USAGE;
  }
  struct column *columns = calloc(count, sizeof(*columns));
  if (columns == NULL) {
    fputs("xchg-bench: out of memory\n", errors);
    return BENCH_USAGE;
  }
  uint32_t opened = 0;
  while (opened < count && open_column(&columns[opened], paths[opened], errors) == 0) {
    opened++;
  }
  int code = BENCH_USAGE;
  if (opened == count) {
    print_table(out, columns, count);
    warn_different(columns, count, errors);
    code = isnan(fail_above) ? BENCH_OK : judge(out, columns, count, fail_above);
  }
  for (uint32_t i = 0; i < count; i++) {
    close_column(&columns[i]);
  }
  free(columns);
  return code;
}

/* Read "10" or "10%". Return: 0, or -1 after one line. */
static int read_percent(const char *text, double *percent) {
  char digits[32];
  const size_t size = strlen(text);
  const size_t used = size > 0 && text[size - 1] == '%' ? size - 1 : size;
  if (used < sizeof(digits)) {
    memcpy(digits, text, used);
    digits[used] = 0;
    if (strpbrk(digits, "kKMG") == NULL && units_parse_number(digits, percent) == 0) {
      return 0;
    }
  }
  escaped_line(stderr,
               "xchg-bench: compare: --fail-above '%.64s': want a percentage such as 5 or 7.5%%",
               text);
  return -1;
}

int compare_main(int argc, char **argv) {
  static const char option[] = "--fail-above";
  const char **paths = calloc((size_t)argc, sizeof(*paths));
  double fail_above = NAN;
  uint32_t count = 0;
  int code = BENCH_USAGE;
  if (paths == NULL) {
    fputs("xchg-bench: out of memory\n", stderr);
    return code;
  }
  for (int i = 1; i < argc; i++) {
    const char *value = NULL;
    if (strcmp(argv[i], option) == 0 && i + 1 < argc) {
      value = argv[++i];
    } else if (strncmp(argv[i], option, strlen(option)) == 0 && argv[i][strlen(option)] == '=') {
      value = argv[i] + strlen(option) + 1;
    } else if (argv[i][0] == '-') {
      escaped_line(stderr, "xchg-bench: compare: unknown option '%.64s'; want --fail-above PERCENT",
                   argv[i]);
      goto out;
    } else {
      paths[count++] = argv[i];
    }
    if (value != NULL && read_percent(value, &fail_above) == -1) {
      goto out;
    }
  }
  code = compare_files(paths, count, fail_above, stdout, stderr);
out:
  free(paths);
  return code;
}
