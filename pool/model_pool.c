/*
 * model_pool: connections run on a fixed pool of workers, each with its own queue.
 *
 * The acceptor chooses the worker.  Only the acceptor pushes, so a queue is never longer than the
 * acceptor sees, and a queue that has room keeps it.  A connection never changes its worker.  The
 * acceptor also looks for workers that a handler blocks, because it must avoid them.
 */
#include "core/probe.h"
#include "pool/thread.h"
#include "pool/sandbox.h"
#include "pool/watchdog.h"
#include "pool/worker.h"
#include "pool/model.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* Least time between two warnings about one worker. */
#define WARNINGS_NS NS_PER_S

struct pool_thread {
  struct worker worker; /* first: aligned */
  struct model_pool *pool;
  pthread_t thread;
  struct thread_cpu cpu;
  struct watchdog_state watchdog; /* acceptor; the fields below, too */
  uint64_t warned_ns;             /* time of the last warning about the worker; 0 = none */
  bool warned;                    /* about the present episode */
};

struct model_pool {
  struct model model;
  struct pool_thread *threads; /* owns */
  uint32_t count;
  struct stats stats;      /* acceptor: episodes of blocked workers */
  struct histogram depths; /* acceptor: connections in the chosen queue */
  uint32_t next_worker;    /* round-robin: the next worker; acceptor */
  uint32_t started;        /* threads to be joined */
  uint32_t opened;         /* workers to be closed */
  sem_t running_up;        /* posted by each thread that runs */
  atom_u32 sandbox_error;  /* before that: the errno of one that has not entered the sandbox */
  atom_u32 running;
};

static struct model_pool *pool_of(struct model *model) {
  return container_of(model, struct model_pool, model);
}

/* ---- threads ---- */

static void *thread_main(void *argument) {
  struct pool_thread *thread = argument;
  struct model_pool *pool = thread->pool;
  char name[32];
  bool admin = pool->model.setup.config->use == USE_ADMIN;
  snprintf(name, sizeof(name), "xchg-work-%u", thread->worker.index);
  thread_set_name(admin ? "xchg-adm" : name);
  if (pool->model.setup.custom_handler) {
    thread_allocate_first(); /* the handler may take memory */
  }
  if (pool->model.setup.config->pin && thread_set_affinity(thread->worker.index) == -1) {
    char text[48];
    int error = errno;
    snprintf(text, sizeof(text), "cannot pin worker %u to a CPU", thread->worker.index);
    log_errno(pool->model.setup.log, LOG_WARN, text, error);
  }
  /* Nothing has reached this thread yet. A later step would be one that the sandbox refuses. */
  if (sandbox_enter(pool->model.setup.sandbox, admin ? SANDBOX_ADMIN : SANDBOX_WORKER) == -1) {
    atom_store_relaxed_u32(&pool->sandbox_error, (uint32_t)errno); /* sem_post publishes it */
  }
  thread_cpu_begin(&thread->cpu);
  (void)sem_post(&pool->running_up); /* cannot fail: it counts threads */
  worker_run(&thread->worker);
  thread_cpu_end(&thread->cpu);
  atom_sub_release_u32(&pool->running, 1);
  wake_signal(pool->model.setup.done);
  return NULL;
}

static void join(struct model_pool *pool) {
  for (uint32_t i = 0; i < pool->started; i++) {
    (void)pthread_join(pool->threads[i].thread, NULL); /* cannot fail: joined once, by another */
  }
  pool->started = 0;
}

static bool pool_finish(struct model *model) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->started; i++) {
    worker_send_no_more_conns(&pool->threads[i].worker);
  }
  return true;
}

/* Have all threads entered the sandbox?  Without it they run only where it is not required. */
static int check_sandbox(struct model_pool *pool) {
  int error = (int)atom_load_relaxed_u32(&pool->sandbox_error);
  if (error == 0) {
    return 0;
  }
  if (sandbox_required(pool->model.setup.sandbox)) {
    pool_finish(&pool->model);
    join(pool);
    return fail(error);
  }
  log_errno(pool->model.setup.log, LOG_WARN, "a worker runs without a part of the sandbox", error);
  return 0;
}

