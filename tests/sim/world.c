/*
 * world: see world.h.
 *
 * Events are in a binary heap, ordered by time and then by when they were asked for.  Their objects
 * live as long as the run.  So no event is ever removed early: one that has become pointless does
 * nothing.
 */
#include "tests/sim/world.h"

#include "tests/fixtures/fiber.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EVENTS_MAX 65536
#define STEPS_MAX 4000000                          /* of the scheduler in a run */
#define AFTERMATH_NS (UINT64_C(100000) * NS_PER_S) /* later events are not waited for */

enum thread_state { THREAD_NONE, THREAD_READY, THREAD_WAITING, THREAD_OVER };

struct thread {
  struct fiber fiber;
  void *(*run)(void *argument);
  void *argument;
  enum thread_state state;
  const void *channel;
  uint64_t until_ns;   /* WAITING: when it is woken in any case */
  uint64_t stalled_ns; /* READY: when it may run again */
  bool woken;
};

struct event {
  uint64_t at_ns, order;
  void (*act)(void *object, uint64_t value);
  void *object;
  uint64_t value;
};

struct world world;

static struct {
  struct thread threads[THREADS_MAX];
  int threads_count;
  int self;
  struct event events[EVENTS_MAX];
  uint32_t events_count;
  uint64_t order;
} machine;

void world_reset(uint64_t seed) {
  bool trace = world.trace;
  enum mutant mutant = world.mutant;
  world = (struct world){.prng = {.state = seed * UINT64_C(0x2545f4914f6cdd1d)},
                         .seed = seed,
                         .now_ns = 1000 * NS_PER_S,
                         .trace = trace,
                         .mutant = mutant};
  machine.threads_count = 0;
  machine.self = -1;
  machine.events_count = 0;
  machine.order = 0;
}

/* ---- messages ---- */

/* In the order of their start: main, the workers, the acceptor. */
static const char *self_name(void) {
  static const char *const names[THREADS_MAX + 1] = {"world",    "main",     "thread 1",
                                                     "thread 2", "thread 3", "thread 4",
                                                     "thread 5", "thread 6", "thread 7"};
  return names[machine.self + 1];
}

void world_fail(const char *format, ...) {
  va_list list;
  if (!world.failed) {
    world.failed = true;
    va_start(list, format);
    vsnprintf(world.failure, sizeof(world.failure), format, list);
    va_end(list);
    world_trace("FAILED: %s", world.failure);
  }
  if (machine.self != -1) {
    fiber_leave(); /* and is not entered again */
  }
}

void world_trace(const char *format, ...) {
  va_list list;
  if (!world.trace) {
    return;
  }
  uint64_t us = (world.now_ns - 1000 * NS_PER_S) / NS_PER_US;
  printf("%6" PRIu64 ".%06" PRIu64 " %-11s ", us / 1000000, us % 1000000, self_name());
  va_start(list, format);
  vprintf(format, list);
  va_end(list);
  putchar('\n');
}

/* ---- events ---- */

