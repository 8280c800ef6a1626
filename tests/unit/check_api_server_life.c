/*
 * check_api_server_life: servers within a program from their start to their end.
 */
#include "tests/fixtures/server_fixture.h"

#include "pool/server.h"

#include <semaphore.h>

/* The server has ended, and all of its counts add up. */
static void check_ended(uint64_t finished, uint64_t drained) {
  struct xchg_stats stats = read_stats();
  check_sums(&stats);
  ck_assert_uint_eq(stats.open, 0);
  ck_assert_uint_eq(stats.ended[XCHG_FINISHED], finished);
  ck_assert_uint_eq(stats.ended[XCHG_DRAIN], drained);
}

/* ---- start, drain, stop ---- */

START_TEST(starts_once) {
  SETTINGS();
  create_server(&echoes);
  ck_assert_int_eq(xchg_server_wait(server), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_server_start(server), 0);
  for (int i = 0; i < 2; i++) {
    errno = 0;
    ck_assert_int_eq(xchg_server_start(server), -1);
    ck_assert_int_eq(errno, EALREADY);
  }
  close(connect_and_ping(server));
  xchg_server_stop(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  ck_assert_int_eq(xchg_server_start(server), -1);
  ck_assert_int_eq(errno, EALREADY);
  ck_assert_int_eq(xchg_server_wait(server), 0); /* it stays ended */
  xchg_server_destroy(server);
}
END_TEST

/* How many descriptors the table of this process has room for. */
static unsigned table_size(void) {
  char line[128];
  unsigned size = 0;
  FILE *status = fopen("/proc/self/status", "re");
  ck_assert_ptr_nonnull(status);
  while (size == 0 && fgets(line, sizeof(line), status) != NULL) {
    (void)sscanf(line, "FDSize: %u", &size); /* 0 in all other lines */
  }
  fclose(status);
  return size;
}

/* The table of descriptors has room for all connections once the server has started. */
START_TEST(the_descriptor_table_is_made_at_the_start) {
  SETTINGS();
  settings.max_connections = 700;
  create_server(&echoes);
  ck_assert_int_eq(xchg_server_start(server), 0);
  unsigned size = table_size();
  ck_assert_uint_ge(size, 700);
  close(connect_and_ping(server));
  ck_assert_uint_eq(table_size(), size);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(null_servers_are_accepted) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  char text[XCHG_ADDRESS_MAX];
  xchg_server_destroy(NULL);
  xchg_server_drain(NULL);
  xchg_server_stop(NULL);
  ck_assert_int_eq(xchg_server_start(NULL), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_server_wait(NULL), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_server_stats(NULL, &stats), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(xchg_server_address(NULL, 0, text, sizeof(text)), -1);
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* Clients can connect as soon as the server is created. */
START_TEST(a_client_waits_for_the_start) {
  SETTINGS();
  create_server(&echoes);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "early\n", 6);
  ck_assert_int_eq(xchg_server_start(server), 0);
  expect_bytes(client, "early\n", 6);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(destroyed_without_a_start) {
  SETTINGS();
  create_server(&echoes);
  uint16_t port = port_of(server);
  int client = connect_to_port(port);
  if (_i == 1) {
    xchg_server_drain(server);
    xchg_server_stop(server);
  }
  xchg_server_destroy(server);
  expect_closed(client);
  ck_assert(port_is_closed(port));
}
END_TEST

START_TEST(a_drain_lets_messages_finish) {
  SETTINGS();
  start_server(&echoes);
  int begun = connect_and_ping(server), idle = connect_and_ping(server);
  send_bytes(begun, "be", 2);
  AWAIT(read_stats().bytes_in == 12);
  xchg_server_drain(server);
  xchg_server_drain(server);
  expect_end(idle);
  ck_assert(is_silent(begun, 100));
  send_bytes(begun, "gun\n", 4);
  expect_bytes(begun, "begun\n", 6);
  expect_end(begun);
  close(begun);
  close(idle);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  check_ended(2, 0);
  xchg_server_destroy(server);
}
END_TEST

/* With a long drain timeout and a message in progress, after a drain or without one. */
START_TEST(a_stop_closes_everything_now) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=5m", "XCHG_STOP_GRACE=60s", "XCHG_MESSAGE_TIMEOUT=0");
  start_server(&echoes);
  uint16_t port = port_of(server);
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = connect_and_ping(server);
    send_bytes(clients[i], "begun", 5);
  }
  AWAIT(read_stats().bytes_in == 30);
  if (_i == 1) {
    xchg_server_drain(server);
    ck_assert(is_silent(clients[0], 100));
  }
  uint64_t began_ns = sys_now_ns();
  xchg_server_stop(server);
  xchg_server_stop(server);
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  ck_assert_uint_lt(sys_now_ns() - began_ns, 50 * NS_PER_S);
  for (int i = 0; i < 3; i++) {
    expect_closed(clients[i]);
  }
  ck_assert(port_is_closed(port));
  check_ended(0, 3);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(destroy_stops) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=5m", "XCHG_STOP_GRACE=60s");
  start_server(&echoes);
  int client = connect_and_ping(server);
  send_bytes(client, "begun", 5);
  xchg_server_destroy(server);
  expect_closed(client);
}
END_TEST

/* A drain or stop before the start takes effect at the start, so that wait returns. */
START_TEST(drain_and_stop_before_the_start) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=200ms", "XCHG_IDLE_TIMEOUT=0", "XCHG_MESSAGE_TIMEOUT=0");
  create_server(&echoes);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "begun", 5);
  if (_i == 0) {
    xchg_server_drain(server);
  } else {
    xchg_server_stop(server);
  }
  ck_assert_int_eq(xchg_server_start(server), 0);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  expect_closed(client);
  struct xchg_stats stats = read_stats();
  check_sums(&stats);
  ck_assert_uint_eq(stats.open, 0);
  ck_assert_uint_eq(stats.ended[XCHG_DRAIN], stats.accepted);
  xchg_server_destroy(server);
}
END_TEST

