/*
 * check_model_iterative: one connection at a time on the caller's thread.
 */
#include "pool/model.h"

#include "core/stats.h"
#include "net/builtin.h"
#include "tests/fixtures/pool_fixture.h"

#include <pthread.h>

static struct config config;
static struct builtin builtin;
static struct admission admission;
static struct wake room = {.fd = -1}, done = {.fd = -1};
static struct model *model;

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&room), 0);
  ck_assert_int_eq(wake_open(&done), 0);
  ck_assert_int_eq(builtin_init(&builtin, &config), 0);
  ck_assert_int_eq(admission_init(&admission, &config, &room), 0);
  const struct model_setup setup = {
      .config = &config, .handler = &builtin.handler, .admission = &admission, .done = &done};
  model = model_iterative_create(&setup);
  ck_assert_ptr_nonnull(model);
  ck_assert_ptr_null(model->ops->start); /* no thread to start */
}

#define SET_UP(...) \
  set_up((const char *const[]){"XCHG_MODEL=iterative" __VA_OPT__(, ) __VA_ARGS__, NULL})

static void tear_down(void) {
  model->ops->destroy(model);
  admission_fini(&admission);
  builtin_fini(&builtin);
  wake_close(&room);
  wake_close(&done);
  config_fini(&config);
}

static uint64_t ended(enum xchg_reason reason) {
  struct stats sum = {0};
  model->ops->add_totals(model, &sum);
  return atom_load_relaxed_u64(&sum.ended[reason]);
}

struct placing {
  struct accepted_conn accepted;
  int result;
  uint64_t cpu_ns; /* CPU time that it took */
};

static void *place(void *argument) {
  struct placing *placing = argument;
  uint64_t before_ns = thread_cpu_ns();
  placing->result = model->ops->dispatch(model, &placing->accepted);
  placing->cpu_ns = thread_cpu_ns() - before_ns;
  return NULL;
}

START_TEST(place_serves_a_connection_to_its_end) {
  SET_UP("XCHG_MAX_PER_IP=1");
  for (uint64_t i = 1; i <= 3; i++) {
    struct accepted_conn accepted;
    enum xchg_reason refused;
    int client = accept_tcp(&accepted);
    ck_assert(admission_check(&admission, &accepted,
                              &refused)); /* the one before has released its admission */
    send_bytes(client, "hello", 6);
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
    ck_assert_uint_eq(model->ops->live(model), 0);
    ck_assert_uint_eq(ended(XCHG_FINISHED), i);
    expect_bytes(client, GREETING, sizeof(GREETING));
    expect_end(client);
    close(client);
  }
  ck_assert_ptr_null(model->ops->free_places); /* there is always room, and nothing to reap */
  ck_assert_ptr_null(model->ops->finish);
  ck_assert_ptr_null(model->ops->running);
  tear_down();
}
END_TEST

START_TEST(a_stop_ends_the_connection_that_is_served) {
  SET_UP("XCHG_EXCHANGE=echo");
  struct placing placing = {.result = -1};
  int client = accept_tcp(&placing.accepted);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, place, &placing), 0);
  send_bytes(client, "ping", 4);
  expect_bytes(client, "ping", 4);
  ck_assert_uint_eq(model->ops->live(model), 1);
  model->ops->stop(model, sys_now_ns());
  expect_end(client);
  close(client);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_int_eq(placing.result, 0);
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  tear_down();
}
END_TEST

/*
 * A connection that comes after the stop is served until the drain timeout, and after that closed
 * at once.
 */
START_TEST(after_the_drain_timeout_no_connection_is_served) {
  SET_UP("XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  model->ops->stop(model, sys_now_ns());
  for (uint64_t i = 1; i <= 3; i++) {
    struct accepted_conn accepted;
    int client = accept_tcp(&accepted);
    ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
    ck_assert_uint_eq(ended(XCHG_DRAIN), i);
    close(client);
  }
  ck_assert_uint_eq(model->ops->live(model), 0);
  tear_down();
}
END_TEST

/* XCHG_SPIN belongs to the pool model and is ignored here. */
START_TEST(does_not_spin) {
  SET_UP("XCHG_SPIN=1s");
  struct placing placing = {.result = -1};
  int client = accept_tcp(&placing.accepted);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, place, &placing), 0);
  expect_bytes(client, GREETING, sizeof(GREETING));
  ck_assert(is_silent(client, 500));
  close(client);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_uint_lt(placing.cpu_ns, 250 * NS_PER_MS);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {place_serves_a_connection_to_its_end, 1},
      {a_stop_ends_the_connection_that_is_served, 1},
      {after_the_drain_timeout_no_connection_is_served, 1},
      {does_not_spin, 1},
  };
  return run_suite("model_iterative", tests, count_of(tests));
}
