/*
 * report: a result for people and for machines.
 *
 * Each writes one form to an open stream and looks at nothing but its arguments; main opens the
 * files before the load starts, so that one that cannot be written is told early.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench.h"

/**
 * The terminal's table. Its first lines, as wrk and wrk2 print them, say what is going to run and
 * are written before it.
 */
void report_text_begin(FILE *out, const struct options *options);
void report_text(FILE *out, const struct options *options, const struct result *result);

/** A row a run and, of repeated runs, the medians: what follows the tables of several runs. */
void report_text_runs(FILE *out, const struct options *options, struct result *const *runs,
                      uint32_t count);

/**
 * One JSON object, schema BENCH_SCHEMA; of several ${runs} (--repeat), medians at the top and each
 * run in `runs`.
 */
void report_json(FILE *out, const struct options *options, struct result *const *runs,
                 uint32_t count);

/** A row a second, with a header. */
void report_csv(FILE *out, const struct result *result);

/** A self-contained HTML page: inline SVG, light and dark, no network. */
void report_html(FILE *out, const struct options *options, const struct result *result);

#endif
