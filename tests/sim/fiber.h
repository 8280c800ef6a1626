/*
 * fiber: several stacks on one thread, and the switch between them.
 *
 * There is one host, who enters a fiber, and the fiber leaves to the host again; no fiber enters
 * another.  The address and thread sanitizers are told of each switch where they are there.
 */
#ifndef TESTS_SIM_FIBER_H
#define TESTS_SIM_FIBER_H

#include <stdbool.h>
#include <ucontext.h>

struct fiber {
  ucontext_t context;
  void *stack; /* owns, from the first fiber_init on, for good */
  void *fake;  /* the address sanitizer's */
  void *track; /* the thread sanitizer's */
  void (*run)(void *argument);
  void *argument;
  bool over; /* run has returned */
};

/**
 * Prepare ${fiber} (zeroed, or used before whatever became of that) to call ${run}(${argument})
 * when it is first entered.
 */
void fiber_init(struct fiber *fiber, void (*run)(void *argument), void *argument);

/** Go on with ${fiber} until it leaves. The host alone. */
void fiber_enter(struct fiber *fiber);

/** Back to the host. The fiber that runs alone. */
void fiber_leave(void);

#endif
