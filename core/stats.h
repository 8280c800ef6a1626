/*
 * stats: the server's counters.
 *
 * Each thread has its own block and is its only writer, so a count is a plain load and store.
 * Readers on other threads see each counter grow and never shrink.  Under the models thread and
 * fork, stats_merge adds the block of a finished thread or process to a shared block atomically.
 * The shared block may lie in memory that processes share.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include "core/xchg.h"
#include "core/base.h"
#include "core/atom.h"

/*
 * The counters, in the order of the log lines "stats" and "stopped", where the name is the key.
 * PUBLIC ones are also fields of struct xchg_stats.
 */
#define STATS_COUNTERS(INTERNAL, PUBLIC)                                                   \
  PUBLIC(messages)         /* complete messages received */                                \
  PUBLIC(bytes_in)         /* bytes read from the kernel */                                \
  PUBLIC(bytes_out)        /* bytes written to the kernel */                               \
  INTERNAL(wakes)          /* sleeping threads woken by a hand-off */                      \
  INTERNAL(stale)          /* events for connections that had ended in the same batch */   \
  INTERNAL(accept_errors)  /* accept calls that failed for one connection: ECONNABORTED */ \
  INTERNAL(accept_pauses)  /* pauses of accepting: no descriptors or no memory */          \
  INTERNAL(cut)            /* connections that XCHG_DRAIN_TIMEOUT closed; also in ended */ \
  PUBLIC(posts)            /* calls made for xchg_post */                                  \
  PUBLIC(published)        /* publications queued to members */                            \
  PUBLIC(skipped)          /* publications not queued because the member was slow */       \
  PUBLIC(offloads)         /* jobs that xchg_offload queued */                             \
  PUBLIC(offloads_refused) /* jobs that xchg_offload refused because the queue was full */ \
  PUBLIC(blocked)          /* times that a callback exceeded XCHG_WATCHDOG */              \
  INTERNAL(slow)           /* exchanges or messages that took longer than XCHG_SLOW_LOG */ \
  INTERNAL(moved)          /* connections taken over from another process by an upgrade */

/* PROXY headers by version, 1 or 2, and command. */
#define STATS_PROXY_VERSIONS 2
enum stats_proxy_command {
  STATS_PROXY_PROXY, /* the header named the client */
  STATS_PROXY_LOCAL, /* version 2: the proxy itself */
  STATS_PROXY_UNKNOWN,
  STATS_PROXY_COMMANDS
};

/* Why a connection ended as XCHG_PROXY. */
enum stats_proxy_cause {
  STATS_PROXY_UNTRUSTED, /* the sender is not in XCHG_PROXY_TRUST */
  STATS_PROXY_NOT_HEADER,
  STATS_PROXY_VERSION, /* a version that the listener does not accept */
  STATS_PROXY_BAD,
  STATS_PROXY_TRUNCATED,
  STATS_PROXY_TOO_LONG,
  STATS_PROXY_CHECKSUM,
  STATS_PROXY_TIMEOUT,
  STATS_PROXY_CAUSES
};

/* Connections by their duration: entry i counts those of 2^i to 2^(i+1) - 1 ns. */
#define STATS_LIVED 64

#define STATS_FIELD(name) atom_u64 name;
struct stats {
  atom_u64 accepted;            /* descriptors that accept returned */
  atom_u64 ended[XCHG_REASONS]; /* connections that have ended, by reason; refused ones too */
  STATS_COUNTERS(STATS_FIELD, STATS_FIELD)
  atom_u64 proxy_headers[STATS_PROXY_VERSIONS][STATS_PROXY_COMMANDS]; /* complete ones */
  atom_u64 proxy_rejected[STATS_PROXY_CAUSES];
  atom_u64 lived[STATS_LIVED]; /* ended connections that a worker had opened */
  atom_u64 lived_ns;           /* the sum of their times */
} CACHE_ALIGNED;

/** Add ${n} to a counter of the calling thread's own block. Thread: the block's writer only. */
static inline void stats_add(atom_u64 *counter, uint64_t n) {
  atom_store_relaxed_u64(counter, atom_load_relaxed_u64(counter) + n);
}

/**
 * Raise ${figure} to ${value} if it is lower, so that no reader of a computed value sees it
 * decrease.  Return: the figure. Thread: any; of two that read at the same moment, one may see the
 * lower value afterwards.
 */
static inline uint64_t stats_raise(atom_u64 *figure, uint64_t value) {
  uint64_t before = atom_load_relaxed_u64(figure);
  if (value > before) {
    atom_store_relaxed_u64(figure, value);
  }
  return max_u64(before, value);
}

/**
 * Count a connection that lived for ${age_ns}, from the accept to its end. Thread: the block's
 * writer only.
 */
static inline void stats_lived(struct stats *stats, uint64_t age_ns) {
  stats_add(&stats->lived[63 - (uint32_t)__builtin_clzll(age_ns | 1)], 1);
  stats_add(&stats->lived_ns, age_ns);
}

/** Count a complete PROXY header of ${version}. Thread: the block's writer only. */
static inline void stats_proxy_header(struct stats *stats, uint32_t version,
                                      enum stats_proxy_command command) {
  stats_add(&stats->proxy_headers[version - 1][command], 1);
}

/**
 * Add every counter of ${from} to ${to} atomically.
 * Thread: any; ${from} must have no writer any more.
 */
void stats_merge(struct stats *to, const struct stats *from);

/** Add every counter of ${from}, which may have a writer, to the caller's own block ${sum}. */
void stats_sum(struct stats *sum, const struct stats *from);

/** Connections of ${stats} that have ended, for any reason. */
uint64_t stats_ended(const struct stats *stats);

#endif
