/*
 * check_acceptor: batches, pauses, refusals and a failed listener. The stop is in
 * check_acceptor_stop.
 */
#include "tests/fixtures/acceptor_fixture.h"

#include <sys/resource.h>

START_TEST(accepts_and_hands_over) {
  SET_UP();
  atom_store_relaxed_u32(&fake.keep, 1);
  start();
  int clients[10];
  for (int i = 0; i < 10; i++) {
    clients[i] = connect_to_port(port());
    AWAIT(placed() == (uint32_t)i + 1);
  }
  stop();
  join();
  for (int i = 0; i < 10; i++) {
    const struct accepted_conn *accepted = &fake.accepted[i];
    send_bytes(clients[i], &i, sizeof(i)); /* the descriptor is this connection's */
    struct pollfd pollfd = {.fd = accepted->fd, .events = POLLIN};
    ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
    expect_bytes(accepted->fd, &i, sizeof(i));
    ck_assert_int_eq(accepted->addr.family, ADDR_IPV4);
    ck_assert_uint_eq(accepted->listener, 0);
    ck_assert_uint_gt(accepted->accepted_ns, 0);
    close(clients[i]);
  }
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 10);
  ck_assert_uint_eq(counted(&acceptor.stats.wakes), 5);
  ck_assert_uint_eq(stats_ended(&acceptor.stats), 0);
  tear_down();
}
END_TEST

START_TEST(listeners_have_their_index) {
  snprintf(unix_path, sizeof(unix_path), "/tmp/check_acceptor.%d", (int)getpid());
  char listen[128];
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.1:0,unix:%s", unix_path);
  SET_UP(listen, "XCHG_DENY=0.0.0.0/0");
  start();
  int client = connect_unix(unix_path);
  AWAIT(placed() == 1);
  ck_assert_uint_eq(fake.accepted[0].listener, 1);
  ck_assert_int_eq(fake.accepted[0].addr.family, ADDR_UNIX);
  close(client);
  expect_closed(connect_to_port(port())); /* the other listener has its own limit */
  stop();
  join();
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 2);
  ck_assert_uint_eq(counted(&acceptor.stats.ended[XCHG_DENIED]), 1);
  ck_assert_uint_eq(placed(), 1);
  ck_assert_int_eq(access(unix_path, F_OK), -1);
  tear_down();
}
END_TEST

/* A listener's option travels with its connections, and a peer that is no proxy is refused. */
START_TEST(proxied_listeners_have_their_option) {
  SET_UP("XCHG_LISTEN=127.0.0.1:0;proxy=v2,127.0.0.1:0", "XCHG_PROXY_TRUST=127.0.0.1");
  start();
  int client = connect_to_port(port());
  AWAIT(placed() == 1);
  ck_assert_uint_eq(fake.accepted[0].proxy, ADDR_PROXY_V2);
  int other = connect_to_port(listeners[1].addr.addr.port);
  AWAIT(placed() == 2);
  ck_assert_uint_eq(fake.accepted[1].proxy, ADDR_PROXY_OFF);
  close(client);
  close(other);
  stop();
  join();
  tear_down();
}
END_TEST

START_TEST(untrusted_peers_are_refused) {
  SET_UP("XCHG_LISTEN=127.0.0.1:0;proxy=any", "XCHG_PROXY_TRUST=192.0.2.0/24");
  start();
  expect_closed(connect_to_port(port()));
  stop();
  join();
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 1);
  ck_assert_uint_eq(counted(&acceptor.stats.ended[XCHG_PROXY]), 1);
  ck_assert_uint_eq(counted(&acceptor.stats.proxy_rejected[STATS_PROXY_UNTRUSTED]), 1);
  ck_assert_uint_eq(placed(), 0);
  tear_down();
}
END_TEST

/* Eight full batches double the size. A batch that finds the backlog empty ends the turn. */
START_TEST(batches_grow_and_fall) {
  enum { CLIENTS = 200 };
  SET_UP();
  fake.stop_after = CLIENTS;
  int clients[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = connect_to_port(port());
  }
  open_acceptor();
  acceptor_run(&acceptor);
  ck_assert_uint_eq(placed(), CLIENTS);
  uint32_t batch = 1, left = 8;
  for (uint32_t i = 0; i < CLIENTS; i++) {
    ck_assert_msg(fake.batch[i] == batch, "connection %u in a batch of %u, want %u", i,
                  fake.batch[i], batch);
    if (--left == 0) {
      batch *= 2;
      left = 8 * batch;
    }
    close(clients[i]);
  }
  ck_assert_uint_eq(acceptor.source_of[0]->batch.size, CLIENTS - 8 * (1 + 2 + 4 + 8) < 16 ? 1 : 16);
  tear_down();
}
END_TEST

