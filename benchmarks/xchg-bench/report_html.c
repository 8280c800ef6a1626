/*
 * report_html: one self-contained page.
 *
 * Style sheet, charts and tables are inline.  The page fetches no script, font or picture, so it
 * can be mailed, archived and opened without a network.  Light or dark follows the reader's system.
 * All foreign text goes through svg_text.
 *
 * The axis of percentiles is logarithmic in the distance from 100 %: x = log10(1 / (1 - p)).  So
 * each further nine has the same width.
 */
#include "report.h"

#include "core/xchg.h"
#include "core/error_text.h"
#include "units.h"
#include "svg.h"
#include "html_style.h"
#include "identity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The most nines on the axis; fewer if fewer values were recorded. */
#define NINES_MAX 6
#define CURVE_STEPS 240
#define BARS 60

static void write_summary(FILE *out, const struct options *options, const struct result *result);
static void write_tables(FILE *out, const struct result *result);
static void write_origin(FILE *out, const struct identity *identity, uint64_t started_ms);
static void write_load(FILE *out, const struct options *options);
static void write_times(FILE *out, const struct result *result);
static void write_time_row(FILE *out, const char *name, const struct result *result,
                           enum metric_times times);
static void write_unfinished(FILE *out, const struct result *result);
static void write_search(FILE *out, const struct options *options, const struct result *result);
static void write_warnings(FILE *out, const struct result *result);
static void write_errors(FILE *out, const struct result *result);
static void write_usages(FILE *out, const struct result *result);
static void write_usage_row(FILE *out, const char *name, const struct usage *usage,
                            uint64_t exchanges);
static void write_head(FILE *out, const struct options *options);
static void chart_percentiles(FILE *out, const struct result *result);
static size_t trace_percentiles(const struct result *result, enum metric_times times, double nines,
                                struct svg_point *points);
static void chart_latency(FILE *out, const struct result *result);
static void chart_rate(FILE *out, const struct result *result);
static void chart_histogram(FILE *out, const struct result *result);
static void chart_errors(FILE *out, const struct result *result);
static struct svg_axis axis_of_times(double min_ns, double max_ns, const char *title);
static struct svg_axis axis_of_seconds(const struct result *result);
static const char *format_nines(double nines, char text[SVG_TICK_MAX]);
static double middle_of(const struct interval *interval);

void report_html(FILE *out, const struct options *options, const struct result *result) {
  write_head(out, options);
  write_summary(out, options, result);
  fputs("<div class=\"charts\">\n", out);
  if (result->has_latency && result->latency->count > 0) {
    chart_percentiles(out, result);
    chart_histogram(out, result);
  }
  if (result->intervals_count > 0) {
    if (result->has_latency && result->latency->count > 0) {
      chart_latency(out, result);
    }
    chart_rate(out, result);
    chart_errors(out, result);
  }
  fputs("</div>\n", out);
  write_tables(out, result);
  fputs("</body>\n</html>\n", out);
}

static void write_head(FILE *out, const struct options *options) {
  fputs(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>xchg-bench ",
      out);
  svg_text(out, options->target);
  fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>xchg-bench ", html_style);
  svg_text(out, options->target);
  fputs("</h1>\n", out);
}

/* ---- latency by percentile ---- */

static void chart_percentiles(FILE *out, const struct result *result) {
  static const double ticks[] = {0, 1, 2, 3, 4, 5, 6};
  struct svg_point corrected[CURVE_STEPS + 1], uncorrected[CURVE_STEPS + 1];
  double nines = fmin(NINES_MAX, fmax(1, ceil(log10((double)result->latency->count))));
  bool both = result->uncorrected != NULL && result->uncorrected->count > 0;
  double min_ns = (double)result->latency->min_ns;
  if (both) {
    min_ns = fmin(min_ns, (double)result->uncorrected->min_ns);
  }
  struct svg_chart chart = {
      .title = "Latency by percentile",
      .x = {.title = "percentile (log axis)", .max = nines, .format = format_nines},
      .y = axis_of_times(min_ns, (double)result_percentile(result, TIMES_LATENCY, 100),
                         "latency (log axis)"),
      .series_count = both ? 2 : 1};
  chart.x.ticks = ticks;
  chart.x.ticks_count = (size_t)nines + 1;
  chart.series[0] =
      (struct svg_series){.name = both ? "intended start" : "latency",
                          .points = corrected,
                          .count = trace_percentiles(result, TIMES_LATENCY, nines, corrected)};
  if (both) {
    chart.series[1] = (struct svg_series){
        .name = "uncorrected",
        .points = uncorrected,
        .count = trace_percentiles(result, TIMES_UNCORRECTED, nines, uncorrected)};
  }
  svg_chart(out, &chart);
}

