/*
 * options: the command line, checked.
 *
 * What the exchange's options mean is core/config's business: they are handed to it as the
 * environment variables of the server, so that harness and server can never differ.  The first
 * fault ends it, as one line.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench.h"

#include <stdio.h>

enum options_outcome {
  OPTIONS_RUN,   /* ${options} is complete; options_fini is due */
  OPTIONS_DONE,  /* --help or --version was written */
  OPTIONS_FAULT, /* one line was written; there is nothing to free */
};

/**
 * options_parse(options, argv, out, errors):
 * Read the NULL-terminated ${argv}, its first being the program's name, into ${options}; resolve
 * the target. What --help and --version write goes to ${out}, a fault to ${errors}.
 * Lifetime: the paths in ${options} belong to ${argv}.
 * Thread: one at a time (getopt_long).
 */
enum options_outcome options_parse(struct options *options, char **argv, FILE *out, FILE *errors);
void options_fini(struct options *options);

/** Write what --help writes. */
void options_help(FILE *out);

#endif
