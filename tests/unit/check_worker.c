/* check_worker: a worker that is fed through its inbox: connections, tasks, the stop, memory. */
#include "tests/fixtures/worker_fixture.h"

/* ---- connections from the inbox ---- */

START_TEST(serves_connections_until_no_more_come) {
  OPEN();
  start();
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = hand_over_new();
  }
  for (int i = 2; i >= 0; i--) {
    greet_and_close(clients[i]);
  }
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 3);
  ck_assert_uint_eq(stats_ended(&worker->stats), 3);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  ck_assert_uint_eq(worker->conns.used, 0);
  finish();
}
END_TEST

/* More connections than one turn takes are queued when the task that ends them arrives. */
START_TEST(queued_connections_are_served_before_the_end) {
  enum { GUESTS = 150 };
  OPEN();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
  }
  worker_send_no_more_conns(worker);
  start();
  for (int i = 0; i < GUESTS; i++) {
    greet_and_close(clients[i]);
  }
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), GUESTS);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  finish();
}
END_TEST

START_TEST(the_end_waits_for_open_connections) {
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int client = hand_over_new();
  worker_send_no_more_conns(worker);
  for (int i = 0; i < 3; i++) {
    echo_once(client);
  }
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

START_TEST(a_spinning_worker_serves_and_then_sleeps) {
  OPEN("XCHG_EXCHANGE=echo", "XCHG_SPIN=20ms");
  start();
  int client = hand_over_new();
  for (int i = 0; i < 20; i++) {
    echo_once(client);
  }
  ck_assert(is_silent(client, 50)); /* longer than the spin, so the worker sleeps */
  echo_once(client);
  close(client);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

/*
 * Each connection counts once, by the time from its accept to its end.  That is 0 if it was
 * accepted after the wait of the turn in which it ended.
 */
START_TEST(the_time_that_connections_lived_is_counted) {
  OPEN();
  start();
  struct accepted_conn old, early;
  int client = accept_tcp(&old), other = accept_unix(&early);
  old.accepted_ns -= 6 * NS_PER_S;     /* 2^32 ns are 4.3 s, and 2^33 ns are 8.6 s */
  early.accepted_ns += 600 * NS_PER_S; /* later than any turn of the test */
  hand_over(&old);
  greet_and_close(client);
  hand_over(&early);
  greet_and_close(other);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.lived[32]), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.lived[0]), 1);
  uint64_t all_ns = atom_load_relaxed_u64(&worker->stats.lived_ns);
  ck_assert_uint_ge(all_ns, 6 * NS_PER_S);
  finish();
}
END_TEST

/* When the connection has ended, its admission is released and a waiting acceptor is woken. */
START_TEST(the_admission_is_released_at_the_end) {
  OPEN("XCHG_MAX_PER_IP=1");
  struct accepted_conn accepted;
  enum xchg_reason refused;
  int client = accept_tcp(&accepted);
  ck_assert(admission_check(&admission, &accepted, &refused));
  start();
  hand_over(&accepted);
  expect_bytes(client, GREETING, sizeof(GREETING));
  struct accepted_conn second = accepted;
  ck_assert(!admission_check(&admission, &second, &refused));
  room_prepare_wait(&admission);
  send_bytes(client, "x", 2);
  expect_end(client);
  close(client);
  AWAIT(atom_load_relaxed_u32(&worker->live) == 0);
  struct pollfd pollfd = {.fd = freed.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert(admission_check(&admission, &second, &refused));
  worker_send_no_more_conns(worker);
  join();
  finish();
}
END_TEST

/* A connection without a free slot is refused, and its admission is released. */
START_TEST(without_memory_a_connection_is_refused) {
  PREPARE("XCHG_MAX_CONNECTIONS=1");
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open(worker, &setup), 0);
  int first = hand_over_new(), second = hand_over_new();
  start();
  expect_end(second);
  greet_and_close(first);
  close(second);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_MEMORY), 1);
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  finish();
}
END_TEST

/* ---- the stop ---- */

START_TEST(a_stop_ends_connections_between_messages) {
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int spoke = hand_over_new(), silent = hand_over_new();
  echo_once(spoke);
  worker_send_drain(worker, sys_now_ns());
  expect_end(spoke);
  close(spoke);
  int late = hand_over_new(); /* connections that still arrive are served */
  echo_once(late);
  expect_end(late);
  close(late);
  expect_end(silent); /* within one second */
  close(silent);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 2);
  ck_assert_uint_eq(ended(XCHG_DRAIN), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.cut), 0);
  finish();
}
END_TEST

