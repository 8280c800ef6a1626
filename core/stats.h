/*
 * stats: what happened, counted where it happens.
 *
 * A block a thread, a single writer each, so that a count is a plain load and store; readers on
 * other threads see each counter grow and never shrink.  Where many short-lived writers share a
 * block (a thread or a child process a connection), stats_merge adds a finished block to it
 * atomically; such a block may lie in memory that processes share.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include "core/xchg.h"
#include "core/base.h"
#include "core/atom.h"

struct stats {
  atom_u64 accepted;            /* descriptors that accept returned */
  atom_u64 ended[XCHG_REASONS]; /* connections by how they ended; refused ones too */
  atom_u64 cut;      /* ... of those, by the end of a stop's patience (XCHG_DRAIN_TIMEOUT) */
  atom_u64 messages; /* complete messages received */
  atom_u64 bytes_in, bytes_out; /* read from and given to the kernel */
  atom_u64 wakes;               /* sleeping threads woken by a hand-off */
  atom_u64 stale;               /* events for connections that had ended in the same batch */
  atom_u64 accept_errors;       /* accept calls that failed for one connection: ECONNABORTED, ... */
  atom_u64 posts;               /* calls that other threads asked for and were made */
  atom_u64 published;           /* messages queued to members of groups */
  atom_u64 skipped;             /* ... and not, since the member was slow */
  atom_u64 offloads;            /* works that were queued */
  atom_u64 offloads_refused;    /* ... and refused, the queue being full */
  atom_u64 blocked;             /* times that a handler held its worker for too long */
  atom_u64 accept_pauses;       /* times that accepting paused for want of descriptors or memory */
} CACHE_ALIGNED;

/** Add ${n} to a counter of the calling thread's own block. Thread: the block's writer only. */
static inline void stats_add(atom_u64 *counter, uint64_t n) {
  atom_store_relaxed_u64(counter, atom_load_relaxed_u64(counter) + n);
}

/**
 * Add every counter of ${from} to ${to} atomically.
 * Thread: any; ${from} has no writer any more.
 */
void stats_merge(struct stats *to, const struct stats *from);

/**
 * Add every counter of ${from}, which may be written meanwhile, to ${sum}, which only the caller
 * sees.
 */
void stats_sum(struct stats *sum, const struct stats *from);

/** Connections of ${stats} that have ended, whatever the reason. */
uint64_t stats_ended(const struct stats *stats);

#endif
