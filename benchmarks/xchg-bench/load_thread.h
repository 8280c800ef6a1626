/*
 * load_thread: one load thread with its epoll set, clients and counters.
 *
 *   CONNECT --first connections done, start announced--> RUN --window, budget or STOP--> finished
 *
 * The coordinator (the caller of load_run) creates and joins the threads.  While a thread runs, it
 * shares only struct load_shared and the slots of its counters with the coordinator.
 */
#ifndef BENCH_LOAD_THREAD_H
#define BENCH_LOAD_THREAD_H

#include "net/wake.h"
#include "poller.h"
#include "clients.h"

#include <pthread.h>

enum { PHASE_CONNECT, PHASE_RUN, PHASE_STOP };

struct load_shared {
  /* the coordinator writes */
  CACHE_ALIGNED atom_u32 phase;
  atom_u32 stopped;  /* 1 before PHASE_STOP; threads look at it between two clients */
  atom_u64 start_ns; /* with PHASE_RUN */

  /* the threads count down */
  CACHE_ALIGNED atom_u32 threads_connecting; /* threads that still make first connections */
  atom_u32 threads_running;                  /* threads that have not finished */
  struct wake change;                        /* signalled on a change of these or of a slot */

  /* constant */
  uint64_t warmup_ns, duration_ns, interval_ns;
  bool fail_fast; /* the coordinator wants to know what is unfinished */
};

struct load_thread {
  struct load_shared *shared; /* borrows */
  struct counters *counters;  /* owns */
  struct poller poller;       /* owns */
  struct wake wake;           /* owns; the coordinator signals a change of phase */
  pthread_t handle;
  bool started;

  /* private to the thread while it runs, then its results */
  bool running, measuring, finished, reported;
  uint64_t start_ns, from_ns, until_ns, ended_ns;
  uint64_t cpu_ns;           /* within the window */
  uint64_t context_switches; /* within the window */
  uint64_t waited_ns;        /* for a CPU, within the window; NEVER = unknown */
  uint64_t waited_before_ns; /* the same, from the thread's start to the window */
  struct result *pending;    /* owns: scratch of --fail-fast; NULL without it */
  struct clients clients;
  struct client_env env;
};

/**
 * load_thread_create(shared, env, share, budget):
 * Make a thread with a copy of ${env}, and with its own epoll set and counters.
 * Return: NULL with errno (memory, descriptors).
 */
struct load_thread *load_thread_create(struct load_shared *shared, const struct client_env *env,
                                       const struct clients_share *share, uint64_t budget);
void load_thread_destroy(struct load_thread *thread);

/** Start and join the thread. load_thread_start returns 0, or -1 with errno. */
int load_thread_start(struct load_thread *thread);
void load_thread_join(struct load_thread *thread);

#endif
