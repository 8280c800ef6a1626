/*
 * bench: the types that the parts of xchg-bench pass to each other: options in, results out.
 *
 *   main --> options --> plan (a run, --repeat, --search, --ramp, --step) --> result --> report_*
 *                         |                                                     ^
 *                         '-----------> load (threads, schedule, message) ------'
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "core/addr.h"
#include "core/config.h"
#include "hdr_histogram.h"

#include <stdbool.h>

#define BENCH_SCHEMA 2
#define BENCH_PIDS_MAX 64
#define BENCH_STEPS_MAX 64
#define BENCH_SLO_MAX 16
#define BENCH_BIND_MAX 64
#define BENCH_ADDRESSES_MAX 16 /* of a name; further ones are not tried */
#define BENCH_AUTHORITY_MAX 255
#define BENCH_STARVED 0.2     /* the share of waiting for a CPU that a report warns of */
#define BENCH_EXAMPLE_MAX 160 /* of 32 bytes, escaped */

/* Exit codes, the first that applies: 130, 64, 74, 1, 99, 0. */
enum {
  BENCH_OK = 0,
  BENCH_FAILED = 1,
  BENCH_USAGE = 64,
  BENCH_OUTPUT = 74, /* standard output could not be written */
  BENCH_MISSED = 99,
  BENCH_INTERRUPTED = 130
};

enum bench_size { SIZE_FIXED, SIZE_UNIFORM, SIZE_EXPONENTIAL };

/* Message sizes: "64", "uniform:16,1024", "exp:200" (the mean; limited by the frame). */
struct size_spec {
  enum bench_size kind;
  uint64_t a, b;
};

/* An objective of --slo or --search, such as "p99<2ms" or "errors<=1%". */
struct objective {
  char text[64];  /* as given */
  double percent; /* of the latency, such as 99.9; or OBJECTIVE_ERRORS and so on */
  char op;        /* '<', '>' or '=' */
  bool or_equal;  /* "<=" or ">=" */
  bool is_share;  /* the value is a percentage of all exchanges */
  double value;   /* ns, a count, a percentage, or a rate per second */
};

#define IDENTITY_ID_MAX 33 /* 128 bits in hexadecimal and a 0 */

/* Where and by which command a report was made; see identity.h. */
struct identity {
  char run_id[IDENTITY_ID_MAX];
  char host[128];
  char machine[128];  /* system, processor, CPUs */
  char command[1024]; /* quoted for a shell; cut if it is longer */
  char address[128];  /* of the server, numeric; "" = unknown */
  /* owns: the ids of the reports that it was merged from; NULL = it was not merged */
  char (*merged)[IDENTITY_ID_MAX];
  uint32_t merged_count;
};

/* A connection that was made before the run; see dial.h. */
struct first_connection {
  int fd;              /* owns; -1 = none, or the run has taken it */
  uint64_t connect_ns; /* how long connecting took */
};

/* The header of the PROXY protocol that is sent first; see proxy_header.h. */
struct bench_proxy {
  uint8_t version; /* 1 or 2; 0 = none is sent */
  bool crc32c, unique_id;
  char authority[BENCH_AUTHORITY_MAX + 1]; /* "" = none */
};

struct options {
  struct identity identity;

  /* the server */
  char target[192];                           /* as given */
  struct addr_listen address;                 /* of the run */
  struct addr addresses[BENCH_ADDRESSES_MAX]; /* of a name: those among which dial_choose chooses */
  uint32_t addresses_count;
  struct first_connection *first; /* borrows: the run takes its descriptor; NULL = none */
  struct addr bind[BENCH_BIND_MAX];
  uint32_t bind_count;
  struct bench_proxy proxy;

  /* the exchange; core/config loads it from an environment made of the options */
  struct config exchange;
  struct size_spec size;
  uint32_t pipeline;  /* messages in flight, at least 1 */
  uint64_t reconnect; /* messages per connection before it is replaced; 0 = never */
  uint64_t seed;

  /* the load */
  uint32_t threads, connections, idle;
  uint64_t duration_ns, warmup_ns, timeout_ns;
  uint64_t interval_ns; /* of a row of a report; 0 = a second */
  uint64_t count;       /* exchanges before the run stops; 0 = unlimited */
  double rate;          /* exchanges per second over all connections; 0 = closed loop */

  /* ramp and steps replace rate, search varies it */
  bool ramp;
  double ramp_from, ramp_to;
  uint64_t ramp_ns;
  uint32_t steps;
  double step_rate[BENCH_STEPS_MAX];
  uint64_t step_ns;
  bool search;
  struct objective search_objective;
  struct objective slo[BENCH_SLO_MAX];
  uint32_t slo_count;
  bool fail_fast; /* end a run once one of them is lost */
  uint32_t repeat;

  /* the reports */
  bool percentiles, uncorrected;
  int pids[BENCH_PIDS_MAX];
  uint32_t pids_count;
  const char *json, *csv, *hdr, *html; /* paths, borrowed from argv; NULL = none */
};

