/*
 * bench: what the parts of xchg-bench hand to each other: what to do, and what came of it.
 *
 *   main -> options -> plan (one run, --repeat, --search, --ramp, --step) -> load (threads) ->
 * result -> report_*
 *                                                                              ^ schedule, message,
 * measure
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "core/addr.h"
#include "core/config.h"
#include "hdr_histogram.h"

#include <stdbool.h>

#define BENCH_SCHEMA 1
#define BENCH_PIDS_MAX 64
#define BENCH_STEPS_MAX 64
#define BENCH_SLO_MAX 16
#define BENCH_BIND_MAX 64

/*
 * Exit codes, the first that applies: 130 interrupted, 64 usage, 1 nothing succeeded or an answer
 * was wrong, 99 an objective was missed.
 */
enum {
  BENCH_OK = 0,
  BENCH_FAILED = 1,
  BENCH_USAGE = 64,
  BENCH_MISSED = 99,
  BENCH_INTERRUPTED = 130
};

enum bench_size { SIZE_FIXED, SIZE_UNIFORM, SIZE_EXPONENTIAL };

/* Message sizes: "64", "uniform:16,1024", "exp:200" (mean; cut at the frame's limit). */
struct size_spec {
  enum bench_size kind;
  uint64_t a, b;
};

/* An objective or a search's objective: "p99<2ms", "errors=0". */
struct objective {
  char text[64];  /* as given */
  double percent; /* of the latency: 50, 99, 99.9 ...; -1: errors; -2: rate */
  char op;        /* '<', '>' or '=' */
  double value;   /* ns, a count, or a rate a second */
};

struct options {
  /* whom */
  char target[192];           /* as given */
  struct addr_listen address; /* resolved: numeric, first answer */
  struct addr bind[BENCH_BIND_MAX];
  uint32_t bind_count;

  /*
   * what: the exchange as the server was told; loaded by core/config from a made-up environment, so
   * that it means the same
   */
  struct config exchange;
  struct size_spec size;
  uint32_t pipeline;  /* messages in flight, 1 at least */
  uint64_t reconnect; /* messages a connection before a new one; 0 = never */
  uint64_t seed;

  /* how much */
  uint32_t threads, connections, idle;
  uint64_t duration_ns, warmup_ns, timeout_ns;
  uint64_t count; /* stop after so many exchanges; 0 = by time */
  double rate;    /* exchanges a second over all connections; 0 = closed loop */

  /* shapes: ramp or steps replace rate; search varies it */
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
  uint32_t repeat;

  /* what to say */
  bool percentiles, uncorrected;
  int pids[BENCH_PIDS_MAX];
  uint32_t pids_count;
  const char *json, *csv, *hdr, *html; /* paths; NULL = none; borrowed from argv */
};

enum bench_error {
  ERROR_CONNECT,
  ERROR_RESET,
  ERROR_TIMEOUT,
  ERROR_WRONG,
  ERROR_SHORT,
  BENCH_ERRORS
};
#define BENCH_ERRNO_MAX 134 /* Linux' errno values are below */

/* One second of a run. */
struct interval {
  double at_s;    /* its beginning, from the start of the measurement */
  double seconds; /* its length (the last may be shorter) */
  uint64_t exchanges, errors, bytes_in, bytes_out;
  double target_rate; /* 0 = closed loop */
  uint64_t p50_ns, p90_ns, p99_ns, max_ns;
};

/* CPU and memory of processes over the measured window. */
struct usage {
  bool known;
  double cpu_s; /* user and system; children too */
  double seconds;
  uint64_t context_switches;
  uint64_t resident_bytes; /* at the end */
};

struct result {
  double seconds;     /* measured */
  uint64_t exchanges; /* that succeeded */
  uint64_t bytes_in, bytes_out;
  double target_rate; /* 0 = closed loop */
  uint64_t errors[BENCH_ERRORS];
  uint64_t errnos[BENCH_ERRNO_MAX];
  bool has_latency; /* false: endless exchange without reply, only bytes are counted */
  /* owns, like the others; from the intended start under -R, else from the real one */
  struct hdr_histogram *latency;
  struct hdr_histogram *uncorrected; /* from the real start, under -R; else NULL */
  struct hdr_histogram *connect, *first_byte;
  uint64_t late;        /* sends that began more than 1 ms after their intended time */
  uint64_t late_max_ns; /* ... and by how much at most */
  /* exchanges that the schedule wanted and that had not begun at the end */
  uint64_t dropped;
  uint32_t connected, idle_connected;
  struct usage client, server;
  double thread_busy_max; /* CPU share of the busiest load thread, 0..1 */
  bool harness_bound;     /* thread_busy_max > 0.95 */
  bool interrupted;
  struct interval *intervals; /* owns */
  uint32_t intervals_count;
};

/** Make an empty result with room for ${seconds} intervals; NULL (ENOMEM). */
struct result *result_create(bool open_loop, uint32_t seconds);
void result_destroy(struct result *result);

/** All kinds of errors together. */
uint64_t result_errors(const struct result *result);

/** "connect", "reset", "timeout", "wrong", "short". */
const char *bench_error_name(enum bench_error error);

#endif
