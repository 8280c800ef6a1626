/*
 * worker: see worker.h.
 *
 * Every loop over outside input is bounded per turn: accepted connections, tasks and the members
 * that they reach, connections told of a stop, connections closed by it.  If a loop has work left,
 * the next wait returns at once.
 *
 * A worker's memory comes from mmap, never from malloc.  jemalloc sets a thread up at its first
 * allocation, and the process dies if there is no memory for that.
 */
#include "pool/worker.h"

#include "core/sys.h"
#include "core/probe.h"
#include "pool/forked.h"
#include "pool/conn_batch.h"

#include <assert.h>
#include <sys/mman.h>

#define ACCEPTED_MAX 64  /* taken from the queue in a turn */
#define TASK_BUDGET 1024 /* calls made, or members published to, in a turn */
#define STOP_BATCH 256   /* connections told of the stop, or closed by it, in a turn */
/*
 * The length of a turn is how long its last event waited.  Reading the clock adds about 20 % to the
 * instructions of a turn with one event, so short turns are sampled.
 */
#define TURNS_SAMPLED 16 /* one turn in 16 is measured */
#define TURN_LONG 16     /* a turn with at least 16 events is always measured */

#define TRIM_AFTER_NS NS_PER_S /* free memory returns to the kernel after this time */

/* The input buffer with its front, and the staging block for output. */
#define BUFFERS_BYTES (CONN_INPUT_FRONT + WORKER_INPUT_BYTES + CONN_STAGING_BYTES)

/* ---- open and close ---- */

static int worker_init(struct worker *worker, const struct worker_setup *setup, uint32_t conns) {
  *worker = (struct worker){.config = setup->config,
                            .admission = setup->admission,
                            .index = setup->index,
                            .trim_at_ns = NEVER,
                            .tasks_end = &worker->tasks,
                            .stop_now_ns = NEVER,
                            .inbox = {.wake = {.fd = -1}},
                            .reactor = {.epoll_fd = -1}};
  atom_store_relaxed_u32(&worker->parked.over, 1); /* no other thread has it */
  void *input = sys_map(BUFFERS_BYTES);
  if (input == MAP_FAILED) {
    return -1;
  }
  /* A failure costs memory only. */
  (void)sys_no_huge_pages(input, BUFFERS_BYTES);
  worker->input = input;
  if (slab_init(&worker->conns, conn_bytes(setup->handler), conns) == -1) {
    return -1;
  }
  worker->reactor.stats = &worker->stats;
  if (conn_ctx_init(&worker->ctx, setup->config, setup->handler, &worker->reactor, conns) == -1) {
    return -1;
  }
  worker->ctx.server = setup->server;
  if (setup->log != NULL && setup->config->use == USE_CLIENTS) { /* else it writes nothing */
    worker->ctx.log = setup->log;
  }
  worker->ctx.index = setup->index;
  worker->ctx.input = worker->input + CONN_INPUT_FRONT;
  worker->ctx.input_bytes = WORKER_INPUT_BYTES;
  buf_pool_stage(&worker->ctx.bufs, worker->ctx.input + WORKER_INPUT_BYTES, CONN_STAGING_BYTES);
  return 0;
}

int worker_open(struct worker *worker, const struct worker_setup *setup) {
  uint64_t conns = max_u64(setup->config->max_connections, setup->config->adopted);
  if (worker_init(worker, setup, (uint32_t)conns) == -1 ||
      inbox_open(&worker->inbox, setup->config->queue) == -1 ||
      reactor_open(&worker->reactor, &worker->conns, &worker->stats) == -1 ||
      reactor_add_wake(&worker->reactor, &worker->inbox.wake) == -1) {
    worker_close(worker);
    return -1;
  }
  return 0;
}

int worker_open_single(struct worker *worker, const struct worker_setup *setup,
                       const struct wake *stop) {
  if (worker_init(worker, setup, 1) == -1) {
    worker_close(worker);
    return -1;
  }
  worker->single = true;
  reactor_open_single(&worker->reactor, &worker->conns, &worker->stats);
  return reactor_add_wake(&worker->reactor, stop);
}

bool worker_discard(struct worker *worker) {
  *worker->tasks_end = inbox_take_all(&worker->inbox);
  worker->tasks_end = &worker->tasks;
  bool any = worker->tasks != NULL;
  while (worker->tasks != NULL) {
    struct task *task = worker->tasks;
    worker->tasks = task->next;
    task_discard(task);
  }
  return any;
}

static void free_all(struct worker *worker) {
  conn_ctx_fini(&worker->ctx);
  slab_fini(&worker->conns);
  reactor_close(&worker->reactor);
  if (!worker->single) {
    inbox_close(&worker->inbox);
  }
  if (worker->input != NULL) {
    (void)sys_unmap(worker->input, BUFFERS_BYTES); /* a failure leaks it */
    worker->input = NULL;
  }
}

