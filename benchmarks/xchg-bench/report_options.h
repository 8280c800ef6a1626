/*
 * report_options: the options of a run in the JSON report, written and read back.
 *
 * Used by report_json and report_read only.
 */
#ifndef BENCH_REPORT_OPTIONS_H
#define BENCH_REPORT_OPTIONS_H

#include "json_write.h"
#include "json_read.h"
#include "bench.h"

/* A million load generators at the highest rate. */
#define REPORT_RATE_MAX 1e15

/** Write ${options} as the member "options". */
void report_options_write(struct json_writer *writer, const struct options *options);

/**
 * report_options_read(options, json):
 * Read what report_options_write wrote.  A report has no resolved addresses and no paths; they stay
 * 0.
 * Return: NULL, and the caller must call config_fini for options->exchange; or the key that is
 * missing or wrong, with nothing to free.
 */
const char *report_options_read(struct options *options, const struct json *json);

#endif
