/* check_worker: a worker behind its inbox: guests, letters, the stop, memory. */
#include "tests/fixtures/worker_fixture.h"

/* ---- behind an inbox ---- */

START_TEST(serves_guests_until_the_last) {
  OPEN();
  start();
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = hand_over_new();
  }
  for (int i = 2; i >= 0; i--) {
    greet_and_close(clients[i]);
  }
  worker_send_last(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 3);
  ck_assert_uint_eq(stats_ended(&worker->stats), 3);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  ck_assert_uint_eq(worker->conns.used, 0);
  finish();
}
END_TEST

/* More than a turn takes wait in the queue, and the last letter lies there already. */
START_TEST(guests_before_the_last_letter_are_served) {
  enum { GUESTS = 150 };
  OPEN();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
  }
  worker_send_last(worker);
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

START_TEST(the_last_letter_waits_for_connections) {
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int client = hand_over_new();
  worker_send_last(worker);
  for (int i = 0; i < 3; i++) {
    echo_once(client);
  }
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

START_TEST(an_idle_poll_serves_as_well) {
  OPEN("XCHG_EXCHANGE=echo", "XCHG_SPIN=20ms");
  start();
  int client = hand_over_new();
  for (int i = 0; i < 20; i++) {
    echo_once(client);
  }
  ck_assert(is_silent(client, 50)); /* beyond the spin: it sleeps */
  echo_once(client);
  close(client);
  worker_send_last(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

/* A ticket is given back, and an acceptor that waits is woken, once the connection has ended. */
START_TEST(gives_back_what_the_acceptor_counted) {
  OPEN("XCHG_MAX_PER_IP=1");
  struct guest guest;
  enum xchg_reason refused;
  int client = accept_tcp(&guest);
  ck_assert(admit_enter(&admit, &guest, &refused));
  start();
  hand_over(&guest);
  expect_bytes(client, GREETING, sizeof(GREETING));
  struct guest second = guest;
  ck_assert(!admit_enter(&admit, &second, &refused));
  admit_want(&admit);
  send_bytes(client, "x", 2);
  expect_end(client);
  close(client);
  AWAIT(atom_load_relaxed_u32(&worker->live) == 0);
  struct pollfd pollfd = {.fd = freed.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert(admit_enter(&admit, &second, &refused));
  worker_send_last(worker);
  join();
  finish();
}
END_TEST

/* Without a slot for it a connection is refused, and everything counted is given back. */
START_TEST(no_memory_refuses_one) {
  PREPARE("XCHG_MAX_CONNECTIONS=1");
  const struct worker_setup setup = setup_of();
  ck_assert_int_eq(worker_open(worker, &setup), 0);
  int first = hand_over_new(), second = hand_over_new();
  start();
  expect_end(second);
  greet_and_close(first);
  close(second);
  worker_send_last(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_MEMORY), 1);
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  finish();
}
END_TEST

/* ---- the stop ---- */

START_TEST(a_stop_ends_who_is_between_messages) {
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int spoke = hand_over_new(), silent = hand_over_new();
  echo_once(spoke);
  worker_send_stop(worker, sys_now_ns());
  expect_end(spoke);
  close(spoke);
  int late = hand_over_new(); /* guests may still come, and are served */
  echo_once(late);
  expect_end(late);
  close(late);
  expect_end(silent); /* within a second */
  close(silent);
  worker_send_last(worker);
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
  worker_send_stop(worker, sys_now_ns());
  worker_send_last(worker);
  ck_assert(is_silent(client, 50));
  send_bytes(client, "x", 2);
  expect_end(client);
  close(client);
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  finish();
}
END_TEST

/* More than a turn visits, all of them told. */
START_TEST(a_stop_reaches_everybody) {
  enum { GUESTS = 300 };
  OPEN("XCHG_EXCHANGE=echo");
  start();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
    echo_once(clients[i]);
  }
  worker_send_stop(worker, sys_now_ns());
  worker_send_last(worker);
  for (int i = 0; i < GUESTS; i++) {
    expect_end(clients[i]);
    close(clients[i]);
  }
  join();
  ck_assert_uint_eq(ended(XCHG_FINISHED), GUESTS);
  finish();
}
END_TEST

START_TEST(patience_over_cuts_everybody) {
  enum { GUESTS = 300 };
  OPEN("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  start();
  int clients[GUESTS];
  for (int i = 0; i < GUESTS; i++) {
    clients[i] = hand_over_unix();
    send_bytes(clients[i], "begun", 5);
  }
  worker_send_stop(worker, sys_now_ns());
  char byte;
  for (int i = 0; i < GUESTS; i++) {
    ck_assert_int_le(recv(clients[i], &byte, 1, 0), 0);
    close(clients[i]);
  }
  int late = hand_over_unix(); /* comes too late, and is counted all the same */
  ck_assert_int_le(recv(late, &byte, 1, 0), 0);
  close(late);
  worker_send_last(worker);
  join();
  ck_assert_uint_eq(ended(XCHG_DRAIN), GUESTS + 1);
  ck_assert_uint_eq(stats_ended(&worker->stats), GUESTS + 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&worker->stats.cut), GUESTS + 1);
  ck_assert_uint_eq(atom_load_relaxed_u32(&worker->live), 0);
  finish();
}
END_TEST

/* An idle worker wakes for the cut by itself, however long it polls. */
START_TEST(patience_ends_in_time) {
  OPEN("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=200ms", "XCHG_STOP_GRACE=0", "XCHG_SPIN=1s");
  start();
  int client = hand_over_unix();
  send_bytes(client, "begun", 5);
  AWAIT(atom_load_relaxed_u64(&worker->stats.bytes_in) == 5);
  uint64_t stop_ns = sys_now_ns();
  worker_send_stop(worker, stop_ns);
  worker_send_last(worker);
  char byte;
  ck_assert_int_le(recv(client, &byte, 1, 0), 0);
  uint64_t took_ns = sys_now_ns() - stop_ns;
  ck_assert_uint_ge(took_ns, 200 * NS_PER_MS);
  ck_assert_uint_lt(took_ns, 800 * NS_PER_MS); /* the spin alone would take a second */
  join();
  close(client);
  ck_assert_uint_eq(ended(XCHG_DRAIN), 1);
  finish();
}
END_TEST

/* ---- memory ---- */

/* A second after connections have ended, what they used is with the kernel again. */
START_TEST(memory_goes_back) {
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
  ck_assert(is_silent(stays, 1500)); /* the time is what is tested */
  echo_once(stays);                  /* timers come after events, in the same turn: */
  echo_once(stays);                  /* this one finds them done */
  close(stays);
  worker_send_last(worker);
  join();
  ck_assert_uint_eq(worker->conns.end, 1); /* the one that stayed had the first chunk */
  ck_assert(!buf_pool_idle(&worker->host.bufs) || worker->host.bufs.bytes == 0);
  finish();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {serves_guests_until_the_last, 1},
      {guests_before_the_last_letter_are_served, 1},
      {the_last_letter_waits_for_connections, 1},
      {an_idle_poll_serves_as_well, 1},
      {gives_back_what_the_acceptor_counted, 1},
      {no_memory_refuses_one, 1},
      {a_stop_ends_who_is_between_messages, 1},
      {a_stop_lets_a_counted_exchange_finish, 1},
      {a_stop_reaches_everybody, 1},
      {patience_over_cuts_everybody, 1},
      {patience_ends_in_time, 1},
      {memory_goes_back, 1},
  };
  return run_suite("worker", tests, count_of(tests));
}
