/*
 * send_queue: output in order: copied bytes, and references to bytes of the caller.
 *
 *   bytes | ref tail | ref tail | ...        bytes, tail: bufs; ref: borrowed until it is released
 *
 * Nearly always a queue holds no reference and is one buf.  That may be the staging block of the
 * pool (core/buf.h), while its owner has its turn.  Each reference stands in a segment,
 * which also holds the bytes queued after it.  A reference is released once: when its last byte
 * was consumed, or with the queue.  One thread at a time.
 */
#ifndef NET_SEND_QUEUE_H
#define NET_SEND_QUEUE_H

#include "core/buf.h"

#include <sys/uio.h>

/* Bytes of the caller. In a segment: the part that was not consumed. */
struct buf_ref {
  const void *data; /* borrows until release is called */
  size_t size;
  void (*release)(void *argument); /* NULL = no call */
  void *argument;
};

struct segment {
  struct segment *next; /* of the last segment: the first */
  struct buf_ref ref;
  struct buf *tail; /* owns: bytes that follow the reference */
  size_t total;     /* in the last segment only: queued bytes of all segments */
  uint32_t count;   /* in the last segment only: number of segments */
  uint32_t slot;
};

struct send_queue {
  struct buf *bytes;    /* owns: the bytes that come first */
  struct segment *last; /* owns, with the whole ring; NULL = no reference */
};

struct send_queue_pool {
  struct buf_pool *bufs; /* borrows permanently */
  struct slab segments;
};

/**
 * send_queue_pool_init(pool, bufs, segments_max):
 * Prepare for at most ${segments_max} (1..2^30) references.  A pool with only bufs set, or whose
 * init failed, holds none: only references of 0 bytes can be appended, and all else works.
 * Return: 0, or -1 (ENOMEM).
 */
int send_queue_pool_init(struct send_queue_pool *pool, struct buf_pool *bufs,
                         uint32_t segments_max);
void send_queue_pool_fini(struct send_queue_pool *pool);

/** Give unused memory of segments back to the kernel; bufs has its own trim. */
void send_queue_pool_trim(struct send_queue_pool *pool);

/* The inline functions below call these if the queue holds a reference. */
int send_queue_append_tail(struct send_queue_pool *pool, struct send_queue *queue, const void *data,
                           size_t size);
void send_queue_consume_refs(struct send_queue_pool *pool, struct send_queue *queue, size_t size);

/**
 * send_queue_append(pool, queue, data, size): queue a copy of ${size} bytes; 0 bytes do nothing.
 * send_queue_append_ref(pool, queue, ref): queue a reference; one of 0 bytes is released at once.
 * Return: 0, or -1 without memory; then nothing was queued and nothing is released.
 */
static inline int send_queue_append(struct send_queue_pool *pool, struct send_queue *queue,
                                    const void *data, size_t size) {
  return queue->last == NULL ? buf_append(pool->bufs, &queue->bytes, data, size)
                             : send_queue_append_tail(pool, queue, data, size);
}
int send_queue_append_ref(struct send_queue_pool *pool, struct send_queue *queue,
                          const struct buf_ref *ref);

/**
 * send_queue_stage(pool, queue, data, size):
 * As send_queue_append, but an empty queue copies into the staging block if that is free.
 * send_queue_unstage(pool, queue):
 * Move what is in the staging block to a block of its own.  Return: 0, or -1 without memory, with
 * the queue unchanged.
 */
static inline int send_queue_stage(struct send_queue_pool *pool, struct send_queue *queue,
                                   const void *data, size_t size) {
  return queue->last == NULL ? buf_stage(pool->bufs, &queue->bytes, data, size)
                             : send_queue_append_tail(pool, queue, data, size);
}
static inline int send_queue_unstage(struct send_queue_pool *pool, struct send_queue *queue) {
  return buf_unstage(pool->bufs, &queue->bytes);
}

/** Describe the queued bytes from the first on, in up to ${max} ${parts}. Return: parts used. */
int send_queue_parts(const struct send_queue *queue, struct iovec *parts, int max);

/**
 * Drop the first ${size} bytes (at most the queued ones).  Consumed references are released, in
 * order.  A release function may use the pool, but not this queue.
 */
static inline void send_queue_consume(struct send_queue_pool *pool, struct send_queue *queue,
                                      size_t size) {
  if (queue->last == NULL) {
    buf_consume(pool->bufs, &queue->bytes, size);
  } else {
    send_queue_consume_refs(pool, queue, size);
  }
}

/** Drop everything; references are released in order, as above. */
void send_queue_release(struct send_queue_pool *pool, struct send_queue *queue);

/** Queued references. */
static inline uint32_t send_queue_refs(const struct send_queue *queue) {
  return queue->last == NULL ? 0 : queue->last->count;
}

/** Queued bytes. */
static inline size_t send_queue_size(const struct send_queue *queue) {
  return buf_size(queue->bytes) + (queue->last == NULL ? 0 : queue->last->total);
}
static inline bool send_queue_empty(const struct send_queue *queue) {
  return queue->bytes == NULL && queue->last == NULL;
}

#endif
