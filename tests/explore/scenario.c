/*
 * scenario: see scenario.h.
 *
 * Everything that threads share is in one struct, which is restored before each execution.  The
 * counts of what was sent and taken serve the checks only.  They are no part of the state, because
 * they follow from the marks of the threads.
 */
#include "tests/explore/scenario.h"

#include "net/builtin.h"
#include "pool/worker.h"
#include "pool/acceptor.h"
#include "tests/explore/memory.h"
#include "tests/explore/seam.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MAX 4
#define SENDERS_MAX 2
#define TASKS_MAX 3
#define RING_ATTEMPTS 2 /* additional pushes and pops, which may find the ring full or empty */

/* The threads; senders follow.  Only the first one makes bursts: see SITE_FIRST_ONLY. */
enum { ACCEPTOR, WORKER, SENDERS };

/* A task with its sender. */
struct note {
  struct task letter;
  uint32_t sender;
};

static struct shared {
  struct worker worker;
  struct admission admission;
  struct accepted_conn slots[CAPACITY_MAX], acceptor_slots[1];
  struct note notes[SENDERS_MAX][TASKS_MAX];
  CACHE_ALIGNED atom_u32 published;
  struct acceptor acceptor; /* last: see begin */
} shared, pristine;

static struct {
  const struct scenario *scenario;
  struct config config;
  struct builtin exchange;
  unsigned pushed, taken; /* accepted connections */
  unsigned sent, dealt;   /* tasks */
  unsigned next[SENDERS_MAX];
} ghost;

int __wrap_conn_open(struct conn_ctx *ctx, const struct accepted_conn *accepted);
bool __wrap_task_run(struct conn_ctx *ctx, struct inbox *inbox, struct task *task,
                     uint32_t *budget);

/* ---- what is handed over, and checks of it ---- */

static struct accepted_conn nth_conn(unsigned n) {
  struct accepted_conn accepted;
  memset(&accepted, 0, sizeof(accepted));
  accepted.accepted_ns = n;
  accepted.fd = (int)n + 100;
  accepted.ip_slot = NO_IP_SLOT;
  accepted.listener = (uint16_t)~n;
  accepted.addr.port = (uint16_t)n;
  return accepted;
}

static void check_conn(const struct accepted_conn *accepted) {
  struct accepted_conn expected = nth_conn(ghost.taken + 1);
  if (accepted->accepted_ns != expected.accepted_ns) {
    explore_fault("connection %llu is taken where %u should come",
                  (unsigned long long)accepted->accepted_ns, ghost.taken + 1);
  }
  if (accepted->fd != expected.fd || accepted->listener != expected.listener ||
      accepted->addr.port != expected.addr.port) {
    explore_fault("connection %u is torn", ghost.taken + 1);
  }
  ghost.taken++;
}

/*
 * In place of opening a connection: it is refused, so that the worker has nothing more to do with
 * it.
 */
int __wrap_conn_open(struct conn_ctx *ctx, const struct accepted_conn *accepted) {
  (void)ctx;
  check_conn(accepted);
  return -1;
}

bool __wrap_task_run(struct conn_ctx *ctx, struct inbox *inbox, struct task *task,
                     uint32_t *budget) {
  const struct note *note = container_of(task, struct note, letter);
  (void)ctx;
  (void)inbox;
  (*budget)--;
  if (task->time_ns != ghost.next[note->sender]++) {
    explore_fault("task %llu of sender %u comes out of order", (unsigned long long)task->time_ns,
                  note->sender);
  }
  ghost.dealt++;
  return true;
}

/* ---- the ring alone ---- */

/* The ring has reported that it is full: then the producer must know of no more pops than that. */
static void check_full(void) {
  struct ring *ring = &shared.worker.inbox.ring;
  uint32_t popped = (uint32_t)memory_known(memory_find(&ring->head));
  if (ghost.pushed - popped != ghost.scenario->capacity) {
    explore_fault("full is reported with %u of %u inside", ghost.pushed - popped,
                  ghost.scenario->capacity);
  }
}