START_TEST(a_batch_that_fell_short_shrinks) {
  SET_UP();
  start();
  for (uint32_t i = 0; i < 40;
       i++) { /* single connections never make the batch larger than 1 ... */
    int client = connect_to_port(port());
    AWAIT(placed() == i + 1);
    close(client);
  }
  stop();
  join();
  for (uint32_t i = 0; i < 40; i++) {
    ck_assert_uint_le(fake.batch[i], 2); /* ... or only for eight more of them */
  }
  tear_down();
}
END_TEST

/* ---- no room ---- */

START_TEST(wait_leaves_clients_in_the_backlog) {
  SET_UP("XCHG_OVERLOAD=wait", "XCHG_DRAIN_TIMEOUT=100ms");
  atom_store_relaxed_u32(&fake.places, 2);
  start();
  int clients[5];
  for (int i = 0; i < 5; i++) {
    clients[i] = connect_to_port(port());
  }
  AWAIT(placed() == 2);
  for (uint32_t i = 3; i <= 5; i++) { /* there is room for one client */
    atom_add_relaxed_u32(&fake.places, 1);
    room_wake(&admission);
    AWAIT(placed() == i);
  }
  stop();
  join();
  ck_assert(!fake.overfull);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 5);
  ck_assert_uint_eq(stats_ended(&acceptor.stats), 0);
  ck_assert_uint_eq(counted(&acceptor.stats.accept_pauses),
                    0); /* not counted as refused by a limit */
  for (int i = 0; i < 5; i++) {
    expect_closed(clients[i]);
  }
  tear_down();
}
END_TEST

START_TEST(a_wait_does_not_spin) {
  SET_UP("XCHG_OVERLOAD=wait", "XCHG_DRAIN_TIMEOUT=100ms");
  atom_store_relaxed_u32(&fake.places, 1);
  start();
  int first = connect_to_port(port()), second = connect_to_port(port());
  AWAIT(placed() == 1);
  ck_assert(is_silent(second, 500));
  atom_add_relaxed_u32(&fake.places, 1);
  room_wake(&admission);
  AWAIT(placed() == 2);
  stop();
  join();
  ck_assert_uint_lt(cpu_ns, 250 * NS_PER_MS);
  expect_closed(first);
  expect_closed(second);
  tear_down();
}
END_TEST

START_TEST(the_total_limit_counts) {
  SET_UP("XCHG_OVERLOAD=wait", "XCHG_MAX_CONNECTIONS=2", "XCHG_DRAIN_TIMEOUT=100ms");
  atom_store_relaxed_u32(&fake.keep, 1);
  start();
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = connect_to_port(port());
  }
  AWAIT(placed() == 2);
  ck_assert(is_silent(clients[2], 50));
  accepted_conn_close(&fake.accepted[0]);
  fake.accepted[0] = fake.accepted[1];
  atom_sub_release_u32(&fake.live, 1);
  room_wake(&admission);
  AWAIT(placed() == 3);
  fake.accepted[1] = fake.accepted[2];
  stop();
  join();
  for (int i = 0; i < 3; i++) {
    close(clients[i]);
  }
  tear_down();
}
END_TEST

START_TEST(refuse_accepts_and_closes) {
  SET_UP("XCHG_OVERLOAD=refuse");
  atom_store_relaxed_u32(&fake.places, 1);
  start();
  int first = connect_to_port(port());
  AWAIT(placed() == 1);
  expect_closed(first);
  for (int i = 0; i < 20; i++) {
    expect_closed(connect_to_port(port()));
  }
  atom_add_relaxed_u32(&fake.places, 1);
  int last = connect_to_port(port());
  AWAIT(placed() == 2);
  expect_closed(last);
  stop();
  join();
  ck_assert(!fake.overfull);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 22);
  ck_assert_uint_eq(counted(&acceptor.stats.ended[XCHG_OVERLOAD]), 20);
  ck_assert_uint_eq(stats_ended(&acceptor.stats), 20);
  tear_down();
}
END_TEST

