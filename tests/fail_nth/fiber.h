/*
 * fiber: threads and time for a run that must not wait.
 *
 * A server's threads, the program around it and its clients are fibers of one thread, which take
 * turns wherever one of them would wait; nothing else switches.  When none of them gets on, the
 * clock, which is simulated, jumps to the next time that somebody waits for.  So a run is the same
 * each time, costs what its system calls cost, and a wait for ever is found at once.
 */
#ifndef TESTS_FAIL_NTH_FIBER_H
#define TESTS_FAIL_NTH_FIBER_H

#include <stdbool.h>
#include <stdint.h>

struct fiber;

enum fiber_end {
  FIBER_DONE,    /* the first fiber has come to its end */
  FIBER_STUCK,   /* all wait, and for no time */
  FIBER_SPINS,   /* too many turns */
  FIBER_TOO_LATE /* too much simulated time has passed */
};

/** Forget all fibers; the clock goes on. */
void fiber_reset(void);

/** A fiber that runs ${main}(${argument}) when its turn comes; NULL: there are too many. */
struct fiber *fiber_start(void *(*main)(void *argument), void *argument);

/** Run all of them until the first that was started is over. */
enum fiber_end fiber_run(void);

/** The one that runs. */
struct fiber *fiber_self(void);

/** Has it come to its end? */
bool fiber_over(const struct fiber *fiber);

/** Fibers that have not come to their end. */
unsigned fiber_alive(void);

/**
 * Let the others run; come back when one of them has got on, or at ${until_ns}.  Nothing is
 * promised: who waits looks again.
 */
void fiber_pause(uint64_t until_ns);

/** Somebody has got on: whoever waits for something shall look for it. */
void fiber_progress(void);

/** The simulated clock, which a look moves on a little. */
uint64_t fiber_now_ns(void);

/** Call ${settle} before the clock jumps, and look once more whether somebody gets on; NULL: no. */
void fiber_set_settle(void (*settle)(void));

#endif
