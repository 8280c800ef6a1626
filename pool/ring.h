/*
 * ring: a bounded lock-free queue with one producer and one consumer (Lamport, 1983).
 *
 * The indices run freely and are masked on use, so that the whole capacity is usable and full and
 * empty differ.  Each side's index has a cache line of its own, beside its private copy of the
 * other's, which is looked at anew only when the copy says full or empty (as in FastForward's and
 * MCRingBuffer's analysis: most operations then touch no line that the other side writes).
 *
 *   push: slot written, then tail published with release (1)
 *   pop:  tail loaded with acquire (1'), then slot read
 *   pop:  slot read, then head published with release (2)
 *   push: head loaded with acquire (2'), then slot overwritten
 *
 * What travels is a guest: an accepted descriptor and what must be known of it.
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

/** Free the slots; guests that are still inside are the caller's loss. */
static inline void ring_close(struct ring *ring) {
  free(ring->slots);
  ring->slots = NULL;
}

/** Append a copy of ${guest}. Return: 0, or -1 if the ring is full. Thread: the producer only. */
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
 * Take the oldest guest.
 * Return: true and ${*guest}, or false if the ring is empty.
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

/** Guests inside, as the producer sees them: the true number or more. Thread: the producer only. */
static inline uint32_t ring_count_producer(struct ring *ring) {
  ring->head_seen = atom_load_acquire_u32(&ring->head); /* (2') */
  return atom_load_relaxed_u32(&ring->tail) - ring->head_seen;
}

/** Is there nothing to pop, as the consumer sees it? Thread: the consumer only. */
static inline bool ring_empty_consumer(struct ring *ring) {
  uint32_t head = atom_load_relaxed_u32(&ring->head);
  if (head != ring->tail_seen) {
    return false;
  }
  ring->tail_seen = atom_load_acquire_u32(&ring->tail); /* (1') */
  return head == ring->tail_seen;
}

#endif
