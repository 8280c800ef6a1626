/*
 * report_json: one object of schema BENCH_SCHEMA; docs/bench-json.md describes the keys.
 *
 * With one run, the top level is the run.  With several, metrics at the top are medians.  Errors,
 * late sends, histograms and flags are added, because a median would lose them.  Each run is in
 * `runs`.  A histogram has the sums for its mean and deviation, so report_read restores it exactly.
 *
 * A write error stays in the stream, and the caller checks it.
 */
#include "report.h"

#include "core/error_text.h"
#include "json_write.h"
#include "identity.h"
#include "metrics.h"
#include "report_options.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The runs of one body: all of them, or one. */
struct body {
  struct json_writer *writer;
  struct result *const *runs;
  uint32_t count;
  double metrics[METRICS];
};

static void write_body(struct body *body);
static void write_metrics(const struct body *body);
static void write_sums(const struct body *body);
static void write_unfinished(const struct body *body);
static void write_example(const struct body *body);
static void write_errors(const struct body *body);
static void write_times(const struct body *body, enum metric_times times);
static void write_usage(const struct body *body, const char *name, bool is_client);
static void write_histograms(const struct body *body);
static void write_intervals(const struct body *body);

void report_json(FILE *out, const struct options *options, struct result *const *runs,
                 uint32_t count) {
  struct json_writer writer = {.out = out};
  struct body body = {.writer = &writer, .runs = runs, .count = count};
  json_open(&writer, NULL, '{');
  json_put_u64(&writer, "schema", BENCH_SCHEMA);
  json_put_text(&writer, "version", XCHG_VERSION);
  json_put_text(&writer, "target", options->target);
  identity_write(&writer, &options->identity);
  report_options_write(&writer, options);
  write_body(&body);
  json_open(&writer, "runs", '[');
  for (uint32_t i = 0; i < count && count > 1; i++) {
    struct body run = {.writer = &writer, .runs = runs + i, .count = 1};
    json_open(&writer, NULL, '{');
    write_body(&run);
    json_close(&writer, '}');
  }
  json_close(&writer, ']');
  json_close(&writer, '}');
}

/* The start of the window, the earliest of several. */
static void write_start(const struct body *body) {
  char text[IDENTITY_MOMENT_MAX];
  uint64_t started_ms = UINT64_MAX;
  for (uint32_t i = 0; i < body->count; i++) {
    if (body->runs[i]->started_ms > 0) {
      started_ms = min_u64(started_ms, body->runs[i]->started_ms);
    }
  }
  json_put_text(body->writer, "started",
                started_ms == UINT64_MAX ? NULL : identity_format(started_ms, text));
}

static void write_body(struct body *body) {
  if (metrics_median(body->runs, body->count, body->metrics) == -1) {
    for (uint32_t i = 0; i < METRICS; i++) {
      body->metrics[i] = NAN;
    }
  }
  write_start(body);
  write_metrics(body);
  write_sums(body);
  write_unfinished(body);
  write_errors(body);
  write_example(body);
  write_times(body, TIMES_LATENCY);
  write_times(body, TIMES_UNCORRECTED);
  write_times(body, TIMES_CONNECT);
  write_times(body, TIMES_FIRST_BYTE);
  write_histograms(body);
  write_usage(body, "client", true);
  write_usage(body, "server", false);
  write_intervals(body);
}

static void write_metrics(const struct body *body) {
  for (uint32_t i = 0; i < METRIC_ERRORS; i++) { /* the others are sums */
    json_put_double(body->writer, metric_run_names[i], body->metrics[i]);
  }
}

/* Write what is added over several runs. */
static void write_sums(const struct body *body) {
  struct result sum = {.late = 0};
  for (uint32_t i = 0; i < body->count; i++) {
    const struct result *run = body->runs[i];
    sum.late += run->late;
    sum.late_max_ns = max_u64(sum.late_max_ns, run->late_max_ns);
    sum.dropped += run->dropped;
    sum.connected = sum.connected > run->connected ? sum.connected : run->connected;
    sum.idle_connected =
        sum.idle_connected > run->idle_connected ? sum.idle_connected : run->idle_connected;
    sum.has_latency = sum.has_latency || run->has_latency;
    sum.starved = sum.starved || run->starved;
    sum.harness_bound = sum.harness_bound || run->harness_bound;
    sum.aborted = sum.aborted || run->aborted;
    sum.found_rate = fmax(sum.found_rate, run->found_rate);
    sum.interrupted = sum.interrupted || run->interrupted;
  }
  json_put_bool(body->writer, "has_latency", sum.has_latency);
  json_put_u64(body->writer, "late", sum.late);
  json_put_double(body->writer, "late_max_us",
                  sum.late == 0 ? NAN : (double)sum.late_max_ns / (double)NS_PER_US);
  json_put_u64(body->writer, "dropped", sum.dropped);
  json_put_u64(body->writer, "connected", sum.connected);
  json_put_u64(body->writer, "idle_connected", sum.idle_connected);
  json_put_double(body->writer, "found_rate", sum.found_rate > 0 ? sum.found_rate : NAN);
  json_put_bool(body->writer, "starved", sum.starved);
  json_put_bool(body->writer, "harness_bound", sum.harness_bound);
  json_put_bool(body->writer, "aborted", sum.aborted);
  json_put_bool(body->writer, "interrupted", sum.interrupted);
}

