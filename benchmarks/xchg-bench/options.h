/*
 * options: the command line, read and checked.
 *
 * The exchange is loaded by core/config from the environment variables of the server, so that
 * xchg-bench and xchgd cannot differ.  The first fault ends the reading with one line.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench.h"

#include <stdio.h>

enum options_outcome {
  OPTIONS_RUN,   /* ${options} is complete; the caller must call options_fini */
  OPTIONS_DONE,  /* --help or --version was written */
  OPTIONS_FAULT, /* one line was written; there is nothing to free */
};

/**
 * options_parse(options, argv, out, errors):
 * Read the NULL-terminated ${argv}, which begins with the name of the program, and resolve the
 * target.  --help and --version write to ${out}, a fault writes to ${errors}.
 * Lifetime: the paths in ${options} belong to ${argv}.
 * Thread: one at a time (getopt_long).
 */
enum options_outcome options_parse(struct options *options, char **argv, FILE *out, FILE *errors);
void options_fini(struct options *options);

#endif