static size_t trace_percentiles(const struct result *result, enum metric_times times, double nines,
                                struct svg_point *points) {
  for (size_t i = 0; i <= CURVE_STEPS; i++) {
    double x = nines * (double)i / CURVE_STEPS;
    double percent = 100 * (1 - pow(10, -x));
    points[i] = (struct svg_point){.x = x, .y = (double)result_percentile(result, times, percent)};
  }
  return CURVE_STEPS + 1;
}

static const char *format_nines(double nines, char text[SVG_TICK_MAX]) {
  snprintf(text, SVG_TICK_MAX, "%.7g%%", 100 * (1 - pow(10, -nines)));
  return text;
}

/* ---- over time ---- */

static void chart_latency(FILE *out, const struct result *result) {
  static const char *const names[] = {"50%", "90%", "99%", "maximum"};
  uint32_t count = result->intervals_count;
  struct svg_point *points = calloc((size_t)count * count_of(names), sizeof(*points));
  struct svg_chart chart = {.title = "Latency over time", .series_count = count_of(names)};
  double min_ns = (double)HDR_MAX_NS, max_ns = 0;
  if (points == NULL) {
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct interval *row = &result->intervals[i];
    const uint64_t values[] = {row->p50_ns, row->p90_ns, row->p99_ns, row->max_ns};
    for (size_t j = 0; j < count_of(names); j++) {
      double y = values[j] > 0 ? (double)values[j] : NAN; /* no exchange ended in this second */
      points[j * count + i] = (struct svg_point){.x = middle_of(row), .y = y};
      min_ns = fmin(min_ns, y);
      max_ns = fmax(max_ns, y);
    }
  }
  for (size_t j = 0; j < count_of(names); j++) {
    chart.series[j] =
        (struct svg_series){.name = names[j], .points = points + j * count, .count = count};
  }
  chart.x = axis_of_seconds(result);
  chart.y = axis_of_times(min_ns, max_ns, "latency (log axis)");
  svg_chart(out, &chart);
  free(points);
}

static void chart_rate(FILE *out, const struct result *result) {
  uint32_t count = result->intervals_count;
  struct svg_point *points = calloc((size_t)count * 2, sizeof(*points));
  double highest = 1;
  bool is_aimed = false;
  if (points == NULL) {
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct interval *row = &result->intervals[i];
    double rate = bench_rate(row->exchanges, row->seconds);
    points[i] = (struct svg_point){.x = middle_of(row), .y = rate};
    points[count + i] = (struct svg_point){.x = middle_of(row), .y = row->target_rate};
    highest = fmax(highest, fmax(rate, row->target_rate));
    is_aimed = is_aimed || row->target_rate > 0;
  }
  struct svg_chart chart = {
      .title = "Rate over time",
      .x = axis_of_seconds(result),
      .y = {.title = "exchanges a second", .max = highest * 1.05, .format = svg_format_count},
      .series = {{.name = "reached", .points = points, .count = count},
                 {.name = "target", .points = points + count, .count = count, .is_dashed = true}},
      .series_count = is_aimed ? 2 : 1};
  svg_chart(out, &chart);
  free(points);
}

static void chart_errors(FILE *out, const struct result *result) {
  uint32_t count = result->intervals_count;
  struct svg_point *points = calloc(count, sizeof(*points));
  double highest = 0;
  if (points == NULL) {
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct interval *row = &result->intervals[i];
    points[i] = (struct svg_point){
        .x = row->at_s, .x_end = row->at_s + row->seconds, .y = (double)row->errors};
    highest = fmax(highest, (double)row->errors);
  }
  struct svg_chart chart = {
      .title = highest > 0 ? "Errors over time" : "Errors over time: none",
      .x = axis_of_seconds(result),
      .y = {.title = "errors", .max = fmax(10, highest * 1.05), .format = svg_format_count},
      .series = {{.name = "errors", .points = points, .count = count, .is_bars = true}},
      .series_count = 1};
  svg_chart(out, &chart);
  free(points);
}

