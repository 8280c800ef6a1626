/*
 * world: the simulated clock, the events to come, and the threads, which are coroutines.
 *
 * Time advances only by the simulator: a little for each system call, and to the next event when
 * every thread waits.  The prng chooses which thread runs next, how long one is stalled and how
 * late it wakes, so that a seed is a schedule.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/prng.h"

#include "core/base.h"

#define THREADS_MAX 8
#define FAILURE_MAX 400

/* How irregular the machine is; set before the first thread runs. */
struct weather {
  unsigned yield;      /* permille of system calls before which another thread may run */
  unsigned yield_atom; /* permille of atomic operations before which one may */
  unsigned stall;      /* permille of yields after which a thread is stalled */
  uint64_t stall_ns;   /* at most */
  unsigned spurious;   /* permille of waits that report a spurious event */
  uint64_t late_ns;    /* how much later than asked a wait may time out */
  uint64_t call_ns;    /* duration of a system call */
};

/* Bugs of the simulated kernel, one at a time, which the oracle must find. */
enum mutant {
  MUTANT_NONE,
  MUTANT_DROP,   /* a byte on its way to the server is lost */
  MUTANT_FLIP,   /* a byte of the server changes */
  MUTANT_EDGE,   /* an edge is not reported */
  MUTANT_WAKE,   /* a write to an eventfd wakes no thread */
  MUTANT_LATE,   /* a wait ends long after its time */
  MUTANT_ACK,    /* unacknowledged bytes are reported as acknowledged */
  MUTANT_FIN,    /* a half-close closes both directions */
  MUTANT_ACCEPT, /* a connection is accepted twice */
  MUTANTS
};

struct world {
  struct prng prng;
  struct weather weather;
  uint64_t seed;
  uint64_t now_ns;
  uint64_t stalled_ns; /* sum of all stalls so far */
  bool trace;
  bool failed;
  char failure[FAILURE_MAX];
  enum mutant mutant;
};

/* The one mutable global of the simulator: it stands for the machine. */
extern struct world world;

/** Reset everything and begin with ${seed}. */
void world_reset(uint64_t seed);

/** Run the threads until all have ended or something failed; then the remaining events. */
void world_run(void);

/**
 * Start a thread that runs ${run}(${argument}). Return: its number, or -1 if there are too many.
 */
int world_spawn(void *(*run)(void *argument), void *argument);

/** Wait until thread ${number} has ended. */
void world_join(int number);

/** The number of the running thread; -1: none, an event runs. */
int world_self(void);

/**
 * Let others run until ${channel} is woken or ${until_ns} comes (NEVER = no limit).  Return: false
 * if the time came.
 */
bool world_wait(const void *channel, uint64_t until_ns);

/** Wake every thread that waits for ${channel}. */
void world_wake(const void *channel);

/** A system call begins: time passes, and others may run. */
void world_call(void);

/** The same for an atomic operation: no time passes. */
void world_atom(void);

/**
 * Call ${act}(${object}, ${value}) at ${at_ns}; events of the same time run in the order of the
 * calls.
 */
void world_at(uint64_t at_ns, void (*act)(void *object, uint64_t value), void *object,
              uint64_t value);

/** Report a failure of the run; the first one is kept. Does not return to a thread. */
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Write a line if a trace was asked for. */
void world_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