/* A thread that stops may overtake one that drains: the tasks arrive in the opposite order. */
static sem_t held, gate;

static void await(sem_t *sem) {
  while (sem_wait(sem) == -1) {
    ck_assert_int_eq(errno, EINTR);
  }
}

static void hold(struct xchg_conn *conn, void *unused) {
  (void)conn, (void)unused;
  sem_post(&held);
  await(&gate);
}

START_TEST(a_stop_that_overtakes_a_drain) {
  ck_assert_int_eq(sem_init(&held, 0, 0) | sem_init(&gate, 0, 0), 0);
  SETTINGS("XCHG_WORKERS=1", "XCHG_DRAIN_TIMEOUT=5m", "XCHG_MESSAGE_TIMEOUT=0");
  start_server(&echoes);
  int client = connect_and_ping(server);
  send_bytes(client, "begun", 5);
  AWAIT(read_stats().bytes_in == 10);
  ck_assert_int_eq(xchg_post(server, 1, hold, NULL), 0);
  await(&held); /* the worker takes all tasks at once */
  ck_assert_uint_eq(atom_exchange_acq_rel_u32(&server->drain_sent, 1),
                    0); /* as server_drain does */
  xchg_server_stop(server);
  server->model->ops->stop(server->model, sys_now_ns());
  acceptor_send_drain(&server->acceptor, sys_now_ns());
  sem_post(&gate);
  expect_closed(client);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}
END_TEST

static void *end_it(void *argument) {
  for (int i = 0; i < 100; i++) {
    xchg_server_drain(server);
    if (argument != NULL) {
      xchg_server_stop(server);
    }
  }
  return NULL;
}

