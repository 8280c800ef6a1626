/*
 * metrics_pages: see metrics_pages.h.
 *
 * All text about one family comes from its row in core/metrics.c.  This file adds headings and what
 * is true of all of them.
 */
#include "docs/metrics_pages.h"

#include <string.h>

static const char head[] =
    "# Metrics\n\n"
    "This page is generated from the table in core/metrics.c; do not edit it.\n\n"
    "`GET /metrics` of the admin endpoint (`XCHG_ADMIN`) answers with all of these families, in\n"
    "Prometheus text 0.0.4. Where the header `Accept` prefers OpenMetrics 1.0, it answers with "
    "that.\n"
    "`GET /stats` has the same figures as one JSON object of integers, and a page in the browser "
    "at `/`\n"
    "shows them. [deploy/grafana.json](deploy/grafana.json) is a dashboard for Grafana.\n\n"
    "- A counter never goes back, and there is no way to reset it. There are no rates, averages "
    "and\n"
    "  maxima, because Prometheus makes them from counters.\n"
    "- In every scrape, `xchg_connections_accepted_total` is `xchg_connections_open` and the sum "
    "of\n"
    "  `xchg_connections_ended_total`.\n"
    "- Every series is there from the first scrape on. No label holds what a client has sent, or "
    "its\n"
    "  address.\n"
    "- Times are in seconds. In OpenMetrics the name of a counter's family lacks `_total`, and "
    "that of\n"
    "  `xchg_build_info` lacks `_info`.\n"
    "- A scrape sums up the counters of all threads. It takes no lock, and no connection waits for "
    "it.\n\n";

static const char tail[] =
    "\n`/stats` has `finished` beside `closed`, which is an object of the other reasons. The log "
    "lines\n"
    "`stats` and `stopped` have `closed_<reason>` instead, and quantiles with the suffixes "
    "`_p50`,\n"
    "`_p90`, `_p99` and `_max`. The keys of a worker stand in the array `workers` of `/stats`.\n\n"
    "## Labels\n\n"
    "| label | values |\n"
    "|---|---|\n";

static const char last[] =
    "\nFamilies with the label `worker` exist under `XCHG_MODEL=pool` with at most 64 workers. The "
    "same\nholds for the hand-off, the turns, the queues and the batches, with any number of "
    "workers. A family\nis left out if the system cannot tell its value: without `/proc` that is "
    "the memory and the threads.\n\n"
    "## Buckets\n\n"
    "The bounds are exact: a power of two in nanoseconds, or one less than a power of two. A time "
    "that\n"
    "equals a bound is counted in the next bucket.\n\n"
    "| family | bounds |\n"
    "|---|---|\n";

static const char *const type_words[] = {"gauge", "counter", "histogram", "gauge, always 1"};

/* The names of a family's labels, and their values as far as they are a closed set. */
static const struct {
  const char *names[3], *values;
} labels[] = {
    [LABEL_NONE] = {{NULL}, NULL},
    [LABEL_BUILD] = {{"version", "model", "exchange"}, NULL},
    [LABEL_REASON] = {{"reason"}, NULL},
    [LABEL_WORKER] = {{"worker"}, "the number of the worker, from 0"},
    [LABEL_LISTENER] = {{"listener"}, "the address of the listener, as `msg=listening` has it"},
    [LABEL_PROXY] = {{"version", "command"}, NULL},
    [LABEL_CAUSE] = {{"cause"}, NULL},
};

/* The ${i}th value of ${label}; NULL after the last, and if the set is open. */
static const char *value_of(const char *label, size_t i) {
  static const char *const versions[] = {"1", "2"};
  if (strcmp(label, "reason") == 0) {
    return i < XCHG_REASONS ? xchg_reason_name((enum xchg_reason)i) : NULL;
  }
  if (strcmp(label, "cause") == 0) {
    return metrics_proxy_cause(i);
  }
  if (strcmp(label, "command") == 0) {
    return metrics_proxy_command(i);
  }
  return strcmp(label, "version") == 0 && i < count_of(versions) ? versions[i] : NULL;
}

/* ---- Markdown ---- */

static void print_labels(FILE *out, const struct metric *row, const char *quote) {
  for (size_t i = 0; i < count_of(labels[0].names) && labels[row->label].names[i] != NULL; i++) {
    fprintf(out, "%s%s%s%s", i == 0 ? "" : ", ", quote, labels[row->label].names[i], quote);
  }
}

static void print_key(FILE *out, const struct metric *row) {
  if (row->key == NULL) {
    return;
  }
  fprintf(out, "`%s`", row->key);
  if ((row->shown & IN_LOG) == 0) {
    fputs(", not in the log", out);
  }
}

