/*
 * report_text: the report for the terminal, the summary of several runs, and the CSV form.
 *
 * The lines that scripts look for ("Running", "threads and connections", "Latency",
 * "Requests/sec:", "Transfer/sec:") are those of wrk.  What wrk does not print has its own lines:
 * time to connect and to the first byte, errors by kind and errno, the target rate, and the CPU
 * time of both sides.  Req/Sec is over all threads.
 *
 * The summary has one row for each run.  Its last row has the median of each column; percentiles
 * are not averaged.  Numbers have a decimal point, because no locale is set.
 */
#include "report.h"

#include "core/error_text.h"
#include "mann_whitney.h"
#include "units.h"
#include "escaped.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum column { COLUMN_RATE, COLUMN_P50, COLUMN_P99, COLUMN_P999, COLUMN_MAX, COLUMNS };

#define RUNS_MAX 1000

struct moments {
  double mean, stddev, max;
};

static void print_length(FILE *out, const struct options *options);
static void print_times(FILE *out, const struct result *result);
static void print_time_row(FILE *out, const char *name, const struct result *result,
                           enum metric_times times);
static void print_rate_row(FILE *out, const struct result *result);
static void print_percentiles(FILE *out, const char *title, const struct result *result,
                              enum metric_times times);
static void print_unfinished(FILE *out, const struct result *result);
static void print_example(FILE *out, const struct wrong_example *wrong);
static void print_harness(FILE *out, const struct result *result);
static void print_errors(FILE *out, const struct result *result);
static void print_rates(FILE *out, const struct result *result);
static void print_lateness(FILE *out, const struct result *result);
static void print_usage(FILE *out, const char *name, const struct usage *usage, uint64_t exchanges);
static double share_within(const struct hdr_histogram *histogram, double low, double high);

void report_text_begin(FILE *out, const struct options *options) {
  fputs("Running ", out);
  print_length(out, options);
  escaped_line(out, " test @ %s", options->target);
  fprintf(out, "  %" PRIu32 " threads and %" PRIu32 " connections", options->threads,
          options->connections);
  if (options->idle > 0) {
    fprintf(out, ", %" PRIu32 " idle", options->idle);
  }
  fputc('\n', out);
}

void report_text(FILE *out, const struct options *options, const struct result *result) {
  char time[UNITS_TEXT_MAX], read[UNITS_TEXT_MAX], sent[UNITS_TEXT_MAX];
  print_times(out, result);
  if (!result->has_latency) {
    fputs(
        "  No latency: an endless exchange without reply; bytes that the kernel took are counted\n",
        out);
  }
  if (options->percentiles && result->has_latency) {
    print_percentiles(out, result->uncorrected != NULL ? " (from the intended start)" : "", result,
                      TIMES_LATENCY);
  }
  if (options->uncorrected && result->has_latency && result->uncorrected != NULL) {
    print_percentiles(out, " (uncorrected: from the real start)", result, TIMES_UNCORRECTED);
  }
  fprintf(out, "  %" PRIu64 " requests in %s, %s read, %s sent\n", result->exchanges,
          units_format_time(result->seconds > 0 ? result->seconds * 1e9 : NAN, time),
          units_format_bytes((double)result->bytes_in, read),
          units_format_bytes((double)result->bytes_out, sent));
  print_errors(out, result);
  print_example(out, &result->wrong);
  print_unfinished(out, result);
  if (result->connected < options->connections || result->idle_connected < options->idle) {
    fprintf(out, "  Connected: %" PRIu32 " of %" PRIu32 ", idle %" PRIu32 " of %" PRIu32 "\n",
            result->connected, options->connections, result->idle_connected, options->idle);
  }
  print_lateness(out, result);
  print_usage(out, "Harness", &result->client, result->exchanges);
  if (result->server.known || options->pids_count > 0) {
    print_usage(out, "Server", &result->server, result->exchanges);
  }
  print_harness(out, result);
  print_rates(out, result);
  if (result->aborted) {
    fputs("Aborted: an objective can no longer be kept\n", out);
  }
  if (result->interrupted) {
    fputs("Interrupted: this is the report so far\n", out);
  }
}