void worker_close(struct worker *worker) {
  (void)worker_discard(worker); /* there were tasks or not */
  free_all(worker);
}

void worker_abandon(struct worker *worker) {
  struct accepted_conn accepted;
  for (uint32_t slot = 0; (slot = slab_next(&worker->conns, slot)) != SLAB_NONE; slot++) {
    struct xchg_conn *conn = conn_of(slab_at(&worker->conns, slot));
    if (conn->ctx == &worker->ctx && conn->fd != -1) { /* else the parent was about to open it */
      sys_close(conn->fd);
    }
  }
  while (inbox_pop(&worker->inbox, &accepted)) {
    sys_close(accepted.fd);
  }
  free_all(worker);
}

/* Return free memory to the kernel. */
static OUTLINED void trim_memory(struct worker *worker) {
  worker->trim_at_ns = NEVER;
  slab_trim(&worker->conns);
  conn_ctx_trim(&worker->ctx);
}

/* ---- accepted connections ---- */

static void release_admission(struct worker *worker, uint32_t ip_slot) {
  admission_release(worker->admission, ip_slot);
  atom_sub_release_u32(&worker->live, 1);
}

static void open_accepted(struct worker *worker, const struct accepted_conn *accepted) {
  if (worker->stopping_now) {
    stats_add(&worker->stats.ended[XCHG_DRAIN], 1);
    stats_add(&worker->stats.cut, 1);
    probe_refuse(XCHG_DRAIN, &accepted->addr);
    sys_close(accepted->fd);
    release_admission(worker, accepted->ip_slot);
  } else if (conn_open(&worker->ctx, accepted) == -1) {
    release_admission(worker, accepted->ip_slot);
  }
}

/* Free what has ended in this turn. Return: how many. */
static uint32_t reap(struct worker *worker) {
  uint32_t count = 0;
  struct source *source;
  while ((source = reactor_reap(&worker->reactor)) != NULL) {
    const struct conn_peer *peer = &worker->ctx.peers[source_slot(&worker->reactor, source)];
    /* now_ns may be earlier: the connection may have come in the middle of this turn */
    stats_lived(&worker->stats, sub_sat_u64(worker->reactor.now_ns, peer->opened_ns));
    release_admission(worker, peer->ip_slot);
    reactor_free(&worker->reactor, source);
    count++;
  }
  if (count > 0 && worker->trim_at_ns == NEVER) {
    worker->trim_at_ns = worker->reactor.now_ns + TRIM_AFTER_NS;
  }
  return count;
}

/* ---- the stop ---- */

static void begin_drain(struct worker *worker, uint64_t stop_ns) {
  const struct config *config = worker->config;
  worker->ctx.stop_ns = stop_ns;
  worker->stopping = true;
  worker->stop_cursor = 0;
  worker->stop_now_ns =
      add_sat_u64(stop_ns, max_u64(config->drain_timeout_ns, config->stop_grace_ns));
}

static void stop_conn(struct worker *worker, struct source *source) {
  if (worker->stopping_now) {
    stats_add(&worker->stats.cut, conn_stop_now(source) ? 1 : 0);
  } else {
    conn_stop(source);
  }
}

/* Tell the next connections of the stop, or close them if the drain timeout is over. */
static OUTLINED void continue_stop(struct worker *worker) {
  if (!worker->stopping_now && worker->stop_now_ns <= worker->reactor.now_ns) {
    probe_stop(PROBE_CUT);
    worker->stopping_now = true;
    worker->stopping = true;
    worker->stop_cursor = 0;
  }
  for (int i = 0; i < STOP_BATCH && worker->stopping; i++) {
    uint32_t slot = slab_next(&worker->conns, worker->stop_cursor);
    if (slot == SLAB_NONE) {
      worker->stopping = false;
      return;
    }
    worker->stop_cursor = slot + 1;
    struct source *source = slab_at(&worker->conns, slot);
    if (source_is_live(&worker->reactor, source)) {
      stop_conn(worker, source);
    }
  }
}

static void begin_stop_now(struct worker *worker) {
  if (worker->ctx.stop_ns == NEVER) {
    begin_drain(worker, worker->reactor.now_ns);
  }
  worker->stop_now_ns = 0;
}

/* Connections were parked, or are served again. */
static void note_parked(struct worker *worker) {
  worker->published_turn = worker->ctx.parked > 0 ? NEVER : worker->reactor.requeues_asked;
  if (worker->stopping_now) { /* those that were parked were not closed */
    worker->stopping = true;
    worker->stop_cursor = 0;
  }
}

