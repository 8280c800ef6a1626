/*
 * upgrade_totals: the counters of a process as fields, so that the next one goes on counting.
 *
 * A process sends them before it commits, and once more at its end, when the connections that have
 * stayed have ended.  The receiver replaces what it has.  No counter gets smaller.
 *
 * Counters and histograms go by name, and listeners by their order.  So another version may have
 * more of them or fewer: a reader leaves out what it does not know.
 */
#ifndef POOL_UPGRADE_TOTALS_H
#define POOL_UPGRADE_TOTALS_H

#include "core/metrics.h"
#include "pool/server.h"

#define UPGRADE_TOTALS_MAX ((size_t)64 * 1024)

/* What a process has counted. */
struct upgrade_totals {
  struct metrics_snapshot counted;      /* totals, histograms, pauses, lines that were lost */
  uint64_t accepted[CONFIG_LISTEN_MAX]; /* by listener */
  uint32_t listeners;
  uint64_t elsewhere; /* accepted from listeners that are gone */
};

/** Fill in ${totals}. ${lines_lost} = log_writer_lost, or METRICS_UNKNOWN. */
void upgrade_totals_look(struct upgrade_totals *totals, struct xchg_server *server,
                         uint64_t lines_lost);

/** Write ${totals} to the UPGRADE_TOTALS_MAX bytes at ${bytes}. Return: the size. */
size_t upgrade_totals_write(const struct upgrade_totals *totals, uint8_t *bytes);

/**
 * Set ${base} to what the ${size} bytes at ${bytes} say, but for what main has counted here.
 * Listener i of the sender is listener ${listener_of[i]} here; UINT32_MAX = gone.
 * Return: false if the bytes are no fields; what comes before that is set.
 */
bool upgrade_totals_read(struct server_base *base, const uint8_t *bytes, size_t size,
                         const uint32_t listener_of[CONFIG_LISTEN_MAX]);

#endif
