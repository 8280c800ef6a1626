/*
 * check_model_thread: a thread for each connection: counted, joined, refused, stopped.
 *
 * The module is compiled into this program, so that pthread_create can be made to fail.
 */
#include <pthread.h>

static int test_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument);
#define pthread_create test_pthread_create
#include "pool/model_thread.c"
#undef pthread_create

#include "net/builtin.h"
#include "tests/fixtures/pool_fixture.h"

static struct config config;
static struct builtin builtin;
static struct admission admission;
static struct wake freed = {.fd = -1}, done = {.fd = -1};
static struct model *model;
static bool refuse_thread;

static int test_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument) {
  return refuse_thread ? EAGAIN : pthread_create(thread, attributes, start, argument);
}

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&freed), 0);
  ck_assert_int_eq(wake_open(&done), 0);
  ck_assert_int_eq(builtin_init(&builtin, &config), 0);
  ck_assert_int_eq(admission_init(&admission, &config, &freed), 0);
  const struct model_setup setup = {
      .config = &config, .handler = &builtin.handler, .admission = &admission, .done = &done};
  model = model_thread_create(&setup);
  ck_assert_ptr_nonnull(model);
  ck_assert_ptr_null(model->ops->start); /* nothing runs before the first connection */
}

#define SET_UP(...)                                 \
  set_up((const char *const[]){"XCHG_MODEL=thread", \
                               "XCHG_MAX_CONNECTIONS=3" __VA_OPT__(, ) __VA_ARGS__, NULL})

static void tear_down(void) {
  model->ops->destroy(model);
  admission_fini(&admission);
  builtin_fini(&builtin);
  wake_close(&freed);
  wake_close(&done);
  config_fini(&config);
}

static struct stats sum_up(void) {
  struct stats sum = {0};
  model->ops->add_totals(model, &sum);
  return sum;
}

static int place_new(void) {
  struct accepted_conn accepted;
  enum xchg_reason refused;
  int client = accept_tcp(&accepted);
  ck_assert(admission_check(&admission, &accepted, &refused));
  ck_assert(model->ops->free_places(model));
  ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
  return client;
}

START_TEST(threads_are_counted) {
  SET_UP("XCHG_MAX_PER_IP=3");
  for (int round = 0; round < 4; round++) { /* slots are reused */
    int clients[3];
    for (uint32_t i = 0; i < 3; i++) {
      ck_assert_uint_eq(model->ops->live(model), i);
      clients[i] = place_new();
    }
    ck_assert(!model->ops->free_places(model));
    for (int i = 2; i >= 0; i--) {
      greet_and_close(clients[i]);
      AWAIT(model->ops->live(model) == (uint32_t)i);
      ck_assert(model->ops->free_places(model)); /* room reaps ended threads when no slot is left */
    }
  }
  ck_assert(model->ops->finish(model));
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), 12);
  ck_assert_uint_eq(stats_ended(&sum), 12);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.messages), 12);
  tear_down();
}
END_TEST

START_TEST(an_acceptor_that_waits_is_woken) {
  SET_UP();
  int client = place_new();
  room_prepare_wait(&admission);
  greet_and_close(client);
  struct pollfd pollfd = {.fd = freed.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert_uint_eq(model->ops->live(model), 0); /* stored before the wake */
  model->ops->reap(model);
  ck_assert(model->ops->finish(model));
  tear_down();
}
END_TEST

START_TEST(a_refused_thread_leaves_the_connection_to_the_caller) {
  SET_UP();
  struct accepted_conn accepted;
  int client = accept_tcp(&accepted);
  refuse_thread = true;
  for (int i = 0; i < 5; i++) { /* no slot is lost either */
    errno = 0;
    ck_assert_int_eq(model->ops->dispatch(model, &accepted), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_uint_eq(model->ops->live(model), 0);
    ck_assert(model->ops->free_places(model));
  }
  ck_assert(model->ops->finish(model));
  refuse_thread = false;
  ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
  greet_and_close(client);
  AWAIT(model->ops->finish(model));
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), 1);
  tear_down();
}
END_TEST

START_TEST(a_stop_reaches_all_threads) {
  SET_UP("XCHG_EXCHANGE=echo");
  int clients[3];
  for (int i = 0; i < 2; i++) {
    clients[i] = place_new();
    send_bytes(clients[i], "ping", 4);
    expect_bytes(clients[i], "ping", 4);
  }
  ck_assert(!model->ops->finish(model));
  model->ops->stop(model, sys_now_ns());
  clients[2] = place_new(); /* from the backlog: gets the stop at once */
  send_bytes(clients[2], "ping", 4);
  expect_bytes(clients[2], "ping", 4);
  for (int i = 0; i < 3; i++) {
    expect_end(clients[i]);
    close(clients[i]);
  }
  AWAIT(model->ops->finish(model));
  ck_assert_uint_eq(model->ops->live(model), 0);
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), 3);
  tear_down();
}
END_TEST

START_TEST(the_drain_timeout_closes_connections) {
  SET_UP("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  int client = place_new();
  send_bytes(client, "begun", 5);
  model->ops->stop(model, sys_now_ns());
  AWAIT(model->ops->finish(model));
  close(client);
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_DRAIN]), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.cut), 1);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {threads_are_counted, 1},
      {an_acceptor_that_waits_is_woken, 1},
      {a_refused_thread_leaves_the_connection_to_the_caller, 1},
      {a_stop_reaches_all_threads, 1},
      {the_drain_timeout_closes_connections, 1},
  };
  return run_suite("model_thread", tests, count_of(tests));
}
