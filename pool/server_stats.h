/* server_stats: the sum of all counters of a server, and its two forms: a log line, xchg_stats. */
#ifndef POOL_SERVER_STATS_H
#define POOL_SERVER_STATS_H

#include "pool/server.h"

/** Sum up all counters.  ${totals->accepted} is at least the sum of its ends. Thread: any. */
void server_totals(struct xchg_server *server, struct stats *totals);

/** Log one line msg=${msg} with all totals at every log level; ${open} adds open connections. */
void server_report(struct xchg_server *server, const char *msg, bool open);

/** Fill in ${stats}, whose size the caller has checked. Thread: any. */
void server_stats(struct xchg_server *server, struct xchg_stats *stats);

#endif
