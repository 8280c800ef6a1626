/*
 * grafana: docs/deploy/grafana.json, a small dashboard.
 *
 * A panel names rows of the table of metrics; the names of series, and so the queries, come from
 * there.  A name that the table does not have ends the program.
 */
#include "docs/metrics_pages.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH 24 /* of Grafana's grid */

/* What a query asks of a row. */
enum how {
  NOW,     /* a gauge as it is */
  RATE,    /* a counter a second, all of a server */
  RATE_BY, /* the same by the label of the row */
  NOW_BY,  /* a gauge by its label */
  MEDIAN,
  P99, /* of a histogram */
};

struct query {
  const char *metric; /* NULL = no more queries */
  enum how how;
  const char *legend;
};

static const struct panel {
  const char *title, *kind, *unit; /* Grafana's words */
  int width, height;
  struct query queries[3];
} panels[] = {
    {"Ready", "stat", "bool_yes_no", 4, 4, {{"xchg_ready", NOW, "{{instance}}"}}},
    {"Draining", "stat", "bool_yes_no", 4, 4, {{"xchg_draining", NOW, "{{instance}}"}}},
    {"Version",
     "stat",
     "none",
     4,
     4,
     {{"xchg_build", NOW, "{{instance}} {{version}} {{model}} {{exchange}}"}}},
    {"Accepting is paused",
     "stat",
     "bool_yes_no",
     4,
     4,
     {{"xchg_accept_paused", NOW, "{{instance}}"}}},
    {"Running since",
     "stat",
     "dateTimeFromNow",
     4,
     4,
     {{"process_start_time_seconds", NOW, "{{instance}}"}}},
    {"Workers", "stat", "none", 4, 4, {{"xchg_workers", NOW, "{{instance}}"}}},
    {"Connections",
     "timeseries",
     "none",
     12,
     8,
     {{"xchg_connections_open", NOW, "{{instance}} open"},
      {"xchg_connections_max", NOW, "{{instance}} limit"}}},
    {"Accepted and received",
     "timeseries",
     "cps",
     12,
     8,
     {{"xchg_connections_accepted", RATE, "{{instance}} connections"},
      {"xchg_messages_received", RATE, "{{instance}} messages"}}},
    {"Ends by reason",
     "timeseries",
     "cps",
     12,
     8,
     {{"xchg_connections_ended", RATE_BY, "{{instance}} {{reason}}"}}},
    {"Bytes",
     "timeseries",
     "Bps",
     12,
     8,
     {{"xchg_received_bytes", RATE, "{{instance}} received"},
      {"xchg_sent_bytes", RATE, "{{instance}} sent"}}},
    {"Hand-off to a worker",
     "timeseries",
     "s",
     8,
     8,
     {{"xchg_handoff_seconds", MEDIAN, "{{instance}} p50"},
      {"xchg_handoff_seconds", P99, "{{instance}} p99"}}},
    {"Turn of a worker",
     "timeseries",
     "s",
     8,
     8,
     {{"xchg_turn_seconds", MEDIAN, "{{instance}} p50"},
      {"xchg_turn_seconds", P99, "{{instance}} p99"}}},
    {"Duration of a connection",
     "timeseries",
     "s",
     8,
     8,
     {{"xchg_connection_seconds", MEDIAN, "{{instance}} p50"},
      {"xchg_connection_seconds", P99, "{{instance}} p99"}}},
    {"Connections by worker",
     "timeseries",
     "none",
     8,
     8,
     {{"xchg_worker_connections_open", NOW_BY, "{{instance}} {{worker}}"}}},
    {"Messages by worker",
     "timeseries",
     "cps",
     8,
     8,
     {{"xchg_worker_messages_received", RATE_BY, "{{instance}} {{worker}}"}}},
    {"CPU by worker",
     "timeseries",
     "percentunit",
     8,
     8,
     {{"xchg_worker_busy_seconds", RATE_BY, "{{instance}} {{worker}}"}}},
    {"Queue by worker",
     "timeseries",
     "none",
     8,
     8,
     {{"xchg_worker_queue_connections", NOW_BY, "{{instance}} {{worker}}"}}},
    {"Turn age by worker",
     "timeseries",
     "s",
     8,
     8,
     {{"xchg_worker_turn_age_seconds", NOW_BY, "{{instance}} {{worker}}"}}},
    {"Blocked and slow",
     "timeseries",
     "cps",
     8,
     8,
     {{"xchg_blocked_turns", RATE, "{{instance}} blocked turns"},
      {"xchg_slow_exchanges", RATE, "{{instance}} slow exchanges"},
      {"xchg_offloads_refused", RATE, "{{instance}} offloads refused"}}},
    {"Accept errors and pauses",
     "timeseries",
     "cps",
     8,
     8,
     {{"xchg_accept_errors", RATE, "{{instance}} errors"},
      {"xchg_accept_pauses", RATE, "{{instance}} pauses"}}},
    {"Time with accepting paused",
     "timeseries",
     "percentunit",
     8,
     8,
     {{"xchg_accept_paused_seconds", RATE, "{{instance}}"}}},
    {"Connections without a valid PROXY header",
     "timeseries",
     "cps",
     8,
     8,
     {{"xchg_proxy_rejected", RATE_BY, "{{instance}} {{cause}}"}}},
    {"CPU", "timeseries", "percentunit", 8, 8, {{"process_cpu_seconds", RATE, "{{instance}}"}}},
    {"Memory",
     "timeseries",
     "bytes",
     8,
     8,
     {{"process_resident_memory_bytes", NOW, "{{instance}}"}}},
    {"Log lines lost", "timeseries", "cps", 8, 8, {{"xchg_log_lines_lost", RATE, "{{instance}}"}}},
};

