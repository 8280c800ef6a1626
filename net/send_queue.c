/*
 * send_queue: see send_queue.h.
 *
 * The cargos are a ring that `last` enters at its end, so that both ends are one step away and an
 * outbox costs a connection two pointers.  What belongs to the whole ring, its total, stands in the
 * last cargo and moves on when another is put behind it: a connection without loans pays nothing.
 *
 *   order of bytes = bytes, then for each cargo from last->next to last: loan, behind
 *   last->total    = sum over all cargos of loan.size + buf_size(behind)
 *   loan.size      > 0 in every cargo: a loan that is over has left the ring
 *   bytes, behind  = NULL where no byte waits, as every buf
 *
 * A loan is released after its cargo is out of the ring and back in the slab, so that whatever the
 * release function does, it finds the books in order.
 */
#include "net/send_queue.h"

#include <assert.h>

static_assert(sizeof(struct segment) == 64, "a loan costs a cache line: a group's send takes many");

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

/* Tell the lender that his bytes are his again. */
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
  /* iovec has no const because it serves reading too. */
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

/* Take the first cargo, nothing being before it, out of the ring: what is behind it comes first. */
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

/* Drop up to ${size} bytes of the buf that comes first. Return: how many. */
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