static void print_closed_set(FILE *out, const char *label, const char *of) {
  fprintf(out, "| `%s`%s | ", label, of);
  for (size_t i = 0; value_of(label, i) != NULL; i++) {
    fprintf(out, "%s`%s`", i == 0 ? "" : ", ", value_of(label, i));
  }
  fputs(" |\n", out);
}

static void print_label_rows(FILE *out) {
  fputs(
      "| `version` of the build | the version of xchg |\n"
      "| `model` | the value of `XCHG_MODEL` |\n"
      "| `exchange` | the value of `XCHG_EXCHANGE`, or `handler` |\n",
      out);
  print_closed_set(out, "reason", ", as in [reference.md](reference.md#closing)");
  for (size_t i = LABEL_WORKER; i <= LABEL_LISTENER; i++) {
    fprintf(out, "| `%s` | %s |\n", labels[i].names[0], labels[i].values);
  }
  print_closed_set(out, "version", " of a PROXY header");
  print_closed_set(out, "command", "");
  print_closed_set(out, "cause", "");
}

/* The bounds, as the form in text has them, from an empty snapshot. */
static void print_bounds(FILE *out, const struct metric *row) {
  static struct metrics_snapshot empty = {
      .version = "", .model = "", .exchange = "", .latencies = true};
  static char text[METRICS_BYTES_MAX];
  char start[128];
  size_t size = metrics_write(&empty, METRICS_TEXT, text, sizeof(text) - 1);
  text[min_u64(size, sizeof(text) - 1)] = 0;
  snprintf(start, sizeof(start), "\n%s_bucket{le=\"", row->name);
  fprintf(out, "| `%s` |", row->name);
  for (const char *at = text; (at = strstr(at, start)) != NULL;) {
    at += strlen(start);
    fprintf(out, " %.*s", (int)strcspn(at, "\""), at);
  }
  fputs(" |\n", out);
}

void metrics_pages_markdown(FILE *out) {
  fputs(head, out);
  fputs(
      "## Families\n\nThe key is the name in `/stats` and in the log lines `stats` and "
      "`stopped`.\n\n| family | type | labels | key | meaning |\n|---|---|---|---|---|\n",
      out);
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    fprintf(out, "| `%s%s` | %s | ", row->name, metrics_pages_suffix(row), type_words[row->type]);
    print_labels(out, row, "`");
    fputs(" | ", out);
    print_key(out, row);
    fprintf(out, " | %s. |\n", row->help);
  }
  fputs(tail, out);
  print_label_rows(out);
  fputs(last, out);
  for (size_t i = 0; i < metrics_count; i++) {
    if (metrics_table[i].type == METRIC_HISTOGRAM) {
      print_bounds(out, &metrics_table[i]);
    }
  }
}

/* ---- the man page, and the names for checks ---- */

/* ${text} for roff, as one line. */
static void print_roff(FILE *out, const char *text) {
  for (; *text != 0; text++) {
    fputs(*text == '-' ? "\\" : "", out);
    fputc(*text, out);
  }
}

void metrics_pages_man(FILE *out) {
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    fprintf(out, ".TP\n.BR %s%s \" (%s", row->name, metrics_pages_suffix(row),
            type_words[row->type]);
    if (row->label != LABEL_NONE) {
      fputs("; labels: ", out);
      print_labels(out, row, "");
    }
    fputs(")\"\n", out);
    print_roff(out, row->help);
    fputs(".\n", out);
    if (row->key != NULL) {
      fprintf(out, "Key:\n.BR %s .\n", row->key);
    }
  }
}

static void print_name(FILE *out, const struct metric *row, const char *end) {
  static const char *const words[] = {"gauge", "counter", "histogram", "info"};
  fprintf(out, "%s%s %s", row->name, end, words[row->type]);
  for (size_t i = 0; i < count_of(labels[0].names) && labels[row->label].names[i] != NULL; i++) {
    const char *label = labels[row->label].names[i];
    fprintf(out, " %s", label);
    for (size_t j = 0; row->label != LABEL_BUILD && value_of(label, j) != NULL; j++) {
      fprintf(out, "%s%s", j == 0 ? "=" : ",", value_of(label, j));
    }
  }
  fputc('\n', out);
}

void metrics_pages_names(FILE *out) {
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    if (row->type == METRIC_HISTOGRAM) {
      print_name(out, row, "_bucket");
      print_name(out, row, "_sum");
      print_name(out, row, "_count");
    } else {
      print_name(out, row, metrics_pages_suffix(row));
    }
  }
}