static int pool_start(struct model *model) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->count; i++) {
    atom_add_relaxed_u32(&pool->running, 1);
    int error = thread_create(&pool->threads[i].thread, thread_main, &pool->threads[i]);
    if (error != 0) {
      atom_sub_release_u32(&pool->running, 1);
      pool_finish(model);
      join(pool);
      return fail(error);
    }
    pool->started++;
  }
  for (uint32_t i = 0; i < pool->count; i++) {
    while (sem_wait(&pool->running_up) == -1 && errno == EINTR) {
    }
  }
  return check_sandbox(pool);
}

/* ---- dispatch ---- */

static uint32_t pool_free_places(struct model *model) {
  struct model_pool *pool = pool_of(model);
  uint32_t places = 0;
  for (uint32_t i = 0; i < pool->count; i++) {
    places += model->setup.config->queue - ring_count_producer(&pool->threads[i].worker.inbox.ring);
  }
  return places;
}

static uint32_t pool_live(struct model *model) {
  struct model_pool *pool = pool_of(model);
  uint32_t live = 0;
  for (uint32_t i = 0; i < pool->count; i++) {
    live += atom_load_relaxed_u32(&pool->threads[i].worker.live);
  }
  return live;
}

/* The state of a worker, the best choice for a connection first. */
enum worker_rank {
  QUEUE_EMPTY,
  QUEUE_BUSY,     /* connections wait in its queue */
  WORKER_BLOCKED, /* by a handler, as the watchdog saw */
  QUEUE_FULL,
};

static enum worker_rank rank(const struct pool_thread *thread, uint32_t depth) {
  if (depth >= thread->worker.config->queue) {
    return QUEUE_FULL;
  }
  if (thread->watchdog.blocked) {
    return WORKER_BLOCKED;
  }
  return depth > 0 ? QUEUE_BUSY : QUEUE_EMPTY;
}

/*
 * How unsuitable a worker with ${depth} connections in its queue is for another one.  Its rank
 * counts first, then its live connections or its distance from next_worker, then whether it is
 * awake.
 */
static uint64_t weigh(const struct model_pool *pool, const struct pool_thread *thread,
                      uint32_t depth) {
  const struct worker *worker = &thread->worker;
  bool least = worker->config->dispatch == XCHG_DISPATCH_LEAST;
  uint32_t measure = least ? atom_load_relaxed_u32(&worker->live)
                           : (worker->index + pool->count - pool->next_worker) % pool->count;
  bool awake = atom_load_relaxed_u32(&worker->inbox.sleeping.waits) == 0;
  return (uint64_t)rank(thread, depth) << 33 | (uint64_t)measure << 1 | awake;
}

static int pool_dispatch(struct model *model, const struct accepted_conn *accepted) {
  struct model_pool *pool = pool_of(model);
  struct worker *worker = NULL;
  uint32_t best_depth = 0;
  uint64_t least = UINT64_MAX;
  for (uint32_t i = 0; i < pool->count; i++) {
    struct pool_thread *thread = &pool->threads[i];
    uint32_t depth = ring_count_producer(&thread->worker.inbox.ring);
    uint64_t weight = weigh(pool, thread, depth);
    if (weight < least) {
      worker = &thread->worker;
      best_depth = depth;
      least = weight;
    }
  }
  assert(worker != NULL); /* there is one at least */
  pool->next_worker = worker->index + 1 < pool->count ? worker->index + 1 : 0;
  histogram_record(&pool->depths, best_depth);
  atom_add_relaxed_u32(&worker->live, 1);
  probe_handoff(worker->index, accepted->fd, best_depth);
  int pushed = inbox_push_spsc(&worker->inbox, accepted);
  assert(pushed != -1); /* there was a free place, and only the acceptor pushes */
  if (pushed == 1) {
    probe_wake(worker->index);
  }
  return pushed;
}

