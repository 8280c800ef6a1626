/*
 * send_queue: what waits to be sent, in order: bytes of our own, and bytes that somebody lends.
 *
 *   bytes | loan bytes | loan bytes | ...        bytes: a buf; loan: borrowed until it is released
 *
 * Nearly always nothing is lent, and then an outbox is one buf.  Each loan stands in a cargo, which
 * also holds what was queued behind it.  A loan is released once: when all of it was consumed, or
 * with the outbox.  One thread at a time.
 */
#ifndef NET_SEND_QUEUE_H
#define NET_SEND_QUEUE_H

#include "core/buf.h"

#include <sys/uio.h>

/* Bytes that somebody lends; in a cargo: what was not consumed of them. */
struct buf_ref {
  const void *data; /* borrows until release is called */
  size_t size;
  void (*release)(void *argument); /* NULL = nobody needs to know */
  void *argument;
};

struct segment {
  struct segment *next; /* the last one's: the first */
  struct buf_ref ref;
  struct buf *tail; /* owns: bytes that follow the loan */
  size_t total;     /* the last one only: bytes that wait in all cargos */
  uint32_t count;   /* the last one only: cargos in the ring */
  uint32_t slot;
};

struct send_queue {
  struct buf *bytes;    /* owns: what comes first */
  struct segment *last; /* owns, as all that it leads to; NULL = nothing is lent */
};

struct send_queue_pool {
  struct buf_pool *bufs; /* borrows for good */
  struct slab segments;
};

/**
 * send_queue_pool_init(pool, bufs, segments_max): room for ${segments_max} (1..2^30) loans at a
 * time. A pool of which only bufs is set, the rest being zero, as one whose init failed, has room
 * for none: nothing can be lent but 0 bytes, and everything else works.
 * Return: 0, or -1 (ENOMEM).
 */
int send_queue_pool_init(struct send_queue_pool *pool, struct buf_pool *bufs,
                         uint32_t segments_max);
void send_queue_pool_fini(struct send_queue_pool *pool);

/** Give the memory of loans that are over back to the kernel (bufs has its own trim). */
void send_queue_pool_trim(struct send_queue_pool *pool);

/* Of the two below, where something is lent. */
int send_queue_append_tail(struct send_queue_pool *pool, struct send_queue *queue, const void *data,
                           size_t size);
void send_queue_consume_refs(struct send_queue_pool *pool, struct send_queue *queue, size_t size);

/**
 * send_queue_append(pool, outbox, data, size): queue a copy of ${size} bytes; 0 bytes do nothing.
 * send_queue_append_ref(pool, outbox, loan): queue a loan; one of 0 bytes is released at once.
 * Return: 0, or -1 without memory; then nothing was queued and nothing is released.
 */
static inline int send_queue_append(struct send_queue_pool *pool, struct send_queue *queue,
                                    const void *data, size_t size) {
  return queue->last == NULL ? buf_append(pool->bufs, &queue->bytes, data, size)
                             : send_queue_append_tail(pool, queue, data, size);
}
int send_queue_append_ref(struct send_queue_pool *pool, struct send_queue *queue,
                          const struct buf_ref *ref);

/** Describe what waits, from its beginning, in up to ${max} ${parts}; return how many are used. */
int send_queue_parts(const struct send_queue *queue, struct iovec *parts, int max);

/**
 * Drop the first ${size} bytes (at most what waits); loans that are over are released, in order.
 * A release function may use the pool, but not this outbox.
 */
static inline void send_queue_consume(struct send_queue_pool *pool, struct send_queue *queue,
                                      size_t size) {
  if (queue->last == NULL) {
    buf_consume(pool->bufs, &queue->bytes, size);
  } else {
    send_queue_consume_refs(pool, queue, size);
  }
}

/** Drop everything; loans are released in order, as above. */
void send_queue_release(struct send_queue_pool *pool, struct send_queue *queue);

/** Loans that wait. */
static inline uint32_t send_queue_refs(const struct send_queue *queue) {
  return queue->last == NULL ? 0 : queue->last->count;
}

/** Bytes that wait. */
static inline size_t send_queue_size(const struct send_queue *queue) {
  return buf_size(queue->bytes) + (queue->last == NULL ? 0 : queue->last->total);
}
static inline bool send_queue_empty(const struct send_queue *queue) {
  return queue->bytes == NULL && queue->last == NULL;
}

#endif
