/*
 * world: the clock, what will happen, and the threads that are really coroutines.
 *
 * Time stands still but for what the simulator adds: a little for each system call, and a jump to
 * the next event where every thread waits.  Which thread runs next, how long one is stalled and how
 * late it wakes is the prng's choice, so that a seed is a schedule.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/prng.h"

#include "core/base.h"

#define THREADS_MAX 8
#define FAILURE_MAX 400

/* How unruly the world is; set before the first thread runs. */
struct weather {
  unsigned yield;      /* permille of system calls before which another thread may run */
  unsigned yield_atom; /* ... of atomic operations */
  unsigned stall;      /* permille of yields after which a thread does not run for a while */
  uint64_t stall_ns;   /* how long at most */
  unsigned spurious;   /* permille of waits that report an event which was none */
  uint64_t late_ns;    /* how much later than asked a wait's time-out may come */
  uint64_t call_ns;    /* what a system call takes */
};

/*
 * Bugs of the simulated kernel itself, one at a time: what the oracle must find, or would not find
 * in the server.
 */
enum mutant {
  MUTANT_NONE,
  MUTANT_DROP,   /* a byte on its way to the server is lost */
  MUTANT_FLIP,   /* a byte of the server's changes */
  MUTANT_EDGE,   /* an edge is not reported */
  MUTANT_WAKE,   /* a write to an eventfd wakes nobody */
  MUTANT_LATE,   /* a wait ends long after its time */
  MUTANT_ACK,    /* what the peer has not is told as acknowledged */
  MUTANT_FIN,    /* a half-close is taken for a close of both ways */
  MUTANT_ACCEPT, /* a connection is accepted twice */
  MUTANTS
};

struct world {
  struct prng prng;
  struct weather weather;
  uint64_t seed;
  uint64_t now_ns;
  uint64_t stalled_ns; /* all stalls so far, added up */
  bool trace;
  bool failed;
  char failure[FAILURE_MAX];
  enum mutant mutant;
};

/* The one mutable global of the simulator: it stands for the machine. */
extern struct world world;

/** Forget everything; begin anew with ${seed}. */
void world_reset(uint64_t seed);

/** Run the threads until all of them are over or something failed; then what is still to happen. */
void world_run(void);

/** A thread that runs ${run}(${argument}). Return: its number, or -1 where there are too many. */
int world_spawn(void *(*run)(void *argument), void *argument);

/** Wait until thread ${number} has come to its end. */
void world_join(int number);

/** The running thread's number; -1: none, the world itself acts. */
int world_self(void);

/**
 * Let others run until somebody wakes ${channel} or ${until_ns} (NEVER = no end) has come.  Return:
 * false where it was the time.
 */
bool world_wait(const void *channel, uint64_t until_ns);

/** Wake everybody who waits for ${channel}. */
void world_wake(const void *channel);

/** A system call begins: time passes, and others may run. */
void world_call(void);

/** The same for an atomic operation: no time passes. */
void world_atom(void);

/** Call ${act}(${object}, ${value}) at ${at_ns}; events of one time in the order of these calls. */
void world_at(uint64_t at_ns, void (*act)(void *object, uint64_t value), void *object,
              uint64_t value);

/** Something is wrong: the first call's words count; does not return to a thread. */
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Write a line where the trace was asked for. */
void world_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
