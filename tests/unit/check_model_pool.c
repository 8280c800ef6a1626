/*
 * check_model_pool: the choice of a worker as XCHG_DISPATCH defines it, room, and the threads.
 *
 * The module is compiled into this program, so that workers can be put into any state. In a model
 * that is not started only the test empties the queues. Random tests print their seed, and
 * CHECK_SEED sets it.
 */
#include "pool/thread.h"

#include <pthread.h>

static int test_thread_create(pthread_t *thread, void *(*start)(void *), void *argument);
#define thread_create test_thread_create
#include "pool/model_pool.c"
#undef thread_create

#include "net/builtin.h"
#include "tests/fixtures/pool_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define WORKERS 4
#define QUEUE 8

static struct config config;
static struct builtin builtin;
static struct admission admission;
static struct wake freed = {.fd = -1}, done = {.fd = -1};
static struct model *model;
static struct model_pool *pool;
static int creates_left = INT32_MAX; /* calls of thread_create that succeed */

static int test_thread_create(pthread_t *thread, void *(*start)(void *), void *argument) {
  return creates_left-- > 0 ? thread_create(thread, start, argument) : EAGAIN;
}

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&freed), 0);
  ck_assert_int_eq(wake_open(&done), 0);
  ck_assert_int_eq(builtin_init(&builtin, &config), 0);
  ck_assert_int_eq(admission_init(&admission, &config, &freed), 0);
  const struct model_setup setup = {
      .config = &config, .handler = &builtin.handler, .admission = &admission, .done = &done};
  model = model_pool_create(&setup);
  ck_assert_ptr_nonnull(model);
  pool = pool_of(model);
}

/* Of two entries for the same variable the first counts. */
#define SET_UP(...)                                                                         \
  set_up((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) "XCHG_WORKERS=4", "XCHG_QUEUE=8", \
                               "XCHG_MAX_CONNECTIONS=64", NULL})

static void tear_down(void) {
  model->ops->destroy(model);
  admission_fini(&admission);
  builtin_fini(&builtin);
  wake_close(&freed);
  wake_close(&done);
  config_fini(&config);
}

/* ---- workers in a given state ---- */

struct state {
  uint32_t queued, live;
  bool sleeps;
};

static void set_state(uint32_t i, const struct state *state) {
  struct worker *worker = &pool->threads[i].worker;
  struct accepted_conn accepted = {.fd = -1};
  while (inbox_pop(&worker->inbox, &accepted)) {
  }
  for (uint32_t n = 0; n < state->queued; n++) {
    ck_assert_int_eq(ring_push_spsc(&worker->inbox.ring, &accepted), 0);
  }
  atom_store_relaxed_u32(&worker->live, state->live);
  atom_store_relaxed_u32(&worker->inbox.sleeping.waits, state->sleeps);
}

static void set_states(const struct state states[WORKERS]) {
  for (uint32_t i = 0; i < WORKERS; i++) {
    set_state(i, &states[i]);
  }
}

/* Dispatch a connection. Return: the worker whose queue has grown. */
static uint32_t choose(int *woken) {
  uint32_t before[WORKERS], chosen = WORKERS;
  for (uint32_t i = 0; i < WORKERS; i++) {
    before[i] = ring_count_producer(&pool->threads[i].worker.inbox.ring);
  }
  static int number = 1000;
  struct accepted_conn accepted = {.fd = ++number, .ip_slot = 7};
  *woken = model->ops->dispatch(model, &accepted);
  for (uint32_t i = 0; i < WORKERS; i++) {
    uint32_t more = ring_count_producer(&pool->threads[i].worker.inbox.ring) - before[i];
    if (more != 0) {
      ck_assert_uint_eq(more, 1);
      ck_assert_uint_eq(chosen, WORKERS); /* no other worker got it */
      chosen = i;
    }
  }
  ck_assert_uint_lt(chosen, WORKERS);
  return chosen;
}

/* The worker that is chosen in this state. */
static uint32_t choose_of(const struct state states[WORKERS]) {
  int woken;
  set_states(states);
  uint32_t chosen = choose(&woken);
  ck_assert_int_eq(woken, states[chosen].sleeps);
  ck_assert_uint_eq(atom_load_relaxed_u32(&pool->threads[chosen].worker.live),
                    states[chosen].live + 1);
  return chosen;
}

#define EXPECT(worker, ...) \
  ck_assert_uint_eq(choose_of((const struct state[WORKERS]){__VA_ARGS__}), worker)

START_TEST(least_takes_the_fewest_of_empty_queues) {
  SET_UP("XCHG_DISPATCH=least");
  EXPECT(2, {0, 5, false}, {0, 4, false}, {0, 3, false}, {0, 4, false});
  EXPECT(0, {0, 0, false}, {0, 4, false}, {0, 3, false}, {0, 4, false});
  EXPECT(3, {0, 9, true}, {1, 0, true}, {2, 0, false},
         {0, 8, false}); /* an empty queue counts more than fewer connections */
  EXPECT(1, {0, 5, true}, {0, 4, false}, {0, 5, true},
         {0, 5, true}); /* fewer connections count more than being asleep */
  tear_down();
}
END_TEST