static void print_length(FILE *out, const struct options *options) {
  char text[UNITS_TEXT_MAX];
  uint64_t time_ns = options->ramp ? options->ramp_ns : options->duration_ns;
  if (options->steps > 0) {
    time_ns = options->step_ns * options->steps;
  }
  if (options->repeat > 1) {
    fprintf(out, "%" PRIu32 " x ", options->repeat);
  }
  if (options->count > 0) {
    fprintf(out, "%" PRIu64 " exchanges", options->count);
  }
  if (options->count > 0 && time_ns != NEVER) {
    fputs(" or ", out);
  }
  if (time_ns != NEVER) {
    fputs(units_format_duration(time_ns, text), out);
  }
}

static void print_times(FILE *out, const struct result *result) {
  fputs("  Statistics       Avg      Stdev        Max   +/- Stdev\n", out);
  if (result->has_latency) {
    print_time_row(out, "Latency", result, TIMES_LATENCY);
    print_time_row(out, "First byte", result, TIMES_FIRST_BYTE);
  }
  print_time_row(out, "Connect", result, TIMES_CONNECT);
  print_rate_row(out, result);
}

/* The maximum counts what is unfinished; the other columns do not. */
static void print_time_row(FILE *out, const char *name, const struct result *result,
                           enum metric_times times) {
  char mean[UNITS_TEXT_MAX], deviation[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];
  const struct hdr_histogram *histogram = result_times(result, times);
  units_format_time(result_time(result, times, 100), max);
  if (histogram->count == 0) {
    fprintf(out, "    %-10s %9s %10s %10s %10s\n", name, "-", "-", max, "-");
    return;
  }
  double m = hdr_mean(histogram), s = hdr_stddev(histogram);
  fprintf(out, "    %-10s %9s %10s %10s %9.2f%%\n", name, units_format_time(m, mean),
          units_format_time(s, deviation), max, share_within(histogram, m - s, m + s));
  if (histogram->clamped > 0) {
    fprintf(out, "    %" PRIu64 " of them over 60s\n", histogram->clamped);
  }
}

static double rate_of(const struct interval *interval) {
  return bench_rate(interval->exchanges, interval->seconds);
}

/* Statistics of the rate over the seconds of the run. */
static void print_rate_row(FILE *out, const struct result *result) {
  char mean[UNITS_TEXT_MAX], deviation[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];
  struct moments m = {0};
  uint32_t count = result->intervals_count, within = 0;
  if (count == 0) {
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    m.mean += rate_of(&result->intervals[i]) / count;
    m.max = fmax(m.max, rate_of(&result->intervals[i]));
  }
  for (uint32_t i = 0; i < count; i++) {
    m.stddev += pow(rate_of(&result->intervals[i]) - m.mean, 2) / count;
  }
  m.stddev = sqrt(m.stddev);
  for (uint32_t i = 0; i < count; i++) {
    within += fabs(rate_of(&result->intervals[i]) - m.mean) <= m.stddev ? 1 : 0;
  }
  fprintf(out, "    %-10s %9s %10s %10s %9.2f%%\n", "Req/Sec", units_format_count(m.mean, mean),
          units_format_count(m.stddev, deviation), units_format_count(m.max, max),
          100.0 * within / count);
}

static void print_percentiles(FILE *out, const char *title, const struct result *result,
                              enum metric_times times) {
  static const double percents[] = {50, 75, 90, 99, 99.9, 99.99, 99.999, 100};
  char text[UNITS_TEXT_MAX];
  fprintf(out, "  Latency Distribution%s\n", title);
  for (size_t i = 0; i < count_of(percents); i++) {
    fprintf(out, "    %7.3f%%  %s\n", percents[i],
            units_format_time(result_time(result, times, percents[i]), text));
  }
}

/* What the end of the run cut off; a percentile or maximum counts it if that makes it larger. */
static void print_unfinished(FILE *out, const struct result *result) {
  char text[UNITS_TEXT_MAX];
  fprintf(out, "  Unfinished: %" PRIu64 " at the end", result->unfinished);
  if (result->unfinished > 0) {
    fprintf(out, ", the oldest after %s",
            units_format_time((double)result->unfinished_oldest_ns, text));
  }
  fputc('\n', out);
}

/* The first wrong answer. */
static void print_example(FILE *out, const struct wrong_example *wrong) {
  if (wrong->at_ns == 0) {
    return;
  }
  fprintf(out, "  First wrong answer: connection %" PRIu32 ", byte %" PRIu64 "\n",
          wrong->connection, wrong->offset);
  if (wrong->wanted[0] == 0) {
    fputs("    wanted    nothing\n", out);
  } else {
    escaped_line(out, "    wanted    \"%s\"", wrong->wanted);
  }
  escaped_line(out, "    received  \"%s\"", wrong->received);
  if (wrong->hint[0] != 0) {
    escaped_line(out, "    %s", wrong->hint);
  }
}

