/*
 * generate: writes the pages that come from the tables of variables, of metrics and of system
 * calls.
 *
 *   generate markdown          docs/configuration.md, whole
 *   generate man               the ENVIRONMENT section of the page xchgd.8
 *   generate metrics-markdown  docs/metrics.md, whole
 *   generate metrics-man       the METRICS section of the page xchg-metrics.7
 *   generate metrics-grafana   docs/deploy/grafana.json, whole
 *   generate sandbox-markdown  the table of system calls in docs/SECURITY.md
 *   generate metrics-names     every sample with its type and labels, for tests/lint/queries
 *
 * A build tool: `make docs` runs it, and a test compares what it says with what is committed.
 */
#include "core/config.h"
#include "docs/metrics_pages.h"
#include "docs/sandbox_pages.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*write)(FILE *out);
  } pages[] = {{"markdown", config_write_markdown},          {"man", config_write_man},
               {"metrics-markdown", metrics_pages_markdown}, {"metrics-man", metrics_pages_man},
               {"metrics-grafana", metrics_pages_grafana},   {"metrics-names", metrics_pages_names},
               {"sandbox-markdown", sandbox_pages_markdown}};
  for (size_t i = 0; i < count_of(pages); i++) {
    if (argc == 2 && strcmp(argv[1], pages[i].name) == 0) {
      pages[i].write(stdout);
      return fflush(stdout) == 0 ? 0 : 1;
    }
  }
  fputs("usage: generate PAGE, one of:", stderr);
  for (size_t i = 0; i < count_of(pages); i++) {
    fprintf(stderr, " %s", pages[i].name);
  }
  fputc('\n', stderr);
  return 64;
}
