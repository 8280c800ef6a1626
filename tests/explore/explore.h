/*
 * explore: runs a few threads through every schedule, depth-first.
 *
 * Threads are coroutines.  Do others get a turn between two operations of a thread?
 *
 *   a load, then any operation    no: a load may return an old value, so that it could as well
 *                                 have come later
 *   any operation, then a store to a place that no other thread writes
 *                                 no: others may overlook the store, so that it may come at once
 *   any other pair                yes
 *
 * explore_choose makes every decision: whose turn it is, and which of several values a load
 * returns.  It follows a recorded path and takes the first choice after its end.  The next
 * execution changes the last decision that has a choice left.  An execution ends early at a state
 * that an earlier one has reached: what follows is known.
 *
 * A state is the memory (memory.h) with what each thread knows of it, and what each thread has read
 * since it last declared its state (explore_mark).  The code is deterministic, so that this
 * determines its position and all of its variables.
 */
#ifndef TESTS_EXPLORE_EXPLORE_H
#define TESTS_EXPLORE_EXPLORE_H

#include "tests/explore/hash.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define EXPLORE_THREADS_MAX 4
#define EXPLORE_NO_THREAD EXPLORE_THREADS_MAX
#define EXPLORE_UNBOUNDED UINT32_MAX

struct explore_thread {
  const char *name;
  void (*body)(void);
};

struct explore_job {
  const char *name;
  void (*begin)(void); /* sets all memory to its initial state */
  void (*rest)(void);  /* no thread can continue: check the result; explore_fault if it is wrong */
  unsigned count;
  struct explore_thread threads[EXPLORE_THREADS_MAX];
  /* EXPLORE_UNBOUNDED, or how often a thread that could continue is stopped */
  uint32_t preemptions_max;
};

struct explore_result {
  uint64_t executions; /* the last one found the fault, if there is one */
  uint64_t states;
  char fault[256]; /* "" = none */
};

/**
 * Run ${job} to its end or to the first fault; with ${trace}, repeat the faulty execution with a
 * trace.
 */
void explore(const struct explore_job *job, struct explore_result *result, FILE *trace);

/* For threads, and what they call. */

/** The thread that has the turn; EXPLORE_NO_THREAD outside of threads. */
unsigned explore_current(void);
const char *explore_name(unsigned thread);
/** Has ${thread} ended? */
bool explore_done(unsigned thread);
/** A load follows: others get a turn, unless nothing was written since the last time. */
void explore_step_read(void);
/** Another operation follows; ${alone}: a store to a place that no other thread ever writes. */
void explore_step_write(bool alone);
/** Wait until ${ready}(${argument}). */
void explore_wait(bool (*ready)(unsigned), unsigned argument);
/** One of ${count} choices, 0 to ${count} - 1; every one will be tried. */
unsigned explore_choose(unsigned count);
/** The thread has received ${value} from outside. */
void explore_note(uint64_t value);
/**
 * Declare the state of the thread: what it does from here on, and what is checked at rest, depends
 * only on ${state} and on what it will read.
 */
void explore_mark(uint64_t state);
/** Report a fault; the execution ends. */
_Noreturn void explore_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Where to write the trace; NULL in most executions. */
FILE *explore_trace(void);

#endif