static void print_errors(FILE *out, const struct result *result) {
  if (result_errors(result) == 0) {
    return;
  }
  fputs("  Errors:", out);
  for (int i = 0; i < BENCH_ERRORS; i++) {
    fprintf(out, "%s %s %" PRIu64, i > 0 ? "," : "", bench_error_name((enum bench_error)i),
            result->errors[i]);
  }
  fputc('\n', out);
  bool any = false;
  for (int i = 0; i < BENCH_ERRNO_MAX; i++) {
    if (result->errnos[i] == 0) {
      continue;
    }
    const char *name = error_name(i);
    fprintf(out, "%s %s %" PRIu64, any ? "," : "  Errno:", name != NULL ? name : "unknown",
            result->errnos[i]);
    any = true;
  }
  if (any) {
    fputc('\n', out);
  }
}

static void print_lateness(FILE *out, const struct result *result) {
  char text[UNITS_TEXT_MAX];
  if (result->target_rate <= 0) {
    return;
  }
  fprintf(out, "  Schedule: %" PRIu64 " begun more than 1ms late", result->late);
  if (result->late > 0) {
    fprintf(out, ", at most %s", units_format_time((double)result->late_max_ns, text));
  }
  fprintf(out, "; %" PRIu64 " dropped\n", result->dropped);
}

static void print_usage(FILE *out, const char *name, const struct usage *usage,
                        uint64_t exchanges) {
  char bytes[UNITS_TEXT_MAX], share[UNITS_TEXT_MAX];
  if (!usage->known) {
    fprintf(out, "  %s: CPU time unknown\n", name);
    return;
  }
  fprintf(out, "  %s: %s %% of a CPU", name,
          units_format_fixed(units_divide(100 * usage->cpu_s, usage->seconds), 1, share));
  if (exchanges > 0) {
    fprintf(out, ", %.2fus of CPU and %.3f context switches per exchange",
            usage->cpu_s * 1e6 / (double)exchanges,
            (double)usage->context_switches / (double)exchanges);
  }
  fprintf(out, ", %s resident\n", units_format_bytes((double)usage->resident_bytes, bytes));
}

/* Does the load generator itself limit the results? */
static void print_harness(FILE *out, const struct result *result) {
  if (result->starved) {
    fprintf(out,
            "  starved: a thread of the load generator waited %.1f %% of the time for a CPU, which "
            "limits the results\n",
            result->thread_waiting_max * 100);
  }
  if (result->harness_bound && !result->starved) {
    fprintf(
        out,
        "  harness-bound: a thread of the load generator used %.1f %% of a CPU, which limits the "
        "results\n",
        result->thread_busy_max * 100);
  }
}

static void print_rates(FILE *out, const struct result *result) {
  char text[UNITS_TEXT_MAX];
  const double seconds = result->seconds;
  if (result->target_rate > 0) {
    fprintf(out, "Target/sec:   %10.2f\n", result->target_rate);
  }
  fprintf(out, "Requests/sec: %10s\n",
          units_format_fixed(units_divide((double)result->exchanges, seconds), 2, text));
  fprintf(out, "Transfer/sec: %10s\n",
          units_format_bytes(units_divide((double)result->bytes_in, seconds), text));
}

/* The percentage of values whose bucket begins within ${low}..${high}. */
static double share_within(const struct hdr_histogram *histogram, double low, double high) {
  const double limit = (double)HDR_MAX_NS; /* a conversion of more than 2^64 is undefined */
  uint32_t first = hdr_bucket((uint64_t)fmin(fmax(low, 0), limit));
  uint32_t last = hdr_bucket((uint64_t)fmin(fmax(high, 0), limit));
  uint64_t count = 0;
  for (uint32_t i = first; i <= last; i++) {
    count += histogram->buckets[i];
  }
  return 100.0 * (double)count / (double)histogram->count;
}

/* ---- several runs ---- */

static double column_of(const struct result *result, enum column column) {
  static const double percents[COLUMNS] = {
      [COLUMN_P50] = 50, [COLUMN_P99] = 99, [COLUMN_P999] = 99.9, [COLUMN_MAX] = 100};
  if (column != COLUMN_RATE) {
    return result_time(result, TIMES_LATENCY, percents[column]);
  }
  return units_divide((double)result->exchanges, result->seconds);
}

