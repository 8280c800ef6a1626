/*
 * scenario: who does what in an exploration, and what must be so.
 *
 * The worker is the real one: pool/worker.c's worker_run with net/reactor's wait, pool/inbox and
 * pool/ring; a connection is refused as soon as it is opened, so that nothing but the hand-off is
 * left of a turn.  An acceptor that finds no room waits by pool/acceptor.c's acceptor_wait; what it
 * hands over comes from the scenario, by inbox_push_spsc, since the real loop would need listeners.
 *
 * What is checked: guests come in order, none lost, none twice, each as it was sent; likewise the
 * letters of each sender; "full" is said only where the sender knows of no place; and where nobody
 * can move any more, nobody waits for what is there: a lost wake-up.  Data races are memory.h's.
 */
#ifndef TESTS_EXPLORE_SCENARIO_H
#define TESTS_EXPLORE_SCENARIO_H

#include "tests/explore/explore.h"

enum scenario_kind {
  SCENARIO_RING,    /* ring.h alone: pushes and pops that may find it full or empty */
  SCENARIO_COUNTED, /* ... after a look with ring_count_producer and ring_empty_consumer */
  SCENARIO_WORKER,  /* the real worker, and whoever is named below */
  SCENARIO_STOP,    /* likewise, with LETTER_STOP from main and LETTER_LAST from the acceptor */
  SCENARIO_NUDGE,   /* something published elsewhere */
};

struct scenario {
  const char *name;
  enum scenario_kind kind;
  uint32_t capacity;
  unsigned guests;  /* that the acceptor hands over; where the ring is full it waits for room */
  unsigned friends; /* threads that send letters */
  unsigned letters; /* each */
  unsigned size;    /* 0: each mutant goes through it; 1: the product; 2: for `make explore` */
  unsigned preemptions_max; /* 0 = unbounded */
};

/** Make what the threads share, for good. */
void scenario_init(void);

/** All scenarios. Return: how many. */
unsigned scenario_all(const struct scenario **all);
/** Explore one. */
void scenario_explore(const struct scenario *scenario, struct explore_result *result, FILE *trace);

/** An owner is about to wait, or only looks: it says what decides how it goes on. */
void scenario_mark_wait(int epoll_fd, bool looks);

#endif