START_TEST(least_prefers_a_sleeping_worker_among_equals) {
  SET_UP("XCHG_DISPATCH=least");
  EXPECT(3, {0, 2, false}, {0, 2, false}, {0, 2, false}, {0, 2, true});
  EXPECT(1, {0, 3, true}, {0, 2, true}, {0, 2, false}, {1, 0, true});
  tear_down();
}
END_TEST

START_TEST(least_without_an_empty_queue_takes_the_fewest) {
  SET_UP("XCHG_DISPATCH=least");
  EXPECT(1, {1, 5, false}, {7, 4, false}, {1, 6, false}, {2, 5, false});
  EXPECT(2, {1, 5, false}, {8, 4, false}, {1, 4, false},
         {8, 1, false}); /* full queues are skipped */
  tear_down();
}
END_TEST

START_TEST(round_robin_takes_workers_in_turn) {
  SET_UP("XCHG_DISPATCH=round-robin");
  static const struct state empty[WORKERS] = {
      {0, 9, false}, {0, 0, true}, {0, 3, true}, {0, 1, false}};
  for (uint32_t i = 0; i < 3 * WORKERS; i++) {
    ck_assert_uint_eq(choose_of(empty), i % WORKERS);
  }
  int woken;
  set_states(empty);
  for (uint32_t i = 0; i < QUEUE * WORKERS; i++) { /* the queues grow evenly */
    ck_assert_uint_eq(choose(&woken), i % WORKERS);
  }
  ck_assert(!model->ops->free_places(model));
  tear_down();
}
END_TEST

START_TEST(round_robin_skips_busy_queues) {
  SET_UP("XCHG_DISPATCH=round-robin");
  EXPECT(1, {1, 0, false}, {0, 9, false}, {0, 0, true}, {0, 0, true});
  EXPECT(3, {0, 0, false}, {0, 0, false}, {2, 0, false}, {0, 5, false}); /* worker 2 is skipped */
  EXPECT(0, {1, 0, false}, {1, 0, false}, {1, 0, false}, {1, 0, false}); /* none is empty */
  EXPECT(2, {1, 0, false}, {8, 0, false}, {1, 0, false}, {1, 0, false}); /* worker 1 is full */
  EXPECT(1, {1, 0, false}, {0, 0, false}, {1, 0, false}, {1, 0, false}); /* the only empty one */
  tear_down();
}
END_TEST

/* ---- the same in random states ---- */

static uint32_t seed;

/* The seed from CHECK_SEED, or else from the clock. It is printed. */
static uint32_t begin_random(void) {
  const char *text = getenv("CHECK_SEED");
  seed = text != NULL ? (uint32_t)strtoul(text, NULL, 0) : (uint32_t)sys_now_ns();
  printf("CHECK_SEED=%u\n", seed);
  return seed;
}

static uint32_t random_below(uint32_t limit) {
  seed = seed * 1664525 + 1013904223;
  return (seed >> 8) % limit;
}

static void random_states(struct state states[WORKERS]) {
  uint32_t kind = random_below(3); /* mostly empty, mixed, mostly full */
  for (uint32_t i = 0; i < WORKERS; i++) {
    uint32_t n = kind == 0 ? random_below(2) : kind == 1 ? random_below(QUEUE + 1) : QUEUE;
    states[i] = (struct state){n, random_below(4), random_below(2) == 1};
  }
  states[random_below(WORKERS)].queued = random_below(QUEUE); /* at least one has room */
}

/* May ${i} be chosen before ${j} under XCHG_DISPATCH=least? */
static bool least_allows(const struct state *i, const struct state *j) {
  if ((i->queued == 0) != (j->queued == 0)) {
    return i->queued == 0;
  }
  if (j->queued == QUEUE) {
    return true;
  }
  if (i->live != j->live) {
    return i->live < j->live;
  }
  return i->queued > 0 || i->sleeps || !j->sleeps;
}

START_TEST(least_in_random_states) {
  const uint32_t first = begin_random();
  SET_UP("XCHG_DISPATCH=least");
  for (int round = 0; round < 3000; round++) {
    struct state states[WORKERS];
    random_states(states);
    ck_assert(model->ops->free_places(model) || round == 0);
    uint32_t chosen = choose_of(states);
    ck_assert_msg(states[chosen].queued < QUEUE, "seed %u, round %d", first, round);
    for (uint32_t i = 0; i < WORKERS; i++) {
      ck_assert_msg(i == chosen || least_allows(&states[chosen], &states[i]),
                    "seed %u, round %d: %u before %u", first, round, chosen, i);
    }
    set_state(chosen, &(const struct state){0, 0, false});
  }
  tear_down();
}
END_TEST