/* ---- the watchdog ---- */

static void log_watchdog(struct model_pool *pool, uint32_t worker, enum watchdog_result what,
                         uint64_t ms) {
  struct log *log = pool->model.setup.log;
  struct log_line line;
  if (what == WATCHDOG_BLOCKED) {
    log_begin(&line, log, LOG_WARN, "a handler blocks its worker");
  } else {
    log_begin(&line, log, LOG_INFO, "a blocked worker runs again");
  }
  log_u64(&line, "worker", worker);
  log_u64(&line, "ms", ms);
  log_end(&line);
}

/*
 * Look at the ${i}th worker.  A warning about it comes WARNINGS_NS after the last one at the
 * earliest: later if the episode still lasts then, else not at all.
 */
static void watch_worker(struct model_pool *pool, uint32_t i, uint64_t now_ns) {
  struct pool_thread *thread = &pool->threads[i];
  const struct worker *worker = &thread->worker;
  const struct watchdog_sight sight = {.turn_ns = atom_load_relaxed_u64(&worker->turn_ns),
                                       .steps = atom_load_relaxed_u64(&worker->ctx.steps),
                                       .messages = atom_load_relaxed_u64(&worker->stats.messages)};
  struct watchdog_state before;
  enum watchdog_result what = watchdog_look(&thread->watchdog, &sight, now_ns,
                                            pool->model.setup.config->watchdog_ns, &before);
  if (what == WATCHDOG_BLOCKED) {
    stats_add(&pool->stats.blocked, 1);
    probe_blocked(i, thread->watchdog.since_ns);
    thread->warned = false;
  } else if (what == WATCHDOG_OVER && thread->warned) {
    log_watchdog(pool, i, what, sub_sat_u64(before.seen_ns, before.since_ns) / NS_PER_MS);
  }
  bool due = thread->warned_ns == 0 || sub_sat_u64(now_ns, thread->warned_ns) >= WARNINGS_NS;
  if (thread->watchdog.blocked && !thread->warned && due) {
    thread->warned = true;
    thread->warned_ns = now_ns;
    log_watchdog(pool, i, WATCHDOG_BLOCKED,
                 sub_sat_u64(now_ns, thread->watchdog.since_ns) / NS_PER_MS);
  }
}

static uint64_t pool_watch(struct model *model, uint64_t now_ns) {
  struct model_pool *pool = pool_of(model);
  const struct model_setup *setup = &model->setup;
  uint64_t limit_ns = setup->custom_handler ? setup->config->watchdog_ns : 0, next_ns = NEVER;
  for (uint32_t i = 0; i < pool->count && limit_ns > 0; i++) {
    watch_worker(pool, i, now_ns);
    next_ns = min_u64(next_ns, watchdog_next_ns(&pool->threads[i].watchdog, now_ns, limit_ns));
  }
  return next_ns;
}

/* ---- life ---- */

/* To all workers, started or not: a stop may come before the start is complete. */
static void pool_stop(struct model *model, uint64_t stop_ns) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->count; i++) {
    worker_send_drain(&pool->threads[i].worker, stop_ns);
  }
}

static void pool_stop_now(struct model *model) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->count; i++) {
    worker_send_stop_now(&pool->threads[i].worker);
  }
}

static struct inbox *pool_inbox(struct model *model, uint32_t i) {
  struct model_pool *pool = pool_of(model);
  return i < pool->count ? &pool->threads[i].worker.inbox : NULL;
}

static uint32_t pool_running(struct model *model) {
  return atom_load_acquire_u32(&pool_of(model)->running);
}

static void pool_totals(struct model *model, struct stats *totals) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->count; i++) {
    stats_sum(totals, &pool->threads[i].worker.stats);
  }
  stats_sum(totals, &pool->stats);
}

