/*
 * report_csv: a row a second, for spreadsheets and plotters.
 *
 * Names carry their units; numbers have a point whatever the locale, since no locale is set.
 */
#include "report.h"

#include <inttypes.h>

void report_csv(FILE *out, const struct result *result) {
  fputs(
      "at_s,seconds,exchanges,rate,target_rate,errors,bytes_in,bytes_out,p50_us,p90_us,p99_us,"
      "max_us\n",
      out);
  for (uint32_t i = 0; i < result->intervals_count; i++) {
    const struct interval *row = &result->intervals[i];
    double rate = row->seconds > 0 ? (double)row->exchanges / row->seconds : 0;
    fprintf(out, "%.3f,%.3f,%" PRIu64 ",%.2f,%.2f,%" PRIu64 ",%" PRIu64 ",%" PRIu64, row->at_s,
            row->seconds, row->exchanges, rate, row->target_rate, row->errors, row->bytes_in,
            row->bytes_out);
    fprintf(out, ",%.3f,%.3f,%.3f,%.3f\n", (double)row->p50_ns / 1e3, (double)row->p90_ns / 1e3,
            (double)row->p99_ns / 1e3, (double)row->max_ns / 1e3);
  }
}