START_TEST(round_robin_in_random_states) {
  const uint32_t first = begin_random();
  SET_UP("XCHG_DISPATCH=round-robin");
  uint32_t turn = 0;
  for (int round = 0; round < 3000; round++) {
    struct state states[WORKERS];
    random_states(states);
    bool any_empty = false;
    for (uint32_t i = 0; i < WORKERS; i++) {
      any_empty = any_empty || states[i].queued == 0;
    }
    uint32_t want = turn;
    while (any_empty ? states[want].queued > 0 : states[want].queued == QUEUE) {
      want = (want + 1) % WORKERS;
    }
    uint32_t chosen = choose_of(states);
    ck_assert_msg(chosen == want, "seed %u, round %d: %u, want %u", first, round, chosen, want);
    turn = (want + 1) % WORKERS;
  }
  tear_down();
}
END_TEST

/* ---- room and counts ---- */

START_TEST(room_until_every_queue_is_full) {
  SET_UP();
  int woken;
  for (uint32_t i = 0; i < WORKERS * QUEUE; i++) {
    ck_assert(model->ops->free_places(model));
    ck_assert_uint_eq(model->ops->live(model), i);
    choose(&woken);
  }
  ck_assert(!model->ops->free_places(model));
  struct accepted_conn accepted;
  ck_assert(inbox_pop(&pool->threads[2].worker.inbox, &accepted));
  ck_assert(model->ops->free_places(model));
  ck_assert_uint_eq(model->ops->live(model),
                    WORKERS * QUEUE); /* taken from the queue, but not ended */
  ck_assert_uint_eq(choose(&woken), 2);
  ck_assert(!model->ops->free_places(model));
  tear_down();
}
END_TEST

START_TEST(dispatched_connections_arrive_unchanged_in_order) {
  SET_UP("XCHG_WORKERS=1");
  for (int i = 0; i < QUEUE; i++) {
    struct accepted_conn accepted = {
        .fd = i, .ip_slot = 100 + (uint32_t)i, .accepted_ns = 5, .listener = 3};
    ck_assert_int_ge(model->ops->dispatch(model, &accepted), 0);
  }
  for (int i = 0; i < QUEUE; i++) {
    struct accepted_conn accepted;
    ck_assert(inbox_pop(&pool->threads[0].worker.inbox, &accepted));
    ck_assert_int_eq(accepted.fd, i);
    ck_assert_uint_eq(accepted.ip_slot, 100 + (uint32_t)i);
    ck_assert_uint_eq(accepted.accepted_ns, 5);
    ck_assert_uint_eq(accepted.listener, 3);
  }
  tear_down();
}
END_TEST

/* ---- threads ---- */

START_TEST(starts_serves_and_stops) {
  enum { CLIENTS = 12 };
  SET_UP("XCHG_EXCHANGE=echo", "XCHG_PIN=on");
  ck_assert_int_eq(model->ops->start(model), 0);
  ck_assert_uint_eq(model->ops->running(model), WORKERS);
  int clients[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    struct accepted_conn accepted;
    clients[i] = accept_tcp(&accepted);
    ck_assert(model->ops->free_places(model));
    ck_assert_int_ge(model->ops->dispatch(model, &accepted), 0);
  }
  for (int i = 0; i < CLIENTS; i++) {
    send_bytes(clients[i], "ping", 4);
    expect_bytes(clients[i], "ping", 4);
  }
  ck_assert_uint_eq(model->ops->live(model), CLIENTS);
  model->ops->stop(model, sys_now_ns());
  ck_assert(model->ops->finish(model));
  for (int i = 0; i < CLIENTS; i++) {
    expect_end(clients[i]);
    close(clients[i]);
  }
  AWAIT(model->ops->running(model) == 0);
  struct pollfd pollfd = {.fd = done.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert_uint_eq(model->ops->live(model), 0);
  struct stats sum = {0};
  model->ops->add_totals(model, &sum);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), CLIENTS);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.messages), CLIENTS);
  tear_down();
}
END_TEST

/* The system refuses the third thread: the first two have ended when start returns. */
START_TEST(a_refused_thread_leaves_none) {
  SET_UP();
  creates_left = 2;
  errno = 0;
  ck_assert_int_eq(model->ops->start(model), -1);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_uint_eq(model->ops->running(model), 0);
  ck_assert_uint_eq(pool->started, 0);
  tear_down();
}
END_TEST

START_TEST(destroy_without_a_start) {
  SET_UP();
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {least_takes_the_fewest_of_empty_queues, 1},
      {least_prefers_a_sleeping_worker_among_equals, 1},
      {least_without_an_empty_queue_takes_the_fewest, 1},
      {round_robin_takes_workers_in_turn, 1},
      {round_robin_skips_busy_queues, 1},
      {least_in_random_states, 1},
      {round_robin_in_random_states, 1},
      {room_until_every_queue_is_full, 1},
      {dispatched_connections_arrive_unchanged_in_order, 1},
      {starts_serves_and_stops, 1},
      {a_refused_thread_leaves_none, 1},
      {destroy_without_a_start, 1},
  };
  return run_suite("model_pool", tests, count_of(tests));
}
