/*
 * figures: see figures.h.
 *
 * What is divided by a number of exchanges or by seconds is NAN where there were none: a rate that
 * nobody measured is not 0.
 */
#include "figures.h"

#include "rank.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define US_PER_S 1e6
#define US (double)NS_PER_US

const char *const figure_run_names[FIGURES_RUN] = {
    [FIGURE_SECONDS] = "seconds",   [FIGURE_EXCHANGES] = "exchanges",
    [FIGURE_RATE] = "rate",         [FIGURE_TARGET_RATE] = "target_rate",
    [FIGURE_BYTES_IN] = "bytes_in", [FIGURE_BYTES_OUT] = "bytes_out",
    [FIGURE_ERRORS] = "errors",
};

const char *const figure_usage_names[FIGURES_USAGE] = {
    [FIGURE_CPU_US_PER_EXCHANGE] = "cpu_us_per_exchange",
    [FIGURE_UTILISATION] = "utilisation",
    [FIGURE_SWITCHES_PER_EXCHANGE] = "context_switches_per_exchange",
    [FIGURE_RESIDENT_BYTES] = "resident_bytes",
    [FIGURE_CPU_S] = "cpu_s",
    [FIGURE_USAGE_SECONDS] = "seconds",
    [FIGURE_SWITCHES] = "context_switches",
};

const char *const figure_time_names[FIGURES_TIME] = {
    [FIGURE_COUNT] = "count",   [FIGURE_MEAN] = "mean", [FIGURE_STDDEV] = "stddev",
    [FIGURE_MIN] = "min",       [FIGURE_P50] = "p50",   [FIGURE_P75] = "p75",
    [FIGURE_P90] = "p90",       [FIGURE_P99] = "p99",   [FIGURE_P99_9] = "p99_9",
    [FIGURE_P99_99] = "p99_99", [FIGURE_MAX] = "max",
};

const char *const figure_times_names[TIMES] = {
    [TIMES_LATENCY] = "latency",
    [TIMES_UNCORRECTED] = "uncorrected",
    [TIMES_CONNECT] = "connect",
    [TIMES_FIRST_BYTE] = "first_byte",
};

static const double percents[] = {50, 75, 90, 99, 99.9, 99.99};

static_assert(FIGURE_P50 + count_of(percents) == FIGURE_MAX, "a percent a figure");

/* ${value} / ${by}; NAN where there is nothing to divide by. */
static double divide(double value, double by) { return by > 0 ? value / by : NAN; }

static void add_usage(const struct usage *usage, uint64_t exchanges, double *figures) {
  for (uint32_t i = 0; i < FIGURES_USAGE; i++)
    figures[i] = NAN;
  if (!usage->known)
    return;
  double switches = (double)usage->context_switches;
  figures[FIGURE_CPU_S] = usage->cpu_s;
  figures[FIGURE_USAGE_SECONDS] = usage->seconds;
  figures[FIGURE_SWITCHES] = switches;
  figures[FIGURE_RESIDENT_BYTES] = (double)usage->resident_bytes;
  figures[FIGURE_UTILISATION] = divide(usage->cpu_s, usage->seconds);
  figures[FIGURE_CPU_US_PER_EXCHANGE] = divide(usage->cpu_s * US_PER_S, (double)exchanges);
  figures[FIGURE_SWITCHES_PER_EXCHANGE] = divide(switches, (double)exchanges);
}

static void add_times(const struct hdr_histogram *histogram, double *figures) {
  for (uint32_t i = 0; i < FIGURES_TIME; i++)
    figures[i] = NAN;
  if (histogram == NULL)
    return;
  figures[FIGURE_COUNT] = (double)histogram->count;
  if (histogram->count == 0)
    return;
  figures[FIGURE_MEAN] = hdr_mean(histogram) / US;
  figures[FIGURE_STDDEV] = hdr_stddev(histogram) / US;
  figures[FIGURE_MIN] = (double)histogram->min_ns / US;
  for (uint32_t i = 0; i < count_of(percents); i++)
    figures[FIGURE_P50 + i] = (double)hdr_percentile(histogram, percents[i]) / US;
  figures[FIGURE_MAX] = (double)histogram->max_ns / US;
}

const struct hdr_histogram *figures_histogram(const struct result *result,
                                              enum figure_times times) {
  switch (times) {
    case TIMES_LATENCY:
      return result->has_latency ? result->latency : NULL;
    case TIMES_UNCORRECTED:
      return result->has_latency ? result->uncorrected : NULL;
    case TIMES_CONNECT:
      return result->connect;
    case TIMES_FIRST_BYTE:
      return result->first_byte;
    case TIMES:
      break;
  }
  return NULL;
}

void figures_of(const struct result *result, double figures[FIGURES]) {
  figures[FIGURE_SECONDS] = result->seconds;
  figures[FIGURE_EXCHANGES] = (double)result->exchanges;
  figures[FIGURE_RATE] = divide((double)result->exchanges, result->seconds);
  figures[FIGURE_TARGET_RATE] = result->target_rate > 0 ? result->target_rate : NAN;
  figures[FIGURE_BYTES_IN] = (double)result->bytes_in;
  figures[FIGURE_BYTES_OUT] = (double)result->bytes_out;
  figures[FIGURE_ERRORS] = (double)result_errors(result);
  add_usage(&result->client, result->exchanges, figures + FIGURES_CLIENT);
  add_usage(&result->server, result->exchanges, figures + FIGURES_SERVER);
  for (uint32_t i = 0; i < TIMES; i++)
    add_times(figures_histogram(result, (enum figure_times)i),
              figures + FIGURES_TIMES + i * FIGURES_TIME);
}

int figures_median(struct result *const *runs, uint32_t count, double figures[FIGURES]) {
  assert(count > 0);
  double(*of_runs)[FIGURES] = calloc(count, sizeof *of_runs);
  double *values = calloc(count, sizeof *values);
  int result = -1;
  if (of_runs == NULL || values == NULL)
    goto out;
  for (uint32_t i = 0; i < count; i++)
    figures_of(runs[i], of_runs[i]);
  for (uint32_t f = 0; f < FIGURES; f++) {
    size_t known = 0;
    for (uint32_t i = 0; i < count; i++) {
      if (!isnan(of_runs[i][f]))
        values[known++] = of_runs[i][f];
    }
    figures[f] = rank_median(values, known);
  }
  result = 0;
out:
  free(values);
  free(of_runs);
  return result;
}
