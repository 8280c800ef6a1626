/*
 * merge: xchg-bench merge A.json B.json ... [--json OUT]: one report of several load generators
 * that ran at the same time.
 *
 * Histograms, rates, counts and errors are added.  Percentiles are taken from the sum and never
 * averaged.  The i-th runs of all reports make the i-th run of the merged one.
 */
#ifndef BENCH_MERGE_H
#define BENCH_MERGE_H

#include "report_read.h"

#define MERGE_FILES_MAX 256

/**
 * merge_reports(merged, reports, count):
 * Make one report of ${count} ${reports}, which do not change.
 * Return: NULL, and the caller must call merge_fini; or the reason (also "out of memory") with
 * nothing to free, and merged->path is the report at fault.
 * Own: ${merged} borrows the first report's exchange, which must outlive it.
 */
const char *merge_reports(struct report *merged, const struct report *reports, uint32_t count);
void merge_fini(struct report *merged);

/**
 * merge_files(paths, count, json, out, errors):
 * Merge ${count} files.  Warn on ${errors} where their runs did not overlap or their work differs,
 * so that their sum was never reached.  Write the text report to ${out} and, unless ${json} is
 * NULL, the JSON report to the file ${json}.  If ${json} is "-", write only the JSON report, to
 * ${out}.
 * Return: BENCH_OK; BENCH_USAGE after one line to ${errors}; BENCH_FAILED after one line if the
 * file could not be written.  The caller checks ${out}.
 */
int merge_files(const char *const *paths, uint32_t count, const char *json, FILE *out,
                FILE *errors);

/** The subcommand; ${argv} begins with its name. Return: the exit code. */
int merge_main(int argc, char **argv);

#endif
