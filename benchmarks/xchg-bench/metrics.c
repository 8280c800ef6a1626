/*
 * metrics: see metrics.h.  A quotient is NAN if its divisor (exchanges or seconds) is 0, because a
 * rate that was not measured is not 0.
 */
#include "metrics.h"

#include "mann_whitney.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define US_PER_S 1e6
#define US (double)NS_PER_US

const char *const metric_run_names[METRICS_RUN] = {
    [METRIC_SECONDS] = "seconds",   [METRIC_EXCHANGES] = "exchanges",
    [METRIC_RATE] = "rate",         [METRIC_TARGET_RATE] = "target_rate",
    [METRIC_BYTES_IN] = "bytes_in", [METRIC_BYTES_OUT] = "bytes_out",
    [METRIC_ERRORS] = "errors",     [METRIC_UNFINISHED] = "unfinished",
    [METRIC_DROPPED] = "dropped",
};

const char *const metric_usage_names[METRICS_USAGE] = {
    [METRIC_CPU_US_PER_EXCHANGE] = "cpu_us_per_exchange",
    [METRIC_UTILISATION] = "utilisation",
    [METRIC_SWITCHES_PER_EXCHANGE] = "context_switches_per_exchange",
    [METRIC_RESIDENT_BYTES] = "resident_bytes",
    [METRIC_CPU_S] = "cpu_s",
    [METRIC_USAGE_SECONDS] = "seconds",
    [METRIC_SWITCHES] = "context_switches",
};

const char *const metric_time_names[METRICS_TIME] = {
    [METRIC_COUNT] = "count",   [METRIC_MEAN] = "mean", [METRIC_STDDEV] = "stddev",
    [METRIC_MIN] = "min",       [METRIC_P50] = "p50",   [METRIC_P75] = "p75",
    [METRIC_P90] = "p90",       [METRIC_P99] = "p99",   [METRIC_P99_9] = "p99_9",
    [METRIC_P99_99] = "p99_99", [METRIC_MAX] = "max",
};

const char *const metric_times_names[TIMES] = {
    [TIMES_LATENCY] = "latency",
    [TIMES_UNCORRECTED] = "uncorrected",
    [TIMES_CONNECT] = "connect",
    [TIMES_FIRST_BYTE] = "first_byte",
};

static const double percents[] = {50, 75, 90, 99, 99.9, 99.99};

static_assert(METRIC_P50 + count_of(percents) == METRIC_MAX, "a percent a metric");

/* ${value} / ${by}, or NAN if ${by} is 0. */
static double divide(double value, double by) { return by > 0 ? value / by : NAN; }

static void add_usage(const struct usage *usage, uint64_t exchanges, double *metrics) {
  for (uint32_t i = 0; i < METRICS_USAGE; i++) {
    metrics[i] = NAN;
  }
  if (!usage->known) {
    return;
  }
  double switches = (double)usage->context_switches;
  metrics[METRIC_CPU_S] = usage->cpu_s;
  metrics[METRIC_USAGE_SECONDS] = usage->seconds;
  metrics[METRIC_SWITCHES] = switches;
  metrics[METRIC_RESIDENT_BYTES] = (double)usage->resident_bytes;
  metrics[METRIC_UTILISATION] = divide(usage->cpu_s, usage->seconds);
  metrics[METRIC_CPU_US_PER_EXCHANGE] = divide(usage->cpu_s * US_PER_S, (double)exchanges);
  metrics[METRIC_SWITCHES_PER_EXCHANGE] = divide(switches, (double)exchanges);
}

static void add_times(const struct result *result, enum metric_times times, double *metrics) {
  const struct hdr_histogram *histogram = result_times(result, times);
  for (uint32_t i = 0; i < METRICS_TIME; i++) {
    metrics[i] = NAN;
  }
  if (histogram == NULL) {
    return;
  }
  metrics[METRIC_COUNT] = (double)histogram->count;
  if (result_count(result, times) > 0) {
    for (uint32_t i = 0; i < count_of(percents); i++) {
      metrics[METRIC_P50 + i] = (double)result_percentile(result, times, percents[i]) / US;
    }
    metrics[METRIC_MAX] = (double)result_percentile(result, times, 100) / US;
  }
  if (histogram->count == 0) {
    return;
  }
  metrics[METRIC_MEAN] = hdr_mean(histogram) / US;
  metrics[METRIC_STDDEV] = hdr_stddev(histogram) / US;
  metrics[METRIC_MIN] = (double)histogram->min_ns / US;
}

void metrics_of(const struct result *result, double metrics[METRICS]) {
  metrics[METRIC_SECONDS] = result->seconds;
  metrics[METRIC_EXCHANGES] = (double)result->exchanges;
  metrics[METRIC_RATE] = divide((double)result->exchanges, result->seconds);
  metrics[METRIC_TARGET_RATE] = result->target_rate > 0 ? result->target_rate : NAN;
  metrics[METRIC_BYTES_IN] = (double)result->bytes_in;
  metrics[METRIC_BYTES_OUT] = (double)result->bytes_out;
  metrics[METRIC_ERRORS] = (double)result_errors(result);
  metrics[METRIC_UNFINISHED] = (double)result->unfinished;
  metrics[METRIC_DROPPED] = result->target_rate > 0 ? (double)result->dropped : NAN;
  add_usage(&result->client, result->exchanges, metrics + METRICS_CLIENT);
  add_usage(&result->server, result->exchanges, metrics + METRICS_SERVER);
  for (uint32_t i = 0; i < TIMES; i++) {
    add_times(result, (enum metric_times)i, metrics + METRICS_TIMES + i * METRICS_TIME);
  }
}

int metrics_median(struct result *const *runs, uint32_t count, double metrics[METRICS]) {
  assert(count > 0);
  double(*of_runs)[METRICS] = calloc(count, sizeof(*of_runs));
  double *values = calloc(count, sizeof(*values));
  int result = -1;
  if (of_runs == NULL || values == NULL) {
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) {
    metrics_of(runs[i], of_runs[i]);
  }
  for (uint32_t f = 0; f < METRICS; f++) {
    size_t known = 0;
    for (uint32_t i = 0; i < count; i++) {
      if (!isnan(of_runs[i][f])) {
        values[known++] = of_runs[i][f];
      }
    }
    metrics[f] = median_of(values, known);
  }
  result = 0;
out:
  free(values);
  free(of_runs);
  return result;
}
