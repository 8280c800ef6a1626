/*
 * server_stats: all counters of a server in one snapshot, and what is made of it: the metrics, the
 * JSON of /stats, a log line, xchg_stats.
 *
 * The ends are read before the accepts, so accepted = open + ended holds in every snapshot.  A
 * snapshot costs a sum over the workers.  It takes no lock and disturbs no thread.
 */
#ifndef POOL_SERVER_STATS_H
#define POOL_SERVER_STATS_H

#include "core/metrics.h"
#include "pool/server.h"
#include "pool/process_facts.h"

/* What only the program knows; the admin endpoint fills it in for each answer. */
struct server_state {
  bool ready;                          /* /readyz says 200 */
  bool draining;                       /* a stop has begun, its delay included */
  const char *state;                   /* of /stats, such as "serving" */
  const struct process_facts *process; /* borrows; NULL = no family process_* */
  uint64_t log_lines_lost;             /* log_writer_lost; METRICS_UNKNOWN = not known */

  /* Writes the settings of /stats, a JSON object, as metrics_write does; NULL = without them. */
  size_t (*settings)(void *argument, char *buffer, size_t size);
  void *settings_argument;
};

/** Sum up all counters.  ${totals->accepted} is at least the sum of its ends. Thread: any. */
void server_totals(struct xchg_server *server, struct stats *totals);

/** Connections accepted by this process and by those that it has replaced. Thread: any. */
uint64_t server_accepted(struct xchg_server *server);

/** Fill in what ${server} counts: totals, latencies, listeners, pauses. Thread: any. */
void server_look(struct xchg_server *server, struct metrics_snapshot *snapshot);

/** Log one line msg=${msg} with all totals at every log level; ${open} adds open connections. */
void server_report(struct xchg_server *server, const char *msg, bool open);

/** Fill in ${stats}, whose size the caller has checked. Thread: any. */
void server_stats(struct xchg_server *server, struct xchg_stats *stats);

/**
 * server_metrics(server, state, form, buffer, size):
 * Write the metrics, as metrics_write does, which see for the return value.
 * Thread: any one at a time, after server_open and until server_close begins.
 */
size_t server_metrics(struct xchg_server *server, const struct server_state *state,
                      enum metrics_form form, char *buffer, size_t size);

/** The same for the JSON of /stats. */
size_t server_stats_json(struct xchg_server *server, const struct server_state *state, char *buffer,
                         size_t size);

#endif
