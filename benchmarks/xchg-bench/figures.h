/*
 * figures: the numbers of a run that are compared between runs, each with its name.
 *
 * One array of doubles a run, so that medians, ratios and tests are loops.  A figure that the run
 * cannot have (no server was watched, nothing was timed) is NAN.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include "bench.h"

enum figure_run {
  FIGURE_SECONDS,
  FIGURE_EXCHANGES,
  FIGURE_RATE,        /* exchanges / seconds */
  FIGURE_TARGET_RATE, /* NAN in a closed loop */
  FIGURE_BYTES_IN,
  FIGURE_BYTES_OUT,
  FIGURE_ERRORS, /* of all kinds */
  FIGURES_RUN
};

enum figure_usage {
  FIGURE_CPU_US_PER_EXCHANGE,
  FIGURE_UTILISATION, /* CPUs: CPU seconds / seconds */
  FIGURE_SWITCHES_PER_EXCHANGE,
  FIGURE_RESIDENT_BYTES,
  FIGURE_CPU_S,
  FIGURE_USAGE_SECONDS,
  FIGURE_SWITCHES,
  FIGURES_USAGE
};

/* Times in microseconds, from a histogram. */
enum figure_time {
  FIGURE_COUNT,
  FIGURE_MEAN,
  FIGURE_STDDEV,
  FIGURE_MIN,
  FIGURE_P50,
  FIGURE_P75,
  FIGURE_P90,
  FIGURE_P99,
  FIGURE_P99_9,
  FIGURE_P99_99,
  FIGURE_MAX,
  FIGURES_TIME
};

enum figure_times { TIMES_LATENCY, TIMES_UNCORRECTED, TIMES_CONNECT, TIMES_FIRST_BYTE, TIMES };

/* Where each group begins in the array. */
#define FIGURES_CLIENT FIGURES_RUN
#define FIGURES_SERVER (FIGURES_CLIENT + FIGURES_USAGE)
#define FIGURES_TIMES (FIGURES_SERVER + FIGURES_USAGE)
#define FIGURES (FIGURES_TIMES + TIMES * FIGURES_TIME)

/** The index of ${figure} of the histogram ${times}. */
static inline uint32_t figure_of_times(enum figure_times times, enum figure_time figure) {
  return FIGURES_TIMES + (uint32_t)times * FIGURES_TIME + (uint32_t)figure;
}

/* Names as the JSON report has them. */
extern const char *const figure_run_names[FIGURES_RUN];
extern const char *const figure_usage_names[FIGURES_USAGE];
extern const char *const figure_time_names[FIGURES_TIME];
extern const char *const figure_times_names[TIMES]; /* latency, uncorrected ... */

/** The histogram ${times} of ${result}; NULL where it has none. */
const struct hdr_histogram *figures_histogram(const struct result *result, enum figure_times times);

/** The figures of one run. */
void figures_of(const struct result *result, double figures[FIGURES]);

/**
 * figures_median(runs, count, figures):
 * The median of each figure over those of ${count} ${runs} that have it.
 * Return: 0, or -1 (ENOMEM).
 */
int figures_median(struct result *const *runs, uint32_t count, double figures[FIGURES]);

#endif
