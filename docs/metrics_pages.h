/* metrics_pages: the pages and the dashboard that come from the table of metrics. */
#ifndef DOCS_METRICS_PAGES_H
#define DOCS_METRICS_PAGES_H

#include "core/metrics.h"

#include <stdio.h>

/* A name of a sample or a family is the name of the row, and this. */
static inline const char *metrics_pages_suffix(const struct metric *row) {
  return row->type == METRIC_COUNTER ? "_total" : row->type == METRIC_INFO ? "_info" : "";
}

void metrics_pages_markdown(FILE *out); /* docs/metrics.md */
void metrics_pages_man(FILE *out);      /* the METRICS section of xchg-metrics.7 */
void metrics_pages_grafana(FILE *out);  /* docs/deploy/grafana.json */

/** Every sample on a line: name, type, and its labels with their values where the set is closed. */
void metrics_pages_names(FILE *out);

#endif