static void write_unfinished(const struct body *body) {
  uint64_t count = 0, oldest_ns = 0;
  for (uint32_t i = 0; i < body->count; i++) {
    count += body->runs[i]->unfinished;
    oldest_ns = max_u64(oldest_ns, body->runs[i]->unfinished_oldest_ns);
  }
  json_open(body->writer, "unfinished", '{');
  json_put_u64(body->writer, "count", count);
  json_put_double(body->writer, "oldest_us",
                  count == 0 ? NAN : (double)oldest_ns / (double)NS_PER_US);
  json_close(body->writer, '}');
}

/* Write the example of the first run that has one. */
static void write_example(const struct body *body) {
  uint32_t i = 0;
  while (i < body->count && body->runs[i]->wrong.at_ns == 0) {
    i++;
  }
  if (i == body->count) {
    json_put_null(body->writer, "wrong_example");
    return;
  }
  const struct wrong_example *wrong = &body->runs[i]->wrong;
  json_open(body->writer, "wrong_example", '{');
  json_put_u64(body->writer, "connection", wrong->connection);
  json_put_u64(body->writer, "offset", wrong->offset);
  json_put_text(body->writer, "wanted", wrong->wanted);
  json_put_text(body->writer, "received", wrong->received);
  json_put_text(body->writer, "hint", wrong->hint[0] == 0 ? NULL : wrong->hint);
  json_close(body->writer, '}');
}

static void write_errors(const struct body *body) {
  json_open(body->writer, "errors", '{');
  for (int kind = 0; kind < BENCH_ERRORS; kind++) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < body->count; i++) {
      sum += body->runs[i]->errors[kind];
    }
    json_put_u64(body->writer, bench_error_name((enum bench_error)kind), sum);
  }
  json_open(body->writer, "errno", '{');
  for (int number = 0; number < BENCH_ERRNO_MAX; number++) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < body->count; i++) {
      sum += body->runs[i]->errnos[number];
    }
    char digits[16];
    const char *name = error_name(number);
    snprintf(digits, sizeof(digits), "%d", number);
    if (sum > 0) {
      json_put_u64(body->writer, name == NULL ? digits : name, sum);
    }
  }
  json_close(body->writer, '}');
  json_close(body->writer, '}');
}

/* Does any run have this histogram? */
static bool has_times(const struct body *body, enum metric_times times) {
  for (uint32_t i = 0; i < body->count; i++) {
    if (result_times(body->runs[i], times) != NULL) {
      return true;
    }
  }
  return false;
}

static void write_times(const struct body *body, enum metric_times times) {
  static const char *const keys[TIMES] = {
      [TIMES_LATENCY] = "latency_us",
      [TIMES_UNCORRECTED] = "latency_uncorrected_us",
      [TIMES_CONNECT] = "connect_us",
      [TIMES_FIRST_BYTE] = "first_byte_us",
  };
  if (!has_times(body, times)) {
    json_put_null(body->writer, keys[times]);
    return;
  }
  json_open(body->writer, keys[times], '{');
  for (uint32_t i = 0; i < METRICS_TIME; i++) {
    json_put_double(body->writer, metric_time_names[i],
                    body->metrics[metric_of_times(times, (enum metric_time)i)]);
  }
  json_close(body->writer, '}');
}

static void write_usage(const struct body *body, const char *name, bool is_client) {
  bool known = false, measured = false;
  double busy = 0, waiting = NAN;
  for (uint32_t i = 0; i < body->count; i++) {
    const struct result *run = body->runs[i];
    known = known || (is_client ? run->client.known : run->server.known);
    busy = fmax(busy, run->thread_busy_max);
    measured = measured || run->seconds > 0;
    waiting = fmax(waiting, run->thread_waiting_max);
  }
  if (!known && !is_client) {
    json_put_null(body->writer, name);
    return;
  }
  json_open(body->writer, name, '{');
  const double *metrics = body->metrics + (is_client ? METRICS_CLIENT : METRICS_SERVER);
  for (uint32_t i = 0; i < METRICS_USAGE; i++) {
    json_put_double(body->writer, metric_usage_names[i], metrics[i]);
  }
  if (is_client) {
    json_put_double(body->writer, "thread_busy_max", measured ? busy : NAN);
    json_put_double(body->writer, "thread_waiting_max", waiting);
  }
  json_close(body->writer, '}');
}

/* ---- histograms ---- */

/* A histogram of all runs: of what finished, or of the ages of what is unfinished. */
struct times_of {
  enum metric_times times;
  bool unfinished;
};

static const struct hdr_histogram *histogram_of(const struct result *run, struct times_of of) {
  const struct hdr_histogram *histogram = result_times(run, of.times);
  return of.unfinished && histogram != NULL ? run->unfinished_times[of.times] : histogram;
}

