/*
 * check_worker_serve: a worker that serves one connection at a time, and one that has a single
 * connection and waits with poll.
 */
#include "tests/fixtures/worker_fixture.h"

/* ---- one at a time ---- */

struct serving {
  struct accepted_conn accepted;
  atom_u64 stop_ns;
  uint64_t cpu_ns;
};

static void *serve(void *argument) {
  struct serving *serving = argument;
  atom_add_relaxed_u32(&worker->live, 1);
  worker_serve(worker, &serving->accepted);
  serving->cpu_ns = thread_cpu_ns();
  return NULL;
}

START_TEST(serve_runs_a_connection_to_its_end) {
  OPEN();
  for (int i = 0; i < 3; i++) {
    struct serving serving = {.cpu_ns = 0};
    int client = accept_tcp(&serving.accepted);
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, &serving), 0);
    greet_and_close(client);
    join();
    ck_assert_uint_eq(ended(XCHG_FINISHED), (uint64_t)i + 1);
    ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  }
  finish();
}
END_TEST

/* The clock is not read between two connections: the next one must not begin in the past. */
START_TEST(serve_after_a_long_pause) {
  OPEN("XCHG_EXCHANGE=echo", "XCHG_IDLE_TIMEOUT=1m");
  worker->reactor.now_ns -= 10 * 60 * NS_PER_S;
  struct serving serving = {.cpu_ns = 0};
  int client = accept_tcp(&serving.accepted);
  ck_assert_int_eq(pthread_create(&thread, NULL, serve, &serving), 0);
  ck_assert(is_silent(client, 200)); /* not idle yet */
  echo_once(client);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

START_TEST(serve_obeys_a_stop) {
  OPEN("XCHG_EXCHANGE=echo");
  struct serving serving = {.cpu_ns = 0};
  int client = accept_tcp(&serving.accepted);
  ck_assert_int_eq(pthread_create(&thread, NULL, serve, &serving), 0);
  echo_once(client);
  worker_send_drain(worker, sys_now_ns());
  expect_end(client);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

/* ---- a single connection, by poll ---- */

static struct wake stop = {.fd = -1};

static void *serve_single(void *argument) {
  struct serving *serving = argument;
  atom_add_relaxed_u32(&worker->live, 1);
  worker_serve_single(worker, &serving->accepted, &serving->stop_ns);
  return NULL;
}

/* Open a single worker and serve one connection in ${serving}. Return: the client's end. */
static int open_single(struct serving *serving) {
  ck_assert_int_eq(wake_open(&stop), 0);
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open_single(worker, &setup, &stop), 0);
  int client = accept_tcp(&serving->accepted);
  ck_assert_int_eq(pthread_create(&thread, NULL, serve_single, serving), 0);
  return client;
}

static void finish_single(void) {
  finish();
  wake_close(&stop);
}

START_TEST(single_worker_serves) {
  PREPARE();
  struct serving serving = {.cpu_ns = 0};
  greet_and_close(open_single(&serving));
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  ck_assert_int_eq(worker->reactor.epoll_fd, -1); /* it has no descriptor of its own */
  ck_assert_int_eq(worker->inbox.wake.fd, -1);
  finish_single();
}
END_TEST

START_TEST(single_worker_obeys_a_stop) {
  PREPARE("XCHG_EXCHANGE=echo");
  struct serving serving = {.cpu_ns = 0};
  int client = open_single(&serving);
  echo_once(client);
  atom_store_relaxed_u64(&serving.stop_ns, sys_now_ns());
  wake_signal(&stop);
  expect_end(client);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish_single();
}
END_TEST

START_TEST(single_worker_closes_at_the_drain_timeout) {
  PREPARE("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=100ms", "XCHG_STOP_GRACE=0");
  struct serving serving = {.cpu_ns = 0};
  int client = open_single(&serving);
  send_bytes(client, "begun", 5);
  AWAIT(atom_load_relaxed_u64(&worker->stats.bytes_in) == 5);
  atom_store_relaxed_u64(&serving.stop_ns, sys_now_ns());
  wake_signal(&stop);
  char byte;
  ck_assert_int_le(recv(client, &byte, 1, 0), 0);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_DRAIN), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.cut), 1);
  finish_single();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {serve_runs_a_connection_to_its_end, 1},
      {serve_after_a_long_pause, 1},
      {serve_obeys_a_stop, 1},
      {single_worker_serves, 1},
      {single_worker_obeys_a_stop, 1},
      {single_worker_closes_at_the_drain_timeout, 1},
  };
  return run_suite("worker_serve", tests, count_of(tests));
}
