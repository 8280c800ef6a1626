/*
 * stats: see stats.h.
 *
 * A block consists of counters only, so stats_merge and stats_sum treat it as an array.  They add
 * every counter, and also the unused padding up to whole cache lines.
 */
#include "core/stats.h"

#include <assert.h>

#define COUNTERS (sizeof(struct stats) / sizeof(atom_u64))

static_assert(sizeof(struct stats) % CACHE_LINE == 0, "blocks of two threads share no line");

static atom_u64 *counter(struct stats *stats, size_t i) {
  return (atom_u64 *)(void *)((char *)stats + i * sizeof(atom_u64));
}

static uint64_t value(const struct stats *stats, size_t i) {
  const void *at = (const char *)stats + i * sizeof(atom_u64);
  return atom_load_relaxed_u64(at);
}

void stats_merge(struct stats *to, const struct stats *from) {
  for (size_t i = 0; i < COUNTERS; i++) {
    uint64_t count = value(from, i);
    if (count != 0) { /* most are 0 after one connection, and an atomic addition is slow */
      atom_add_relaxed_u64(counter(to, i), count);
    }
  }
}

void stats_sum(struct stats *sum, const struct stats *from) {
  for (size_t i = 0; i < COUNTERS; i++) {
    stats_add(counter(sum, i), value(from, i));
  }
}

uint64_t stats_ended(const struct stats *stats) {
  uint64_t ended = 0;
  for (size_t i = 0; i < XCHG_REASONS; i++) {
    ended += atom_load_relaxed_u64(&stats->ended[i]);
  }
  return ended;
}

/* The words of enum xchg_reason, in its order. */
static const char *const reason_names[] = {
    "finished", "peer",   "reset",  "too_long", "truncated", "idle",  "message", "write",
    "lifetime", "denied", "per_ip", "overload", "memory",    "drain", "error",   "proxy",
};
static_assert(count_of(reason_names) == XCHG_REASONS, "every reason has a word");

const char *xchg_reason_name(enum xchg_reason reason) {
  return (size_t)reason < XCHG_REASONS ? reason_names[reason] : NULL;
}
