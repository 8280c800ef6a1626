/*
 * metrics_text: the two forms that Prometheus reads.
 *
 * They differ in four places: the name of a counter's and an info's family, the unit, a whole bound
 * of a bucket, and the last line.
 */
#include "core/metrics.h"
#include "core/metrics_out.h"

#include <assert.h>

/* Powers of two that are bounds of buckets. */
#define TIME_FIRST 10
#define TIME_LAST 34
#define COUNT_LAST 10
#define LIVED_FIRST 20
#define LIVED_LAST 44
static_assert(TIME_LAST <= HISTOGRAM_BITS && LIVED_LAST < STATS_LIVED, "the bounds are counted");

/* Smaller numbers are written with an exponent. */
#define DECIMAL_FROM_NS UINT64_C(100000)

struct writer {
  struct metrics_out out;
  const struct metrics_snapshot *snapshot;
  const struct metric *row;
  bool open; /* OpenMetrics */
};

static void put(struct writer *writer, const char *text) { metrics_out_text(&writer->out, text); }

/* ---- numbers ---- */

/* ${ns} in seconds, without zeros at the end. */
static void seconds(struct writer *writer, uint64_t ns) {
  uint64_t fraction = ns % NS_PER_S;
  unsigned width = 9;
  metrics_out_u64(&writer->out, ns / NS_PER_S);
  if (fraction == 0) {
    return;
  }
  for (; fraction % 10 == 0; fraction /= 10) {
    width--;
  }
  put(writer, ".");
  metrics_out_digits(&writer->out, fraction, width);
}

/* The bound ${ns} in seconds, as Go prints it: 1.024e-06, 0.000262144. */
static void bound_seconds(struct writer *writer, uint64_t ns) {
  if (ns >= DECIMAL_FROM_NS) {
    seconds(writer, ns);
    return;
  }
  uint64_t unit = 1;
  unsigned digits = 0;
  for (; ns / unit >= 10; unit *= 10) {
    digits++;
  }
  metrics_out_u64(&writer->out, ns / unit);
  put(writer, ".");
  metrics_out_digits(&writer->out, ns % unit, digits);
  put(writer, "e-0");
  metrics_out_u64(&writer->out, 9 - digits);
}

static void value(struct writer *writer, uint64_t number) {
  put(writer, " ");
  if (writer->row->unit == METRIC_SECONDS) {
    seconds(writer, number);
  } else {
    metrics_out_u64(&writer->out, number);
  }
  put(writer, "\n");
}

/* ---- a family ---- */

/* What the name of a sample has behind the name of the row. */
static const char *suffix(const struct metric *row) {
  return row->type == METRIC_COUNTER ? "_total" : row->type == METRIC_INFO ? "_info" : "";
}

static void name(struct writer *writer, const char *end) {
  put(writer, writer->row->name);
  put(writer, end);
}

static void metadata(struct writer *writer, const char *what, const char *said) {
  put(writer, what);
  name(writer, writer->open ? "" : suffix(writer->row));
  put(writer, " ");
  put(writer, said);
  put(writer, "\n");
}

static void head(struct writer *writer) {
  static const char *const types[] = {"gauge", "counter", "histogram", "info"};
  static const char *const units[] = {NULL, "seconds", "bytes"};
  const struct metric *row = writer->row;
  bool as_gauge = row->type == METRIC_INFO && !writer->open;
  metadata(writer, "# HELP ", row->help);
  metadata(writer, "# TYPE ", types[as_gauge ? METRIC_GAUGE : row->type]);
  if (writer->open && units[row->unit] != NULL) {
    metadata(writer, "# UNIT ", units[row->unit]);
  }
}

/* Begin a sample with one label, which ${label} opens: {reason= */
static void labelled(struct writer *writer, const char *label, const char *of) {
  name(writer, suffix(writer->row));
  put(writer, label);
  metrics_out_quoted(&writer->out, of);
}

static void sample(struct writer *writer, const char *label, const char *of, uint64_t number) {
  labelled(writer, label, of);
  put(writer, "}");
  value(writer, number);
}

static void bucket(struct writer *writer, uint64_t bound, uint64_t below) {
  name(writer, "_bucket{le=\"");
  if (writer->row->unit == METRIC_SECONDS) {
    bound_seconds(writer, bound);
  } else {
    metrics_out_u64(&writer->out, bound);
    put(writer, writer->open ? ".0" : "");
  }
  put(writer, "\"} ");
  metrics_out_u64(&writer->out, below);
  put(writer, "\n");
}

static void histogram_end(struct writer *writer, uint64_t count, uint64_t sum) {
  name(writer, "_bucket{le=\"+Inf\"} ");
  metrics_out_u64(&writer->out, count);
  put(writer, "\n");
  name(writer, "_sum");
  value(writer, sum);
  name(writer, "_count ");
  metrics_out_u64(&writer->out, count);
  put(writer, "\n");
}