enum bench_error {
  ERROR_CONNECT,
  ERROR_RESET,
  ERROR_TIMEOUT,
  ERROR_WRONG,
  ERROR_SHORT,
  BENCH_ERRORS
};
#define BENCH_ERRNO_MAX 134 /* above every errno of Linux */

/* The times of a run, each with a histogram. */
enum metric_times { TIMES_LATENCY, TIMES_UNCORRECTED, TIMES_CONNECT, TIMES_FIRST_BYTE, TIMES };

/* One interval of a run, a second unless --interval says otherwise. */
struct interval {
  double at_s;    /* its start, counted from the start of the window */
  double seconds; /* its length; the last may be shorter */
  uint64_t exchanges, errors, bytes_in, bytes_out;
  double target_rate;                      /* 0 = closed loop */
  uint64_t p50_ns, p90_ns, p99_ns, max_ns; /* of the last interval: with what is unfinished */
  /* the largest share of this time that a load thread waited for a CPU, 0..1; NAN = unknown */
  double waiting_max;
  bool is_last; /* the run ended with it; else the next two are unknown */
  uint64_t unfinished, unfinished_oldest_ns;
};

/* The first wrong answer: the bytes at the first difference, escaped. */
struct wrong_example {
  uint64_t at_ns; /* when it came; 0 = none */
  uint32_t connection;
  uint64_t offset;                /* of the difference within the message */
  char wanted[BENCH_EXAMPLE_MAX]; /* "" = no byte was due */
  char received[BENCH_EXAMPLE_MAX];
  char hint[BENCH_EXAMPLE_MAX]; /* which exchange it looks like; "" = none */
};

/* CPU and memory of processes over the measured window. */
struct usage {
  bool known;
  double cpu_s; /* user and system time, children included */
  double seconds;
  uint64_t context_switches;
  uint64_t resident_bytes; /* at the end of the window */
};

struct result {
  uint64_t started_ms; /* the start of the window, since 1970; 0 = it has not begun */
  double seconds;      /* length of the measured window */
  uint64_t exchanges;  /* successful ones */
  uint64_t bytes_in, bytes_out;
  double target_rate; /* 0 = closed loop */
  uint64_t errors[BENCH_ERRORS];
  uint64_t errnos[BENCH_ERRNO_MAX];
  bool has_latency; /* false in an endless exchange without reply: only bytes are counted */
  /* owns all four; in an open loop, latency counts from the intended start */
  struct hdr_histogram *latency;
  struct hdr_histogram *uncorrected; /* from the actual start; NULL in a closed loop */
  struct hdr_histogram *connect, *first_byte;
  uint64_t late;        /* sends that began more than 1 ms after their intended start */
  uint64_t late_max_ns; /* the longest such delay */
  /* what was in flight or due at the end of the window, see unfinished.h */
  uint64_t unfinished;
  uint64_t unfinished_oldest_ns;
  struct hdr_histogram *unfinished_times[TIMES]; /* owns: ages; uncorrected as above */
  uint64_t dropped; /* the part of unfinished that was due and had not begun */
  uint32_t connected, idle_connected;
  struct usage client, server;
  double thread_busy_max; /* CPU share of the busiest load thread, 0..1 */
  /* the largest share of the window that a load thread waited for a CPU, 0..1; NAN = unknown */
  double thread_waiting_max;
  bool starved;       /* thread_waiting_max > BENCH_STARVED */
  bool harness_bound; /* starved, or a load thread used or waited for a CPU > 0.95 of the time */
  bool aborted;       /* --fail-fast: an objective could no longer be kept */
  bool interrupted;
  double found_rate; /* the rate that --search found and this run confirmed; 0 = none */
  struct wrong_example wrong;
  struct interval *intervals; /* owns */
  uint32_t intervals_count;
};

/** Make an empty result with room for ${seconds} intervals. Return: NULL on ENOMEM. */
struct result *result_create(bool open_loop, uint32_t seconds);
void result_destroy(struct result *result);

/**
 * Add all of ${from} except seconds, target rate, connections, usage and intervals to ${to}; the
 * start is the earlier one.
 */
void result_add_run(struct result *to, const struct result *from);

/** Exchanges per second; 0 if no time was measured. */
static inline double bench_rate(uint64_t exchanges, double seconds) {
  return seconds > 0 ? (double)exchanges / seconds : 0;
}

/** The histogram ${times} of ${result}, or NULL if it has none. */
const struct hdr_histogram *result_times(const struct result *result, enum metric_times times);

/**
 * result_percentile(result, times, percent):
 * Return: hdr_percentile_with of ${times} and its unfinished; 0 if there is neither.
 */
uint64_t result_percentile(const struct result *result, enum metric_times times, double percent);

/** The same in ns as a number, NAN if there is neither. */
double result_time(const struct result *result, enum metric_times times, double percent);

/** The number of values behind result_percentile: finished and unfinished ones. */
uint64_t result_count(const struct result *result, enum metric_times times);

/** The sum of all kinds of errors. */
uint64_t result_errors(const struct result *result);

/** "connect", "reset", "timeout", "wrong", "short". */
const char *bench_error_name(enum bench_error error);

#endif