static void ring_producer(void) {
  struct ring *ring = &shared.worker.inbox.ring;
  const struct scenario *scenario = ghost.scenario;
  for (unsigned i = 0; i < scenario->conns + RING_ATTEMPTS; i++) {
    explore_mark(i << 8 | ghost.pushed);
    bool room = false;
    if (ghost.pushed == scenario->conns) {
      return;
    }
    if (scenario->kind == SCENARIO_COUNTED) {
      uint32_t count = ring_count_producer(ring);
      room = count < scenario->capacity;
      if (count < ghost.pushed - ghost.taken) {
        explore_fault("%u counted, %u inside", count, ghost.pushed - ghost.taken);
      }
    }
    struct accepted_conn accepted = nth_conn(ghost.pushed + 1);
    if (ring_push_spsc(ring, &accepted) == 0) {
      ghost.pushed++;
    } else if (room) {
      explore_fault("full is reported although there was room");
    } else {
      check_full();
    }
  }
}

static void ring_consumer(void) {
  struct ring *ring = &shared.worker.inbox.ring;
  struct accepted_conn accepted;
  for (unsigned i = 0; i < ghost.scenario->conns + RING_ATTEMPTS; i++) {
    explore_mark(i << 8 | ghost.taken);
    bool empty = ghost.scenario->kind == SCENARIO_COUNTED && ring_empty_consumer(ring);
    if (!empty && ring_pop_spsc(ring, &accepted)) {
      check_conn(&accepted);
    } else if (!empty && ghost.scenario->kind == SCENARIO_COUNTED) {
      explore_fault("empty is reported although there was something");
    }
  }
}

/* ---- senders ---- */

/*
 * The acceptor waits for room only where the ring can be full; else the ring's own check is
 * explored.
 */
static bool waits_for_room(const struct scenario *scenario) {
  bool has_worker = scenario->kind == SCENARIO_WORKER || scenario->kind == SCENARIO_STOP;
  return has_worker && scenario->capacity < scenario->conns;
}

/* pool_free_places of model_pool.c, for one worker. */
static uint32_t free_places(struct model *model) {
  (void)model;
  return ghost.scenario->capacity - ring_count_producer(&shared.worker.inbox.ring);
}

static uint32_t no_live(struct model *model) {
  (void)model;
  return 0;
}

/* pool_dispatch of model_pool.c, as long as connections come. */
static void acceptor(void) {
  while (ghost.pushed < ghost.scenario->conns) {
    explore_mark(ghost.pushed);
    if (waits_for_room(ghost.scenario) && free_places(NULL) == 0) {
      acceptor_wait(&shared.acceptor);
      (void)inbox_take_all(&shared.acceptor.inbox);
      continue;
    }
    struct accepted_conn accepted = nth_conn(ghost.pushed + 1);
    atom_add_relaxed_u32(&shared.worker.live, 1);
    if (inbox_push_spsc(&shared.worker.inbox, &accepted) == -1) {
      explore_fault("full is reported although there was room");
    }
    ghost.pushed++;
  }
  if (ghost.scenario->kind == SCENARIO_STOP) {
    explore_mark(ghost.pushed);
    worker_send_no_more_conns(&shared.worker);
  }
  explore_mark(ghost.pushed);
}

static void main_stops(void) { worker_send_drain(&shared.worker, 1); }

static void task_sender(void) {
  unsigned self = explore_current() - SENDERS;
  for (unsigned i = 0; i < ghost.scenario->tasks; i++) {
    explore_mark(i);
    struct note *note = &shared.notes[self][i];
    note->letter.kind = TASK_CALL;
    note->letter.time_ns = i;
    note->sender = self;
    inbox_push_mpsc(&shared.worker.inbox, &note->letter);
    ghost.sent++;
  }
  explore_mark(ghost.scenario->tasks);
}