/* Obey the tasks of the stop; queue calls and publications. */
static void take_tasks(struct worker *worker) {
  struct task *task = inbox_take_all(&worker->inbox);
  while (task != NULL) {
    struct task *next = task->next;
    switch (task->kind) {
      case TASK_DRAIN:
        if (worker->ctx.stop_ns == NEVER) { /* else TASK_STOP_NOW came first */
          begin_drain(worker, task->time_ns);
        }
        break;
      case TASK_STOP_NOW:
        begin_stop_now(worker);
        break;
      case TASK_NO_MORE_CONNS:
        worker->no_more_conns = true;
        break;
      case TASK_BATCH:
        conn_batch_run(task, &worker->ctx);
        note_parked(worker);
        break;
      case TASK_SETTLE:
        parked_run(&worker->parked, &worker->ctx, worker->admission, &worker->live);
        note_parked(worker);
        break;
      case TASK_LEAVE: /* no stop: connections are not told */
        worker->stop_now_ns = add_sat_u64(task->time_ns, worker->config->drain_timeout_ns);
        break;
      case TASK_VISIT: /* first, however many tasks wait */
        task->next = worker->tasks;
        worker->tasks = task;
        if (task->next == NULL) {
          worker->tasks_end = &task->next;
        }
        break;
      default:
        task->next = NULL;
        *worker->tasks_end = task;
        worker->tasks_end = &task->next;
        break;
    }
    task = next;
  }
}

/* ${bytes} were published. Return: must tasks wait for the members' turns? See worker.h. */
static bool note_published(struct worker *worker, uint64_t bytes) {
  worker->published_bytes += bytes;
  if (worker->published_bytes < worker->config->max_pending_bytes / 2) {
    return false;
  }
  worker->published_turns = worker->published_bytes / CONN_TURN_BYTES;
  worker->published_bytes = 0;
  worker->published_turn = worker->reactor.requeues_asked;
  return true;
}

/* Must tasks wait, because members have not had the turns to send what was published? */
static bool members_behind(struct worker *worker) {
  const struct reactor *reactor = &worker->reactor;
  if (reactor->requeues_served < worker->published_turn) {
    return true;
  }
  if (worker->published_turns == 0 || reactor->requeues_served == reactor->requeues_asked) {
    worker->published_turns = 0; /* no turn is asked for: all is sent, or a member is slow */
    return false;
  }
  worker->published_turns--;
  worker->published_turn = reactor->requeues_asked;
  return true;
}

/* A visit that has more to show stays first, and the others run after its slice. */
static OUTLINED void run_tasks(struct worker *worker) {
  uint32_t budget = TASK_BUDGET;
  if (members_behind(worker)) {
    return;
  }
  struct task **link = &worker->tasks;
  while (*link != NULL && budget > 0) {
    struct task *task = *link;
    struct task *next = task->next; /* read before task_run, which frees the task */
    uint64_t bytes = task_bytes(task);
    uint32_t batch = VISIT_BATCH;
    bool visit = task->kind == TASK_VISIT;
    if (task_run(&worker->ctx, &worker->inbox, task, visit ? &batch : &budget)) {
      *link = next;
      worker->tasks_end = next == NULL ? link : worker->tasks_end;
    } else if (visit) {
      link = &task->next;
    } else {
      return;
    }
    if (note_published(worker, bytes)) {
      return;
    }
  }
}

/* ---- turns ---- */

/* Poll before sleeping, at most until the next timer is due. Return: did something come? */
static OUTLINED bool spin(struct worker *worker) {
  uint64_t until_ns = worker->reactor.now_ns + worker->config->spin_ns;
  do {
    reactor_wait(&worker->reactor, 0);
    if (worker->reactor.ready > 0 || !inbox_empty(&worker->inbox)) {
      return true;
    }
  } while (worker->reactor.now_ns < until_ns && worker->reactor.now_ns < worker->stop_now_ns &&
           wheel_next_ns(&worker->reactor.wheel) > worker->reactor.now_ns);
  return false;
}

static void wait_turn(struct worker *worker, bool more) {
  bool tasks = worker->tasks != NULL && worker->published_turn != NEVER;
  if (more || worker->stopping || tasks || reactor_busy(&worker->reactor)) {
    reactor_wait(&worker->reactor, 0);
    return;
  }
  bool spins = worker->config->spin_ns > 0 && worker->config->model == MODEL_POOL;
  if (spins && spin(worker)) {
    return;
  }
  if (!inbox_prepare_wait(&worker->inbox)) {
    reactor_wait(&worker->reactor, 0);
    return;
  }
  if (worker->trim_at_ns == NEVER && buf_pool_idle(&worker->ctx.bufs)) {
    worker->trim_at_ns =
        worker->reactor.now_ns + TRIM_AFTER_NS; /* although no connection has ended */
  }
  uint64_t stop_now_ns = worker->stopping_now ? NEVER : worker->stop_now_ns;
  reactor_wait(&worker->reactor, min_u64(stop_now_ns, worker->trim_at_ns));
  inbox_finish_wait(&worker->inbox);
}