/* ---- the histogram ---- */

/* BARS bars of equal width on a log axis; a bucket belongs to the bar of its lowest value. */
static void chart_histogram(FILE *out, const struct result *result) {
  const struct hdr_histogram *histogram = result->latency;
  struct svg_point bars[BARS];
  struct svg_axis axis =
      axis_of_times((double)histogram->min_ns, (double)histogram->max_ns, "latency (log axis)");
  double ratio = pow(axis.max / axis.min, 1.0 / BARS), highest = 1;
  for (size_t i = 0; i < BARS; i++) {
    bars[i] = (struct svg_point){.x = axis.min * pow(ratio, (double)i),
                                 .x_end = axis.min * pow(ratio, (double)i + 1)};
  }
  for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
    double low = fmax((double)hdr_bucket_low(i), axis.min);
    if (histogram->buckets[i] == 0) {
      continue;
    }
    double at = fmin(BARS - 1, fmax(0, floor(log(low / axis.min) / log(ratio))));
    bars[(size_t)at].y += (double)histogram->buckets[i];
    highest = fmax(highest, bars[(size_t)at].y);
  }
  struct svg_chart chart = {
      .title = "Histogram of latency",
      .x = axis,
      .y = {.title = "exchanges", .max = highest * 1.05, .format = svg_format_count},
      .series = {{.name = "exchanges", .points = bars, .count = BARS, .is_bars = true}},
      .series_count = 1};
  svg_chart(out, &chart);
}

/* ---- axes ---- */

/* An axis from slightly below ${min_ns} to slightly above ${max_ns}, wide enough for ticks. */
static struct svg_axis axis_of_times(double min_ns, double max_ns, const char *title) {
  double min = fmax(1, fmin(min_ns, max_ns) / 1.2), max = fmax(min * 4, max_ns * 1.2);
  return (struct svg_axis){
      .title = title, .min = min, .max = max, .is_log = true, .format = svg_format_time};
}

static struct svg_axis axis_of_seconds(const struct result *result) {
  const struct interval *last = &result->intervals[result->intervals_count - 1];
  return (struct svg_axis){.title = "time from the start of the measurement",
                           .max = fmax(1e-3, last->at_s + last->seconds),
                           .format = svg_format_seconds};
}

static double middle_of(const struct interval *interval) {
  return interval->at_s + interval->seconds / 2;
}

/* ---- text and tables ---- */

static void write_summary(FILE *out, const struct options *options, const struct result *result) {
  char time[UNITS_TEXT_MAX], read[UNITS_TEXT_MAX], sent[UNITS_TEXT_MAX];
  write_origin(out, &options->identity, result->started_ms);
  write_load(out, options);
  fprintf(out, "<p><strong>%s exchanges a second</strong>",
          units_format_fixed(units_divide((double)result->exchanges, result->seconds), 2, time));
  if (result->target_rate > 0) {
    fprintf(out, " of %.2f wanted", result->target_rate);
  }
  fprintf(out, ": %" PRIu64 " in %s, %s read, %s sent, %" PRIu64 " errors.</p>\n",
          result->exchanges,
          units_format_time(result->seconds > 0 ? result->seconds * 1e9 : NAN, time),
          units_format_bytes((double)result->bytes_in, read),
          units_format_bytes((double)result->bytes_out, sent), result_errors(result));
  if (!result->has_latency) {
    fputs("<p class=\"soft\">An endless exchange without reply has no latency.</p>\n", out);
  }
  if (result->target_rate > 0) {
    const double late_ns = result->late > 0 ? (double)result->late_max_ns : NAN;
    fprintf(out,
            "<p class=\"soft\">%" PRIu64 " sends began more than 1 ms late, at most %s; %" PRIu64
            " were dropped.</p>\n",
            result->late, units_format_time(late_ns, time), result->dropped);
  }
  write_unfinished(out, result);
  if (options->search) {
    write_search(out, options, result);
  }
  write_warnings(out, result);
}

