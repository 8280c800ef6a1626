/*
 * lane: see lane.h.  The loop waits, to the nanosecond, until the first of
 * what is due: the schedule, a second's end, a pause, a time-out.  It never polls, except while
 * clients are ready to go on.
 *
 * The orders: the coordinator stores the phase with release after start_ns, a lane loads it with
 * acquire; a lane subtracts from settling and going with release after what it has written, the
 * coordinator loads them with acquire.
 */
#include "lane.h"

#include "core/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

/* Few, so that what the schedule wants does not wait for many. */
#define EVENTS_MAX 64

struct lane *lane_create(struct lane_shared *shared, const struct client_env *env,
                         const struct crew_share *share, uint64_t budget) {
  struct lane *lane = calloc(1, sizeof(*lane));
  if (lane == NULL) {
    return NULL;
  }
  lane->shared = shared;
  lane->env = *env;
  lane->wake.fd = lane->waiter.epoll_fd = -1;
  lane->start_ns = lane->from_ns = lane->until_ns = NEVER;
  if (waiter_open(&lane->waiter) == -1 || wake_open(&lane->wake) == -1 ||
      waiter_add(&lane->waiter, lane->wake.fd, NULL) == -1) {
    goto undo_lane;
  }
  lane->env.epoll_fd = lane->waiter.epoll_fd;
  lane->tally = tally_create(env->schedule != NULL, budget);
  if (lane->tally == NULL) {
    goto undo_lane;
  }
  lane->env.tally = lane->tally;
  if (crew_init(&lane->crew, &lane->env, share, shared->timeout_ns) == -1) {
    goto undo_lane;
  }
  return lane;

undo_lane:;
  const int error = errno;
  lane_destroy(lane);
  errno = error;
  return NULL;
}

void lane_destroy(struct lane *lane) {
  if (lane == NULL) {
    return;
  }
  assert(!lane->started);
  crew_fini(&lane->crew);
  tally_destroy(lane->tally);
  wake_close(&lane->wake);
  waiter_close(&lane->waiter);
  free(lane);
}

/* ---- the window ---- */

static uint64_t thread_cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t thread_switches(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return (uint64_t)usage.ru_nvcsw + (uint64_t)usage.ru_nivcsw;
}

/* The run is announced: when it starts, and what of it counts. */
static void announced(struct lane *lane) {
  lane->start_ns = atom_load_relaxed_u64(&lane->shared->start_ns); /* behind the acquire of phase */
  lane->from_ns = lane->start_ns + lane->shared->warmup_ns;
  lane->until_ns = add_sat_u64(lane->from_ns, lane->shared->duration_ns);
  lane->env.start_ns = lane->start_ns;
  tally_window(lane->tally, lane->from_ns, lane->until_ns);
}

static void begin_window(struct lane *lane) {
  lane->measuring = true;
  lane->cpu_ns = thread_cpu_ns();
  lane->context_switches = thread_switches();
}

/* The lane's part of the run is over. */
static void end_run(struct lane *lane, bool dropped) {
  const uint64_t now = min_u64(lane->env.now, lane->until_ns);
  lane->over = true;
  if (!lane->measuring) {
    lane->ended_ns = lane->from_ns;
    return;
  }
  lane->ended_ns = now;
  lane->cpu_ns = thread_cpu_ns() - lane->cpu_ns;
  lane->context_switches = thread_switches() - lane->context_switches;
  if (dropped && lane->env.schedule != NULL) {
    lane->tally->dropped = crew_backlog(&lane->crew, now);
  }
}

/* Go from one state to the next when it is time to. */
static void look_at_clock(struct lane *lane) {
  struct lane_shared *shared = lane->shared;
  const uint64_t now = lane->env.now;
  const uint32_t phase = atom_load_acquire_u32(&shared->phase); /* the coordinator's stores */
  if (phase == PHASE_STOP || now >= lane->until_ns) {
    end_run(lane, true);
    return;
  }
  if (lane->crew.settled == lane->crew.to_settle && !lane->told) {
    lane->told = true;
    atom_sub_release_u32(&shared->settling, 1); /* the coordinator's load */
    wake_signal(&shared->news);
  }
  if (phase == PHASE_RUN && lane->start_ns == NEVER) {
    announced(lane);
  }
  if (!lane->running && now >= lane->start_ns) {
    lane->running = true;
    crew_start(&lane->crew);
  }
  if (!lane->measuring && now >= lane->from_ns) {
    begin_window(lane);
  }
  if (lane->measuring && lane->tally->ended >= lane->tally->budget) {
    end_run(lane, false);
  } else if (tally_turn(lane->tally, now)) {
    wake_signal(&shared->news);
  }
}

/* ---- the loop ---- */

/* When the loop has something to do, if no event comes. */
static uint64_t due_ns(const struct lane *lane) {
  uint64_t due = min_u64(crew_due_ns(&lane->crew), lane->tally->turn_ns);
  due = min_u64(due, lane->until_ns);
  if (!lane->running) {
    due = min_u64(due, lane->start_ns);
  }
  return lane->measuring ? due : min_u64(due, lane->from_ns);
}

/* Wait for events until ${due}, and deal with them; return how many. */
static int wait_for_events(struct lane *lane) {
  struct epoll_event events[EVENTS_MAX];
  const uint64_t ns = sub_sat_u64(due_ns(lane), lane->env.now);
  const int count = waiter_wait(&lane->waiter, events, EVENTS_MAX, ns);
  for (int i = 0; i < count; i++) {
    if (events[i].data.ptr != NULL) { /* else a wake, which look_at_clock answers */
      crew_event(&lane->crew, events[i].data.ptr, events[i].events);
    }
  }
  return count;
}

/* The thread. */
static void *run(void *argument) {
  struct lane *lane = argument;
  struct tally *tally = lane->tally;
  (void)prctl(PR_SET_TIMERSLACK, 1UL); /* else every wait may be 50 us longer */
  (void)pthread_setname_np(pthread_self(), "bench-load");
  lane->env.now = sys_now_ns();
  crew_open(&lane->crew);
  crew_turn(&lane->crew);
  while (!lane->over) {
    const int count = wait_for_events(lane);
    lane->env.now = sys_now_ns();
    look_at_clock(lane);
    if (!lane->over) {
      crew_turn(&lane->crew);
    }
    if (count < EVENTS_MAX &&
        !lane->over) { /* else what came may still wait there: nobody is overdue yet */
      crew_scan(&lane->crew);
    }
  }
  atom_store_release_u32(&tally->slots[tally->current].state, SLOT_FULL); /* as tally_turn */
  atom_sub_release_u32(&lane->shared->going, 1); /* the coordinator's load */
  wake_signal(&lane->shared->news);
  return NULL;
}

int lane_start(struct lane *lane) {
  const int error = pthread_create(&lane->thread, NULL, run, lane);
  if (error != 0) {
    errno = error;
    return -1;
  }
  lane->started = true;
  return 0;
}

void lane_join(struct lane *lane) {
  if (lane->started) {
    (void)pthread_join(lane->thread, NULL);
    lane->started = false;
  }
}
