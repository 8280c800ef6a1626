/*
 * ring: a bounded lock-free queue with one producer and one consumer (Lamport, 1983).
 *
 * The indices run freely and are masked on use, so the whole capacity is usable, and full and empty
 * differ.  Each side has a cache line with its index and a private copy of the other side's index.
 * It loads the other index only when the copy says full or empty.  So most operations touch no line
 * that the other side writes (see the analysis of FastForward and MCRingBuffer).
 *
 *   push: slot written, then tail published with release (1)
 *   pop:  tail loaded with acquire (1'), then slot read
 *   pop:  slot read, then head published with release (2)
 *   push: head loaded with acquire (2'), then slot overwritten
 *
 * An item is an accepted connection: a descriptor with its address and accept time.
 */
#ifndef POOL_RING_H
#define POOL_RING_H

#include "core/base.h"
#include "core/atom.h"
#include "net/accepted_conn.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

struct ring {
  struct accepted_conn *slots; /* owns; constant once open */
  uint32_t mask;               /* capacity - 1 */

  CACHE_ALIGNED atom_u32 tail; /* producer: pushes so far */
  uint32_t head_seen;          /* producer: head when it last looked */

  CACHE_ALIGNED atom_u32 head; /* consumer: pops so far */
  uint32_t tail_seen;          /* consumer: tail when it last looked */
};

/** ring_open(ring, capacity): ${capacity} is a power of two. Return: 0, or -1 (ENOMEM). */
static inline int ring_open(struct ring *ring, uint32_t capacity) {
  assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
  *ring = (struct ring){.mask = capacity - 1};
  ring->slots = calloc(capacity, sizeof(*ring->slots));
  return ring->slots == NULL ? -1 : 0;
}

/** Free the slots; descriptors that are still inside are not closed. */
static inline void ring_close(struct ring *ring) {
  free(ring->slots);
  ring->slots = NULL;
}

/** Append a copy of ${accepted}. Return: 0, or -1 if it is full. Thread: the producer only. */
static inline int ring_push_spsc(struct ring *ring, const struct accepted_conn *accepted) {
  uint32_t tail = atom_load_relaxed_u32(&ring->tail);
  if (tail - ring->head_seen > ring->mask) {
    ring->head_seen =
        atom_load_acquire_u32(&ring->head); /* (2') pairs with ring_pop_spsc's release */
    if (tail - ring->head_seen > ring->mask) {
      return -1;
    }
  }
  ring->slots[tail & ring->mask] = *accepted;
  atom_store_release_u32(&ring->tail, tail + 1); /* (1) pairs with ring_pop_spsc's acquire */
  return 0;
}

/**
 * Take the oldest item.
 * Return: true and ${*accepted}, or false if the ring is empty.
 * Thread: the consumer only.
 */
static inline bool ring_pop_spsc(struct ring *ring, struct accepted_conn *accepted) {
  uint32_t head = atom_load_relaxed_u32(&ring->head);
  if (head == ring->tail_seen) {
    ring->tail_seen =
        atom_load_acquire_u32(&ring->tail); /* (1') pairs with ring_push_spsc's release */
    if (head == ring->tail_seen) {
      return false;
    }
  }
  *accepted = ring->slots[head & ring->mask];
  atom_store_release_u32(&ring->head, head + 1); /* (2) pairs with ring_push_spsc's acquire */
  return true;
}

/** Items inside, or more: pops may be seen late. Thread: the producer only. */
static inline uint32_t ring_count_producer(struct ring *ring) {
  ring->head_seen = atom_load_acquire_u32(&ring->head); /* (2') */
  return atom_load_relaxed_u32(&ring->tail) - ring->head_seen;
}

/** Items inside, roughly: others may push and pop meanwhile. Thread: any. */
static inline uint32_t ring_count_any(const struct ring *ring) {
  uint32_t head = atom_load_relaxed_u32(&ring->head);
  uint32_t count = atom_load_relaxed_u32(&ring->tail) - head;
  if (count > UINT32_MAX / 2) {
    return 0; /* the loads were out of order */
  }
  return (uint32_t)min_u64(count, (uint64_t)ring->mask + 1);
}

/** Is it empty, as the consumer sees it? Thread: the consumer only. */
static inline bool ring_empty_consumer(struct ring *ring) {
  uint32_t head = atom_load_relaxed_u32(&ring->head);
  if (head != ring->tail_seen) {
    return false;
  }
  ring->tail_seen = atom_load_acquire_u32(&ring->tail); /* (1') */
  return head == ring->tail_seen;
}

#endif
