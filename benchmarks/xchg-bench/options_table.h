/*
 * options_table: THE table of all options.
 *
 * getopt's lists, --help, the environment of the exchange and the numbers of the JSON report come
 * from it.  option_read stores one value; options.c checks how the options work together.
 */
#ifndef BENCH_OPTIONS_TABLE_H
#define BENCH_OPTIONS_TABLE_H

#include "bench.h"

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
  OPTION_INTERVAL,
  OPTION_SEED,
  OPTION_BIND,
  OPTION_PROXY,
  OPTION_IDLE,
  OPTION_LATENCY,
  OPTION_UNCORRECTED,
  OPTION_U_LATENCY, /* the name of wrk2 */
  OPTION_PID,
  OPTION_SEARCH,
  OPTION_RAMP,
  OPTION_RAMP_FROM,
  OPTION_RAMP_TO,
  OPTION_RAMP_TIME,
  OPTION_STEP,
  OPTION_STEP_TIME,
  OPTION_SLO,
  OPTION_FAIL_FAST,
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

enum option_kind {
  OPTION_NONE,  /* stores nothing: variables of the server, --help, --version */
  OPTION_FLAG,  /* bool */
  OPTION_U32,   /* uint32_t, from min to max */
  OPTION_U64,   /* uint64_t, from min to max */
  OPTION_EXACT, /* uint64_t without a unit: in a seed, 1k is more likely a typing error */
  OPTION_TIME,  /* uint64_t, nanoseconds, from min */
  OPTION_REAL,  /* double, a rate */
  OPTION_PATH,  /* const char *, borrowed */
  OPTION_OTHER, /* stored by read */
  OPTION_WRONG, /* an option of wrk that xchg-bench refuses; wanted says why */
};

struct option_row {
  char letter;          /* 0 = none */
  const char *name;     /* the long name; NULL = not an option, but a part of one in the report */
  const char *argument; /* its name in --help; NULL = takes none */
  const char *help;     /* NULL = not in --help */
  enum option_kind kind;
  size_t field; /* offset in struct options */
  uint64_t min, max;
  const char *wanted;   /* the error text for a wrong value */
  const char *key;      /* in the JSON report; NULL = not there, or not as one plain value */
  const char *variable; /* the server's variable that it sets; NULL = none */
  /* OPTION_OTHER: store ${text}. Return: NULL, or the error text. */
  const char *(*read)(struct options *options, const char *text);
};

extern const struct option_row option_rows[OPTION_ROWS];

/** Store ${text} as the value of option ${id}. Return: NULL, or the error text. */
const char *option_read(struct options *options, enum option_id id, const char *text);

/** Store and resolve ADDRESS. Return: NULL, or the error text. */
const char *option_read_target(struct options *options, const char *text);

#endif