START_TEST(a_stop_lets_a_counted_exchange_finish) {
  OPEN();
  start();
  int client = hand_over_new();
  expect_bytes(client, GREETING, sizeof(GREETING));
  worker_send_drain(worker, sys_now_ns());
  worker_send_no_more_conns(worker);
  ck_assert(is_silent(client, 50));
  send_bytes(client, "x", 2);
  expect_end(client);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

/* More connections than one turn visits: all are told. */
START_TEST(a_stop_reaches_every_connection) {
  enum { GUESTS = 300 };
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
    echo_once(clients[i]);
  }
  worker_send_drain(worker, sys_now_ns());
  worker_send_no_more_conns(worker);
  for (int i = 0; i < GUESTS; i++) {
    expect_end(clients[i]);
    close(clients[i]);
  }
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), GUESTS);
  finish();
}
END_TEST

START_TEST(the_drain_timeout_closes_every_connection) {
  enum { GUESTS = 300 };
  OPEN("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  start();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
    send_bytes(clients[i], "begun", 5);
  }
  worker_send_drain(worker, sys_now_ns());
  char byte;
  for (int i = 0; i < GUESTS; i++) {
    ck_assert_int_le(recv(clients[i], &byte, 1, 0), 0);
    close(clients[i]);
  }
  int late = hand_over_unix(); /* arrives too late, and is counted all the same */
  ck_assert_int_le(recv(late, &byte, 1, 0), 0);
  close(late);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_DRAIN), GUESTS + 1);
  ck_assert_uint_eq(stats_ended(&worker->stats), GUESTS + 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.cut), GUESTS + 1);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  finish();
}
END_TEST

/* An idle worker wakes by itself at the drain timeout, however long it spins. */
START_TEST(the_drain_timeout_wakes_an_idle_worker) {
  OPEN("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=200ms", "XCHG_STOP_GRACE=0", "XCHG_SPIN=1s");
  start();
  int client = hand_over_unix();
  send_bytes(client, "begun", 5);
  AWAIT(atom_load_relaxed_u64(&worker->stats.bytes_in) == 5);
  uint64_t stop_ns = sys_now_ns();
  worker_send_drain(worker, stop_ns);
  worker_send_no_more_conns(worker);
  char byte;
  ck_assert_int_le(recv(client, &byte, 1, 0), 0);
  uint64_t took_ns = sys_now_ns() - stop_ns;
  ck_assert_uint_ge(took_ns, 200 * NS_PER_MS);
  ck_assert_uint_lt(took_ns, 800 * NS_PER_MS); /* the spin alone would take one second */
  join();
  close(client);
  ck_assert_uint_eq(ended(XCHG_DRAIN), 1);
  finish();
}
END_TEST

/* ---- memory ---- */

/* One second after connections have ended, their memory is returned to the kernel. */
START_TEST(memory_is_returned_to_the_kernel) {
  enum { GUESTS = 300 };
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int stays = hand_over_unix();
  echo_once(stays);
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
    echo_once(clients[i]);
  }
  for (int i = 0; i < GUESTS; i++) {
    close(clients[i]);
  }
  AWAIT(atom_load_relaxed_u32(&worker->live) == 1);
  ck_assert(is_silent(stays, 1500)); /* the delay is under test */
  echo_once(stays);                  /* timers run after events, in the same turn: */
  echo_once(stays);                  /* this one runs after the events */
  close(stays);
  worker_send_no_more_conns(worker);
  join();
  ck_assert_uint_eq(worker->conns.end, 1); /* the connection that stayed is in the first chunk */
  ck_assert(!buf_pool_idle(&worker->ctx.bufs) || worker->ctx.bufs.bytes == 0);
  finish();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {serves_connections_until_no_more_come, 1},
      {queued_connections_are_served_before_the_end, 1},
      {the_end_waits_for_open_connections, 1},
      {a_spinning_worker_serves_and_then_sleeps, 1},
      {the_time_that_connections_lived_is_counted, 1},
      {the_admission_is_released_at_the_end, 1},
      {without_memory_a_connection_is_refused, 1},
      {a_stop_ends_connections_between_messages, 1},
      {a_stop_lets_a_counted_exchange_finish, 1},
      {a_stop_reaches_every_connection, 1},
      {the_drain_timeout_closes_every_connection, 1},
      {the_drain_timeout_wakes_an_idle_worker, 1},
      {memory_is_returned_to_the_kernel, 1},
  };
  return run_suite("worker", tests, count_of(tests));
}
