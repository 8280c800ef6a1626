/*
 * report: the forms of a report.
 *
 * Each function writes one form to an open stream and depends only on its arguments.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench.h"

/**
 * The text report.  report_text_begin writes its first lines, which describe the run, before the
 * run starts, as wrk and wrk2 do.
 */
void report_text_begin(FILE *out, const struct options *options);
void report_text(FILE *out, const struct options *options, const struct result *result);

/** After the reports of several runs: a row for each run and, if they were repeated, medians. */
void report_text_runs(FILE *out, const struct options *options, struct result *const *runs,
                      uint32_t count);

/**
 * One JSON object of schema BENCH_SCHEMA.  With several ${runs} (--repeat, --step) it has the
 * medians at the top and each run in `runs`.
 */
void report_json(FILE *out, const struct options *options, struct result *const *runs,
                 uint32_t count);

/** A header and a row for each second. */
void report_csv(FILE *out, const struct result *result);

/** A self-contained HTML page: inline SVG, light and dark, no network. */
void report_html(FILE *out, const struct options *options, const struct result *result);

#endif
