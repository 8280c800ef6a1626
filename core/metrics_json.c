/*
 * metrics_json: the object of /stats, and the keys of the log lines stats and stopped.
 *
 * Both have whole numbers only: a time is in the unit that its key ends with.
 */
#include "core/metrics.h"
#include "core/metrics_out.h"

#include <stdio.h>

static const struct {
  const char *name;
  uint32_t permille;
} quantiles[] = {{"p50", 500}, {"p90", 900}, {"p99", 990}, {"max", 1000}};

/* The source of ${row} in ${base}, ${i} in an array, in the unit of the key. */
static uint64_t number_of(const struct metric *row, const void *base, size_t i) {
  return metric_value(row, base, i) / max_u64(row->divisor, 1);
}

static uint64_t quantile_of(const struct metric *row, const struct metrics_snapshot *snapshot,
                            size_t i) {
  const void *source = (const char *)snapshot + row->offset;
  return histogram_quantile(source, quantiles[i].permille) / max_u64(row->divisor, 1);
}

/* ---- JSON ---- */

struct json {
  struct metrics_out out;
  bool follows; /* the object or array already has a value */
};

/* Begin a value: a comma where one is due, and its name unless that is NULL. */
static void begin(struct json *json, const char *name) {
  if (json->follows) {
    metrics_out_text(&json->out, ",");
  }
  json->follows = true;
  if (name != NULL) {
    metrics_out_quoted(&json->out, name);
    metrics_out_text(&json->out, ":");
  }
}

static void open_value(struct json *json, const char *name, const char *bracket) {
  begin(json, name);
  metrics_out_text(&json->out, bracket);
  json->follows = false;
}

static void close_value(struct json *json, const char *bracket) {
  metrics_out_text(&json->out, bracket);
  json->follows = true;
}

static void put_u64(struct json *json, const char *name, uint64_t value) {
  begin(json, name);
  metrics_out_u64(&json->out, value);
}

static void put_text(struct json *json, const char *name, const char *value) {
  begin(json, name);
  metrics_out_quoted(&json->out, value);
}

static void put_reasons(struct json *json, const struct metric *row,
                        const struct metrics_snapshot *snapshot) {
  put_u64(json, xchg_reason_name(XCHG_FINISHED), number_of(row, snapshot, XCHG_FINISHED));
  open_value(json, row->key, "{");
  for (size_t i = XCHG_FINISHED + 1; i < XCHG_REASONS; i++) {
    put_u64(json, xchg_reason_name((enum xchg_reason)i), number_of(row, snapshot, i));
  }
  close_value(json, "}");
}

static void put_proxy_headers(struct json *json, const struct metric *row,
                              const struct metrics_snapshot *snapshot) {
  static const char *const versions[STATS_PROXY_VERSIONS] = {"v1", "v2"};
  open_value(json, row->key, "{");
  for (size_t version = 0; version < STATS_PROXY_VERSIONS; version++) {
    open_value(json, versions[version], "{");
    for (size_t i = 0; i < STATS_PROXY_COMMANDS; i++) {
      put_u64(json, metrics_proxy_command(i),
              number_of(row, snapshot, version * STATS_PROXY_COMMANDS + i));
    }
    close_value(json, "}");
  }
  close_value(json, "}");
}

static void put_causes(struct json *json, const struct metric *row,
                       const struct metrics_snapshot *snapshot) {
  open_value(json, row->key, "{");
  for (size_t i = 0; i < STATS_PROXY_CAUSES; i++) {
    put_u64(json, metrics_proxy_cause(i), number_of(row, snapshot, i));
  }
  close_value(json, "}");
}

static void put_quantiles(struct json *json, const struct metric *row,
                          const struct metrics_snapshot *snapshot) {
  open_value(json, row->key, "{");
  for (size_t i = 0; i < count_of(quantiles); i++) {
    put_u64(json, quantiles[i].name, quantile_of(row, snapshot, i));
  }
  close_value(json, "}");
}

static void put_row(struct json *json, const struct metric *row,
                    const struct metrics_snapshot *snapshot) {
  if ((row->shown & IN_STATS) == 0 || !metric_present(row, snapshot)) {
    return;
  }
  if (row->label == LABEL_REASON) {
    put_reasons(json, row, snapshot);
  } else if (row->label == LABEL_PROXY) {
    put_proxy_headers(json, row, snapshot);
  } else if (row->label == LABEL_CAUSE) {
    put_causes(json, row, snapshot);
  } else if (row->label == LABEL_NONE && row->type == METRIC_HISTOGRAM) {
    put_quantiles(json, row, snapshot);
  } else if (row->label == LABEL_NONE) {
    put_u64(json, row->key, number_of(row, snapshot, 0));
  }
}