START_TEST(per_address_limit) {
  SET_UP("XCHG_MAX_PER_IP=2");
  atom_store_relaxed_u32(&fake.keep, 1);
  start();
  int clients[2] = {connect_to_port(port()), connect_to_port(port())};
  AWAIT(placed() == 2);
  expect_closed(connect_to_port(port()));
  stop();
  join();
  ck_assert_uint_eq(counted(&acceptor.stats.ended[XCHG_PER_IP]), 1);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 3);
  close(clients[0]);
  close(clients[1]);
  tear_down();
}
END_TEST

/* ---- what the system refuses ---- */

START_TEST(a_refused_thread_defers_the_connection) {
  SET_UP();
  atom_store_relaxed_u32(&fake.refuse, 3);
  start();
  int first = connect_to_port(port()), second = connect_to_port(port());
  AWAIT(placed() == 2);
  expect_closed(first);
  expect_closed(second);
  stop();
  join();
  ck_assert_uint_eq(atom_load_relaxed_u32(&fake.refused), 3);
  ck_assert_uint_eq(acceptor_accepted(&acceptor), 2); /* none is accepted twice */
  ck_assert_uint_eq(counted(&acceptor.stats.accept_pauses), 3);
  ck_assert_uint_eq(stats_ended(&acceptor.stats), 0);
  ck_assert_uint_eq(log_fixture_count(&logger, "cannot start"), 1); /* one line for the episode */
  tear_down();
}
END_TEST

static rlim_t descriptors(rlim_t limit) {
  struct rlimit now;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
  rlim_t old = now.rlim_cur;
  now.rlim_cur = limit;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
  return old;
}

START_TEST(without_descriptors_it_pauses) {
  SET_UP();
  start();
  int clients[3];
  struct sockaddr_in to = loopback_address(port());
  clients[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(clients[0], -1);
  set_socket_timeouts(clients[0]);
  rlim_t old = descriptors(3); /* open connections stay open */
  ck_assert_int_eq(connect(clients[0], (const struct sockaddr *)&to, sizeof(to)), 0);
  AWAIT(counted(&acceptor.stats.accept_pauses) > 0);
  ck_assert_uint_eq(placed(), 0);
  ck_assert(is_silent(clients[0], 250) || counted(&acceptor.stats.accept_pauses) == 1);
  descriptors(old);
  clients[1] = connect_to_port(port());
  clients[2] = connect_to_port(port());
  for (int i = 0; i < 3; i++) {
    expect_closed(clients[i]); /* the model closed them: all were accepted */
  }
  AWAIT(log_fixture_count(&logger, "accepting again") == 1); /* after one second without another */
  stop();
  join();
  ck_assert_uint_eq(log_fixture_count(&logger, "accepting pauses"), 1);
  ck_assert_uint_ge(placed(), 2); /* under valgrind's own limit the first one is dropped */
  ck_assert_uint_eq(acceptor_accepted(&acceptor), placed());
  ck_assert_uint_lt(cpu_ns, 250 * NS_PER_MS);
  tear_down();
}
END_TEST

/* A listener whose accept fails permanently: the others continue, and main is told. */
START_TEST(a_failed_listener_is_closed_and_reported) {
  SET_UP("XCHG_LISTEN=127.0.0.1:0,127.0.0.1:0", "XCHG_STOP_GRACE=300ms");
  int fd = listeners[0].fd;
  start();
  ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
  struct pollfd pollfd = {.fd = done.fd, .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert_uint_eq(atom_load_acquire_u32(&acceptor.listener_failed), 1);
  int client = connect_to_port(listeners[1].addr.addr.port);
  AWAIT(placed() == 1);
  expect_closed(client);
  stop();
  join();
  ck_assert_int_eq(listeners[0].fd, -1);
  ck_assert_uint_eq(log_fixture_count(&logger, "listener '127.0.0.1:"), 1);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {accepts_and_hands_over, 1},
      {listeners_have_their_index, 1},
      {proxied_listeners_have_their_option, 1},
      {untrusted_peers_are_refused, 1},
      {batches_grow_and_fall, 1},
      {a_batch_that_fell_short_shrinks, 1},
      {wait_leaves_clients_in_the_backlog, 1},
      {a_wait_does_not_spin, 1},
      {the_total_limit_counts, 1},
      {refuse_accepts_and_closes, 1},
      {per_address_limit, 1},
      {a_refused_thread_defers_the_connection, 1},
      {without_descriptors_it_pauses, 1},
      {a_failed_listener_is_closed_and_reported, 1},
  };
  return run_suite("acceptor", tests, count_of(tests));
}
