/*
 * check_library_limits: limits and promises of the library in running servers: on_stop, the
 * watchdog with a worker that is only busy, how many tasks may wait at a worker, and publications
 * while workers end.
 *
 * Every connection joins the group when it opens, and sends its id.
 */
#include "tests/fixtures/server_fixture.h"

#include "core/atom.h"
#include "net/reactor.h"
#include "pool/task.h"

#include <semaphore.h>
#include <signal.h>

#define GROUP 7
#define MIB ((size_t)1 << 20)

static uint8_t mib[MIB];

static void join_and_tell_id(struct xchg_conn *conn) {
  uint64_t id = xchg_id(conn);
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(xchg_send(conn, &id, sizeof(id)), 0);
}

static const struct xchg_handler members = {.size = sizeof(members),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .on_open = join_and_tell_id,
                                            .on_message = echo_message};

static int connect_member(uint64_t *id) {
  int client = connect_to_port(port_of(server));
  ck_assert_int_eq(recv_bytes(client, id, sizeof(*id)), sizeof(*id));
  return client;
}

/* ---- on_stop ---- */

/* The handler's own thread, which uses the server until on_stop ends it. */
static struct {
  struct xchg_server *server;
  pthread_t thread;
  atom_u32 starts, stops, opens, closes;
  atom_u32 ticks, over;
  bool declines, kills; /* on_start returns -1; the thread sends the process a SIGTERM */
} life;

static void *tick(void *unused) {
  (void)unused;
  while (atom_load_relaxed_u32(&life.over) == 0) {
    struct xchg_stats stats = {.size = sizeof(stats)};
    if (xchg_server_stats(life.server, &stats) == -1) {
      ck_abort_msg("no stats: %s", strerror(errno));
    }
    if (xchg_publish(life.server, GROUP, "tick\n", 5) == -1) {
      ck_assert_int_eq(errno, EAGAIN);
      poll(NULL, 0, 1);
    }
    if (atom_add_relaxed_u32(&life.ticks, 1) == 100 && life.kills) {
      kill(getpid(), SIGTERM);
    }
  }
  return NULL;
}

static int life_starts(struct xchg_server *of) {
  atom_add_relaxed_u32(&life.starts, 1);
  if (life.declines) {
    return -1;
  }
  life.server = of;
  ck_assert_int_eq(pthread_create(&life.thread, NULL, tick, NULL), 0);
  return 0;
}

static void life_stops(struct xchg_server *of) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  ck_assert_ptr_eq(of, life.server);
  /* The log goes on, and a program hears a second signal. */
  AWAIT(count_threads("xchg-") == count_threads("xchg-log") + count_threads("xchg-signals"));
  ck_assert_int_eq(xchg_server_stats(of, &stats), 0);
  check_sums(&stats);
  ck_assert_uint_eq(stats.open, 0);
  ck_assert_uint_eq(atom_load_relaxed_u32(&life.opens), atom_load_relaxed_u32(&life.closes));
  uint32_t ticks = atom_load_relaxed_u32(&life.ticks);
  AWAIT(atom_load_relaxed_u32(&life.ticks) > ticks + 10); /* the server can still be used */
  atom_store_relaxed_u32(&life.over, 1);
  ck_assert_int_eq(pthread_join(life.thread, NULL), 0);
  atom_add_relaxed_u32(&life.stops, 1);
}

static void life_opens(struct xchg_conn *conn) {
  ck_assert_int_eq(xchg_join(conn, GROUP, XCHG_SLOW_SKIP), 0);
  atom_add_relaxed_u32(&life.opens, 1);
}

static void life_closes(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)conn;
  (void)reason;
  atom_add_relaxed_u32(&life.closes, 1);
}

static const struct xchg_handler living = {.size = sizeof(living),
                                           .frame = {.kind = XCHG_FRAME_LINE},
                                           .on_start = life_starts,
                                           .on_stop = life_stops,
                                           .on_open = life_opens,
                                           .on_close = life_closes};

static void check_life(uint32_t starts, uint32_t stops) {
  ck_assert_uint_eq(atom_load_relaxed_u32(&life.starts), starts);
  ck_assert_uint_eq(atom_load_relaxed_u32(&life.stops), stops);
}

/* Destroyed while it runs, after a drain, and without a start. */
START_TEST(on_stop_comes_once_after_all_connections) {
  int client = -1;
  SETTINGS();
  create_server(&living);
  check_life(1, 0);
  if (_i < 2) {
    ck_assert_int_eq(xchg_server_start(server), 0);
    client = connect_to_port(port_of(server));
    expect_bytes(client, "tick\ntick\n", 10);
  }
  if (_i == 1) {
    xchg_server_stop(server);
    ck_assert_int_eq(xchg_server_wait(server), 0);
    check_life(1, 0); /* the program can still call the server */
  }
  xchg_server_destroy(server);
  check_life(1, 1);
  if (client != -1) {
    close(client);
  }
}
END_TEST

