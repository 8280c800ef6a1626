/*
 * load: the coordinator, which runs on the caller's thread.
 *
 * It creates the load threads, waits until they have connected, announces the start, gathers their
 * intervals, and adds up their counters after they have ended.  An eventfd wakes it, which each
 * thread signals once a second.
 */
#include "load.h"

#include "core/sys.h"
#include "net/sock.h"
#include "identity.h"
#include "unfinished.h"
#include "load_thread.h"
#include "intervals.h"
#include "measure.h"
#include "objective.h"
#include "live.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

/* First connections under way at once over all threads, well below any backlog. */
#define OPENING_MAX 128

/* From the announcement to the start, so that every thread is awake by then. */
#define START_DELAY_NS (2 * NS_PER_MS)

#define BUSY_MAX 0.95

struct load {
  const struct options *options; /* borrows */
  const struct load_plan *plan;  /* borrows */
  struct result *result;         /* borrows */
  struct load_shared shared;
  struct message_set messages;
  struct schedule schedule;
  struct load_thread **threads; /* owns, with the threads; NULL after the last one made */
  struct counters **counters;   /* owns the array; the counters belong to the threads */
  uint32_t count;
  struct intervals intervals;
  struct poller poller; /* owns: holds shared.change */
  uint64_t from_ns;
  uint64_t total;        /* the most exchanges that the run can have; NEVER = not known */
  struct result *so_far; /* owns: what --fail-fast judges; NULL without it */
  int live_fd;           /* owns: the terminal that stderr is; -1 = none */
};

/*
 * The current run, or NULL.  Only load_interrupt reads it, because a signal handler has no
 * argument.  The thread in load_run writes it before and after the run.
 */
static atom_ptr present;

/*
 * Set for ever by load_interrupt.  It is static because the signal may come before the run is in
 * `present`.  The handler runs on the coordinator's thread, so the coordinator sees it after its
 * own store to `present`, or the handler sees the run.
 */
static atom_u32 interrupted;

void load_interrupt(void) {
  struct load *load = atom_load_relaxed_ptr(&present);
  atom_store_release_u32(&interrupted, 1); /* the coordinator's load */
  if (load != NULL) {
    const int error = errno;
    wake_signal(&load->shared.change);
    errno = error;
  }
}

/* ---- set-up ---- */

static bool is_open_loop(const struct load *load) {
  return load->plan->rate_from > 0 || load->plan->rate_to > 0;
}

/* Make what all clients share; on the heap because of its large buffers. */
static struct client_env *make_env(struct load *load) {
  const struct options *options = load->options;
  const struct config *exchange = &options->exchange;
  struct client_env *env = calloc(1, sizeof(*env));
  if (env == NULL) {
    return NULL;
  }
  env->messages = &load->messages;
  env->schedule = is_open_loop(load) ? &load->schedule : NULL;
  env->connections = options->connections;
  env->pipeline = (uint32_t)max_u64(options->pipeline, 1);
  env->counted = exchange->messages > 0;
  env->per_connection = env->counted             ? exchange->messages
                        : options->reconnect > 0 ? options->reconnect
                                                 : NEVER;
  env->timeout_ns = options->timeout_ns;
  env->replies = message_replies(&load->messages);
  env->address_size = sock_addr_to(&options->address, &env->address);
  env->bind = options->bind;
  env->bind_count = options->bind_count;
  env->proxy = (struct proxy_sender){.proxy = options->proxy.version > 0 ? &options->proxy : NULL,
                                     .run_id = options->identity.run_id,
                                     .server = options->address.addr};
  /* Nagle's algorithm does not delay one small message. A header before it would be another. */
  const bool one_segment = exchange->messages == 1 && env->proxy.proxy == NULL &&
                           message_total_max(&load->messages) <= 1024;
  env->nodelay = env->address.ss_family != AF_UNIX && !one_segment;
  return env;
}