static void publisher(void) {
  for (uint32_t i = 1; i <= ghost.scenario->conns; i++) {
    explore_mark(i);
    ghost.pushed = i;
    atom_store_release_u32(&shared.published, i);
    inbox_wake(&shared.worker.inbox);
  }
}

/* ---- owners ---- */

static void worker(void) {
  worker_run(&shared.worker);
  explore_mark(ghost.taken << 8 | ghost.dealt);
}

/* An owner that waits for something besides its inbox, as the header of inbox_wake describes. */
static void owner(void) {
  struct inbox *inbox = &shared.worker.inbox;
  while (ghost.taken < ghost.scenario->conns) {
    if (inbox_prepare_wait(inbox)) {
      uint32_t seen = atom_load_acquire_u32(&shared.published);
      if (seen == ghost.taken) {
        struct epoll_event event;
        sys_epoll_wait(shared.worker.reactor.epoll_fd, &event, 1, -1);
      }
      inbox_finish_wait(inbox);
    }
    ghost.taken = atom_load_acquire_u32(&shared.published);
    explore_mark(UINT64_C(1) << 60 | ghost.taken);
  }
}

/*
 * No other variable of the worker decides anything here: no connection is open, no time passes, and
 * nothing reads the statistics.
 */
void scenario_mark_wait(int epoll_fd, bool looks) {
  const struct worker *worker = &shared.worker;
  if (explore_current() != WORKER || epoll_fd != worker->reactor.epoll_fd) {
    return;
  }
  uint64_t state = looks;
  state = state << 1 | (worker->ctx.stop_ns != NEVER);
  state = state << 1 | worker->stopping;
  state = state << 1 | worker->stopping_now;
  state = state << 1 | worker->no_more_conns;
  state = state << 1 | (worker->tasks != NULL);
  state = state << 8 | ghost.taken;
  for (unsigned i = 0; i < SENDERS_MAX; i++) {
    state = state << 8 | ghost.next[i];
  }
  explore_mark(state);
}

/* ---- the end ---- */

static void rest(void) {
  const struct scenario *scenario = ghost.scenario;
  bool ring = scenario->kind == SCENARIO_RING || scenario->kind == SCENARIO_COUNTED;
  if (!explore_done(ACCEPTOR)) {
    explore_fault("lost wake-up: the acceptor waits for room, %u of %u connections were taken",
                  ghost.taken, ghost.pushed);
  }
  if (!ring && ghost.taken != ghost.pushed) {
    explore_fault("lost wake-up: the %s sleeps, %u of %u were taken", explore_name(WORKER),
                  ghost.taken, ghost.pushed);
  }
  if (ghost.dealt != ghost.sent && !explore_done(WORKER)) { /* else it was told to stop */
    explore_fault("lost wake-up: the worker sleeps, %u of %u tasks were run", ghost.dealt,
                  ghost.sent);
  }
  if (scenario->kind == SCENARIO_STOP && !explore_done(WORKER)) {
    explore_fault("lost wake-up: the worker sleeps, although the stop was sent");
  }
}

/* ---- the start ---- */

static void begin(void) {
  size_t used = offsetof(struct shared, acceptor);
  memcpy(&shared, &pristine, waits_for_room(ghost.scenario) ? sizeof(shared) : used);
  seam_burst();
  shared.worker.inbox.ring.mask = ghost.scenario->capacity - 1;
  ghost.pushed = ghost.taken = ghost.sent = ghost.dealt = 0;
  memset(ghost.next, 0, sizeof(ghost.next));
}

static void declare_inbox(struct inbox *inbox, unsigned producer, unsigned owner) {
  struct ring *ring = &inbox->ring;
  memory_place(&ring->tail, sizeof(ring->tail), "tail", producer);
  memory_place(&ring->head, sizeof(ring->head), "head", owner);
  memory_place(&inbox->tasks, sizeof(inbox->tasks), "tasks", MEMORY_ANY_THREAD);
  memory_place(&inbox->sleeping, sizeof(inbox->sleeping), "sleeping", MEMORY_SWAPPED);
  memory_object(&ring->head_seen, sizeof(ring->head_seen), "head_seen");
  memory_object(&ring->tail_seen, sizeof(ring->tail_seen), "tail_seen");
  memory_private(ring, offsetof(struct ring, tail), "the ring's constants");
  memory_private(&inbox->wake, sizeof(inbox->wake), "the wake");
}

