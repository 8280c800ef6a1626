/*
 * report_options: the options of a run as the JSON report holds them, written and read back.
 *
 * Internal to report_json and report_read: one table of the plain numbers serves both, so that what
 * is written can be read.
 */
#ifndef BENCH_REPORT_OPTIONS_H
#define BENCH_REPORT_OPTIONS_H

#include "json_write.h"
#include "json_read.h"
#include "bench.h"

/** Write ${options} as the member "options". */
void report_options_write(struct json_writer *writer, const struct options *options);

/**
 * report_options_read(options, json):
 * Read what report_options_write wrote; what a report does not hold (addresses resolved, paths)
 * stays 0.
 * Return: NULL, and config_fini of options->exchange is due; or the name of what is missing or
 * wrong, with nothing to free.
 */
const char *report_options_read(struct options *options, const struct json *json);

#endif