static uint64_t sum_bucket(const struct body *body, struct times_of of, uint32_t bucket) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < body->count; i++) {
    const struct hdr_histogram *histogram = histogram_of(body->runs[i], of);
    sum += histogram == NULL ? 0 : histogram->buckets[bucket];
  }
  return sum;
}

static void write_buckets(const struct body *body, struct times_of of) {
  json_open(body->writer, "buckets", '[');
  for (uint32_t bucket = 0; bucket < HDR_BUCKETS; bucket++) {
    uint64_t count = sum_bucket(body, of, bucket);
    if (count == 0) {
      continue;
    }
    json_open(body->writer, NULL, '[');
    json_put_u64(body->writer, NULL, hdr_bucket_low(bucket));
    json_put_u64(body->writer, NULL, count);
    json_close(body->writer, ']');
  }
  json_close(body->writer, ']');
}

static void write_histogram(const struct body *body, struct times_of of) {
  if (!has_times(body, of.times)) {
    json_put_null(body->writer, metric_times_names[of.times]);
    return;
  }
  uint64_t count = 0, clamped = 0, min_ns = UINT64_MAX, max_ns = 0;
  double sum_ns = 0, sum_squares = 0;
  for (uint32_t i = 0; i < body->count; i++) {
    const struct hdr_histogram *histogram = histogram_of(body->runs[i], of);
    if (histogram == NULL) {
      continue;
    }
    count += histogram->count;
    clamped += histogram->clamped;
    min_ns = min_u64(min_ns, histogram->min_ns);
    max_ns = max_u64(max_ns, histogram->max_ns);
    sum_ns += histogram->sum_ns;
    sum_squares += histogram->sum_squares;
  }
  json_open(body->writer, metric_times_names[of.times], '{');
  json_put_u64(body->writer, "count", count);
  json_put_u64(body->writer, "clamped", clamped);
  json_put_u64(body->writer, "min_ns", count == 0 ? 0 : min_ns);
  json_put_u64(body->writer, "max_ns", max_ns);
  json_put_double(body->writer, "sum_ns", sum_ns);
  json_put_double(body->writer, "sum_squares_ns2", sum_squares);
  write_buckets(body, of);
  json_close(body->writer, '}');
}

static void write_histograms(const struct body *body) {
  json_open(body->writer, "histogram", '{');
  json_put_u64(body->writer, "sub_bits", HDR_SUB_BITS);
  json_put_u64(body->writer, "max_ns", HDR_MAX_NS);
  for (int i = 0; i < TIMES; i++) {
    write_histogram(body, (struct times_of){(enum metric_times)i, false});
  }
  json_open(body->writer, "unfinished", '{');
  for (int i = 0; i < TIMES; i++) {
    write_histogram(body, (struct times_of){(enum metric_times)i, true});
  }
  json_close(body->writer, '}');
  json_close(body->writer, '}');
}

/* ---- intervals ---- */

/* The value 0 means unknown (no exchange, or merged reports) and becomes null. */
static void put_us(struct json_writer *writer, const char *name, uint64_t time_ns) {
  json_put_double(writer, name, time_ns == 0 ? NAN : (double)time_ns / (double)NS_PER_US);
}

static void write_interval(struct json_writer *writer, const struct interval *interval,
                           uint32_t run) {
  json_open(writer, NULL, '{');
  json_put_u64(writer, "run", run);
  json_put_double(writer, "at", interval->at_s);
  json_put_double(writer, "seconds", interval->seconds);
  json_put_u64(writer, "exchanges", interval->exchanges);
  json_put_u64(writer, "errors", interval->errors);
  json_put_u64(writer, "bytes_in", interval->bytes_in);
  json_put_u64(writer, "bytes_out", interval->bytes_out);
  json_put_double(writer, "rate",
                  interval->seconds > 0 ? (double)interval->exchanges / interval->seconds : NAN);
  json_put_double(writer, "target_rate", interval->target_rate > 0 ? interval->target_rate : NAN);
  put_us(writer, "p50_us", interval->p50_ns);
  put_us(writer, "p90_us", interval->p90_ns);
  put_us(writer, "p99_us", interval->p99_ns);
  put_us(writer, "max_us", interval->max_ns);
  json_put_double(writer, "waiting_max", interval->waiting_max);
  if (interval->is_last) {
    json_put_u64(writer, "unfinished", interval->unfinished);
  } else {
    json_put_null(writer, "unfinished");
  }
  put_us(writer, "unfinished_oldest_us", interval->unfinished_oldest_ns);
  json_close(writer, '}');
}

static void write_intervals(const struct body *body) {
  json_open(body->writer, "interval", '[');
  for (uint32_t i = 0; i < body->count; i++) {
    for (uint32_t row = 0; row < body->runs[i]->intervals_count; row++) {
      write_interval(body->writer, &body->runs[i]->intervals[row], i);
    }
  }
  json_close(body->writer, ']');
}
