/*
 * ring: the bounded queue of pool/ring.h, one producer and one consumer that run for ever.
 *
 * Modelled: the free-running indices (modulo INDICES, which wraps as 2^32 does), each side's
 * private copy of the other's index and when it is looked at anew, a slot that is written and read
 * in two steps (the first half, the second half). The sequence numbers in the slots run modulo
 * SEQUENCES, which has no factor in common with INDICES: a slot that is stale, torn, skipped or
 * taken twice holds a wrong number.
 *
 * Checked: order, no loss, no duplicate, no torn guest, never more inside than the capacity
 * (assertions); guests go on being taken for ever, whoever runs how slowly (LTL, weak fairness).
 *
 * Abstracted: memory is sequentially consistent; which release and acquire make it so for these
 * four accesses is the business of the explorer that runs the C code, and of TSan.
 *
 * Mutants, each of which must fail:
 *   PUBLISH_EARLY   tail is published before the slot is written
 *   FREE_EARLY      head is published before the slot is read
 *   FULL_LATE       one guest more than the capacity is let in
 *   MASKED_INDICES  indices are compared masked, so that a full ring looks like an empty one
 *   NO_REFRESH      the producer never looks at head again
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
byte inside;               /* ghost: pushes begun to be visible, less pops */

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
