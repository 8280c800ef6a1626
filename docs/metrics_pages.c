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
    "`GET /metrics` of the admin endpoint (`XCHG_ADMIN`) returns these families in the "
    "format\n"
    "Prometheus text 0.0.4. If the HTTP header `Accept` prefers OpenMetrics 1.0, it returns that "
    "format.\n"
    "`GET /stats` returns the same metrics as one JSON object of integers. The page at `/` shows "
    "them in\n"
    "a browser. [deploy/grafana.json](deploy/grafana.json) is a dashboard for Grafana.\n\n"
    "- A counter never decreases and cannot be reset. Rates, averages and maxima are missing, "
    "because\n"
    "  Prometheus computes them from counters.\n"
    "- In every scrape, `xchg_connections_accepted_total` equals `xchg_connections_open` plus the "
    "sum of\n"
    "  `xchg_connections_ended_total`.\n"
    "- Every series exists from the first scrape. No label contains bytes or addresses of "
    "clients.\n"
    "- Times are in seconds. In OpenMetrics the family name of a counter has no suffix `_total`, "
    "and that\n"
    "  of `xchg_build_info` no suffix `_info`.\n"
    "- A scrape adds up the counters of all threads. It takes no lock and delays no "
    "connection.\n\n";

static const char tail[] =
    "\nIn `/stats` the key `finished` is separate, and `closed` is an object with the other "
    "reasons. The\n"
    "log lines `stats` and `stopped` contain `closed_<reason>` instead. They contain quantiles "
    "with the\n"
    "suffixes `_p50`, `_p90`, `_p99` and `_max`. The array `workers` of `/stats` contains the keys "
    "of\n"
    "each worker.\n\n"
    "## Labels\n\n"
    "| label | values |\n"
    "|---|---|\n";

static const char last[] =
    "\nSome families exist in some cases only:\n\n"
    "| families | exist |\n"
    "|---|---|\n"
    "| with the label `worker` | under `XCHG_MODEL=pool` with at most 64 workers |\n"
    "| `xchg_handoff_seconds`, `xchg_turn_seconds`, `xchg_queue_connections`, "
    "`xchg_accept_batch_connections`, `xchg_move_seconds` | under `XCHG_MODEL=pool` |\n"
    "| `process_resident_memory_bytes`, `process_threads` | if `/proc` is mounted |\n\n"
    "## Buckets\n\n"
    "The bounds are exact. A bound of a time is a power of two in nanoseconds. A bound of a count "
    "is one\n"
    "less than a power of two. A time that equals a bound is counted in the next bucket.\n\n"
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
    [LABEL_LISTENER] = {{"listener"}, "the address of the listener, as `msg=listening` shows it"},
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
      "| `version` of `xchg_build_info` | the version of xchg |\n"
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
