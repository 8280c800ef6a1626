/*
 * metrics: THE table of the server's metrics, and the forms in which they are written.
 *
 *   GET /metrics    Prometheus text 0.0.4 or OpenMetrics 1.0   metrics_write
 *   GET /stats      one JSON object, integers only             metrics_write_json
 *   msg=stats       a line of the log                          metrics_log
 *   docs/metrics.md, xchg-metrics.7, grafana.json              docs/generate
 *
 * All values are in one struct metrics_snapshot, which pool/server_stats fills.  The functions here
 * use no thread, allocate no memory and make no system call.
 *
 * A family has one set of labels, and every value of a closed set exists from the first scrape.
 * No label contains a byte or an address of a peer.  Counters never decrease.  Rates, maxima,
 * averages and timestamps are left to the reader.
 */
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include "core/log.h"
#include "core/stats.h"
#include "core/histogram.h"

#include <stdbool.h>
#include <string.h>

/* With more workers the families with the label worker, and the rows in /stats, are left out. */
#define METRICS_WORKERS_MAX 64
#define METRICS_LISTENERS_MAX 64

/* The value of a family that the system does not provide: the family is left out. */
#define METRICS_UNKNOWN UINT64_MAX

/* Most bytes that metrics_write writes, without the listeners: each of those adds one line. */
#define METRICS_BYTES_MAX ((size_t)32 * 1024)
#define METRICS_WORKER_BYTES_MAX ((size_t)1024)

enum metrics_form { METRICS_TEXT, METRICS_OPEN };

enum metric_type { METRIC_GAUGE, METRIC_COUNTER, METRIC_HISTOGRAM, METRIC_INFO };

/* The unit is the end of the name.  Seconds are nanoseconds in the snapshot. */
enum metric_unit { METRIC_NO_UNIT, METRIC_SECONDS, METRIC_BYTES };

/* The labels of a family, and what its source is an array of. */
enum metric_label {
  LABEL_NONE,
  LABEL_BUILD,    /* version, model, exchange */
  LABEL_REASON,   /* reason: an array by enum xchg_reason */
  LABEL_WORKER,   /* worker: in struct metrics_worker */
  LABEL_LISTENER, /* listener: in struct metrics_listener */
  LABEL_PROXY,    /* version, command: an array of arrays, as stats.proxy_headers */
  LABEL_CAUSE,    /* cause: an array by enum stats_proxy_cause */
};

/* What the buckets of a histogram come from. */
enum metric_buckets {
  BUCKETS_NONE,
  BUCKETS_TIME,  /* struct histogram: 2^10, 2^12 ... 2^34 ns */
  BUCKETS_COUNT, /* struct histogram: 0, 1, 3, 7 ... 1023 */
  BUCKETS_LIVED, /* struct stats: 2^14, 2^16 ... 2^44 ns */
};

/* Where else a family stands, under its key. */
enum {
  IN_STATS = 1, /* the JSON of /stats */
  IN_LOG = 2,   /* the log lines stats and stopped */
};

/* A row of the table. */
struct metric {
  const char *name; /* without _total */
  enum metric_type type;
  enum metric_unit unit;
  enum metric_label label;
  enum metric_buckets buckets;
  size_t offset; /* of the source in the snapshot, or in what LABEL_... names */
  const char *key;
  unsigned shown;   /* IN_STATS | IN_LOG */
  uint64_t divisor; /* from the source to the unit of the key; 0 = 1 */
  const char *help;
};

extern const struct metric metrics_table[];
extern const size_t metrics_count;

struct metrics_worker {
  uint64_t open;        /* its connections, without those in its queue */
  uint64_t queue;       /* connections in its queue */
  uint64_t turn_age_ns; /* 0 = it waits */
  uint64_t messages;
  uint64_t busy_ns;
};

struct metrics_listener {
  char addr[XCHG_ADDRESS_MAX];
  uint64_t accepted;
  const char *proxy; /* the value of its option ;proxy=, or NULL */
};

/* The values of one scrape.  Times are in ns.  Strings are borrowed.  METRICS_UNKNOWN as the value
 * of a family without labels leaves it out. */
struct metrics_snapshot {
  const char *version, *model, *exchange;
  const char *state; /* starting, serving, upgrading, draining */
  uint64_t ready, draining;
  uint64_t workers; /* threads; 0 outside of XCHG_MODEL=pool */
  uint64_t open;    /* totals.accepted less those that have ended */
  uint64_t max;
  struct stats totals;
  uint64_t accept_paused, accept_paused_ns; /* whether it is paused now; in total */
  uint64_t log_lines_lost;

  bool latencies; /* whether the histograms are set */
  struct histogram handoff_ns, turn_ns, queue_depth, accept_batch, frozen_ns;

  uint64_t cpu_ns, resident_bytes, start_time_ns, fds_max, threads;
  uint64_t pid, now_ns, uptime_ns; /* of /stats; now and the start are times of day */

  uint32_t workers_count; /* of the array; 0 with more than METRICS_WORKERS_MAX */
  uint32_t listeners_count;
  struct metrics_worker worker[METRICS_WORKERS_MAX];
  struct metrics_listener listener[METRICS_LISTENERS_MAX];

  /* Writes the settings as a JSON object, as metrics_write does; NULL = without them. */
  size_t (*settings)(void *argument, char *buffer, size_t size);
  void *settings_argument;
};

/** The value of ${row} in ${base}: the snapshot, a worker or a listener; ${i} in an array. */
static inline uint64_t metric_value(const struct metric *row, const void *base, size_t i) {
  uint64_t value; /* copied, because the counters of stats have a type of their own */
  memcpy(&value, (const char *)base + row->offset + i * sizeof(value), sizeof(value));
  return value;
}

/** Does ${snapshot} have the family of ${row}? */
bool metric_present(const struct metric *row, const struct metrics_snapshot *snapshot);

/**
 * metrics_write(snapshot, form, buffer, size):
 * Write all families to the ${size} bytes at ${buffer}, without a 0 at the end.
 * Return: the bytes that the whole text needs. If that is more than ${size}, the buffer holds its
 * beginning.
 */
size_t metrics_write(const struct metrics_snapshot *snapshot, enum metrics_form form, char *buffer,
                     size_t size);

/** The same for the JSON object of /stats. */
size_t metrics_write_json(const struct metrics_snapshot *snapshot, char *buffer, size_t size);

/** Add the keys of the log lines stats and stopped to ${line}. */
void metrics_log(const struct metrics_snapshot *snapshot, struct log_line *line);

/** The ${i}th value of the label command or cause; NULL after the last. */
const char *metrics_proxy_command(size_t i);
const char *metrics_proxy_cause(size_t i);

#endif