static void write_search(FILE *out, const struct options *options, const struct result *result) {
  fputs("<p>Highest rate with ", out);
  svg_text(out, options->search_objective.text);
  if (result->found_rate > 0) {
    fprintf(out, ": %.0f a second.</p>\n", result->found_rate);
  } else {
    fputs(": none.</p>\n", out);
  }
}

static void write_unfinished(FILE *out, const struct result *result) {
  char text[UNITS_TEXT_MAX];
  fprintf(out, "<p class=\"soft\">%" PRIu64 " exchanges were unfinished at the end",
          result->unfinished);
  if (result->unfinished > 0) {
    fprintf(out, ", the oldest after %s",
            units_format_time((double)result->unfinished_oldest_ns, text));
  }
  fputs(".</p>\n", out);
}

static void write_example(FILE *out, const struct wrong_example *wrong) {
  fprintf(out,
          "<p class=\"warn\">First wrong answer: connection %" PRIu32 ", byte %" PRIu64
          ": wanted \"",
          wrong->connection, wrong->offset);
  svg_text(out, wrong->wanted);
  fputs("\", received \"", out);
  svg_text(out, wrong->received);
  fputs("\". ", out);
  svg_text(out, wrong->hint);
  fputs("</p>\n", out);
}

static void write_warnings(FILE *out, const struct result *result) {
  if (result->wrong.at_ns > 0) {
    write_example(out, &result->wrong);
  }
  if (result->starved) {
    fprintf(out,
            "<p class=\"warn\">starved: a thread of the load generator waited %.1f %% of the time "
            "for a CPU, which limits the results.</p>\n",
            result->thread_waiting_max * 100);
  }
  if (result->harness_bound && !result->starved) {
    fprintf(
        out,
        "<p class=\"warn\">harness-bound: a thread of the load generator used %.1f %% of a CPU, "
        "which limits the results.</p>\n",
        result->thread_busy_max * 100);
  }
  if (result->aborted) {
    fputs("<p class=\"warn\">Aborted: an objective can no longer be kept.</p>\n", out);
  }
  if (result->interrupted) {
    fputs("<p class=\"warn\">Interrupted: this is the report so far.</p>\n", out);
  }
}

static void write_tables(FILE *out, const struct result *result) {
  write_times(out, result);
  write_errors(out, result);
  write_usages(out, result);
  fputs("<p class=\"soft\">xchg-bench " XCHG_VERSION "</p>\n", out);
}

/* When, where and by which command the run was made. */
static void write_origin(FILE *out, const struct identity *identity, uint64_t started_ms) {
  char text[IDENTITY_MOMENT_MAX];
  fprintf(out, "<p class=\"soft\">%s, ", started_ms > 0 ? identity_format(started_ms, text) : "-");
  svg_text(out, identity->host);
  fputs(identity->machine[0] != 0 ? ": " : "", out);
  svg_text(out, identity->machine);
  fputs("</p>\n<p class=\"soft\"><code>", out);
  svg_text(out, identity->command);
  fputs("</code></p>\n", out);
}

static void write_load(FILE *out, const struct options *options) {
  static const char *const exchanges[] = {"greet", "line", "echo", "discard"};
  fprintf(out,
          "<p class=\"soft\">%s exchange, %" PRIu32 " threads, %" PRIu32
          " connections, pipeline %" PRIu32,
          exchanges[options->exchange.exchange], options->threads, options->connections,
          options->pipeline);
  if (options->idle > 0) {
    fprintf(out, ", %" PRIu32 " idle", options->idle);
  }
  if (options->size.kind == SIZE_UNIFORM) {
    fprintf(out, ", messages of %" PRIu64 " to %" PRIu64 " bytes", options->size.a,
            options->size.b);
  } else {
    fprintf(out, ", messages of %s%" PRIu64 " bytes",
            options->size.kind == SIZE_EXPONENTIAL ? "about " : "", options->size.a);
  }
  if (options->repeat > 1) {
    fprintf(out, ", %" PRIu32 " runs one after the other", options->repeat);
  }
  fputs("</p>\n", out);
}

