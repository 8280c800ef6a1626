/*
 * server_stats: see server_stats.h.
 *
 * A snapshot has some 30 KiB and lies on the caller's stack.
 */
#include "pool/server_stats.h"

#include "core/sys.h"

#include <assert.h>
#include <time.h>

static_assert(CONFIG_LISTEN_MAX <= METRICS_LISTENERS_MAX, "every listener has a place");

/* ---- one snapshot ---- */

/* Connections that earlier processes have accepted from the ${i}th listener. */
static uint64_t accepted_before(struct xchg_server *server, uint32_t i) {
  const struct server_base *base = server->base;
  return base == NULL ? 0 : atom_load_relaxed_u64(&base->accepted[i]);
}

/* Likewise, from listeners that are gone. */
static uint64_t accepted_elsewhere(struct xchg_server *server) {
  const struct server_base *base = server->base;
  return base == NULL ? 0 : atom_load_relaxed_u64(&base->accepted_elsewhere);
}

uint64_t server_accepted(struct xchg_server *server) {
  uint64_t accepted = acceptor_accepted(&server->acceptor) + accepted_elsewhere(server);
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    accepted += accepted_before(server, i);
  }
  return accepted;
}

/* Everything but ${totals->accepted}. */
static void add_ended(struct xchg_server *server, struct stats *totals) {
  server->model->ops->add_totals(server->model, totals);
  stats_sum(totals, &server->acceptor.stats);
  const struct server_base *base = server->base;
  if (base != NULL) {
    stats_sum(totals, &base->totals);
    stats_sum(totals, &base->own_totals);
  }
}

/*
 * Two listeners may have one address: with SO_REUSEPORT, or if a service manager has passed a
 * socket twice.  They are one entry, because no two samples may have the same labels.
 */
static struct metrics_listener *entry_of(struct metrics_snapshot *snapshot,
                                         const struct addr_listen *addr) {
  struct metrics_listener *entry = &snapshot->listener[snapshot->listeners_count];
  *entry = (struct metrics_listener){.accepted = 0};
  addr_format_listen(addr, entry->addr, sizeof(entry->addr));
  for (uint32_t i = 0; i < snapshot->listeners_count; i++) {
    if (strcmp(snapshot->listener[i].addr, entry->addr) == 0) {
      return &snapshot->listener[i];
    }
  }
  snapshot->listeners_count++;
  return entry;
}

/* Their sum is the total, read after the ends. */
static void look_at_listeners(struct xchg_server *server, struct metrics_snapshot *snapshot) {
  uint64_t accepted = accepted_elsewhere(server);
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    const struct addr_listen *addr = &server->listeners[i].addr;
    struct metrics_listener *entry = entry_of(snapshot, addr);
    entry->proxy = addr->proxy == ADDR_PROXY_OFF ? NULL : addr_proxy_name(addr->proxy);
    uint64_t count = acceptor_accepted_by(&server->acceptor, i) + accepted_before(server, i);
    entry->accepted += count;
    accepted += count;
  }
  uint64_t ended = stats_ended(&snapshot->totals);
  atom_store_relaxed_u64(&snapshot->totals.accepted, max_u64(accepted, ended));
  snapshot->open = sub_sat_u64(accepted, ended);
}

static void look_at_workers(struct xchg_server *server, struct metrics_snapshot *snapshot,
                            uint64_t now_ns) {
  const struct model_ops *ops = server->model->ops;
  snapshot->workers = ops->look == NULL ? 0 : server->config->workers;
  for (uint32_t i = 0; snapshot->workers <= METRICS_WORKERS_MAX && i < snapshot->workers; i++) {
    if (ops->look(server->model, i, now_ns, &snapshot->worker[i])) {
      snapshot->workers_count++;
    }
  }
}

static void look_at_latencies(struct xchg_server *server, struct metrics_snapshot *snapshot) {
  const struct model_ops *ops = server->model->ops;
  struct latency_stats latency = {.handoff_ns = &snapshot->handoff_ns,
                                  .turn_ns = &snapshot->turn_ns,
                                  .queue_depth = &snapshot->queue_depth};
  snapshot->latencies = ops->add_latency != NULL;
  if (snapshot->latencies) {
    ops->add_latency(server->model, &latency);
    histogram_merge(&snapshot->accept_batch, &server->acceptor.batches);
  }
  const struct server_base *base = server->base;
  if (snapshot->latencies && base != NULL) {
    histogram_merge(&snapshot->handoff_ns, &base->handoff_ns);
    histogram_merge(&snapshot->turn_ns, &base->turn_ns);
    histogram_merge(&snapshot->queue_depth, &base->queue_depth);
    histogram_merge(&snapshot->accept_batch, &base->accept_batch);
    histogram_merge(&snapshot->frozen_ns, &base->frozen_ns);
    histogram_merge(&snapshot->frozen_ns, &base->own_frozen_ns);
  }
}

