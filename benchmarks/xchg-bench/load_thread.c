/*
 * load_thread: see load_thread.h.
 *
 * The loop waits until the earliest due time: the schedule, the end of a second, a retry pause or a
 * timeout.  The wait has nanosecond resolution.  It polls only while clients are ready.
 *
 * Memory orders: the coordinator stores phase with release after start_ns, and the thread loads it
 * with acquire.  The thread subtracts from threads_connecting and threads_running with release
 * after its writes, and the coordinator loads them with acquire.
 */
#include "load_thread.h"

#include "core/sys.h"
#include "unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

/* Few events per call, so that due exchanges do not wait for many. */
#define EVENTS_MAX 64

struct load_thread *load_thread_create(struct load_shared *shared, const struct client_env *env,
                                       const struct clients_share *share, uint64_t budget) {
  struct load_thread *thread = calloc(1, sizeof(*thread));
  if (thread == NULL) {
    return NULL;
  }
  thread->shared = shared;
  thread->env = *env;
  thread->wake.fd = thread->poller.epoll_fd = -1;
  thread->start_ns = thread->from_ns = thread->until_ns = NEVER;
  if (poller_open(&thread->poller) == -1 || wake_open(&thread->wake) == -1 ||
      poller_add(&thread->poller, thread->wake.fd, NULL) == -1) {
    goto undo_thread;
  }
  thread->env.epoll_fd = thread->poller.epoll_fd;
  thread->counters = counters_create(env->schedule != NULL, budget);
  if (thread->counters == NULL) {
    goto undo_thread;
  }
  thread->counters->interval_ns = shared->interval_ns;
  thread->env.counters = thread->counters;
  thread->pending = shared->fail_fast ? result_create(env->schedule != NULL, 0) : NULL;
  if (shared->fail_fast && thread->pending == NULL) {
    goto undo_thread;
  }
  if (clients_init(&thread->clients, &thread->env, share) == -1) {
    goto undo_thread;
  }
  thread->clients.stopped = &shared->stopped;
  return thread;

undo_thread:;
  const int error = errno;
  load_thread_destroy(thread);
  errno = error;
  return NULL;
}

void load_thread_destroy(struct load_thread *thread) {
  if (thread == NULL) {
    return;
  }
  assert(!thread->started);
  clients_fini(&thread->clients);
  counters_destroy(thread->counters);
  result_destroy(thread->pending);
  wake_close(&thread->wake);
  poller_close(&thread->poller);
  free(thread);
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

/* The time that this thread was runnable without a CPU so far; NEVER = unknown. */
static uint64_t thread_waited_ns(void) {
  char text[96];
  const int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return NEVER;
  }
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  sys_close(fd);
  text[size > 0 ? size : 0] = 0;
  const char *waited = strchr(text, ' '); /* after the time on a CPU */
  return waited == NULL ? NEVER : strtoull(waited, NULL, 10);
}

/* Tell the counters how long this thread has waited for a CPU within the window. */
static void count_waiting(struct load_thread *thread) {
  const uint64_t waited_ns = thread_waited_ns();
  const bool known = waited_ns != NEVER && thread->waited_before_ns != NEVER;
  thread->waited_ns = known ? sub_sat_u64(waited_ns, thread->waited_before_ns) : NEVER;
  counters_wait(thread->counters, thread->waited_ns);
}

/* Tell the counters what is unfinished now. */
static void count_pending(struct load_thread *thread) {
  if (thread->pending != NULL) {
    struct hdr_histogram *ages = thread->pending->unfinished_times[TIMES_LATENCY];
    hdr_reset(ages);
    unfinished_add(&thread->clients, thread->env.now, thread->pending);
    counters_pending(thread->counters, ages);
  }
}

/* Take over the announced start, and set the window. */
static void apply_start(struct load_thread *thread) {
  thread->start_ns =
      atom_load_relaxed_u64(&thread->shared->start_ns); /* ordered by the acquire of phase */
  thread->from_ns = thread->start_ns + thread->shared->warmup_ns;
  thread->until_ns = add_sat_u64(thread->from_ns, thread->shared->duration_ns);
  thread->env.start_ns = thread->start_ns;
  counters_set_window(thread->counters, thread->from_ns, thread->until_ns);
}

static void begin_window(struct load_thread *thread) {
  thread->measuring = true;
  thread->cpu_ns = thread_cpu_ns();
  thread->context_switches = thread_switches();
  thread->waited_before_ns = thread_waited_ns();
}