START_TEST(ended_by_several_threads_at_once) {
  SETTINGS("XCHG_DRAIN_TIMEOUT=5m", "XCHG_MESSAGE_TIMEOUT=0");
  start_server(&echoes);
  int client = connect_and_ping(server);
  send_bytes(client, "begun", 5);
  AWAIT(read_stats().bytes_in == 10);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, end_it, i == 3 ? server : NULL), 0);
  }
  ck_assert_int_eq(xchg_server_wait(server), 0);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  expect_closed(client);
  check_ended(0, 1);
  xchg_server_destroy(server);
}
END_TEST

static void end_from_within(struct xchg_conn *conn, const struct xchg_message *message) {
  bool stop = *(const char *)message->data == 's';
  ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
  (stop ? xchg_server_stop : xchg_server_drain)(xchg_server_of(conn));
}

START_TEST(ended_from_within_a_handler) {
  static const struct xchg_handler handler = {
      .size = sizeof(handler), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = end_from_within};
  SETTINGS();
  start_server(&handler);
  int client = connect_to_port(port_of(server));
  send_bytes(client, _i == 0 ? "drain\n" : "stop!\n", 6);
  expect_bytes(client, _i == 0 ? "drain\n" : "stop!\n", 6); /* sent at the end of the turn */
  expect_closed(client);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  check_ended(_i == 0, _i == 1);
  xchg_server_destroy(server);
}
END_TEST

/* A listener that fails permanently stops the server, and wait reports it. */
START_TEST(a_failed_listener_stops_the_server) {
  SETTINGS();
  create_server(&echoes);
  int fd = server->listeners[0].fd;
  ck_assert_int_eq(xchg_server_start(server), 0);
  int client = connect_and_ping(server);
  ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
  ck_assert_int_eq(xchg_server_wait(server), -1);
  ck_assert_int_eq(errno, EIO);
  expect_end(client);
  close(client);
  ck_assert_uint_eq(lines_count("listener '127.0.0.1:"), 1);
  check_ended(1, 0);
  xchg_server_destroy(server);
}
END_TEST

/* ---- several servers ---- */

static void say_user(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_send(conn, xchg_user(conn), 5), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
}

START_TEST(two_in_one_process) {
  char first[] = "first", other[] = "other";
  struct xchg_handler handler = {.size = sizeof(handler), .on_open = say_user, .user = first};
  SETTINGS();
  struct xchg_server *servers[3];
  servers[0] = xchg_server_create(&settings, &handler);
  handler.user = other;
  servers[1] = xchg_server_create(&settings, &handler);
  servers[2] = xchg_server_create(&settings, &echoes);
  for (int i = 0; i < 3; i++) {
    ck_assert_ptr_nonnull(servers[i]);
    ck_assert_int_eq(xchg_server_start(servers[i]), 0);
  }
  int kept = connect_and_ping(servers[2]);
  for (int i = 0; i < 6; i++) {
    int client = connect_to_port(port_of(servers[i % 2]));
    expect_bytes(client, i % 2 == 0 ? first : other, 5);
    expect_end(client);
    close(client);
  }
  server = servers[0];
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  check_ended(3, 0);
  xchg_server_destroy(servers[0]);
  send_bytes(kept, "still\n", 6); /* the end of one does not affect the other */
  expect_bytes(kept, "still\n", 6);
  server = servers[1];
  AWAIT(read_stats().ended[XCHG_FINISHED] == 3);
  xchg_server_destroy(servers[1]);
  xchg_server_destroy(servers[2]);
  expect_closed(kept);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {starts_once, 1},
      {the_descriptor_table_is_made_at_the_start, 1},
      {null_servers_are_accepted, 1},
      {a_client_waits_for_the_start, 1},
      {destroyed_without_a_start, 2},
      {a_drain_lets_messages_finish, 1},
      {a_stop_closes_everything_now, 2},
      {destroy_stops, 1},
      {drain_and_stop_before_the_start, 2},
      {a_stop_that_overtakes_a_drain, 1},
      {ended_by_several_threads_at_once, 1},
      {ended_from_within_a_handler, 2},
      {a_failed_listener_stops_the_server, 1},
      {two_in_one_process, 1},
  };
  return run_suite("api_server_life", tests, count_of(tests));
}
