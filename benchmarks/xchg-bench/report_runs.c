/*
 * report_runs: several runs at a glance.
 *
 * Each column is taken from the runs' own metrics; the last row of repeated runs is the median of
 * each column, and no average of percentiles.
 */
#include "report.h"

#include "mann_whitney.h"
#include "units.h"

#include <assert.h>
#include <inttypes.h>

enum column { COLUMN_RATE, COLUMN_P50, COLUMN_P99, COLUMN_P999, COLUMN_MAX, COLUMNS };

#define RUNS_MAX 1000

static double column_of(const struct result *result, enum column column);
static double column_median(struct result *const *runs, uint32_t count, enum column column);
static void print_columns(FILE *out, const double values[COLUMNS]);

void report_text_runs(FILE *out, const struct options *options, struct result *const *runs,
                      uint32_t count) {
  double values[COLUMNS];
  fprintf(out, "%-8s %10s %12s %10s %10s %10s %10s %8s\n", options->steps > 0 ? "Step" : "Run",
          "Target/sec", "Requests/sec", "50%", "99%", "99.9%", "Max", "Errors");
  for (uint32_t i = 0; i < count; i++) {
    fprintf(out, "%-8" PRIu32 " %10.2f", i + 1, runs[i]->target_rate);
    for (int column = 0; column < COLUMNS; column++)
      values[column] = column_of(runs[i], (enum column)column);
    print_columns(out, values);
    fprintf(out, " %8" PRIu64 "\n", result_errors(runs[i]));
  }
  if (options->steps > 0 || count == 0)
    return;
  fprintf(out, "%-8s %10.2f", "Median", runs[0]->target_rate);
  for (int column = 0; column < COLUMNS; column++)
    values[column] = column_median(runs, count, (enum column)column);
  print_columns(out, values);
  fputc('\n', out);
}

static double column_of(const struct result *result, enum column column) {
  static const double percents[COLUMNS] = {
      [COLUMN_P50] = 50, [COLUMN_P99] = 99, [COLUMN_P999] = 99.9, [COLUMN_MAX] = 100};
  if (column != COLUMN_RATE)
    return (double)hdr_percentile(result->latency, percents[column]);
  return result->seconds > 0 ? (double)result->exchanges / result->seconds : 0;
}

static double column_median(struct result *const *runs, uint32_t count, enum column column) {
  double values[RUNS_MAX];
  assert(count > 0 && count <= RUNS_MAX);
  for (uint32_t i = 0; i < count; i++)
    values[i] = column_of(runs[i], column);
  return median_of(values, count);
}

static void print_columns(FILE *out, const double values[COLUMNS]) {
  char text[UNITS_TEXT_MAX];
  fprintf(out, " %12.2f", values[COLUMN_RATE]);
  for (int column = COLUMN_P50; column < COLUMNS; column++)
    fprintf(out, " %10s", units_format_time(values[column], text));
}
