/*
 * options_table: THE table of all options: letter, name, argument, what it does, who reads it.
 *
 * getopt's lists and --help come from it.  A reader stores what it is given in the parser's
 * options; what contradicts what is options_check's business.
 */
#ifndef BENCH_OPTIONS_TABLE_H
#define BENCH_OPTIONS_TABLE_H

#include "bench.h"

#include <stdio.h>

enum option_id {
  OPTION_THREADS,
  OPTION_CONNECTIONS,
  OPTION_DURATION,
  OPTION_COUNT,
  OPTION_RATE,
  OPTION_EXCHANGE,
  OPTION_FRAME,
  OPTION_GREETING,
  OPTION_REPLY,
  OPTION_MESSAGES,
  OPTION_SIZE,
  OPTION_PIPELINE,
  OPTION_RECONNECT,
  OPTION_WARMUP,
  OPTION_TIMEOUT,
  OPTION_SEED,
  OPTION_BIND,
  OPTION_IDLE,
  OPTION_LATENCY,
  OPTION_UNCORRECTED,
  OPTION_PID,
  OPTION_SEARCH,
  OPTION_RAMP,
  OPTION_STEP,
  OPTION_SLO,
  OPTION_REPEAT,
  OPTION_JSON,
  OPTION_CSV,
  OPTION_HDR,
  OPTION_HTML,
  OPTION_HEADER,
  OPTION_SCRIPT,
  OPTION_HELP,
  OPTION_VERSION,
  OPTION_ROWS
};

struct options_parser {
  struct options *options;
  FILE *errors;
  const char
      *given[OPTION_ROWS]; /* an option's argument ("" where it has none); NULL = not given */
};

struct option_row {
  char letter;          /* 0 = none */
  const char *name;     /* the long one; NULL = none */
  const char *argument; /* its name in --help; NULL = takes none */
  const char *what;     /* NULL = not in --help */
  /* Store ${text}. Return: NULL, or what is wanted instead. NULL = nothing to store. */
  const char *(*read)(struct options *options, const char *text);
};

extern const struct option_row option_rows[OPTION_ROWS];

/** Write "xchg-bench: --name 'value': " to the parser's stream and return that for the rest. */
FILE *options_fault(struct options_parser *parser, enum option_id id);

/** Read ADDRESS and resolve a name. Return: NULL, or what is wrong with it. */
const char *options_read_target(struct options *options, const char *text);

/**
 * Load the exchange from what was given. Return: 0, or -1 after one line; on 0 config_fini is due.
 */
int options_load_exchange(struct options_parser *parser);

/**
 * Derive what was not given from what was, and look for contradictions.
 * Return: 0, or -1 after one line.
 */
int options_check(struct options_parser *parser);

#endif
