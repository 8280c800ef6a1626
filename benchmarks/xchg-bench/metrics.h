/*
 * metrics: the numbers of a run that are compared between runs, and their names.
 *
 * A run has one array of doubles, so that medians, ratios and tests are loops.  A metric that the
 * run does not have (no server was watched, nothing was timed) is NAN.
 */
#ifndef BENCH_METRICS_H
#define BENCH_METRICS_H

#include "bench.h"

enum metric_run {
  METRIC_SECONDS,
  METRIC_EXCHANGES,
  METRIC_RATE,        /* exchanges / seconds */
  METRIC_TARGET_RATE, /* NAN in a closed loop */
  METRIC_BYTES_IN,
  METRIC_BYTES_OUT,
  METRIC_ERRORS, /* of all kinds */
  METRIC_UNFINISHED,
  METRIC_DROPPED, /* NAN in a closed loop */
  METRICS_RUN
};

enum metric_usage {
  METRIC_CPU_US_PER_EXCHANGE,
  METRIC_UTILISATION, /* CPUs: CPU seconds / seconds */
  METRIC_SWITCHES_PER_EXCHANGE,
  METRIC_RESIDENT_BYTES,
  METRIC_CPU_S,
  METRIC_USAGE_SECONDS,
  METRIC_SWITCHES,
  METRICS_USAGE
};

/* Times in microseconds, from a histogram. */
enum metric_time {
  METRIC_COUNT,
  METRIC_MEAN,
  METRIC_STDDEV,
  METRIC_MIN,
  METRIC_P50,
  METRIC_P75,
  METRIC_P90,
  METRIC_P99,
  METRIC_P99_9,
  METRIC_P99_99,
  METRIC_MAX,
  METRICS_TIME
};

/* The start of each group in the array. A number, so that an enumerator may be added to it. */
#define METRICS_CLIENT ((int)METRICS_RUN)
#define METRICS_SERVER (METRICS_CLIENT + METRICS_USAGE)
#define METRICS_TIMES (METRICS_SERVER + METRICS_USAGE)
#define METRICS (METRICS_TIMES + (int)TIMES * METRICS_TIME)

/** The index of ${metric} of histogram ${times}. */
static inline uint32_t metric_of_times(enum metric_times times, enum metric_time metric) {
  return METRICS_TIMES + (uint32_t)times * METRICS_TIME + (uint32_t)metric;
}

/* Their names in the JSON report. */
extern const char *const metric_run_names[METRICS_RUN];
extern const char *const metric_usage_names[METRICS_USAGE];
extern const char *const metric_time_names[METRICS_TIME];
extern const char *const metric_times_names[TIMES]; /* latency, uncorrected ... */

/** Compute the metrics of one run. */
void metrics_of(const struct result *result, double metrics[METRICS]);

/**
 * metrics_median(runs, count, metrics):
 * Compute the median of each metric over those of ${count} ${runs} that have it.
 * Return: 0, or -1 (ENOMEM).
 */
int metrics_median(struct result *const *runs, uint32_t count, double metrics[METRICS]);

#endif
