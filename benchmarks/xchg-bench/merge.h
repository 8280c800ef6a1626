/*
 * merge: xchg-bench merge A.json B.json ... [--json OUT]: one report of harnesses that ran at once.
 *
 * Histograms are added, and percentiles taken from the sum; rates, counts and errors are summed; no
 * percentile is ever averaged.  The i-th runs of all reports make the i-th run of the merged one.
 */
#ifndef BENCH_MERGE_H
#define BENCH_MERGE_H

#include "report_read.h"

#define MERGE_FILES_MAX 256

/**
 * merge_reports(merged, reports, count):
 * Make one report of ${count} ${reports}; they are left as they are.
 * Return: NULL, and merge_fini is due; or why they cannot be merged (also: "out of memory"), with
 * nothing to free.
 * Own: ${merged} borrows the first report's exchange, which must outlive it.
 */
const char *merge_reports(struct report *merged, const struct report *reports, uint32_t count);
void merge_fini(struct report *merged);

/**
 * merge_files(paths, count, json, out, errors):
 * Merge ${count} files; write the text report to ${out} and, unless ${json} is NULL, the JSON one
 * to the file ${json}; "-" writes it to ${out} in place of the text.
 * Return: BENCH_OK; BENCH_USAGE after one line to ${errors}; BENCH_FAILED where the output could
 * not be written to its end.
 */
int merge_files(const char *const *paths, uint32_t count, const char *json, FILE *out,
                FILE *errors);

/** The subcommand: ${argv} begins with its name. Return: the exit code. */
int merge_main(int argc, char **argv);

#endif