static void declare(const struct scenario *scenario) {
  static const char *const slot_names[CAPACITY_MAX] = {"slot 0", "slot 1", "slot 2", "slot 3"};
  struct worker *worker = &shared.worker;
  memory_init(&shared, sizeof(shared));
  declare_inbox(&worker->inbox, ACCEPTOR, WORKER);
  memory_event(worker->inbox.wake.fd, worker->reactor.epoll_fd);
  for (unsigned i = 0; i < scenario->capacity; i++) {
    memory_object(&shared.slots[i], sizeof(shared.slots[i]), slot_names[i]);
  }
  if (scenario->kind == SCENARIO_NUDGE) {
    memory_place(&shared.published, sizeof(shared.published), "published", ACCEPTOR);
  }
  if (waits_for_room(scenario)) {
    declare_inbox(&shared.acceptor.inbox, EXPLORE_NO_THREAD, ACCEPTOR);
    memory_place(&shared.admission.acceptor_waits, sizeof(shared.admission.acceptor_waits),
                 "acceptor_waits", MEMORY_SWAPPED);
    memory_event(shared.acceptor.inbox.wake.fd, shared.acceptor.reactor.epoll_fd);
    memory_private(&shared.admission, sizeof(shared.admission), "admission's constants");
    memory_private(&shared.acceptor, sizeof(shared.acceptor), "the acceptor's own");
  }
  for (unsigned i = 0; i < scenario->senders; i++) {
    for (unsigned j = 0; j < scenario->tasks; j++) {
      memory_object(&shared.notes[i][j], sizeof(shared.notes[i][j]), "a sender's task");
    }
  }
  if (scenario->kind == SCENARIO_STOP) {
    memory_object(&worker->drain_task, sizeof(worker->drain_task), "the task stop");
    memory_object(&worker->no_more_conns_task, sizeof(worker->no_more_conns_task), "the task last");
  }
  memory_private(worker, sizeof(*worker), "the worker's own");
}

void scenario_explore(const struct scenario *scenario, struct explore_result *result, FILE *trace) {
  static const struct explore_thread pairs[][2] = {
      [SCENARIO_RING] = {{"producer", ring_producer}, {"consumer", ring_consumer}},
      [SCENARIO_COUNTED] = {{"producer", ring_producer}, {"consumer", ring_consumer}},
      [SCENARIO_WORKER] = {{"acceptor", acceptor}, {"worker", worker}},
      [SCENARIO_STOP] = {{"acceptor", acceptor}, {"worker", worker}},
      [SCENARIO_NUDGE] = {{"publisher", publisher}, {"owner", owner}},
  };
  struct explore_job job = {.name = scenario->name, .begin = begin, .rest = rest, .count = SENDERS};
  ghost.scenario = scenario;
  job.preemptions_max =
      scenario->preemptions_max == 0 ? EXPLORE_UNBOUNDED : scenario->preemptions_max;
  memcpy(job.threads, pairs[scenario->kind], sizeof(pairs[0]));
  if (scenario->kind == SCENARIO_STOP) {
    job.threads[job.count++] = (struct explore_thread){"main", main_stops};
  }
  for (unsigned i = 0; i < scenario->senders; i++) {
    job.threads[job.count++] = (struct explore_thread){i == 0 ? "sender" : "sender 2", task_sender};
  }
  declare(scenario);
  explore(&job, result, trace);
}