/* Finish this thread's part of the run. */
static void end_run(struct load_thread *thread) {
  const uint64_t now = min_u64(thread->env.now, thread->until_ns);
  thread->finished = true;
  if (!thread->measuring) {
    thread->ended_ns = thread->from_ns;
    return;
  }
  thread->ended_ns = now;
  thread->cpu_ns = thread_cpu_ns() - thread->cpu_ns;
  thread->context_switches = thread_switches() - thread->context_switches;
  count_waiting(thread);
  /* What is over the limit is an error; nothing counts at until_ns itself. */
  thread->env.now = min_u64(now, thread->until_ns - 1);
  clients_end_late(&thread->clients);
}

/* Enter the next state when its time has come. */
static void update_state(struct load_thread *thread) {
  struct load_shared *shared = thread->shared;
  const uint64_t now = thread->env.now;
  const uint32_t phase = atom_load_acquire_u32(&shared->phase); /* the coordinator's stores */
  if (phase == PHASE_STOP || now >= thread->until_ns) {
    end_run(thread);
    return;
  }
  if (thread->clients.first_done == thread->clients.first_total && !thread->reported) {
    thread->reported = true;
    atom_sub_release_u32(&shared->threads_connecting, 1); /* the coordinator's load */
    wake_signal(&shared->change);
  }
  if (phase == PHASE_RUN && thread->start_ns == NEVER) {
    apply_start(thread);
  }
  if (!thread->running && now >= thread->start_ns) {
    thread->running = true;
    clients_start(&thread->clients);
  }
  if (!thread->measuring && now >= thread->from_ns) {
    begin_window(thread);
  }
  if (thread->measuring && thread->counters->ended >= thread->counters->budget) {
    end_run(thread);
    return;
  }
  if (thread->measuring && now >= thread->counters->slot_end_ns) {
    count_waiting(thread);
    count_pending(thread);
  }
  if (counters_next_slot(thread->counters, now)) {
    wake_signal(&shared->change);
  }
}

/* ---- the loop ---- */

/* When the loop must run even if no event comes. */
static uint64_t due_ns(const struct load_thread *thread) {
  uint64_t due = min_u64(clients_due_ns(&thread->clients), thread->counters->slot_end_ns);
  due = min_u64(due, thread->until_ns);
  if (!thread->running) {
    due = min_u64(due, thread->start_ns);
  }
  return thread->measuring ? due : min_u64(due, thread->from_ns);
}

/* Wait for events, and handle them. Return: their number. */
static int wait_for_events(struct load_thread *thread) {
  struct epoll_event events[EVENTS_MAX];
  const uint64_t ns = sub_sat_u64(due_ns(thread), thread->env.now);
  const int count = poller_wait(&thread->poller, events, EVENTS_MAX, ns);
  for (int i = 0; i < count && atom_load_relaxed_u32(&thread->shared->stopped) == 0; i++) {
    if (events[i].data.ptr != NULL) { /* NULL is the wake: update_state looks at the phase */
      clients_on_event(&thread->clients, events[i].data.ptr, events[i].events);
    }
  }
  return count;
}

/* The thread's function. */
static void *run(void *argument) {
  struct load_thread *thread = argument;
  struct counters *counters = thread->counters;
  (void)prctl(PR_SET_TIMERSLACK, 1UL); /* the default makes every wait up to 50 us longer */
  (void)pthread_setname_np(pthread_self(), "bench-load");
  thread->env.now = sys_now_ns();
  clients_open(&thread->clients);
  clients_run_ready(&thread->clients);
  while (!thread->finished) {
    const int count = wait_for_events(thread);
    thread->env.now = sys_now_ns();
    update_state(thread);
    if (!thread->finished) {
      clients_run_ready(&thread->clients);
    }
    /* With a full array, answers may still wait in epoll, so it is too early for timeouts. */
    if (count < EVENTS_MAX && !thread->finished) {
      clients_scan_timeouts(&thread->clients);
    }
  }
  /* The coordinator's load, as in counters_next_slot. */
  atom_store_release_u32(&counters->slots[counters->current].state, SLOT_FULL);
  atom_sub_release_u32(&thread->shared->threads_running, 1); /* the coordinator's load */
  wake_signal(&thread->shared->change);
  return NULL;
}

int load_thread_start(struct load_thread *thread) {
  const int error = pthread_create(&thread->handle, NULL, run, thread);
  if (error != 0) {
    errno = error;
    return -1;
  }
  thread->started = true;
  return 0;
}

void load_thread_join(struct load_thread *thread) {
  if (thread->started) {
    (void)pthread_join(thread->handle, NULL);
    thread->started = false;
  }
}
