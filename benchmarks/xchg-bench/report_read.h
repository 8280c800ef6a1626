/*
 * report_read: a JSON report back into what it was written from.
 *
 * The file is somebody else's: everything is checked before it is used, and the first thing that is
 * wrong ends the reading with one line.
 */
#ifndef BENCH_REPORT_READ_H
#define BENCH_REPORT_READ_H

#include "bench.h"

#include <stdio.h>

#define REPORT_RUNS_MAX 10000

struct report {
  const char *path;       /* borrows */
  struct options options; /* what a report holds of them; its paths are NULL */
  struct result **runs;   /* owns, like what they point to */
  uint32_t runs_count;    /* 1 at least */
};

/**
 * report_read(report, path, errors):
 * Read the JSON report at ${path}.
 * Return: 0, and report_fini is due; or -1 after one line to ${errors}, with nothing to free.
 * Own: ${path} must live as long as ${report}.
 */
int report_read(struct report *report, const char *path, FILE *errors);
void report_fini(struct report *report);

#endif