/* The part of ${total} that thread ${index} has. */
static uint64_t share_of(const struct load *load, uint64_t total, uint32_t index) {
  return total / load->count + (index < total % load->count ? 1 : 0);
}

static int make_threads(struct load *load, const struct client_env *env) {
  const struct options *options = load->options;
  for (uint32_t i = 0; i < load->count; i++) {
    const struct clients_share share = {
        .first = i,
        .step = load->count,
        .active = (uint32_t)share_of(load, options->connections, i),
        .idle = (uint32_t)share_of(load, options->idle, i),
        .opening_max = (uint32_t)max_u64(1, OPENING_MAX / load->count),
    };
    const uint64_t budget = options->count > 0 ? share_of(load, options->count, i) : NEVER;
    load->threads[i] = load_thread_create(&load->shared, env, &share, budget);
    if (load->threads[i] == NULL) {
      return -1;
    }
    load->counters[i] = load->threads[i]->counters;
  }
  load->threads[0]->env.first = options->first;
  return 0;
}

/* The most exchanges that the run can have; NEVER = not known. */
static uint64_t most_exchanges(const struct load *load) {
  const uint64_t count = load->options->count > 0 ? load->options->count : NEVER;
  const uint64_t lead_ns = load->options->warmup_ns;
  if (!is_open_loop(load) || load->plan->duration_ns == NEVER) {
    return count;
  }
  const uint64_t due = schedule_count(&load->schedule, lead_ns + load->plan->duration_ns) -
                       schedule_count(&load->schedule, lead_ns);
  return min_u64(count, due);
}

/* Make everything except the running threads. */
static int prepare(struct load *load) {
  const struct options *options = load->options;
  const struct load_plan *plan = load->plan;
  schedule_init(&load->schedule, plan->rate_from, plan->rate_to, options->warmup_ns,
                plan->duration_ns == NEVER ? 0 : plan->duration_ns);
  load->threads = calloc(load->count, sizeof(*load->threads));
  load->counters = calloc(load->count, sizeof(*load->counters));
  if (load->threads == NULL || load->counters == NULL) {
    errno = ENOMEM;
    return -1;
  }
  if (poller_open(&load->poller) == -1 || wake_open(&load->shared.change) == -1 ||
      poller_add(&load->poller, load->shared.change.fd, NULL) == -1 ||
      message_set_init(&load->messages, &options->exchange, &options->size, options->seed) == -1 ||
      intervals_init(&load->intervals) == -1) {
    return -1;
  }
  load->intervals.result = load->result;
  load->intervals.counters = load->counters;
  load->intervals.threads = load->count;
  load->intervals.schedule = is_open_loop(load) ? &load->schedule : NULL;
  load->intervals.lead_ns = options->warmup_ns;
  load->intervals.length_s = (double)load->shared.interval_ns / 1e9;
  load->total = most_exchanges(load);
  if (options->fail_fast) {
    load->intervals.so_far = load->so_far = result_create(is_open_loop(load), 0);
    if (load->so_far == NULL) {
      return -1;
    }
    load->so_far->has_latency = true;
  }
  struct client_env *env = make_env(load);
  const int made = env == NULL ? -1 : make_threads(load, env);
  load->result->has_latency = env != NULL && (env->counted || env->replies);
  free(env);
  return made;
}

/* Free what prepare has made, also if it failed halfway. */
static void release(struct load *load) {
  for (uint32_t i = 0; load->threads != NULL && i < load->count; i++) {
    load_thread_destroy(load->threads[i]);
  }
  free(load->threads);
  free(load->counters);
  intervals_fini(&load->intervals);
  result_destroy(load->so_far);
  message_set_fini(&load->messages);
  wake_close(&load->shared.change);
  poller_close(&load->poller);
}

/* ---- the run ---- */

/* Store the phase and wake the threads. */
static void announce(struct load *load, uint32_t phase) {
  atom_store_relaxed_u32(&load->shared.stopped, phase == PHASE_STOP);
  atom_store_release_u32(&load->shared.phase, phase); /* the threads' load */
  for (uint32_t i = 0; i < load->count; i++) {
    wake_signal(&load->threads[i]->wake);
  }
}