static double column_median(struct result *const *runs, uint32_t count, enum column column) {
  double values[RUNS_MAX];
  size_t known = 0;
  assert(count > 0 && count <= RUNS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    const double value = column_of(runs[i], column);
    if (!isnan(value)) {
      values[known++] = value;
    }
  }
  return median_of(values, known);
}

/* Print the label of a row and the target rate, which a closed loop does not have. */
static void print_label(FILE *out, const char *label, const struct result *run) {
  char text[UNITS_TEXT_MAX];
  const double rate = run->target_rate > 0 ? run->target_rate : NAN;
  fprintf(out, "%-8s %10s", label, units_format_fixed(rate, 2, text));
}

static void print_columns(FILE *out, const double values[COLUMNS]) {
  char text[UNITS_TEXT_MAX];
  fprintf(out, " %12s", units_format_fixed(values[COLUMN_RATE], 2, text));
  for (int column = COLUMN_P50; column < COLUMNS; column++) {
    fprintf(out, " %10s", units_format_time(values[column], text));
  }
}

void report_text_runs(FILE *out, const struct options *options, struct result *const *runs,
                      uint32_t count) {
  double values[COLUMNS];
  char label[16];
  fprintf(out, "%-8s %10s %12s %10s %10s %10s %10s %8s %10s\n", options->steps > 0 ? "Step" : "Run",
          "Target/sec", "Requests/sec", "50%", "99%", "99.9%", "Max", "Errors", "Unfinished");
  for (uint32_t i = 0; i < count; i++) {
    snprintf(label, sizeof(label), "%" PRIu32, i + 1);
    print_label(out, label, runs[i]);
    for (int column = 0; column < COLUMNS; column++) {
      values[column] = column_of(runs[i], (enum column)column);
    }
    print_columns(out, values);
    fprintf(out, " %8" PRIu64 " %10" PRIu64 "\n", result_errors(runs[i]), runs[i]->unfinished);
  }
  if (options->steps > 0 || count == 0) {
    return;
  }
  print_label(out, "Median", runs[0]);
  for (int column = 0; column < COLUMNS; column++) {
    values[column] = column_median(runs, count, (enum column)column);
  }
  print_columns(out, values);
  fputc('\n', out);
}

/* ---- one row a second ---- */

/* The next value; nothing if it is not known. */
static void write_known(FILE *out, double value, int decimals) {
  fputc(',', out);
  if (!isnan(value)) {
    fprintf(out, "%.*f", decimals, value);
  }
}

/* A time; 0 means that no exchange ended in the interval, or that reports were merged. */
static void write_us(FILE *out, uint64_t time_ns) {
  write_known(out, time_ns == 0 ? NAN : (double)time_ns / (double)NS_PER_US, 3);
}

/* The columns about the end of a run and the load generator; empty if they are not known. */
static void write_end(FILE *out, const struct interval *row) {
  write_known(out, row->waiting_max, 4);
  if (!row->is_last) {
    fputs(",,\n", out);
  } else if (row->unfinished == 0) {
    fputs(",0,\n", out);
  } else {
    fprintf(out, ",%" PRIu64 ",%.3f\n", row->unfinished, (double)row->unfinished_oldest_ns / 1e3);
  }
}

void report_csv(FILE *out, const struct result *result) {
  fputs(
      "at_s,seconds,exchanges,rate,target_rate,errors,bytes_in,bytes_out,p50_us,p90_us,p99_us,"
      "max_us,waiting_max,unfinished,unfinished_oldest_us\n",
      out);
  for (uint32_t i = 0; i < result->intervals_count; i++) {
    const struct interval *row = &result->intervals[i];
    fprintf(out, "%.3f,%.3f,%" PRIu64, row->at_s, row->seconds, row->exchanges);
    write_known(out, units_divide((double)row->exchanges, row->seconds), 2);
    write_known(out, row->target_rate > 0 ? row->target_rate : NAN, 2);
    fprintf(out, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, row->errors, row->bytes_in, row->bytes_out);
    write_us(out, row->p50_ns);
    write_us(out, row->p90_ns);
    write_us(out, row->p99_ns);
    write_us(out, row->max_ns);
    write_end(out, row);
  }
}