static const struct metric *row_of(const char *name) {
  for (size_t i = 0; i < metrics_count; i++) {
    if (strcmp(metrics_table[i].name, name) == 0) {
      return &metrics_table[i];
    }
  }
  fprintf(stderr, "docs/grafana.c: the table has no %s\n", name);
  exit(1);
}

static const char *label_of(const struct metric *row) {
  return row->label == LABEL_REASON   ? "reason"
         : row->label == LABEL_WORKER ? "worker"
         : row->label == LABEL_CAUSE  ? "cause"
                                      : "listener";
}

/* The text of a query, within a string of JSON. */
static void print_expression(FILE *out, const struct query *query) {
  static const char chosen[] = "{job=~\\\"$job\\\",instance=~\\\"$instance\\\"}";
  const struct metric *row = row_of(query->metric);
  const char *end = metrics_pages_suffix(row), *name = row->name;
  switch (query->how) {
    case NOW:
    case NOW_BY:
      fprintf(out, "%s%s%s", name, end, chosen);
      if (strcmp(name, "process_start_time_seconds") == 0) {
        fputs(" * 1000", out); /* Grafana's times are in milliseconds */
      }
      break;
    case RATE:
      fprintf(out, "sum by (instance) (rate(%s%s%s[$__rate_interval]))", name, end, chosen);
      break;
    case RATE_BY:
      fprintf(out, "sum by (instance, %s) (rate(%s%s%s[$__rate_interval]))", label_of(row), name,
              end, chosen);
      break;
    case MEDIAN:
    case P99:
      fprintf(out,
              "histogram_quantile(%s, sum by (instance, le) "
              "(rate(%s_bucket%s[$__rate_interval])))",
              query->how == MEDIAN ? "0.5" : "0.99", name, chosen);
      break;
  }
}

static void print_panel(FILE *out, const struct panel *panel, int id, int x, int y) {
  fprintf(out, "%s\n    {\"id\": %d, \"type\": \"%s\", \"title\": \"%s\",\n", id == 1 ? "" : ",",
          id, panel->kind, panel->title);
  fprintf(out, "     \"description\": \"%s\",\n", row_of(panel->queries[0].metric)->help);
  fprintf(out, "     \"gridPos\": {\"x\": %d, \"y\": %d, \"w\": %d, \"h\": %d},\n", x, y,
          panel->width, panel->height);
  fputs("     \"datasource\": {\"type\": \"prometheus\", \"uid\": \"${datasource}\"},\n", out);
  fprintf(out,
          "     \"fieldConfig\": {\"defaults\": {\"unit\": \"%s\", \"min\": 0}, "
          "\"overrides\": []},\n",
          panel->unit);
  if (strcmp(panel->kind, "stat") == 0) {
    fprintf(out,
            "     \"options\": {\"textMode\": \"%s\", \"colorMode\": \"none\", "
            "\"reduceOptions\": {\"calcs\": [\"lastNotNull\"]}},\n",
            strcmp(panel->title, "Version") == 0 ? "name" : "value_and_name");
  }
  fputs("     \"targets\": [", out);
  for (size_t i = 0; i < count_of(panel->queries) && panel->queries[i].metric != NULL; i++) {
    fprintf(out, "%s\n       {\"refId\": \"%c\", \"expr\": \"", i == 0 ? "" : ",", 'A' + (int)i);
    print_expression(out, &panel->queries[i]);
    fprintf(out, "\", \"legendFormat\": \"%s\"}", panel->queries[i].legend);
  }
  fputs("]}", out);
}

static void print_variable(FILE *out, const char *name, const char *query) {
  fprintf(out,
          ",\n    {\"name\": \"%s\", \"type\": \"query\", \"query\": \"%s\", \"refresh\": 2,\n"
          "     \"datasource\": {\"type\": \"prometheus\", \"uid\": \"${datasource}\"},\n"
          "     \"multi\": true, \"includeAll\": true, \"allValue\": \".*\",\n"
          "     \"current\": {\"text\": \"All\", \"value\": \"$__all\"}}",
          name, query);
}

void metrics_pages_grafana(FILE *out) {
  const struct metric *build = row_of("xchg_build");
  char query[128];
  fputs(
      "{\n  \"title\": \"xchg\", \"uid\": \"xchg\", \"schemaVersion\": 38, \"version\": 1,\n"
      "  \"tags\": [\"xchg\"], \"editable\": true, \"refresh\": \"30s\",\n"
      "  \"time\": {\"from\": \"now-1h\", \"to\": \"now\"},\n"
      "  \"templating\": {\"list\": [\n"
      "    {\"name\": \"datasource\", \"type\": \"datasource\", \"query\": \"prometheus\"}",
      out);
  snprintf(query, sizeof(query), "label_values(%s_info, job)", build->name);
  print_variable(out, "job", query);
  snprintf(query, sizeof(query), "label_values(%s_info{job=~\\\"$job\\\"}, instance)", build->name);
  print_variable(out, "instance", query);
  fputs("\n  ]},\n  \"panels\": [", out);
  int x = 0, y = 0;
  for (size_t i = 0; i < count_of(panels); i++) {
    print_panel(out, &panels[i], (int)i + 1, x, y);
    x += panels[i].width;
    if (x >= WIDTH) {
      x = 0;
      y += panels[i].height;
    }
  }
  fputs("\n  ]\n}\n", out);
}
