/*
 * ring: the bounded queue of pool/ring.h, with one producer and one consumer that never stop.
 *
 * The model has free-running indices (modulo INDICES, as modulo 2^32 in C), each side's copy of the
 * other's index with its refresh, and slots that are written and read in two steps.  Sequence
 * numbers run modulo SEQUENCES, which is coprime to INDICES, so that a stale, torn, skipped or
 * duplicate slot holds a wrong number.
 *
 * Assertions check order, loss, duplicates, torn slots and the capacity.  LTL with weak fairness
 * checks that items are taken forever at any relative speed.
 *
 * Memory is sequentially consistent.  tests/explore and TSan check acquire and release.
 *
 * Mutants, each of which must fail:
 *   PUBLISH_EARLY   tail is published before the slot is written
 *   FREE_EARLY      head is published before the slot is read
 *   FULL_LATE       one item above the capacity is let in
 *   MASKED_INDICES  indices are compared masked, so that a full ring looks empty
 *   NO_REFRESH      the producer never reads head again
 */
#ifndef CAPACITY
#define CAPACITY 2
#endif
#define INDICES 8
#define SEQUENCES 11
#define NEXT(index) ((index + 1) % INDICES)
#define DISTANCE(from, to) ((to + INDICES - from) % INDICES)

typedef slot_t { byte first; byte second };

slot_t slots[CAPACITY];
byte tail, head;           /* shared */
byte head_seen, tail_seen; /* the producer's copy, the consumer's copy */
bit flip;                  /* changes with every pop */
byte inside;               /* for the checks only: visible pushes less pops */

#ifdef FULL_LATE
#define FULL(copy) (DISTANCE(copy, tail) > CAPACITY)
#else
#define FULL(copy) (DISTANCE(copy, tail) >= CAPACITY)
#endif
#ifdef MASKED_INDICES
#define EMPTY(copy) (head % CAPACITY == copy % CAPACITY)
#else
#define EMPTY(copy) (head == copy)
#endif

inline publish_tail() { atomic { tail = NEXT(tail); inside++; assert(inside <= CAPACITY) } }

inline publish_head() { atomic { head = NEXT(head); inside--; flip = 1 - flip } }

active proctype producer() {
  byte sequence;
  do
  :: FULL(head_seen) ->
#ifdef NO_REFRESH
       false
#else
       head_seen = head
#endif
  :: else ->
#ifdef PUBLISH_EARLY
       publish_tail();
       slots[(tail + INDICES - 1) % CAPACITY].first = sequence;
       slots[(tail + INDICES - 1) % CAPACITY].second = sequence;
#else
       slots[tail % CAPACITY].first = sequence;
       slots[tail % CAPACITY].second = sequence;
       publish_tail();
#endif
       sequence = (sequence + 1) % SEQUENCES
  od
}

active proctype consumer() {
  byte expected, first, second;
  do
  :: EMPTY(tail_seen) -> tail_seen = tail
  :: else ->
#ifdef FREE_EARLY
       publish_head();
       first = slots[(head + INDICES - 1) % CAPACITY].first;
       second = slots[(head + INDICES - 1) % CAPACITY].second;
#else
       first = slots[head % CAPACITY].first;
       second = slots[head % CAPACITY].second;
       publish_head();
#endif
       assert(first == expected && second == expected);
       d_step { first = 0; second = 0; expected = (expected + 1) % SEQUENCES }
  od
}

#ifdef LIVENESS
ltl goes_on { ([]<> (flip == 0)) && ([]<> (flip == 1)) }
#endif
