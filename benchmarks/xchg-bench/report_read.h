/*
 * report_read: a JSON report back into options and results.
 *
 * The file is not trusted: every value is checked before use.  The first fault ends the reading
 * with one line.
 */
#ifndef BENCH_REPORT_READ_H
#define BENCH_REPORT_READ_H

#include "bench.h"
#include "report_options.h"

#include <stdio.h>

#define REPORT_RUNS_MAX 10000

struct report {
  const char *path;       /* borrows */
  struct options options; /* the part that a report has; the paths are NULL */
  struct result **runs;   /* owns the array and the results */
  uint32_t runs_count;    /* at least 1 */
};

/**
 * report_read(report, path, errors):
 * Read the JSON report at ${path}.
 * Return: 0, and the caller must call report_fini; or -1 after one line to ${errors}, with nothing
 * to free.
 * Lifetime: ${path} must live as long as ${report}.
 */
int report_read(struct report *report, const char *path, FILE *errors);
void report_fini(struct report *report);

#endif
