/*
 * outbox: what waits to be sent, in order: bytes of our own, and bytes that somebody lends.
 *
 *   bytes | loan bytes | loan bytes | ...        bytes: a buf; loan: borrowed until it is released
 *
 * Nearly always nothing is lent, and then an outbox is one buf.  Each loan stands in a cargo, which
 * also holds what was queued behind it.  A loan is released once: when all of it was consumed, or
 * with the outbox.  One thread at a time.
 */
#ifndef NET_OUTBOX_H
#define NET_OUTBOX_H

#include "core/buf.h"

#include <sys/uio.h>

/* Bytes that somebody lends; in a cargo: what was not consumed of them. */
struct loan {
  const void *data; /* borrows until release is called */
  size_t size;
  void (*release)(void *argument); /* NULL = nobody needs to know */
  void *argument;
};

struct cargo {
  struct cargo *next; /* the last one's: the first */
  struct loan loan;
  struct buf *behind; /* owns: bytes that follow the loan */
  size_t total;       /* the last one only: bytes that wait in all cargos */
  uint32_t count;     /* the last one only: cargos in the ring */
  uint32_t slot;
};

struct outbox {
  struct buf *bytes;  /* owns: what comes first */
  struct cargo *last; /* owns, as all that it leads to; NULL = nothing is lent */
};

struct outbox_pool {
  struct buf_pool *bufs; /* borrows for good */
  struct slab cargos;
};

/**
 * outbox_pool_init(pool, bufs, cargos_max): room for ${cargos_max} (1..2^30) loans at a time.
 * A pool of which only bufs is set, the rest being zero, as one whose init failed, has room for
 * none: nothing can be lent but 0 bytes, and everything else works.
 * Return: 0, or -1 (ENOMEM).
 */
int outbox_pool_init(struct outbox_pool *pool, struct buf_pool *bufs, uint32_t cargos_max);
void outbox_pool_fini(struct outbox_pool *pool);

/** Give the memory of loans that are over back to the kernel (bufs has its own trim). */
void outbox_pool_trim(struct outbox_pool *pool);

/* Of the two below, where something is lent. */
int outbox_append_behind(struct outbox_pool *pool, struct outbox *outbox, const void *data,
                         size_t size);
void outbox_consume_lent(struct outbox_pool *pool, struct outbox *outbox, size_t size);

/**
 * outbox_append(pool, outbox, data, size): queue a copy of ${size} bytes; 0 bytes do nothing.
 * outbox_lend(pool, outbox, loan): queue a loan; one of 0 bytes is released at once.
 * Return: 0, or -1 without memory; then nothing was queued and nothing is released.
 */
static inline int outbox_append(struct outbox_pool *pool, struct outbox *outbox, const void *data,
                                size_t size) {
  return outbox->last == NULL ? buf_append(pool->bufs, &outbox->bytes, data, size)
                              : outbox_append_behind(pool, outbox, data, size);
}
int outbox_lend(struct outbox_pool *pool, struct outbox *outbox, const struct loan *loan);

/** Describe what waits, from its beginning, in up to ${max} ${parts}; return how many are used. */
int outbox_parts(const struct outbox *outbox, struct iovec *parts, int max);

/**
 * Drop the first ${size} bytes (at most what waits); loans that are over are released, in order.
 * A release function may use the pool, but not this outbox.
 */
static inline void outbox_consume(struct outbox_pool *pool, struct outbox *outbox, size_t size) {
  if (outbox->last == NULL) {
    buf_consume(pool->bufs, &outbox->bytes, size);
  } else {
    outbox_consume_lent(pool, outbox, size);
  }
}

/** Drop everything; loans are released in order, as above. */
void outbox_release(struct outbox_pool *pool, struct outbox *outbox);

/** Loans that wait. */
static inline uint32_t outbox_loans(const struct outbox *outbox) {
  return outbox->last == NULL ? 0 : outbox->last->count;
}

/** Bytes that wait. */
static inline size_t outbox_size(const struct outbox *outbox) {
  return buf_size(outbox->bytes) + (outbox->last == NULL ? 0 : outbox->last->total);
}
static inline bool outbox_empty(const struct outbox *outbox) {
  return outbox->bytes == NULL && outbox->last == NULL;
}

#endif
