/*
 * metrics: see metrics.h.
 *
 * The order of the rows is the order of every form.  The log lines stats and stopped list
 * their keys in this order.  A new row with IN_LOG comes after all others with IN_LOG, so that no
 * key in the log changes its place.
 */
#include "core/metrics.h"

#include <assert.h>
#include <stddef.h>

/* Where a row's value comes from. */
#define OF(member) .offset = offsetof(struct metrics_snapshot, member)
#define OF_TOTAL(member) .offset = offsetof(struct metrics_snapshot, totals.member)
#define OF_WORKER(member) .label = LABEL_WORKER, .offset = offsetof(struct metrics_worker, member)
#define OF_LISTENER(member) \
  .label = LABEL_LISTENER, .offset = offsetof(struct metrics_listener, member)

#define IN_BOTH (IN_STATS | IN_LOG)

const struct metric metrics_table[] = {
    {"xchg_build", METRIC_INFO, .label = LABEL_BUILD,
     .help = "Version, concurrency model and exchange of the server"},
    {"xchg_ready", METRIC_GAUGE, OF(ready), .help = "1 if /readyz returns 200, otherwise 0"},
    {"xchg_draining", METRIC_GAUGE, OF(draining),
     .help = "1 from the beginning of a stop, drain delay included, otherwise 0"},
    {"xchg_workers", METRIC_GAUGE, OF(workers),
     .help = "Number of worker threads; 0 outside of XCHG_MODEL=pool"},
    {"xchg_connections_accepted", METRIC_COUNTER, OF_TOTAL(accepted), .key = "accepted",
     .shown = IN_BOTH, .help = "Connections accepted, refused ones included"},
    {"xchg_connections_ended", METRIC_COUNTER, .label = LABEL_REASON, OF_TOTAL(ended),
     .key = "closed", .shown = IN_BOTH, .help = "Connections ended, by reason"},
    {"xchg_connections_open", METRIC_GAUGE, OF(open), .key = "open", .shown = IN_BOTH,
     .help = "Connections that are open"},
    {"xchg_connections_max", METRIC_GAUGE, OF(max), .key = "limit", .shown = IN_STATS,
     .help = "Limit on open connections: XCHG_MAX_CONNECTIONS"},
    {"xchg_listener_connections_accepted", METRIC_COUNTER, OF_LISTENER(accepted),
     .help = "Connections accepted, by listener"},
    {"xchg_messages_received", METRIC_COUNTER, OF_TOTAL(messages), .key = "messages",
     .shown = IN_BOTH, .help = "Complete messages received"},
    {"xchg_received_bytes", METRIC_COUNTER, METRIC_BYTES, OF_TOTAL(bytes_in), .key = "bytes_in",
     .shown = IN_BOTH, .help = "Bytes read from the kernel"},
    {"xchg_sent_bytes", METRIC_COUNTER, METRIC_BYTES, OF_TOTAL(bytes_out), .key = "bytes_out",
     .shown = IN_BOTH, .help = "Bytes that the kernel accepted for sending"},
    {"xchg_wakeups", METRIC_COUNTER, OF_TOTAL(wakes), .key = "wakes", .shown = IN_BOTH,
     .help = "Times that the hand-off of a connection woke a sleeping worker"},
    {"xchg_stale_events", METRIC_COUNTER, OF_TOTAL(stale), .key = "stale", .shown = IN_BOTH,
     .help = "Events for connections that had already ended"},
    {"xchg_accept_errors", METRIC_COUNTER, OF_TOTAL(accept_errors), .key = "accept_errors",
     .shown = IN_BOTH, .help = "Accepts that failed because of an error of the connection"},
    {"xchg_accept_pauses", METRIC_COUNTER, OF_TOTAL(accept_pauses), .key = "accept_pauses",
     .shown = IN_BOTH, .help = "Pauses of accepting because descriptors or memory were exhausted"},
    {"xchg_connections_cut", METRIC_COUNTER, OF_TOTAL(cut), .key = "cut", .shown = IN_BOTH,
     .help = "Connections closed at the end of XCHG_DRAIN_TIMEOUT; also counted by reason"},
    {"xchg_posts", METRIC_COUNTER, OF_TOTAL(posts), .key = "posts", .shown = IN_BOTH,
     .help = "Functions called for xchg_post"},
    {"xchg_published_messages", METRIC_COUNTER, OF_TOTAL(published), .key = "published",
     .shown = IN_BOTH, .help = "Publications queued to members of groups"},
    {"xchg_skipped_messages", METRIC_COUNTER, OF_TOTAL(skipped), .key = "skipped", .shown = IN_BOTH,
     .help = "Publications skipped because the member was slow"},
    {"xchg_offloads", METRIC_COUNTER, OF_TOTAL(offloads), .key = "offloads", .shown = IN_BOTH,
     .help = "Offload jobs queued"},
    {"xchg_offloads_refused", METRIC_COUNTER, OF_TOTAL(offloads_refused), .key = "offloads_refused",
     .shown = IN_BOTH, .help = "Offload jobs refused because the queue was full"},
    {"xchg_blocked_turns", METRIC_COUNTER, OF_TOTAL(blocked), .key = "blocked", .shown = IN_BOTH,
     .help = "Callbacks that took longer than XCHG_WATCHDOG"},
    {"xchg_handoff_seconds", METRIC_HISTOGRAM, METRIC_SECONDS, .buckets = BUCKETS_TIME,
     OF(handoff_ns), .key = "handoff_ns", .shown = IN_BOTH,
     .help = "Time from the accept of a connection until its worker takes it; less than le"},
    {"xchg_turn_seconds", METRIC_HISTOGRAM, METRIC_SECONDS, .buckets = BUCKETS_TIME, OF(turn_ns),
     .key = "turn_us", .shown = IN_BOTH, .divisor = NS_PER_US,
     .help = "Duration of a worker's turn; less than le. One in 16 short turns is measured"},
    {"xchg_queue_connections", METRIC_HISTOGRAM, .buckets = BUCKETS_COUNT, OF(queue_depth),
     .key = "queue_depth", .shown = IN_BOTH,
     .help = "Connections already in the queue of the chosen worker at a hand-off"},
    {"xchg_accept_batch_connections", METRIC_HISTOGRAM, .buckets = BUCKETS_COUNT, OF(accept_batch),
     .key = "accept_batch", .shown = IN_BOTH,
     .help = "Connections accepted for one event of a listener"},
    {"xchg_connection_seconds", METRIC_HISTOGRAM, METRIC_SECONDS, .buckets = BUCKETS_LIVED,
     OF(totals.lived),
     .help = "Time from the accept of a connection to its end; less than le. Refused "
             "connections are not counted"},
    {"xchg_accept_paused_seconds", METRIC_COUNTER, METRIC_SECONDS, OF(accept_paused_ns),
     .key = "accept_paused_ms", .shown = IN_BOTH, .divisor = NS_PER_MS,
     .help =
         "Time for which accepting was paused because descriptors, memory or room were missing"},
    {"xchg_accept_paused", METRIC_GAUGE, OF(accept_paused), .key = "accept_paused",
     .shown = IN_STATS, .help = "1 while accepting is paused, otherwise 0"},
    {"xchg_slow_exchanges", METRIC_COUNTER, OF_TOTAL(slow), .key = "slow", .shown = IN_BOTH,
     .help = "Exchanges, or messages of endless ones, that took longer than XCHG_SLOW_LOG"},
    {"xchg_connections_moved", METRIC_COUNTER, OF_TOTAL(moved), .key = "moved", .shown = IN_BOTH,
     .help = "Connections taken over from another process by live upgrades"},
    {"xchg_move_seconds", METRIC_HISTOGRAM, METRIC_SECONDS, .buckets = BUCKETS_TIME, OF(frozen_ns),
     .key = "frozen_us", .shown = IN_BOTH, .divisor = NS_PER_US,
     .help = "Time for which a connection was in no process during a live upgrade; less than le"},
    {"xchg_proxy_headers", METRIC_COUNTER, .label = LABEL_PROXY, OF_TOTAL(proxy_headers),
     .key = "proxy_headers", .shown = IN_STATS,
     .help = "Complete PROXY headers received, by version and command"},
    {"xchg_proxy_rejected", METRIC_COUNTER, .label = LABEL_CAUSE, OF_TOTAL(proxy_rejected),
     .key = "proxy_rejected", .shown = IN_STATS,
     .help = "Connections ended with the reason proxy, by cause"},
    {"xchg_log_lines_lost", METRIC_COUNTER, OF(log_lines_lost), .key = "log_lines_lost",
     .shown = IN_STATS, .help = "Log lines lost because standard error did not accept them"},
    {"xchg_worker_connections_open", METRIC_GAUGE, OF_WORKER(open), .key = "open",
     .shown = IN_STATS, .help = "Connections of the worker, those in its queue excluded"},
    {"xchg_worker_queue_connections", METRIC_GAUGE, OF_WORKER(queue), .key = "queue",
     .shown = IN_STATS, .help = "Connections in the queue of the worker"},
    {"xchg_worker_turn_age_seconds", METRIC_GAUGE, METRIC_SECONDS, OF_WORKER(turn_age_ns),
     .key = "turn_age_ms", .shown = IN_STATS, .divisor = NS_PER_MS,
     .help = "Time since the worker's current turn began; 0 while it waits"},
    {"xchg_worker_messages_received", METRIC_COUNTER, OF_WORKER(messages), .key = "messages",
     .shown = IN_STATS, .help = "Complete messages received by the worker"},
    {"xchg_worker_busy_seconds", METRIC_COUNTER, METRIC_SECONDS, OF_WORKER(busy_ns),
     .key = "busy_ms", .shown = IN_STATS, .divisor = NS_PER_MS,
     .help = "User and system CPU time of the worker's thread"},
    {"process_cpu_seconds", METRIC_COUNTER, METRIC_SECONDS, OF(cpu_ns), .key = "cpu_ms",
     .shown = IN_STATS, .divisor = NS_PER_MS,
     .help = "User and system CPU time of the process, children excluded"},
    {"process_resident_memory_bytes", METRIC_GAUGE, METRIC_BYTES, OF(resident_bytes),
     .key = "resident_bytes", .shown = IN_STATS, .help = "Resident memory of the process"},
    {"process_start_time_seconds", METRIC_GAUGE, METRIC_SECONDS, OF(start_time_ns),
     .help = "Start time of the process in seconds since 1970"},
    {"process_max_fds", METRIC_GAUGE, OF(fds_max), .help = "Limit on open descriptors"},
    {"process_threads", METRIC_GAUGE, OF(threads), .key = "threads", .shown = IN_STATS,
     .help = "Threads of the process"},
};

const size_t metrics_count = count_of(metrics_table);

bool metric_present(const struct metric *row, const struct metrics_snapshot *snapshot) {
  if (row->label == LABEL_WORKER) {
    return snapshot->workers_count > 0;
  }
  if (row->buckets == BUCKETS_TIME || row->buckets == BUCKETS_COUNT) {
    return snapshot->latencies;
  }
  return row->label != LABEL_NONE || row->type == METRIC_HISTOGRAM ||
         metric_value(row, snapshot, 0) != METRICS_UNKNOWN;
}

/* In the order of enum stats_proxy_command and enum stats_proxy_cause. */
static const char *const commands[] = {"proxy", "local", "unknown"};
static const char *const causes[] = {"untrusted", "not_header", "version",  "bad",
                                     "truncated", "too_long",   "checksum", "timeout"};
static_assert(count_of(commands) == STATS_PROXY_COMMANDS, "every command has a word");
static_assert(count_of(causes) == STATS_PROXY_CAUSES, "every cause has a word");

const char *metrics_proxy_command(size_t i) { return i < count_of(commands) ? commands[i] : NULL; }

const char *metrics_proxy_cause(size_t i) { return i < count_of(causes) ? causes[i] : NULL; }