#define STARTS 100

/* Its thread calls the server before, during and after the start: EPERM would end the test. */
START_TEST(the_server_can_be_used_during_its_start) {
  SETTINGS();
  for (uint32_t i = 0; i < STARTS; i++) {
    uint32_t ticks = atom_load_relaxed_u32(&life.ticks);
    atom_store_relaxed_u32(&life.over, 0);
    create_server(&living);
    AWAIT(atom_load_relaxed_u32(&life.ticks) > ticks);
    ck_assert_int_eq(xchg_server_start(server), 0);
    xchg_server_destroy(server);
  }
  check_life(STARTS, STARTS);
}
END_TEST

/* After on_start has declined, and when it was not called. */
START_TEST(no_on_stop_without_a_start) {
  struct xchg_handler handler = living;
  char taken[XCHG_ADDRESS_MAX];
  SETTINGS();
  life.declines = true;
  ck_assert_ptr_null(xchg_server_create(&settings, &handler));
  ck_assert_int_eq(errno, ECANCELED);
  check_life(1, 0);
  handler.state_size = XCHG_STATE_MAX + 1;
  ck_assert_ptr_null(xchg_server_create(&settings, &handler));
  ck_assert_int_eq(errno, EINVAL);
  create_server(&echoes);
  ck_assert_int_eq(xchg_server_address(server, 0, taken, sizeof(taken)), 0);
  settings.listen = taken;
  ck_assert_ptr_null(xchg_server_create(&settings, &living));
  ck_assert_int_eq(errno, EADDRINUSE);
  xchg_server_destroy(server);
  check_life(1, 0);
}
END_TEST

static int run_main(void) {
  char name[] = "program";
  char *arguments[] = {name, NULL};
  ck_assert_int_eq(setenv("XCHG_LISTEN", "127.0.0.1:0", 1), 0);
  ck_assert_int_eq(setenv("XCHG_WORKERS", "2", 1), 0);
  ck_assert_int_eq(setenv("XCHG_STOP_GRACE", "0", 1), 0);
  ck_assert_int_eq(setenv("XCHG_MAX_CONNECTIONS", "100", 1), 0);
  return xchg_main(&living, 1, arguments);
}

/* The whole daemon, ended by a signal while the thread runs. */
START_TEST(the_daemon_calls_on_stop) {
  life.kills = true;
  ck_assert_int_eq(run_main(), 0);
  check_life(1, 1);
}
END_TEST

START_TEST(the_daemon_calls_no_on_stop_after_a_refusal) {
  life.declines = true;
  ck_assert_int_eq(run_main(), 71);
  check_life(1, 0);
}
END_TEST

/* ---- the watchdog ---- */

#define WATCHDOG "XCHG_WATCHDOG=1s"
#define HOLDS "a handler blocks its worker"

static atom_u32 steps;

/* A call of a few milliseconds. Hundreds of them make a turn of more than one second. */
static void step(struct xchg_conn *conn, void *argument) {
  const int *ms = argument;
  (void)conn;
  poll(NULL, 0, *ms);
  atom_add_relaxed_u32(&steps, 1);
}

/* A call that lasts until the watchdog has reported it. */
static void step_too_long(struct xchg_conn *conn, void *argument) {
  (void)argument;
  ck_assert_ptr_nonnull(conn);
  AWAIT(read_stats().blocked > 0);
  atom_add_relaxed_u32(&steps, 1);
}

static void post(uint64_t id, void (*call)(struct xchg_conn *, void *), void *argument) {
  ck_assert_int_eq(xchg_post(server, id, call, argument), 0);
}

