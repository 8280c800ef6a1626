/*
 * explore: runs a few threads through every schedule, depth-first.
 *
 * Threads are coroutines.  Between two operations of a thread others have a turn where that can
 * make a difference:
 *
 *   load, anything     no: whatever others do between, the load could have come after it as well,
 *                      since a load may return what is old
 *   anything, a store to what nobody else writes     no: nor does it matter to others that it comes
 *                      at once, since they may overlook it
 *   all else           yes
 *
 * Every decision, whose turn it is or which of several values a load
 * returns, comes from explore_choose, which follows a recorded path and tries the first choice
 * behind its end; the next execution takes the last decision that has a choice left.  An execution
 * is given up where it comes to a state that an earlier one came through: what follows is known.
 *
 * A state is: the memory (memory.h) with what each thread knows of it, and for each thread what it
 * has read since it last declared its state (explore_mark).  The code is deterministic, so that
 * this determines where it stands and all of its variables.
 */
#ifndef TESTS_EXPLORE_EXPLORE_H
#define TESTS_EXPLORE_EXPLORE_H

#include "tests/explore/hash.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define EXPLORE_THREADS_MAX 4
#define EXPLORE_NOBODY EXPLORE_THREADS_MAX
#define EXPLORE_UNBOUNDED UINT32_MAX

struct explore_thread {
  const char *name;
  void (*body)(void);
};

struct explore_job {
  const char *name;
  void (*begin)(void); /* makes all memory as it is at the start */
  void (*rest)(void);  /* nobody can move any more: is that right? if not, explore_fault */
  unsigned count;
  struct explore_thread threads[EXPLORE_THREADS_MAX];
  /* EXPLORE_UNBOUNDED, or how often a thread that could go on is stopped */
  uint32_t preemptions_max;
};

struct explore_result {
  uint64_t executions; /* the last one found the fault, if there is one */
  uint64_t states;
  char fault[256]; /* "" = none */
};

/** Run ${job} to its end or the first fault. With ${trace}, then tell what the faulty one did. */
void explore(const struct explore_job *job, struct explore_result *result, FILE *trace);

/* For threads, and what they call. */

/** Whose turn it is; EXPLORE_NOBODY outside of threads. */
unsigned explore_current(void);
const char *explore_name(unsigned thread);
/** Has ${thread} come to its end? */
bool explore_done(unsigned thread);
/** A load follows: let anybody have a turn, unless nothing was written since the last time. */
void explore_step_read(void);
/** Something else follows; ${alone}: a store to what no other thread ever writes. */
void explore_step_write(bool alone);
/** What follows may only be done when ${ready}. */
void explore_wait(bool (*ready)(unsigned), unsigned argument);
/** One of ${count} choices: 0 to ${count} - 1, all of which will be tried. */
unsigned explore_choose(unsigned count);
/** ${value} has come into the thread from outside. */
void explore_note(uint64_t value);
/**
 * All that decides what the thread does from here on, and what is found at rest, is ${state} and
 * what it will read.
 */
void explore_mark(uint64_t state);
/** Something is wrong; the execution ends. */
_Noreturn void explore_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Where to tell what happens; NULL in most executions. */
FILE *explore_trace(void);

#endif