static void write_times(FILE *out, const struct result *result) {
  static const char *const columns[] = {"",    "count", "mean", "stddev", "min",    "50%",
                                        "75%", "90%",   "99%",  "99.9%",  "99.99%", "max"};
  fputs("<h2>Times</h2>\n<div class=\"wide\"><table>\n<tr>", out);
  for (size_t i = 0; i < count_of(columns); i++) {
    fprintf(out, "<th>%s</th>", columns[i]);
  }
  fputs("</tr>\n", out);
  if (result->has_latency) {
    write_time_row(out, "whole exchange", result, TIMES_LATENCY);
    if (result->uncorrected != NULL) {
      write_time_row(out, "... uncorrected", result, TIMES_UNCORRECTED);
    }
    write_time_row(out, "first byte", result, TIMES_FIRST_BYTE);
  }
  write_time_row(out, "connect", result, TIMES_CONNECT);
  fputs("</table></div>\n", out);
}

static void write_time_row(FILE *out, const char *name, const struct result *result,
                           enum metric_times times) {
  static const double percents[] = {50, 75, 90, 99, 99.9, 99.99, 100};
  const struct hdr_histogram *histogram = result_times(result, times);
  char text[UNITS_TEXT_MAX];
  fprintf(out, "<tr><td>%s</td><td>%" PRIu64 "</td>", name, histogram->count);
  const bool any = histogram->count > 0;
  fprintf(out, "<td>%s</td>", units_format_time(any ? hdr_mean(histogram) : NAN, text));
  fprintf(out, "<td>%s</td>", units_format_time(any ? hdr_stddev(histogram) : NAN, text));
  fprintf(out, "<td>%s</td>", units_format_time(any ? (double)histogram->min_ns : NAN, text));
  for (size_t i = 0; i < count_of(percents); i++) {
    fprintf(out, "<td>%s</td>", units_format_time(result_time(result, times, percents[i]), text));
  }
  fputs("</tr>\n", out);
}

static void write_errors(FILE *out, const struct result *result) {
  fputs("<h2>Errors</h2>\n<table>\n<tr><th>kind</th><th>count</th></tr>\n", out);
  for (int i = 0; i < BENCH_ERRORS; i++) {
    fprintf(out, "<tr><td>%s</td><td>%" PRIu64 "</td></tr>\n",
            bench_error_name((enum bench_error)i), result->errors[i]);
  }
  for (int i = 0; i < BENCH_ERRNO_MAX; i++) {
    if (result->errnos[i] == 0) {
      continue;
    }
    const char *name = error_name(i);
    fprintf(out, "<tr><td>... %s</td><td>%" PRIu64 "</td></tr>\n",
            name != NULL ? name : "unknown errno", result->errnos[i]);
  }
  fputs("</table>\n", out);
}

static void write_usages(FILE *out, const struct result *result) {
  fputs(
      "<h2>CPU and memory</h2>\n<table>\n<tr><th></th><th>of a CPU</th><th>CPU per exchange</th>"
      "<th>context switches per exchange</th><th>resident</th></tr>\n",
      out);
  write_usage_row(out, "harness", &result->client, result->exchanges);
  if (result->server.known) {
    write_usage_row(out, "server", &result->server, result->exchanges);
  }
  fputs("</table>\n", out);
}

static void write_usage_row(FILE *out, const char *name, const struct usage *usage,
                            uint64_t exchanges) {
  char share[UNITS_TEXT_MAX], cpu[UNITS_TEXT_MAX], switches[UNITS_TEXT_MAX], bytes[UNITS_TEXT_MAX];
  const double count = (double)exchanges;
  if (!usage->known) {
    fprintf(out, "<tr><td>%s</td><td>-</td><td>-</td><td>-</td><td>-</td></tr>\n", name);
    return;
  }
  fprintf(out, "<tr><td>%s</td><td>%s %%</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", name,
          units_format_fixed(units_divide(100 * usage->cpu_s, usage->seconds), 1, share),
          units_format_time(units_divide(usage->cpu_s * 1e9, count), cpu),
          units_format_fixed(units_divide((double)usage->context_switches, count), 3, switches),
          units_format_bytes((double)usage->resident_bytes, bytes));
}