START_TEST(many_short_posts_are_not_reported) {
  enum { POSTS = 1500 };
  int ms = 2;
  uint64_t id;
  SETTINGS(WATCHDOG, "XCHG_WORKERS=1");
  start_server(&members);
  int client = connect_member(&id);
  for (int i = 0; i < POSTS; i++) {
    post(id, step, &ms);
  }
  AWAIT(atom_load_relaxed_u32(&steps) == POSTS);
  ck_assert_uint_eq(read_stats().blocked, 0);
  ck_assert_uint_eq(lines_count(HOLDS), 0);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(a_long_post_among_many_is_reported) {
  int ms = 0;
  uint64_t id;
  SETTINGS(WATCHDOG, "XCHG_WORKERS=1");
  start_server(&members);
  int client = connect_member(&id);
  for (int i = 0; i < 100; i++) {
    post(id, step, &ms);
  }
  post(id, step_too_long, NULL);
  for (int i = 0; i < 100; i++) {
    post(id, step, &ms);
  }
  AWAIT(atom_load_relaxed_u32(&steps) == 201);
  ck_assert_uint_eq(read_stats().blocked, 1);
  ck_assert_uint_eq(lines_count(HOLDS), 1);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

static void echo_slowly(struct xchg_conn *conn, const struct xchg_message *message) {
  poll(NULL, 0, 6);
  echo_message(conn, message);
}

static const struct xchg_handler slowly = {
    .size = sizeof(slowly), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = echo_slowly};

/* Many connections in one batch of events, each with a short callback. */
START_TEST(many_short_callbacks_are_not_reported) {
  int clients[REACTOR_EVENTS];
  SETTINGS(WATCHDOG, "XCHG_WORKERS=1", "XCHG_MAX_CONNECTIONS=300");
  start_server(&slowly);
  for (size_t i = 0; i < count_of(clients); i++) {
    clients[i] = connect_to_port(port_of(server));
  }
  AWAIT(read_stats().open == count_of(clients));
  for (size_t i = 0; i < count_of(clients); i++) {
    send_bytes(clients[i], "work\n", 5);
  }
  for (size_t i = 0; i < count_of(clients); i++) {
    expect_bytes(clients[i], "work\n", 5);
    close(clients[i]);
  }
  ck_assert_uint_eq(read_stats().blocked, 0);
  ck_assert_uint_eq(lines_count(HOLDS), 0);
  xchg_server_destroy(server);
}
END_TEST

/* ---- how many tasks may wait at a worker ---- */

static sem_t gate;

static void wait_at_gate(struct xchg_conn *conn, void *argument) {
  (void)conn;
  (void)argument;
  while (sem_wait(&gate) == -1) {
  }
}

static void expect_mib(int client) {
  static uint8_t got[MIB];
  ck_assert_int_eq(recv_bytes(client, got, sizeof(got)), sizeof(got));
  ck_assert_mem_eq(got, mib, sizeof(got));
}

START_TEST(waiting_tasks_are_bounded_by_their_bytes) {
  uint64_t id;
  size_t count = 0;
  SETTINGS("XCHG_WORKERS=1", "XCHG_MAX_PENDING=128MiB", "XCHG_WRITE_TIMEOUT=0");
  start_server(&members);
  int client = connect_member(&id);
  memset(mib, 'm', sizeof(mib));
  for (int round = 0; round < 2; round++) {
    ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
    post(id, wait_at_gate, NULL);
    for (count = 0; count < 80 && xchg_publish(server, GROUP, mib, sizeof(mib)) == 0;) {
      count++;
    }
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_uint_ge(count * MIB, TASK_BYTES_MAX);
    ck_assert_uint_le(count * MIB, TASK_BYTES_MAX + 2 * MIB);
    ck_assert_int_eq(xchg_publish(server, GROUP, "late", 4), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(sem_post(&gate), 0);
    AWAIT(xchg_publish(server, GROUP, "later", 5) == 0);
    for (size_t i = 0; i < count; i++) {
      expect_mib(client); /* accepted ones are not lost */
    }
    expect_bytes(client, "later", 5);
  }
  close(client);
  xchg_server_destroy(server);
}
END_TEST

/* ---- workers that have ended ---- */

/* While a worker runs, publications wait in its queue. After it has ended, none is kept. */
START_TEST(publishing_outlives_a_worker) {
  uint64_t id;
  SETTINGS("XCHG_DISPATCH=round-robin", "XCHG_MESSAGE_TIMEOUT=0", "XCHG_DRAIN_TIMEOUT=5m");
  start_server(&members);
  int begun = connect_member(&id), idle = connect_member(&id);
  send_bytes(begun, "be", 2);
  send_bytes(idle, "ping\n", 5);
  expect_bytes(idle, "ping\n", 5);
  AWAIT(read_stats().bytes_in == 7);
  ck_assert_uint_eq(count_threads("xchg-work-"), 2);
  xchg_server_drain(server);
  expect_end(idle);
  close(idle);
  AWAIT(count_threads("xchg-work-") == 1);
  for (uint32_t i = 0; i < TASK_QUEUE_MAX + 1000; i++) {
    AWAIT(xchg_publish(server, GROUP + 1, "x", 1) == 0);
  }
  AWAIT(xchg_publish(server, GROUP, "to the last", 11) == 0);
  expect_bytes(begun, "to the last", 11);
  send_bytes(begun, "gun\n", 4);
  expect_bytes(begun, "begun\n", 6);
  expect_end(begun);
  close(begun);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  ck_assert_int_eq(xchg_publish(server, GROUP, "to nobody", 9), 0);
  xchg_server_destroy(server);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {on_stop_comes_once_after_all_connections, 3},
      {the_server_can_be_used_during_its_start, 1},
      {no_on_stop_without_a_start, 1},
      {the_daemon_calls_on_stop, 1},
      {the_daemon_calls_no_on_stop_after_a_refusal, 1},
      {many_short_posts_are_not_reported, 1},
      {a_long_post_among_many_is_reported, 1},
      {many_short_callbacks_are_not_reported, 1},
      {waiting_tasks_are_bounded_by_their_bytes, 1},
      {publishing_outlives_a_worker, 1},
  };
  return run_suite("library_limits", tests, count_of(tests));
}
