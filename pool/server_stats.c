/* server_stats: see server_stats.h. */
#include "pool/server_stats.h"

#include <stdio.h>

void server_totals(struct xchg_server *server, struct stats *totals) {
  *totals = (struct stats){0};
  server->model->ops->add_totals(server->model, totals);
  stats_sum(totals, &server->acceptor.stats);
  /* Last, so that it is at least the sum of the ends that were read above. */
  uint64_t accepted = atom_load_relaxed_u64(&server->acceptor.stats.accepted);
  atom_store_relaxed_u64(&totals->accepted, accepted);
}

/* Log quantiles of ${histogram} in units of ${unit}: ${key}_p50, _p90, _p99 and _max. */
static void report_quantiles(struct log_line *line, const char *key,
                             const struct histogram *histogram, uint64_t unit) {
  static const struct {
    const char *suffix;
    uint32_t permille;
  } points[] = {{"p50", 500}, {"p90", 900}, {"p99", 990}, {"max", 1000}};
  for (size_t i = 0; i < count_of(points); i++) {
    char name[48];
    snprintf(name, sizeof(name), "%s_%s", key, points[i].suffix);
    log_u64(line, name, histogram_quantile(histogram, points[i].permille) / unit);
  }
}

static void report_latency(struct log_line *line, struct xchg_server *server) {
  const struct model_ops *ops = server->model->ops;
  struct latency_stats latency = {0};
  if (ops->add_latency == NULL) {
    return;
  }
  ops->add_latency(server->model, &latency);
  histogram_merge(&latency.accept_batch, &server->acceptor.batches);
  report_quantiles(line, "handoff_ns", &latency.handoff_ns, 1);
  report_quantiles(line, "turn_us", &latency.turn_ns, NS_PER_US);
  report_quantiles(line, "queue_depth", &latency.queue_depth, 1);
  report_quantiles(line, "accept_batch", &latency.accept_batch, 1);
}

void server_report(struct xchg_server *server, const char *msg, bool open) {
  struct stats totals;
  server_totals(server, &totals);
  uint64_t accepted = atom_load_relaxed_u64(&totals.accepted);
  struct log_line line;
  uint64_t cut = atom_load_relaxed_u64(&totals.cut);
  if (!open && cut > 0) {
    log_begin(&line, server->log, LOG_WARN, "XCHG_DRAIN_TIMEOUT has cut connections");
    log_u64(&line, "count", cut);
    log_end(&line);
  }
  log_begin_always(&line, server->log, msg);
  log_u64(&line, "accepted", accepted);
  log_u64(&line, "finished", atom_load_relaxed_u64(&totals.ended[XCHG_FINISHED]));
  for (int reason = XCHG_FINISHED + 1; reason < XCHG_REASONS; reason++) {
    char key[32];
    snprintf(key, sizeof(key), "closed_%s", xchg_reason_name((enum xchg_reason)reason));
    log_u64(&line, key, atom_load_relaxed_u64(&totals.ended[reason]));
  }
  if (open) {
    log_u64(&line, "open", sub_sat_u64(accepted, stats_ended(&totals)));
  }
#define LOG_COUNTER(name) log_u64(&line, #name, atom_load_relaxed_u64(&totals.name));
  STATS_COUNTERS(LOG_COUNTER, LOG_COUNTER)
  report_latency(&line, server);
  log_end(&line);
}

void server_stats(struct xchg_server *server, struct xchg_stats *stats) {
  struct stats totals;
  server_totals(server, &totals);
  stats->accepted = atom_load_relaxed_u64(&totals.accepted);
  stats->open = sub_sat_u64(stats->accepted, stats_ended(&totals));
  for (size_t i = 0; i < XCHG_REASONS; i++) {
    stats->ended[i] = atom_load_relaxed_u64(&totals.ended[i]);
  }
#define OMIT(name)
#define COPY(name) stats->name = atom_load_relaxed_u64(&totals.name);
  STATS_COUNTERS(OMIT, COPY)
}
