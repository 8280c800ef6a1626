/*
 * scenario: the threads of an exploration, and what is checked.
 *
 * The worker is the real one: worker_run of pool/worker.c with the wait of net/reactor, pool/inbox
 * and pool/ring.  A connection is refused when it is opened, so that a turn consists of the
 * hand-off only.  An acceptor that finds no room waits in acceptor_wait of pool/acceptor.c.  What
 * it hands over comes from the scenario by inbox_push_spsc, because the real loop would need
 * listeners.
 *
 * Checked: accepted connections arrive in order, unchanged, none lost and none twice; so do the
 * tasks of each sender.  "Full" is reported only where the sender knows of no free slot.  When no
 * thread can continue, none waits for something that is there: that would be a lost wake-up.
 * memory.h checks data races.
 */
#ifndef TESTS_EXPLORE_SCENARIO_H
#define TESTS_EXPLORE_SCENARIO_H

#include "tests/explore/explore.h"

enum scenario_kind {
  SCENARIO_RING,    /* ring.h alone: pushes and pops that may find it full or empty */
  SCENARIO_COUNTED, /* the same after ring_count_producer and ring_empty_consumer */
  SCENARIO_WORKER,  /* the real worker, with the threads given below */
  SCENARIO_STOP,  /* the same, with TASK_DRAIN from main and TASK_NO_MORE_CONNS from the acceptor */
  SCENARIO_NUDGE, /* an owner that waits for something besides its inbox */
};

struct scenario {
  const char *name;
  enum scenario_kind kind;
  uint32_t capacity;
  unsigned conns;   /* accepted connections; if the ring is full, the acceptor waits for room */
  unsigned senders; /* threads that send tasks */
  unsigned tasks;   /* per sender */
  unsigned size;    /* 0: run by each mutant; 1: by the product; 2: by `make explore` */
  unsigned preemptions_max; /* 0 = unbounded */
};

/** Make what the threads share, once. */
void scenario_init(void);

/** All scenarios. Return: how many. */
unsigned scenario_all(const struct scenario **all);
/** Explore one scenario. */
void scenario_explore(const struct scenario *scenario, struct explore_result *result, FILE *trace);

/** The owner of ${epoll_fd} is about to wait, or only to poll (${looks}): mark its state. */
void scenario_mark_wait(int epoll_fd, bool looks);

#endif
