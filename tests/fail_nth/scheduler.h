/*
 * scheduler: threads and a clock for a run that never waits in real time.
 *
 * The threads of the server, the program around it and its clients are fibers of one thread.  They
 * take turns where one of them would wait, and nowhere else.  When no thread makes progress, the
 * simulated clock jumps to the next time that one of them waits for.  So a run is the same each
 * time, costs what its system calls cost, and an endless wait is found at once.
 */
#ifndef TESTS_FAIL_NTH_SCHEDULER_H
#define TESTS_FAIL_NTH_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

struct thread;

enum scheduler_end {
  SCHEDULER_DONE,    /* the first thread has ended */
  SCHEDULER_STUCK,   /* all threads wait, and none for a time */
  SCHEDULER_SPINS,   /* too many turns */
  SCHEDULER_TOO_LATE /* too much simulated time has passed */
};

/** Forget all threads; the clock goes on. */
void scheduler_reset(void);

/** A thread that runs ${main}(${argument}) when its turn comes; NULL: there are too many. */
struct thread *scheduler_start(void *(*main)(void *argument), void *argument);

/** Run all threads until the one that was started first has ended. */
enum scheduler_end scheduler_run(void);

/** The running thread. */
struct thread *scheduler_self(void);

/** Has it ended? */
bool scheduler_is_over(const struct thread *thread);

/** Threads that have not ended. */
unsigned scheduler_alive(void);

/**
 * Let the others run until one of them makes progress or ${until_ns} comes.  The caller has to
 * check again what it waits for.
 */
void scheduler_pause(uint64_t until_ns);

/** The running thread has made progress: every thread that waits shall check again. */
void scheduler_progress(void);

/** The simulated clock, which each call advances a little. */
uint64_t scheduler_now_ns(void);

/** Call ${settle} before the clock jumps, then give every thread one more turn; NULL: do not. */
void scheduler_set_settle(void (*settle)(void));

#endif
