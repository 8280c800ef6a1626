/*
 * report_html_tables: the same metrics as the terminal's, for people who want to copy them.
 *
 * Every text that came from outside goes through svg_text.
 */
#include "report_html_tables.h"

#include "core/xchg.h"
#include "units.h"
#include "svg.h"

#include <inttypes.h>
#include <string.h>

static void write_load(FILE *out, const struct options *options);
static void write_times(FILE *out, const struct result *result);
static void write_time_row(FILE *out, const char *name, const struct hdr_histogram *histogram);
static void write_errors(FILE *out, const struct result *result);
static void write_usages(FILE *out, const struct result *result);
static void write_usage_row(FILE *out, const char *name, const struct usage *usage,
                            uint64_t exchanges);

void html_summary(FILE *out, const struct options *options, const struct result *result) {
  char time[UNITS_TEXT_MAX], read[UNITS_TEXT_MAX], sent[UNITS_TEXT_MAX];
  double seconds = result->seconds > 0 ? result->seconds : 1;
  write_load(out, options);
  fprintf(out, "<p><strong>%.2f exchanges a second</strong>", (double)result->exchanges / seconds);
  if (result->target_rate > 0)
    fprintf(out, " of %.2f wanted", result->target_rate);
  fprintf(out, ": %" PRIu64 " in %s, %s read, %s sent, %" PRIu64 " errors.</p>\n",
          result->exchanges, units_format_time(result->seconds * 1e9, time),
          units_format_bytes((double)result->bytes_in, read),
          units_format_bytes((double)result->bytes_out, sent), result_errors(result));
  if (!result->has_latency)
    fputs("<p class=\"soft\">An endless exchange without reply has no latency.</p>\n", out);
  if (result->target_rate > 0)
    fprintf(out,
            "<p class=\"soft\">%" PRIu64 " sends began more than 1 ms late, at most %s; %" PRIu64
            " were dropped.</p>\n",
            result->late, units_format_time((double)result->late_max_ns, time), result->dropped);
  if (result->harness_bound)
    fprintf(out,
            "<p class=\"warn\">harness-bound: a thread of the harness used %.1f %% of a CPU; these "
            "metrics are the harness's, not the server's.</p>\n",
            result->thread_busy_max * 100);
  if (result->interrupted)
    fputs("<p class=\"warn\">Interrupted: this is the report so far.</p>\n", out);
}

void html_tables(FILE *out, const struct result *result) {
  write_times(out, result);
  write_errors(out, result);
  write_usages(out, result);
  fputs("<p class=\"soft\">xchg-bench " XCHG_VERSION "</p>\n", out);
}

static void write_load(FILE *out, const struct options *options) {
  static const char *const exchanges[] = {"greet", "line", "echo", "discard"};
  fprintf(out,
          "<p class=\"soft\">%s exchange, %" PRIu32 " threads, %" PRIu32
          " connections, pipeline %" PRIu32,
          exchanges[options->exchange.exchange], options->threads, options->connections,
          options->pipeline);
  if (options->idle > 0)
    fprintf(out, ", %" PRIu32 " idle", options->idle);
  if (options->size.kind == SIZE_UNIFORM)
    fprintf(out, ", messages of %" PRIu64 " to %" PRIu64 " bytes", options->size.a,
            options->size.b);
  else
    fprintf(out, ", messages of %s%" PRIu64 " bytes",
            options->size.kind == SIZE_EXPONENTIAL ? "about " : "", options->size.a);
  if (options->repeat > 1)
    fprintf(out, ", %" PRIu32 " runs one after the other", options->repeat);
  fputs("</p>\n", out);
}

static void write_times(FILE *out, const struct result *result) {
  static const char *const columns[] = {"",    "count", "mean", "stddev", "min",    "50%",
                                        "75%", "90%",   "99%",  "99.9%",  "99.99%", "max"};
  fputs("<h2>Times</h2>\n<div class=\"wide\"><table>\n<tr>", out);
  for (size_t i = 0; i < count_of(columns); i++)
    fprintf(out, "<th>%s</th>", columns[i]);
  fputs("</tr>\n", out);
  if (result->has_latency) {
    write_time_row(out, "whole exchange", result->latency);
    if (result->uncorrected != NULL)
      write_time_row(out, "... uncorrected", result->uncorrected);
    write_time_row(out, "first byte", result->first_byte);
  }
  write_time_row(out, "connect", result->connect);
  fputs("</table></div>\n", out);
}

static void write_time_row(FILE *out, const char *name, const struct hdr_histogram *histogram) {
  static const double percents[] = {50, 75, 90, 99, 99.9, 99.99};
  char text[UNITS_TEXT_MAX];
  fprintf(out, "<tr><td>%s</td><td>%" PRIu64 "</td>", name, histogram->count);
  if (histogram->count == 0) {
    fputs("<td colspan=\"10\">nothing recorded</td></tr>\n", out);
    return;
  }
  fprintf(out, "<td>%s</td>", units_format_time(hdr_mean(histogram), text));
  fprintf(out, "<td>%s</td>", units_format_time(hdr_stddev(histogram), text));
  fprintf(out, "<td>%s</td>", units_format_time((double)histogram->min_ns, text));
  for (size_t i = 0; i < count_of(percents); i++)
    fprintf(out, "<td>%s</td>",
            units_format_time((double)hdr_percentile(histogram, percents[i]), text));
  fprintf(out, "<td>%s</td></tr>\n", units_format_time((double)histogram->max_ns, text));
}

static void write_errors(FILE *out, const struct result *result) {
  fputs("<h2>Errors</h2>\n<table>\n<tr><th>kind</th><th>count</th></tr>\n", out);
  for (int i = 0; i < BENCH_ERRORS; i++)
    fprintf(out, "<tr><td>%s</td><td>%" PRIu64 "</td></tr>\n",
            bench_error_name((enum bench_error)i), result->errors[i]);
  for (int i = 0; i < BENCH_ERRNO_MAX; i++) {
    if (result->errnos[i] == 0)
      continue;
    const char *name = strerrorname_np(i);
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
  if (result->server.known)
    write_usage_row(out, "server", &result->server, result->exchanges);
  fputs("</table>\n", out);
}

static void write_usage_row(FILE *out, const char *name, const struct usage *usage,
                            uint64_t exchanges) {
  char bytes[UNITS_TEXT_MAX];
  double count = exchanges > 0 ? (double)exchanges : 1;
  if (!usage->known) {
    fprintf(out, "<tr><td>%s</td><td colspan=\"4\">unknown</td></tr>\n", name);
    return;
  }
  fprintf(out, "<tr><td>%s</td><td>%.1f %%</td><td>%.2f us</td><td>%.3f</td><td>%s</td></tr>\n",
          name, usage->seconds > 0 ? 100 * usage->cpu_s / usage->seconds : 0,
          usage->cpu_s * 1e6 / count, (double)usage->context_switches / count,
          units_format_bytes((double)usage->resident_bytes, bytes));
}
