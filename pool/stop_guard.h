/*
 * stop_guard: receives stop signals while the main thread closes the server.
 *
 * The main thread then runs the handler's on_stop, which may block.  The guard is a thread that
 * waits at the signalfd meanwhile and calls a function when a stop signal comes.  Other signals are
 * read and ignored.  It has the main thread's mask, so still no signal handler runs.
 */
#ifndef POOL_STOP_GUARD_H
#define POOL_STOP_GUARD_H

#include "net/wake.h"
#include "pool/signals.h"

#include <pthread.h>
#include <stdbool.h>

struct stop_guard {
  struct signals *signals; /* borrows; the guard's thread uses it until stop_guard_end */
  void (*on_signal)(void *argument);
  void *argument;
  struct wake wake; /* ends the thread's wait */
  pthread_t thread;
  bool runs;
};

/**
 * stop_guard_begin(guard, signals, on_signal, argument):
 * Call ${on_signal} at the next stop signal, on the guard's thread; it must end the process.
 * Where the system refuses a thread or a descriptor, signals wait until stop_guard_end.
 */
void stop_guard_begin(struct stop_guard *guard, struct signals *signals,
                      void (*on_signal)(void *argument), void *argument);

/** End the guard; signals are the caller's again. */
void stop_guard_end(struct stop_guard *guard);

#endif