/* Start the threads with all signals blocked. Return: 0, or -1 with errno and none running. */
static int start(struct load *load) {
  sigset_t all, before;
  int result = 0;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  for (uint32_t i = 0; i < load->count && result == 0; i++) {
    result = load_thread_start(load->threads[i]);
  }
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (result == -1) {
    const int error = errno;
    announce(load, PHASE_STOP);
    for (uint32_t i = 0; i < load->count; i++) {
      load_thread_join(load->threads[i]);
    }
    errno = error;
  }
  return result;
}

/* Return: whether the run goes on. If not, the threads have been told to stop. */
static bool goes_on(struct load *load) {
  if (!load->result->interrupted && atom_load_acquire_u32(&interrupted) != 0) {
    load->result->interrupted = true; /* load_interrupt's store was seen */
    announce(load, PHASE_STOP);
  }
  return !load->result->interrupted;
}

/*
 * Wait for a change until ${due_ns}.  Return: false if the run was interrupted; the threads have
 * then been told to stop.
 */
static bool wait_for_change(struct load *load, uint64_t due_ns) {
  struct epoll_event event;
  if (!load->result->interrupted && !goes_on(load)) {
    return false; /* the signal came before it could wake the poller */
  }
  const uint64_t ns = sub_sat_u64(due_ns, sys_now_ns());
  (void)poller_wait(&load->poller, &event, 1, ns); /* a wake or the time: all is looked at */
  return goes_on(load);
}

/* --fail-fast: end the run if an objective is lost, whatever comes. */
static void end_if_lost(struct load *load) {
  const struct options *options = load->options;
  for (uint32_t i = 0; i < options->slo_count && !load->result->aborted; i++) {
    if (objective_is_lost(&options->slo[i], load->so_far, load->total)) {
      load->result->aborted = true;
      announce(load, PHASE_STOP);
    }
  }
}

static void show_live(const struct load *load, const struct interval *interval) {
  char text[LIVE_TEXT_MAX];
  if (load->live_fd != -1 && interval != NULL) {
    live_show(load->live_fd, live_format(interval, load->intervals.errors, load->intervals.length_s,
                                         live_columns(load->live_fd), text));
  }
}

static void close_live(const struct load *load) {
  if (load->live_fd != -1) {
    live_show(load->live_fd, "");
    sys_close(load->live_fd);
  }
}

/* The time since the start of the window. */
static double elapsed_s(const struct load *load) {
  return (double)sub_sat_u64(sys_now_ns(), load->from_ns) / 1e9;
}

/* Connect, warm up and measure until every thread has finished. */
static void coordinate(struct load *load, struct measure *server, struct measure *client) {
  struct load_shared *shared = &load->shared;
  const int self = 0;
  bool runs = goes_on(load);
  while (runs &&
         atom_load_acquire_u32(&shared->threads_connecting) > 0) { /* the threads' subtraction */
    runs = wait_for_change(load, NEVER);
  }
  if (runs) {
    const uint64_t start_ns = sys_now_ns() + START_DELAY_NS;
    load->from_ns = start_ns + load->options->warmup_ns;
    load->result->started_ms =
        identity_now_ms() + (load->from_ns - start_ns + START_DELAY_NS) / NS_PER_MS;
    atom_store_relaxed_u64(&shared->start_ns, start_ns);
    announce(load, PHASE_RUN);
  }
  while (runs && sys_now_ns() < load->from_ns) {
    runs = wait_for_change(load, load->from_ns);
  }
  measure_begin(server, load->options->pids, load->options->pids_count);
  measure_begin(client, &self, 1);
  while (atom_load_acquire_u32(&shared->threads_running) > 0) { /* the threads' subtraction */
    (void)wait_for_change(load, NEVER);
    const struct interval *interval = intervals_gather(&load->intervals, elapsed_s(load));
    show_live(load, interval);
    if (interval != NULL && load->so_far != NULL) {
      end_if_lost(load);
    }
  }
}