static void put_workers(struct json *json, const struct metrics_snapshot *snapshot) {
  open_value(json, "workers", "[");
  for (uint32_t i = 0; i < snapshot->workers_count; i++) {
    open_value(json, NULL, "{");
    put_u64(json, "worker", i);
    for (size_t row = 0; row < metrics_count; row++) {
      if (metrics_table[row].label == LABEL_WORKER) {
        put_u64(json, metrics_table[row].key,
                number_of(&metrics_table[row], &snapshot->worker[i], 0));
      }
    }
    close_value(json, "}");
  }
  close_value(json, "]");
}

static void put_listeners(struct json *json, const struct metrics_snapshot *snapshot) {
  open_value(json, "listeners", "[");
  for (uint32_t i = 0; i < snapshot->listeners_count; i++) {
    const struct metrics_listener *listener = &snapshot->listener[i];
    open_value(json, NULL, "{");
    put_text(json, "addr", listener->addr);
    put_u64(json, "accepted", listener->accepted);
    if (listener->proxy != NULL) {
      put_text(json, "proxy", listener->proxy);
    }
    close_value(json, "}");
  }
  close_value(json, "]");
}

static void put_settings(struct json *json, const struct metrics_snapshot *snapshot) {
  struct metrics_out *out = &json->out;
  if (snapshot->settings == NULL) {
    return;
  }
  begin(json, "settings");
  size_t used = min_u64(out->needed, out->size);
  out->needed +=
      snapshot->settings(snapshot->settings_argument, out->buffer + used, out->size - used);
}

size_t metrics_write_json(const struct metrics_snapshot *snapshot, char *buffer, size_t size) {
  struct json json = {.out = {.buffer = buffer, .size = size}};
  open_value(&json, NULL, "{");
  put_u64(&json, "schema", 1);
  put_text(&json, "version", snapshot->version);
  put_text(&json, "model", snapshot->model);
  put_text(&json, "exchange", snapshot->exchange);
  put_u64(&json, "pid", snapshot->pid);
  put_u64(&json, "now_ms", snapshot->now_ns / NS_PER_MS);
  put_u64(&json, "uptime_ms", snapshot->uptime_ns / NS_PER_MS);
  put_text(&json, "state", snapshot->state);
  begin(&json, "ready");
  metrics_out_text(&json.out, snapshot->ready != 0 ? "true" : "false");
  for (size_t i = 0; i < metrics_count; i++) {
    put_row(&json, &metrics_table[i], snapshot);
  }
  put_workers(&json, snapshot);
  put_listeners(&json, snapshot);
  put_settings(&json, snapshot);
  close_value(&json, "}");
  metrics_out_text(&json.out, "\n");
  return json.out.needed;
}

/* ---- the log ---- */

#define KEY_MAX 48

static void log_reasons(struct log_line *line, const struct metric *row,
                        const struct metrics_snapshot *snapshot) {
  log_u64(line, xchg_reason_name(XCHG_FINISHED), number_of(row, snapshot, XCHG_FINISHED));
  for (size_t i = XCHG_FINISHED + 1; i < XCHG_REASONS; i++) {
    char key[KEY_MAX];
    snprintf(key, sizeof(key), "%s_%s", row->key, xchg_reason_name((enum xchg_reason)i));
    log_u64(line, key, number_of(row, snapshot, i));
  }
}

static void log_quantiles(struct log_line *line, const struct metric *row,
                          const struct metrics_snapshot *snapshot) {
  for (size_t i = 0; i < count_of(quantiles); i++) {
    char key[KEY_MAX];
    snprintf(key, sizeof(key), "%s_%s", row->key, quantiles[i].name);
    log_u64(line, key, quantile_of(row, snapshot, i));
  }
}

void metrics_log(const struct metrics_snapshot *snapshot, struct log_line *line) {
  for (size_t i = 0; i < metrics_count; i++) {
    const struct metric *row = &metrics_table[i];
    if ((row->shown & IN_LOG) == 0 || !metric_present(row, snapshot)) {
      continue;
    }
    if (row->label == LABEL_REASON) {
      log_reasons(line, row, snapshot);
    } else if (row->type == METRIC_HISTOGRAM) {
      log_quantiles(line, row, snapshot);
    } else {
      log_u64(line, row->key, number_of(row, snapshot, 0));
    }
  }
}