unsigned scenario_all(const struct scenario **all) {
  static const struct scenario scenarios[] = {
      {"ring of 1, 3 connections", SCENARIO_RING, 1, 3, 0, 0, 0, 0},
      {"ring of 2, 3 connections", SCENARIO_RING, 2, 3, 0, 0, 0, 0},
      {"ring of 4, 3 connections", SCENARIO_RING, 4, 3, 0, 0, 0, 0},
      {"ring of 1, 3 connections, counted", SCENARIO_COUNTED, 1, 3, 0, 0, 0, 0},
      {"ring of 2, 3 connections, counted", SCENARIO_COUNTED, 2, 3, 0, 0, 0, 0},
      {"3 connections", SCENARIO_WORKER, 4, 3, 0, 0, 0, 0},
      {"3 connections, room for 2", SCENARIO_WORKER, 2, 3, 0, 0, 0, 0},
      {"3 connections, room for 1", SCENARIO_WORKER, 1, 3, 0, 0, 0, 0},
      {"2 connections, a task", SCENARIO_WORKER, 2, 2, 1, 1, 0, 0},
      {"1 connection, 2 senders' tasks", SCENARIO_WORKER, 1, 1, 2, 1, 0, 0},
      {"1 connection, stop", SCENARIO_STOP, 1, 1, 0, 0, 0, 0},
      {"wake, 2 events", SCENARIO_NUDGE, 1, 2, 0, 0, 0, 0},
      {"2 connections, stop", SCENARIO_STOP, 2, 2, 0, 0, 1, 0},
      {"2 connections, 2 tasks", SCENARIO_WORKER, 2, 2, 1, 2, 1, 0},
      {"4 connections", SCENARIO_WORKER, 4, 4, 0, 0, 2, 0},
      {"4 connections, room for 1", SCENARIO_WORKER, 1, 4, 0, 0, 2, 0},
      {"2 connections, room for 1, a task", SCENARIO_WORKER, 1, 2, 1, 1, 2, 0},
      {"2 connections, room for 1, stop", SCENARIO_STOP, 1, 2, 0, 0, 2, 0},
      {"3 connections, 2 tasks", SCENARIO_WORKER, 4, 3, 1, 2, 2, 0},
      {"1 connection, stop, a task", SCENARIO_STOP, 1, 1, 1, 1, 2, 3},
      {"2 connections, 2 senders' 2 tasks", SCENARIO_WORKER, 2, 2, 2, 2, 2, 3},
  };
  *all = scenarios;
  return count_of(scenarios);
}

/* An acceptor without listeners, paused until a worker has room. */
static int open_acceptor(void) {
  static const struct model_ops ops = {.free_places = free_places, .live = no_live};
  static struct model model = {.ops = &ops};
  const struct acceptor_setup setup = {
      .config = &ghost.config, .admission = &shared.admission, .model = &model};
  struct acceptor *acceptor = &shared.acceptor;
  if (acceptor_open_inbox(acceptor) == -1 ||
      admission_init(&shared.admission, &ghost.config, &acceptor->inbox.wake) == -1 ||
      acceptor_open(acceptor, &setup) == -1) {
    return -1;
  }
  acceptor->state = ACCEPT_PAUSED;
  return 0;
}

void scenario_init(void) {
  static const char *const environment[] = {"XCHG_WORKERS=1", "XCHG_MAX_CONNECTIONS=16", NULL};
  const struct config_facts facts = {.cpus = 1, .descriptors = 1024, .somaxconn = 4096};
  if (config_load(&ghost.config, environment, &facts, stderr) != 0 ||
      builtin_init(&ghost.exchange, &ghost.config) == -1 || open_acceptor() == -1) {
    abort();
  }
  const struct worker_setup setup = {
      .config = &ghost.config, .handler = &ghost.exchange.handler, .admission = &shared.admission};
  if (worker_open(&shared.worker, &setup) == -1) {
    abort();
  }
  memcpy(&pristine, &shared, sizeof(pristine));
  pristine.worker.inbox.ring.slots = shared.slots;
  pristine.acceptor.inbox.ring.slots = shared.acceptor_slots;
}
