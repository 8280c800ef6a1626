/*
 * scheduler: see scheduler.h.
 *
 * Round robin: each round gives every thread a turn.  After a round in which scheduler_progress was
 * not called, only time can help.
 */
#include "tests/fail_nth/scheduler.h"

#include "core/base.h"
#include "tests/fixtures/fiber.h"

#include <errno.h>

#define THREADS_MAX 48
#define ROUNDS_MAX 200000u
#define LOOK_NS 50                 /* what a look at the clock costs */
#define LATEST_NS (600 * NS_PER_S) /* no run lasts as long */

struct thread {
  struct fiber fiber;
  void *(*main)(void *argument);
  void *argument;
  uint64_t until_ns; /* the latest end of its wait */
};

static struct {
  struct thread threads[THREADS_MAX];
  unsigned count;
  struct thread *self;
  uint64_t now_ns, message_start_ns;
  uint64_t progress;
  void (*settle)(void);
} all = {.now_ns = NS_PER_S};

void scheduler_reset(void) {
  all.count = 0;
  all.self = NULL;
  all.message_start_ns = all.now_ns;
}

struct thread *scheduler_self(void) {
  return all.self;
}

bool scheduler_is_over(const struct thread *thread) { return thread->fiber.over; }

void scheduler_progress(void) { all.progress++; }

void scheduler_set_settle(void (*settle)(void)) { all.settle = settle; }

uint64_t scheduler_now_ns(void) { return all.now_ns += LOOK_NS; }

unsigned scheduler_alive(void) {
  unsigned alive = 0;
  for (unsigned i = 0; i < all.count; i++) {
    alive += !all.threads[i].fiber.over;
  }
  return alive;
}

static void run_thread(void *argument) {
  struct thread *thread = argument;
  (void)thread->main(thread->argument);
  scheduler_progress();
}

struct thread *scheduler_start(void *(*main)(void *argument), void *argument) {
  if (all.count == THREADS_MAX) {
    return NULL;
  }
  struct thread *thread = &all.threads[all.count++];
  thread->main = main;
  thread->argument = argument;
  thread->until_ns = 0;
  fiber_init(&thread->fiber, run_thread, thread);
  scheduler_progress();
  return thread;
}

void scheduler_pause(uint64_t until_ns) {
  int error = errno;
  all.self->until_ns = until_ns;
  fiber_leave();
  errno = error;
}

/* ---- turns ---- */

/* Advance to the next time that a thread waits for. Return: false if there is none. */
static bool jump(void) {
  uint64_t next_ns = NEVER;
  for (unsigned i = 0; i < all.count; i++) {
    if (!all.threads[i].fiber.over) {
      next_ns = min_u64(next_ns, all.threads[i].until_ns);
    }
  }
  all.now_ns = next_ns == NEVER ? all.now_ns : max_u64(all.now_ns, next_ns);
  return next_ns != NEVER;
}

/* One round. Return: did any thread make progress? */
static bool run_round(void) {
  uint64_t before = all.progress;
  for (unsigned i = 0; i < all.count; i++) {
    if (!all.threads[i].fiber.over) {
      all.self = &all.threads[i];
      fiber_enter(&all.threads[i].fiber);
    }
  }
  all.self = NULL;
  return all.progress != before;
}

enum scheduler_end scheduler_run(void) {
  for (unsigned round = 0; round < ROUNDS_MAX; round++) {
    bool progress = run_round();
    if (all.threads[0].fiber.over) {
      return SCHEDULER_DONE;
    }
    if (all.now_ns - all.message_start_ns > LATEST_NS) {
      return SCHEDULER_TOO_LATE;
    }
    if (!progress && all.settle != NULL) {
      all.settle();
      progress = run_round();
    }
    if (!progress && !jump()) {
      return SCHEDULER_STUCK;
    }
  }
  return SCHEDULER_SPINS;
}
