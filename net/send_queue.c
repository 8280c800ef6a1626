/*
 * send_queue: see send_queue.h.
 *
 * The segments form a ring that `last` enters at its end, so both ends are one step away and a
 * queue needs two pointers.  The totals of the ring stand in its last segment and move to each new
 * one, so a connection without references pays nothing.
 *
 *   order of bytes = bytes, then for each segment from last->next to last: ref, tail
 *   last->total    = sum over all segments of ref.size + buf_size(tail)
 *   ref.size       > 0 in every segment: a consumed reference has left the ring
 *   bytes, tail    = NULL if empty, as every buf
 *
 * A reference is released after its segment has left the ring and is back in the slab.  So the
 * release function finds the queue in order, whatever it does.
 */
#include "net/send_queue.h"

#include <assert.h>

static_assert(sizeof(struct segment) == 64,
              "a reference costs one cache line; a publication needs many");

int send_queue_pool_init(struct send_queue_pool *pool, struct buf_pool *bufs,
                         uint32_t segments_max) {
  pool->bufs = bufs;
  return slab_init(&pool->segments, sizeof(struct segment), segments_max);
}

void send_queue_pool_fini(struct send_queue_pool *pool) { slab_fini(&pool->segments); }

void send_queue_pool_trim(struct send_queue_pool *pool) { slab_trim(&pool->segments); }

int send_queue_append_tail(struct send_queue_pool *pool, struct send_queue *queue, const void *data,
                           size_t size) {
  struct segment *last = queue->last;
  if (buf_append(pool->bufs, &last->tail, data, size) == -1) {
    return -1;
  }
  last->total += size;
  return 0;
}

/* Tell the caller that its bytes are not used any more. */
static void release_ref(const struct buf_ref *ref) {
  if (ref->release != NULL) {
    ref->release(ref->argument);
  }
}

int send_queue_append_ref(struct send_queue_pool *pool, struct send_queue *queue,
                          const struct buf_ref *ref) {
  if (ref->size == 0) {
    release_ref(ref);
    return 0;
  }
  uint32_t slot;
  struct segment *segment = slab_alloc(&pool->segments, &slot);
  if (segment == NULL) {
    return -1;
  }
  *segment =
      (struct segment){.next = segment, .ref = *ref, .total = ref->size, .count = 1, .slot = slot};
  struct segment *last = queue->last;
  if (last != NULL) {
    segment->next = last->next;
    segment->total += last->total;
    segment->count += last->count;
    last->next = segment;
  }
  queue->last = segment;
  return 0;
}

static struct iovec part_of(const void *data, size_t size) {
  /* iovec has no const because readv uses it, too. */
  return (struct iovec){.iov_base = (void *)data, .iov_len = size};
}

int send_queue_parts(const struct send_queue *queue, struct iovec *parts, int max) {
  int count = 0;
  if (queue->bytes != NULL && count < max) {
    parts[count++] = part_of(buf_data(queue->bytes), buf_size(queue->bytes));
  }
  const struct segment *segment = queue->last == NULL ? NULL : queue->last->next;
  while (segment != NULL && count < max) {
    parts[count++] = part_of(segment->ref.data, segment->ref.size);
    if (segment->tail != NULL && count < max) {
      parts[count++] = part_of(buf_data(segment->tail), buf_size(segment->tail));
    }
    segment = segment == queue->last ? NULL : segment->next;
  }
  return count;
}

/* Remove the first segment, with nothing before it, from the ring; its tail comes first then. */
static void pop_segment(struct send_queue_pool *pool, struct send_queue *queue) {
  assert(queue->bytes == NULL);
  struct segment *last = queue->last, *first = last->next;
  struct buf_ref ref = first->ref;
  last->total -= ref.size + buf_size(first->tail);
  last->count--;
  queue->bytes = first->tail;
  if (first == last) {
    assert(last->total == 0);
    queue->last = NULL;
  } else {
    last->next = first->next;
  }
  slab_free(&pool->segments, first->slot);
  release_ref(&ref);
}

/* Drop up to ${size} of the bytes that come first. Return: how many. */
static size_t consume_bytes(struct send_queue_pool *pool, struct send_queue *queue, size_t size) {
  size_t taken = min_u64(size, buf_size(queue->bytes));
  buf_consume(pool->bufs, &queue->bytes, taken);
  return taken;
}

void send_queue_consume_refs(struct send_queue_pool *pool, struct send_queue *queue, size_t size) {
  size -= consume_bytes(pool, queue, size);
  while (size > 0 && queue->last != NULL) {
    struct buf_ref *ref = &queue->last->next->ref;
    if (size < ref->size) {
      ref->data = (const uint8_t *)ref->data + size;
      ref->size -= size;
      queue->last->total -= size;
      return;
    }
    size -= ref->size;
    pop_segment(pool, queue);
    size -= consume_bytes(pool, queue, size);
  }
}

void send_queue_release(struct send_queue_pool *pool, struct send_queue *queue) {
  buf_release(pool->bufs, &queue->bytes);
  while (queue->last != NULL) {
    pop_segment(pool, queue);
    buf_release(pool->bufs, &queue->bytes);
  }
}