static void histogram(struct writer *writer, const struct histogram *histogram) {
  bool times = writer->row->buckets == BUCKETS_TIME;
  uint64_t below = 0;
  uint32_t next = 0;
  for (uint32_t power = times ? TIME_FIRST : 0; power <= (times ? TIME_LAST : COUNT_LAST);
       power += times ? 2 : 1) {
    uint64_t limit = UINT64_C(1) << power;
    bucket(writer, times ? limit : limit - 1, histogram_below(histogram, limit, &next, &below));
  }
  for (; next < HISTOGRAM_BUCKETS; next++) {
    below += atom_load_relaxed_u64(&histogram->counts[next]);
  }
  histogram_end(writer, below, atom_load_relaxed_u64(&histogram->sum));
}

static void lived(struct writer *writer) {
  const struct stats *totals = &writer->snapshot->totals;
  uint64_t below = 0;
  for (uint32_t power = 0; power < STATS_LIVED; power++) {
    if (power >= LIVED_FIRST && power <= LIVED_LAST && power % 2 == 0) {
      bucket(writer, UINT64_C(1) << power, below);
    }
    below += atom_load_relaxed_u64(&totals->lived[power]);
  }
  histogram_end(writer, below, atom_load_relaxed_u64(&totals->lived_ns));
}

static void build(struct writer *writer) {
  const struct metrics_snapshot *snapshot = writer->snapshot;
  labelled(writer, "{version=", snapshot->version);
  put(writer, ",model=");
  metrics_out_quoted(&writer->out, snapshot->model);
  put(writer, ",exchange=");
  metrics_out_quoted(&writer->out, snapshot->exchange);
  put(writer, "} 1\n");
}

static void reasons(struct writer *writer) {
  for (size_t i = 0; i < XCHG_REASONS; i++) {
    sample(writer, "{reason=", xchg_reason_name((enum xchg_reason)i),
           metric_value(writer->row, writer->snapshot, i));
  }
}

static void workers(struct writer *writer) {
  for (uint32_t i = 0; i < writer->snapshot->workers_count; i++) {
    name(writer, suffix(writer->row));
    put(writer, "{worker=\"");
    metrics_out_u64(&writer->out, i);
    put(writer, "\"}");
    value(writer, metric_value(writer->row, &writer->snapshot->worker[i], 0));
  }
}

static void listeners(struct writer *writer) {
  for (uint32_t i = 0; i < writer->snapshot->listeners_count; i++) {
    const struct metrics_listener *listener = &writer->snapshot->listener[i];
    sample(writer, "{listener=", listener->addr, metric_value(writer->row, listener, 0));
  }
}

static void proxy_headers(struct writer *writer) {
  static const char *const versions[STATS_PROXY_VERSIONS] = {"1", "2"};
  for (size_t i = 0; i < STATS_PROXY_VERSIONS * STATS_PROXY_COMMANDS; i++) {
    labelled(writer, "{version=", versions[i / STATS_PROXY_COMMANDS]);
    put(writer, ",command=");
    metrics_out_quoted(&writer->out, metrics_proxy_command(i % STATS_PROXY_COMMANDS));
    put(writer, "}");
    value(writer, metric_value(writer->row, writer->snapshot, i));
  }
}

static void causes(struct writer *writer) {
  for (size_t i = 0; i < STATS_PROXY_CAUSES; i++) {
    sample(writer, "{cause=", metrics_proxy_cause(i),
           metric_value(writer->row, writer->snapshot, i));
  }
}

static void samples(struct writer *writer) {
  const struct metric *row = writer->row;
  const void *source = (const char *)writer->snapshot + row->offset;
  switch (row->label) {
    case LABEL_BUILD:
      build(writer);
      break;
    case LABEL_REASON:
      reasons(writer);
      break;
    case LABEL_WORKER:
      workers(writer);
      break;
    case LABEL_LISTENER:
      listeners(writer);
      break;
    case LABEL_PROXY:
      proxy_headers(writer);
      break;
    case LABEL_CAUSE:
      causes(writer);
      break;
    case LABEL_NONE:
      if (row->buckets == BUCKETS_LIVED) {
        lived(writer);
      } else if (row->type == METRIC_HISTOGRAM) {
        histogram(writer, source);
      } else {
        name(writer, suffix(row));
        value(writer, metric_value(row, writer->snapshot, 0));
      }
      break;
  }
}

size_t metrics_write(const struct metrics_snapshot *snapshot, enum metrics_form form, char *buffer,
                     size_t size) {
  struct writer writer = {
      .out = {.buffer = buffer, .size = size}, .snapshot = snapshot, .open = form == METRICS_OPEN};
  for (size_t i = 0; i < metrics_count; i++) {
    writer.row = &metrics_table[i];
    if (metric_present(writer.row, snapshot)) {
      head(&writer);
      samples(&writer);
    }
  }
  put(&writer, writer.open ? "# EOF\n" : "");
  return writer.out.needed;
}