/* ---- the sum ---- */

/* Add up the CPU time of the threads; find the busiest and the one that waited most. */
static void add_usage(struct load *load) {
  struct result *result = load->result;
  struct usage *client = &result->client;
  client->cpu_s = 0;
  client->context_switches = 0;
  for (uint32_t i = 0; i < load->count; i++) {
    const struct load_thread *thread = load->threads[i];
    if (!thread->measuring || thread->ended_ns <= thread->from_ns) {
      continue;
    }
    const double window_ns = (double)(thread->ended_ns - thread->from_ns);
    /* Both were read after the window, maybe much later. */
    const double busy = fmin(1, (double)thread->cpu_ns / window_ns);
    const bool known = thread->waited_ns != NEVER;
    const double waiting = known ? fmin(1, (double)thread->waited_ns / window_ns) : NAN;
    client->cpu_s += (double)thread->cpu_ns / 1e9;
    client->context_switches += thread->context_switches;
    result->thread_busy_max = fmax(result->thread_busy_max, busy);
    result->thread_waiting_max = fmax(result->thread_waiting_max, waiting);
    result->harness_bound = result->harness_bound || busy + fmax(waiting, 0) > BUSY_MAX;
  }
  client->seconds = result->seconds;
  result->starved = result->thread_waiting_max > BENCH_STARVED;
  result->harness_bound = result->harness_bound || result->starved;
}

static void add_up(struct load *load) {
  struct result *result = load->result;
  uint64_t ended_ns = load->from_ns;
  for (uint32_t i = 0; i < load->count; i++) {
    const struct load_thread *thread = load->threads[i];
    result_add(result, thread->counters);
    result->connected += clients_connected(&thread->clients, false);
    result->idle_connected += clients_connected(&thread->clients, true);
    if (thread->measuring) {
      ended_ns = max_u64(ended_ns, thread->ended_ns);
      unfinished_add(&thread->clients, thread->ended_ns, result);
    }
  }
  result->seconds = (double)(ended_ns - load->from_ns) / 1e9;
  result->target_rate = (load->plan->rate_from + load->plan->rate_to) / 2;
  intervals_finish(&load->intervals, result->seconds);
  add_usage(load);
}

int load_run(const struct options *options, const struct load_plan *plan, struct result *result) {
  struct measure server, client;
  if (atom_load_acquire_u32(&interrupted) != 0) { /* load_interrupt's store */
    result->interrupted = true;
    return 0;
  }
  struct load *load = aligned_alloc(CACHE_LINE, sizeof(*load));
  if (load == NULL) {
    return -1;
  }
  *load = (struct load){.options = options, .plan = plan, .result = result};
  load->poller.epoll_fd = -1;
  load->count = (uint32_t)max_u64(1, min_u64(options->threads, options->connections));
  load->shared.threads_connecting = load->shared.threads_running = load->count;
  load->shared.change.fd = -1;
  load->shared.warmup_ns = options->warmup_ns;
  load->shared.duration_ns = plan->duration_ns;
  load->shared.interval_ns = options->interval_ns > 0 ? options->interval_ns : NS_PER_S;
  load->shared.fail_fast = options->fail_fast;
  load->live_fd = live_open(STDERR_FILENO);

  int done = prepare(load);
  if (done == 0) {
    (void)atom_exchange_acquire_ptr(&present, load);
    done = start(load);
  }
  if (done == 0) {
    coordinate(load, &server, &client);
    measure_end(&server, &result->server);
    measure_end(&client, &result->client);
    for (uint32_t i = 0; i < load->count; i++) {
      load_thread_join(load->threads[i]);
    }
    add_up(load);
  }
  (void)atom_exchange_acquire_ptr(&present, NULL);
  const int error = errno;
  close_live(load);
  release(load);
  free(load);
  errno = error;
  return done;
}