/*
 * A call that is discarded runs now, and may post to any worker.  The inboxes' counts only grow
 * meanwhile, so TASK_QUEUE_MAX bounds this loop.
 */
static void discard_tasks(struct model_pool *pool) {
  bool any = true;
  while (any) {
    any = false;
    for (uint32_t i = 0; i < pool->opened; i++) {
      any = worker_discard(&pool->threads[i].worker) || any;
    }
  }
}

static void pool_latency(struct model *model, const struct latency_stats *totals) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->count; i++) {
    histogram_merge(totals->handoff_ns, &pool->threads[i].worker.handoffs);
    histogram_merge(totals->turn_ns, &pool->threads[i].worker.turns);
  }
  histogram_merge(totals->queue_depth, &pool->depths);
}

static bool pool_look(struct model *model, uint32_t i, uint64_t now_ns,
                      struct metrics_worker *seen) {
  struct model_pool *pool = pool_of(model);
  if (i >= pool->count) {
    return false;
  }
  worker_look(&pool->threads[i].worker, now_ns, seen);
  seen->busy_ns = thread_cpu_read(&pool->threads[i].cpu);
  return true;
}

static void free_pool(struct model_pool *pool) {
  (void)sem_destroy(&pool->running_up); /* cannot fail: it was initialized */
  free(pool->threads);
  free(pool);
}

static void pool_destroy(struct model *model) {
  struct model_pool *pool = pool_of(model);
  join(pool);
  discard_tasks(pool);
  for (uint32_t i = 0; i < pool->opened; i++) {
    worker_close(&pool->threads[i].worker);
  }
  free_pool(pool);
}

static void pool_abandon(struct model *model) {
  struct model_pool *pool = pool_of(model);
  for (uint32_t i = 0; i < pool->opened; i++) {
    worker_abandon(&pool->threads[i].worker);
  }
  free_pool(pool);
}

struct model *model_pool_create(const struct model_setup *setup) {
  static const struct model_ops ops = {.start = pool_start,
                                       .free_places = pool_free_places,
                                       .live = pool_live,
                                       .dispatch = pool_dispatch,
                                       .stop = pool_stop,
                                       .stop_now = pool_stop_now,
                                       .inbox = pool_inbox,
                                       .watch = pool_watch,
                                       .finish = pool_finish,
                                       .running = pool_running,
                                       .add_totals = pool_totals,
                                       .add_latency = pool_latency,
                                       .look = pool_look,
                                       .destroy = pool_destroy,
                                       .abandon = pool_abandon};
  uint32_t count = setup->config->workers;
  struct pool_thread *threads = aligned_alloc(CACHE_LINE, count * sizeof(*threads));
  struct model_pool *pool = aligned_alloc(CACHE_LINE, sizeof(*pool));
  if (threads == NULL || pool == NULL) {
    free(threads);
    free(pool);
    errno = ENOMEM;
    return NULL;
  }
  *pool = (struct model_pool){
      .model = {.ops = &ops, .setup = *setup}, .threads = threads, .count = count};
  (void)sem_init(&pool->running_up, 0, 0); /* cannot fail with these arguments */
  for (; pool->opened < pool->count; pool->opened++) {
    struct pool_thread *thread = &pool->threads[pool->opened];
    thread->pool = pool;
    thread->watchdog = (struct watchdog_state){.blocked = false};
    thread->cpu = (struct thread_cpu){.tid = 0};
    thread->warned_ns = 0;
    thread->warned = false;
    const struct worker_setup worker = {.config = setup->config,
                                        .handler = setup->handler,
                                        .admission = setup->admission,
                                        .server = setup->server,
                                        .log = setup->log,
                                        .index = pool->opened};
    if (worker_open(&thread->worker, &worker) == -1) {
      int error = errno;
      pool_destroy(&pool->model);
      errno = error;
      return NULL;
    }
  }
  return &pool->model;
}
