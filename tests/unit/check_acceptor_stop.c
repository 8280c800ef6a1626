/*
 * check_acceptor_stop: the stop of an acceptor loses no connection, does not spin, and ends in
 * time.
 */
#include "tests/fixtures/acceptor_fixture.h"

START_TEST(a_stop_serves_the_backlog) {
  enum { CLIENTS = 150 };
  SET_UP("XCHG_STOP_GRACE=0");
  int clients[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_to_port(port());
  }
  uint16_t old_port = port();
  open_acceptor();
  stop(); /* before the acceptor runs */
  acceptor_run(&acceptor);
  ck_assert_uint_eq(placed(), CLIENTS);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), CLIENTS);
  ck_assert_int_eq(listeners[0].fd, -1);
  ck_assert(port_is_closed(old_port));
  for (int i = 0; i < CLIENTS; i++) {
    expect_closed(clients[i]);
  }
  tear_down();
}
END_TEST

/* The last batch may be a full one: no event follows it, and the listener closes nevertheless. */
START_TEST(a_stop_serves_a_backlog_of_full_batches) {
  int clients[ACCEPT_BATCH_MAX + 8];
  for (uint32_t count = ACCEPT_BATCH_MAX; count < count_of(clients); count++) {
    SET_UP("XCHG_STOP_GRACE=0", "XCHG_DRAIN_TIMEOUT=60s");
    for (uint32_t i = 0; i < count; i++) {
      clients[i] = connect_to_port(port());
    }
    open_acceptor();
    uint64_t stop_ns = sys_now_ns();
    stop(); /* before the acceptor runs */
    acceptor_run(&acceptor);
    ck_assert_uint_lt(sys_now_ns() - stop_ns, 30 * NS_PER_S);
    ck_assert_uint_eq(placed(), count);
    for (uint32_t i = 0; i < count; i++) {
      expect_closed(clients[i]);
    }
    tear_down();
  }
}
END_TEST

START_TEST(a_stop_waits_for_room) {
  SET_UP("XCHG_OVERLOAD=wait", "XCHG_DRAIN_TIMEOUT=60s");
  atom_store_relaxed_u32(&fake.places, 1);
  start();
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = connect_to_port(port());
  }
  AWAIT(placed() == 1);
  stop();
  for (uint32_t i = 2; i <= 3; i++) {
    atom_add_relaxed_u32(&fake.places, 1);
    room_wake(&admission);
    AWAIT(placed() == i);
  }
  atom_add_relaxed_u32(&fake.places, 1);
  room_wake(&admission);
  join();
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 3);
  for (int i = 0; i < 3; i++) {
    expect_closed(clients[i]);
  }
  tear_down();
}
END_TEST

START_TEST(a_stop_without_room_ends_at_the_drain_timeout) {
  SET_UP("XCHG_OVERLOAD=wait", "XCHG_DRAIN_TIMEOUT=200ms");
  atom_store_relaxed_u32(&fake.places, 1);
  start();
  int first = connect_to_port(port()), second = connect_to_port(port());
  AWAIT(placed() == 1);
  uint64_t stop_ns = sys_now_ns();
  stop();
  join();
  ck_assert_uint_ge(sys_now_ns() - stop_ns, 200 * NS_PER_MS);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 1);
  expect_closed(first);
  expect_closed(second);
  tear_down();
}
END_TEST

/* A connection that is deferred for lack of a thread is closed and counted at the drain timeout. */
START_TEST(a_stop_closes_a_deferred_connection) {
  SET_UP("XCHG_DRAIN_TIMEOUT=300ms", "XCHG_MAX_PER_IP=1");
  atom_store_relaxed_u32(&fake.refuse, UINT32_MAX);
  start();
  int client = connect_to_port(port());
  AWAIT(atom_load_relaxed_u32(&fake.refused) > 0);
  stop();
  join();
  expect_closed(client);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 1);
  ck_assert_uint_eq(counted(&acceptor.stats.ended[XCHG_DRAIN]), 1);
  ck_assert_uint_eq(stats_ended(&acceptor.stats), 1);
  ck_assert_uint_lt(cpu_ns, 150 * NS_PER_MS);
  tear_down();
}
END_TEST

START_TEST(the_stop_grace_is_waited_for) {
  SET_UP("XCHG_STOP_GRACE=200ms");
  start();
  uint64_t stop_ns = sys_now_ns();
  stop();
  join();
  ck_assert_uint_ge(sys_now_ns() - stop_ns, 200 * NS_PER_MS);
  ck_assert_uint_lt(cpu_ns, 100 * NS_PER_MS);
  tear_down();
}
END_TEST

/*
 * A UNIX listener stays readable after shutdown, and an inherited one is closed at once. Neither
 * may turn the rest of the grace period into a busy loop.
 */
START_TEST(a_unix_listener_does_not_spin_in_the_grace) {
  snprintf(unix_path, sizeof(unix_path), "/tmp/check_acceptor.%d", (int)getpid());
  char listen[128];
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.1:0,unix:%s", unix_path);
  SET_UP(listen, "XCHG_STOP_GRACE=600ms");
  int waiting[3];
  for (int i = 0; i < 3; i++) {
    waiting[i] = connect_unix(unix_path);
  }
  start();
  stop();
  join();
  ck_assert_uint_eq(placed(), 3);
  for (int i = 0; i < 3; i++) {
    expect_closed(waiting[i]);
  }
  ck_assert_uint_lt(cpu_ns, 300 * NS_PER_MS);
  tear_down();
}
END_TEST

START_TEST(without_listeners_it_does_not_spin_in_the_grace) {
  SET_UP("XCHG_STOP_GRACE=600ms", "XCHG_DRAIN_TIMEOUT=600ms");
  listeners[0].inherited = true; /* as if inherited through LISTEN_FDS: a stop closes it at once */
  atom_store_relaxed_u32(&fake.refuse, UINT32_MAX);
  start();
  int client = connect_to_port(port());
  AWAIT(atom_load_relaxed_u32(&fake.refused) > 0); /* and a connection is deferred */
  stop();
  join();
  expect_closed(client);
  ck_assert_uint_lt(cpu_ns, 300 * NS_PER_MS);
  tear_down();
}
END_TEST

START_TEST(an_inherited_listener_is_closed_at_once) {
  SET_UP("XCHG_STOP_GRACE=600ms");
  listeners[0].inherited = true;
  int kept = dup(listeners[0].fd); /* the next process */
  start();
  stop();
  join();
  ck_assert_uint_lt(cpu_ns, 300 * NS_PER_MS);
  close(connect_to_port(port())); /* joins the backlog that the other process serves */
  int next = accept(kept, NULL, NULL);
  ck_assert_int_ne(next, -1);
  close(next);
  close(kept);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 0);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_stop_serves_the_backlog, 1},
      {a_stop_serves_a_backlog_of_full_batches, 1},
      {a_stop_waits_for_room, 1},
      {a_stop_without_room_ends_at_the_drain_timeout, 1},
      {a_stop_closes_a_deferred_connection, 1},
      {the_stop_grace_is_waited_for, 1},
      {a_unix_listener_does_not_spin_in_the_grace, 1},
      {without_listeners_it_does_not_spin_in_the_grace, 1},
      {an_inherited_listener_is_closed_at_once, 1},
  };
  return run_suite("acceptor_stop", tests, count_of(tests));
}