/* Fill in what comes from the server. */
static void look(struct xchg_server *server, struct metrics_snapshot *snapshot) {
  bool paused;
  uint64_t now_ns = sys_now_ns();
  add_ended(server, &snapshot->totals);
  look_at_listeners(server, snapshot);
  look_at_latencies(server, snapshot);
  snapshot->accept_paused_ns = pause_clock_ns(&server->acceptor.pauses, now_ns, &paused);
  snapshot->accept_paused = paused;
  const struct server_base *base = server->base;
  if (base != NULL) {
    snapshot->accept_paused_ns += atom_load_relaxed_u64(&base->paused_ns);
  }
}

static void look_at_process(const struct server_state *state, struct metrics_snapshot *snapshot) {
  const struct process_facts *facts = state->process;
  struct process_now now = {METRICS_UNKNOWN, METRICS_UNKNOWN, METRICS_UNKNOWN};
  snapshot->fds_max = snapshot->start_time_ns = METRICS_UNKNOWN;
  if (facts != NULL) {
    process_facts_look(facts, &now);
    snapshot->pid = facts->pid;
    snapshot->fds_max = facts->fds_max;
    snapshot->start_time_ns = facts->start_wall_ns;
    snapshot->uptime_ns = sub_sat_u64(sys_now_ns(), facts->start_ns);
  }
  snapshot->cpu_ns = now.cpu_ns;
  snapshot->resident_bytes = now.resident_bytes;
  snapshot->threads = now.threads;
}

/* Fill in everything. */
static void look_at_all(struct xchg_server *server, const struct server_state *state,
                        struct metrics_snapshot *snapshot) {
  const struct config *config = server->config;
  struct timespec wall = {0};
  (void)clock_gettime(CLOCK_REALTIME, &wall); /* cannot fail: every Linux has this clock */
  snapshot->now_ns = (uint64_t)wall.tv_sec * NS_PER_S + (uint64_t)wall.tv_nsec;
  snapshot->version = XCHG_VERSION;
  snapshot->model = config_model_name(config);
  snapshot->exchange =
      server->model->setup.custom_handler ? "handler" : config_exchange_name(config);
  snapshot->state = state->state;
  snapshot->ready = state->ready;
  snapshot->draining = state->draining;
  snapshot->max = config->max_connections;
  snapshot->log_lines_lost = state->log_lines_lost;
  if (server->base != NULL && snapshot->log_lines_lost != METRICS_UNKNOWN) {
    snapshot->log_lines_lost += atom_load_relaxed_u64(&server->base->log_lines_lost);
  }
  snapshot->settings = state->settings;
  snapshot->settings_argument = state->settings_argument;
  look_at_workers(server, snapshot, sys_now_ns());
  look(server, snapshot);
  look_at_process(state, snapshot);
}

/* ---- its forms ---- */

void server_totals(struct xchg_server *server, struct stats *totals) {
  *totals = (struct stats){0};
  add_ended(server, totals);
  /* Last, so that it is at least the sum of the ends that were read above. */
  atom_store_relaxed_u64(&totals->accepted, server_accepted(server));
}

void server_look(struct xchg_server *server, struct metrics_snapshot *snapshot) {
  *snapshot = (struct metrics_snapshot){.workers_count = 0};
  look(server, snapshot);
}

void server_report(struct xchg_server *server, const char *msg, bool open) {
  struct metrics_snapshot snapshot = {.workers_count = 0};
  struct log_line line;
  look(server, &snapshot);
  uint64_t cut = atom_load_relaxed_u64(&snapshot.totals.cut);
  if (!open && cut > 0) {
    log_begin(&line, server->log, LOG_WARN, "XCHG_DRAIN_TIMEOUT has cut connections");
    log_u64(&line, "count", cut);
    log_end(&line);
  }
  if (!open) {
    snapshot.open = METRICS_UNKNOWN;
  }
  log_begin_always(&line, server->log, msg);
  metrics_log(&snapshot, &line);
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

size_t server_metrics(struct xchg_server *server, const struct server_state *state,
                      enum metrics_form form, char *buffer, size_t size) {
  struct metrics_snapshot snapshot = {.workers_count = 0};
  look_at_all(server, state, &snapshot);
  return metrics_write(&snapshot, form, buffer, size);
}

size_t server_stats_json(struct xchg_server *server, const struct server_state *state, char *buffer,
                         size_t size) {
  struct metrics_snapshot snapshot = {.workers_count = 0};
  look_at_all(server, state, &snapshot);
  return metrics_write_json(&snapshot, buffer, size);
}