static bool earlier(const struct event *a, const struct event *b) {
  return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void world_at(uint64_t at_ns, void (*act)(void *object, uint64_t value), void *object,
              uint64_t value) {
  if (machine.events_count == EVENTS_MAX) {
    world_fail("the simulator has no room for events");
    return;
  }
  struct event event = {at_ns > world.now_ns ? at_ns : world.now_ns, machine.order++, act, object,
                        value};
  uint32_t at = machine.events_count++;
  while (at > 0 && earlier(&event, &machine.events[(at - 1) / 2])) {
    machine.events[at] = machine.events[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  machine.events[at] = event;
}

static struct event take_event(void) {
  struct event first = machine.events[0];
  struct event last = machine.events[--machine.events_count];
  uint32_t at = 0;
  for (;;) {
    uint32_t child = 2 * at + 1;
    if (child >= machine.events_count) {
      break;
    }
    if (child + 1 < machine.events_count &&
        earlier(&machine.events[child + 1], &machine.events[child])) {
      child++;
    }
    if (!earlier(&machine.events[child], &last)) {
      break;
    }
    machine.events[at] = machine.events[child];
    at = child;
  }
  machine.events[at] = last;
  return first;
}

/* Run the events that are due; they run as the world, not as the calling thread. */
static void happen(void) {
  int self = machine.self;
  machine.self = -1;
  while (machine.events_count > 0 && machine.events[0].at_ns <= world.now_ns && !world.failed) {
    struct event event = take_event();
    event.act(event.object, event.value);
  }
  machine.self = self;
}

/* ---- threads ---- */

static void run_thread(void *argument) {
  struct thread *thread = argument;
  thread->run(thread->argument);
  thread->state = THREAD_OVER;
  world_wake(thread);
}

int world_spawn(void *(*run)(void *argument), void *argument) {
  if (machine.threads_count == THREADS_MAX) {
    return -1;
  }
  struct thread *thread = &machine.threads[machine.threads_count];
  thread->run = run;
  thread->argument = argument;
  thread->state = THREAD_READY;
  thread->stalled_ns = 0;
  fiber_init(&thread->fiber, run_thread, thread);
  return machine.threads_count++;
}

void world_join(int number) {
  while (machine.threads[number].state != THREAD_OVER) {
    world_wait(&machine.threads[number], NEVER);
  }
}

int world_self(void) { return machine.self; }

bool world_wait(const void *channel, uint64_t until_ns) {
  assert(machine.self != -1);
  struct thread *thread = &machine.threads[machine.self];
  uint64_t late_ns = world.weather.late_ns;
  thread->state = THREAD_WAITING;
  thread->channel = channel;
  thread->woken = false;
  thread->until_ns = until_ns == NEVER ? NEVER : until_ns + prng_scaled(&world.prng, 0, late_ns);
  fiber_leave();
  return thread->woken;
}

void world_wake(const void *channel) {
  for (int i = 0; i < machine.threads_count; i++) {
    struct thread *thread = &machine.threads[i];
    if (thread->state == THREAD_WAITING && thread->channel == channel) {
      thread->state = THREAD_READY;
      thread->woken = true;
    }
  }
}

/* Another thread may run now, and this one may be stalled. */
static void yield(void) {
  struct thread *thread = &machine.threads[machine.self];
  if (prng_chance(&world.prng, world.weather.stall)) {
    uint64_t stall_ns = prng_scaled(&world.prng, 0, world.weather.stall_ns);
    thread->stalled_ns = world.now_ns + stall_ns;
    world.stalled_ns += stall_ns;
    world_trace("stalled for %" PRIu64 " us", stall_ns / NS_PER_US);
  }
  fiber_leave();
}

void world_call(void) {
  if (machine.self == -1) {
    return;
  }
  world.now_ns += world.weather.call_ns;
  if (prng_chance(&world.prng, world.weather.yield)) {
    yield();
  } else {
    happen();
    if (world.failed) {
      fiber_leave();
    }
  }
}

void world_atom(void) {
  if (machine.self != -1 && prng_chance(&world.prng, world.weather.yield_atom)) {
    yield();
  }
}

/* Choose a thread that can run; -1: none can before ${*next_ns}. */
static int choose(uint64_t *next_ns) {
  int able[THREADS_MAX], count = 0;
  *next_ns = machine.events_count > 0 ? machine.events[0].at_ns : NEVER;
  for (int i = 0; i < machine.threads_count; i++) {
    struct thread *thread = &machine.threads[i];
    if (thread->state == THREAD_WAITING && thread->until_ns <= world.now_ns) {
      thread->state = THREAD_READY;
    }
    if (thread->state == THREAD_READY && thread->stalled_ns <= world.now_ns) {
      able[count++] = i;
    } else if (thread->state == THREAD_READY) {
      *next_ns = min_u64(*next_ns, thread->stalled_ns);
    } else if (thread->state == THREAD_WAITING) {
      *next_ns = min_u64(*next_ns, thread->until_ns);
    }
  }
  return count == 0 ? -1 : able[count == 1 ? 0 : prng_below(&world.prng, (uint64_t)count)];
}

static bool all_over(void) {
  for (int i = 0; i < machine.threads_count; i++) {
    if (machine.threads[i].state != THREAD_OVER) {
      return false;
    }
  }
  return true;
}

/* The server has ended: what is in transit still arrives. */
static void aftermath(void) {
  uint64_t end_ns = world.now_ns + AFTERMATH_NS;
  while (machine.events_count > 0 && machine.events[0].at_ns <= end_ns && !world.failed) {
    world.now_ns = max_u64(world.now_ns, machine.events[0].at_ns);
    happen();
  }
}

void world_run(void) {
  for (int step = 0; !world.failed && !all_over(); step++) {
    uint64_t next_ns;
    happen();
    int number = choose(&next_ns);
    if (step == STEPS_MAX) {
      world_fail("the run does not end");
    } else if (number != -1) {
      machine.self = number;
      fiber_enter(&machine.threads[number].fiber);
      machine.self = -1;
    } else if (next_ns == NEVER) {
      world_fail("every thread waits, and no event is left");
    } else {
      world.now_ns = max_u64(world.now_ns, next_ns);
    }
  }
  aftermath();
}
