/*
 * generate: writes the pages that come from the table of variables.
 *
 *   generate markdown    docs/configuration.md, whole
 *   generate man         the ENVIRONMENT section of the page xchgd.8
 *
 * A build tool: `make docs` runs it, and a test compares what it says with what is committed.
 */
#include "core/config.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  const char *page = argc == 2 ? argv[1] : "";
  if (strcmp(page, "markdown") == 0) {
    config_write_markdown(stdout);
  } else if (strcmp(page, "man") == 0) {
    config_write_man(stdout);
  } else {
    fputs("usage: generate markdown|man\n", stderr);
    return 64;
  }
  return fflush(stdout) == 0 ? 0 : 1;
}
