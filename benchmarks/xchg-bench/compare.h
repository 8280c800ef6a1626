/*
 * compare: xchg-bench compare A.json B.json ...: reports side by side.
 *
 * Each metric has a row with the median over each report's runs.  Every report after the first also
 * has the ratio to the first, and the two-sided probability of the Mann-Whitney U test that the
 * difference is noise.
 */
#ifndef BENCH_COMPARE_H
#define BENCH_COMPARE_H

#include "bench.h"

#include <stdio.h>

#define COMPARE_FILES_MAX 16

/* With fewer runs on a side, the test cannot tell a difference from noise. */
#define COMPARE_RUNS_MIN 4
#define COMPARE_P_MAX 0.05

/**
 * compare_files(paths, count, fail_above, out, errors):
 * Write a table of ${count} reports ${paths} to ${out}, and a warning to ${errors} for each whose
 * work differs from the first one's.  Unless ${fail_above} is NAN, tell what is worse than in the
 * first report by more than that many percent and is not noise.
 * Return: BENCH_OK; BENCH_MISSED if something is worse; or BENCH_USAGE after one line to ${errors}.
 */
int compare_files(const char *const *paths, uint32_t count, double fail_above, FILE *out,
                  FILE *errors);

/** The subcommand; ${argv} begins with its name. Return: the exit code. */
int compare_main(int argc, char **argv);

#endif