/* Take tasks and accepted connections. Return: may there be more connections? */
static bool drain_inbox(struct worker *worker, uint32_t *taken) {
  take_tasks(worker);
  if (worker->tasks != NULL || worker->published_turns > 0) {
    run_tasks(worker);
  }
  struct accepted_conn accepted;
  for (*taken = 0; *taken < ACCEPTED_MAX; (*taken)++) {
    if (!inbox_pop(&worker->inbox, &accepted)) {
      return false;
    }
    histogram_record(&worker->handoffs, sub_sat_u64(sys_now_ns(), accepted.accepted_ns));
    open_accepted(worker, &accepted);
  }
  return true;
}

/* The part after the wait in every kind of worker. Return: has a connection ended? */
static bool turn(struct worker *worker) {
  reactor_dispatch(&worker->reactor);
  if (worker->trim_at_ns <= worker->reactor.now_ns) {
    trim_memory(worker);
  }
  if (worker->stop_now_ns != NEVER) {
    continue_stop(worker);
  }
  return reap(worker) > 0;
}

/* Record the length of a turn of ${events} events. */
static void note_turn(struct worker *worker, int events) {
  bool sampled = worker->turns_count++ % TURNS_SAMPLED == 0;
  if (events > 0 && (sampled || events >= TURN_LONG)) {
    histogram_record(&worker->turns, sub_sat_u64(sys_now_ns(), worker->reactor.now_ns));
  }
  probe_turn(worker->index, events, worker->reactor.now_ns);
}

/* In a child that a callback of this thread forks. */
static void on_fork(void *argument) {
  struct worker *worker = argument;
  conn_forked(&worker->ctx);
}

/* The calling thread runs the connections of ${worker} from now on. */
static void begin_serving(struct worker *worker) {
  worker->ctx.thread = conn_thread();
  forked_call(on_fork, worker);
}

static void end_serving(void) { forked_call(NULL, NULL); }

void worker_run(struct worker *worker) {
  bool more = true;
  begin_serving(worker);
  while (!worker->no_more_conns || more || worker->conns.used > 0) {
    wait_turn(worker, more);
    atom_store_relaxed_u64(&worker->turn_ns, worker->reactor.now_ns);
    int events = worker->reactor.ready;
    bool freed = turn(worker);
    uint32_t taken;
    more = drain_inbox(worker, &taken);
    note_turn(worker, events);
    atom_store_relaxed_u64(&worker->turn_ns, 0);
    if (freed || taken > 0) {
      room_wake(worker->admission);
    }
  }
  end_serving();
  atom_store_relaxed_u32(&worker->inbox.owner_ended, 1);
}

void worker_serve(struct worker *worker, const struct accepted_conn *accepted) {
  begin_serving(worker);
  reactor_wait(&worker->reactor, 0); /* update now_ns: it is from the connection before */
  open_accepted(worker, accepted);
  while (worker->conns.used > 0) {
    wait_turn(worker, false);
    turn(worker);
    take_tasks(worker);
  }
  end_serving();
}

void worker_number_single(struct worker *worker, uint64_t number) {
  worker->reactor.generation = number;
}

void worker_serve_single(struct worker *worker, const struct accepted_conn *accepted,
                         const atom_u64 *stop_ns) {
  assert(worker->single);
  begin_serving(worker);
  open_accepted(worker, accepted);
  while (worker->conns.used > 0) {
    uint64_t until_ns = worker->stopping ? 0 : worker->stopping_now ? NEVER : worker->stop_now_ns;
    reactor_wait(&worker->reactor, until_ns);
    if (worker->reactor.woken && worker->ctx.stop_ns == NEVER) {
      begin_drain(worker, atom_load_relaxed_u64(stop_ns));
    }
    turn(worker);
  }
  end_serving();
}

/* The queue is read first: a connection that leaves it meanwhile is then missing in neither. */
void worker_look(const struct worker *worker, uint64_t now_ns, struct metrics_worker *seen) {
  uint64_t queue = ring_count_any(&worker->inbox.ring);
  uint64_t turn_ns = atom_load_relaxed_u64(&worker->turn_ns);
  *seen = (struct metrics_worker){.open = sub_sat_u64(atom_load_relaxed_u32(&worker->live), queue),
                                  .queue = queue,
                                  .turn_age_ns = turn_ns == 0 ? 0 : sub_sat_u64(now_ns, turn_ns),
                                  .messages = atom_load_relaxed_u64(&worker->stats.messages)};
}

void worker_send_leave(struct worker *worker, uint64_t leave_ns) {
  worker->stop_now_task = (struct task){.kind = TASK_LEAVE, .time_ns = leave_ns};
  inbox_push_mpsc(&worker->inbox, &worker->stop_now_task);
}
