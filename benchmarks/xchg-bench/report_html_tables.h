/*
 * report_html_tables: the words and metrics of the page, beside its charts.
 */
#ifndef BENCH_REPORT_HTML_TABLES_H
#define BENCH_REPORT_HTML_TABLES_H

#include "bench.h"

#include <stdio.h>

/** What was run, and the metrics that come first. */
void html_summary(FILE *out, const struct options *options, const struct result *result);

/** The tables: latencies, errors, CPU. */
void html_tables(FILE *out, const struct result *result);

#endif
