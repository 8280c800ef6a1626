/*
 * lane: one load thread: its epoll set, its clients, its tally.
 *
 *   CONNECT --all lanes have settled, coordinator--> RUN --window, budget or STOP--> ended
 *
 * The coordinator (load_run's caller) makes and joins the lanes; while they run they share with it
 * struct lane_shared and the tally's slots, nothing else.
 */
#ifndef BENCH_LANE_H
#define BENCH_LANE_H

#include "net/wake.h"
#include "waiter.h"
#include "crew.h"

#include <pthread.h>

enum { PHASE_CONNECT, PHASE_RUN, PHASE_STOP };

struct lane_shared {
  /* the coordinator writes */
  CACHE_ALIGNED atom_u32 phase;
  atom_u64 start_ns; /* with PHASE_RUN */

  /* the lanes count down */
  CACHE_ALIGNED atom_u32 settling; /* lanes whose first connections are being made */
  atom_u32 going;                  /* lanes that have not ended */
  struct wake news;                /* something of the above, or a slot, has changed */

  /* constant */
  uint64_t warmup_ns, duration_ns, timeout_ns;
};

struct lane {
  struct lane_shared *shared; /* borrows */
  struct tally *tally;        /* owns */
  struct waiter waiter;       /* owns */
  struct wake wake;           /* owns: the coordinator's, for a change of phase */
  pthread_t thread;
  bool started;

  /* the thread's alone while it runs; its results afterwards */
  bool running, measuring, over, told;
  uint64_t start_ns, from_ns, until_ns, ended_ns;
  uint64_t cpu_ns;           /* within the window */
  uint64_t context_switches; /* ... */
  struct crew crew;
  struct client_env env;
};

/**
 * lane_create(shared, env, share, budget):
 * A lane with a copy of ${env}, whose epoll_fd and tally are made here.
 * Return: NULL with errno (memory, descriptors).
 */
struct lane *lane_create(struct lane_shared *shared, const struct client_env *env,
                         const struct crew_share *share, uint64_t budget);
void lane_destroy(struct lane *lane);

/** Start and join the thread. lane_start: 0, or -1 with errno. */
int lane_start(struct lane *lane);
void lane_join(struct lane *lane);

#endif
