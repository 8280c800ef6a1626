/*
 * check_api_fork_conn: connections in a process that a callback has forked. They are the parent's:
 * calls of the child fail, and a child that returns from its callback ends.
 */
#include "tests/fixtures/fork_fixture.h"

#include <semaphore.h>
#include <spawn.h>

extern char **environ;

/* The first byte of a message selects the callback that forks. */
enum { IN_MESSAGE, IN_DRAIN, IN_TIMER, IN_CLOSE, IN_POST, IN_DONE, IN_OPEN, PLACES };
static const char letters[PLACES + 1] = "mdtcqo";

static sem_t gate;                          /* posted by the test when other input waits */
static void (*act)(struct xchg_conn *conn); /* what the callback does */
static bool in_open;
static struct xchg_conn *seen; /* by the callback that forks */

/* ---- a child that makes calls ---- */

static void never(struct xchg_conn *conn, void *argument) {
  (void)conn;
  (void)argument;
  abort();
}

static void never_work(void *argument) {
  (void)argument;
  abort();
}

static void expect_refused(int result) {
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(errno, EPERM);
  errno = 0;
}

static void make_calls(void) {
  char text[XCHG_ADDRESS_MAX];
  const struct iovec part = {.iov_base = text, .iov_len = 1};
  struct xchg_conn *conn = seen;
  expect_refused(xchg_send(conn, "x", 1));
  expect_refused(xchg_sendv(conn, &part, 1));
  expect_refused(xchg_send_ref(conn, "x", 1, never_work, NULL));
  expect_refused(xchg_finish(conn));
  expect_refused(xchg_abort(conn));
  expect_refused(xchg_pause(conn));
  expect_refused(xchg_resume(conn));
  expect_refused(xchg_timer(conn, 0));
  expect_refused(xchg_address(conn, text, sizeof(text)));
  expect_refused(xchg_offload(conn, never_work, never, NULL));
  expect_refused(xchg_join(conn, 7, XCHG_SLOW_SKIP));
  expect_refused(xchg_leave(conn, 7));
  expect_refused(xchg_post(server, 1, never, NULL));
  expect_refused(xchg_publish(server, 7, "all", 3));
  expect_refused(xchg_server_wait(server));
  ck_assert_uint_eq(xchg_pending(conn), 0);
  ck_assert_uint_eq(xchg_id(conn), 0);
  ck_assert_ptr_null(xchg_state(conn));
  ck_assert_ptr_eq(xchg_user(conn), &gate);
  ck_assert_ptr_eq(xchg_server_of(conn), server);
  ck_assert_int_eq(xchg_server_start(server), -1);
  ck_assert_int_eq(errno, EALREADY);
  xchg_server_drain(server);
  xchg_server_stop(server);
  ck_assert_uint_eq(read_stats().accepted, 2);
  xchg_server_destroy(server);
}

static void call_in_child(struct xchg_conn *conn) {
  seen = conn;
  in_child(make_calls);
}

static void call_in_grandchild(struct xchg_conn *conn) {
  pid_t child = fork();
  if (child == 0) {
    call_in_child(conn);
    _exit(0);
  }
  end_child(child);
}

/* ---- a child that returns ---- */

static pid_t parent;

static void return_in_child(struct xchg_conn *conn) {
  int status;
  (void)conn;
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child > 0) {
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 70 << 8);
  }
}

static void return_in_work(void *unused) {
  (void)unused;
  return_in_child(NULL);
}

/* ---- a program ---- */

static void spawn(struct xchg_conn *conn) {
  char name[] = "true";
  char *const arguments[] = {name, NULL};
  pid_t child;
  (void)conn;
  ck_assert_int_eq(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0);
  end_child(child);
}

/* ---- the handler ---- */

/* Queue "once" where that is allowed, then act while input of another connection waits. */
static void at(struct xchg_conn *conn, bool sends) {
  ck_assert_int_eq(getpid(), parent); /* no callback is called in a child */
  if (sends) {
    ck_assert_int_eq(xchg_send(conn, "once\n", 5), 0);
  }
  while (sem_wait(&gate) == -1) {
  }
  act(conn);
}

static void at_post(struct xchg_conn *conn, void *argument) {
  (void)argument;
  at(conn, true);
}

static void no_work(void *argument) { (void)argument; }

static void after_work(struct xchg_conn *conn, void *argument) {
  (void)argument;
  ck_assert_int_eq(xchg_send(conn, "once\n", 5), 0);
}

static char *place_of(const struct xchg_conn *conn) { return xchg_state(conn); }

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char letter = *(const char *)message->data;
  ck_assert_int_eq(getpid(), parent);
  *place_of(conn) = letter;
  if (letter == letters[IN_MESSAGE]) {
    at(conn, true);
  } else if (letter == letters[IN_TIMER]) {
    ck_assert_int_eq(xchg_timer(conn, 0), 0);
  } else if (letter == letters[IN_CLOSE]) {
    ck_assert_int_eq(xchg_finish(conn), 0);
  } else if (letter == letters[IN_POST]) {
    ck_assert_int_eq(xchg_post(server, xchg_id(conn), at_post, NULL), 0);
  } else if (letter == letters[IN_DONE]) {
    ck_assert_int_eq(xchg_offload(conn, no_work, at_post, NULL), 0);
  } else if (letter == 'w') {
    ck_assert_int_eq(xchg_offload(conn, return_in_work, after_work, NULL), 0);
  } else {
    ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
  }
}

static void on_open(struct xchg_conn *conn) {
  if (in_open && read_stats().accepted == 2) {
    at(conn, true);
  }
}

static void on_drain(struct xchg_conn *conn) {
  if (*place_of(conn) == letters[IN_DRAIN]) {
    *place_of(conn) = 0;
    at(conn, true);
  }
}

static void on_timer(struct xchg_conn *conn) { at(conn, true); }

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  ck_assert_int_eq(getpid(), parent);
  if (*place_of(conn) == letters[IN_CLOSE]) {
    at(conn, false);
  }
}

static const struct xchg_handler forks = {.size = sizeof(forks),
                                          .frame = {.kind = XCHG_FRAME_LINE},
                                          .state_size = 1,
                                          .user = &gate,
                                          .on_open = on_open,
                                          .on_message = on_message,
                                          .on_drain = on_drain,
                                          .on_timer = on_timer,
                                          .on_close = on_close};

/* Let the callback ${place} act while another connection of the worker has input. */
static void act_at(int place, void (*what)(struct xchg_conn *conn)) {
  SETTINGS("XCHG_WORKERS=1");
  act = what;
  parent = getpid();
  in_open = place == IN_OPEN;
  ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
  start_server(&forks);
  int other = connect_and_ping(server), client = connect_to_port(port_of(server));
  const char line[] = {letters[place], '\n'};
  if (place != IN_OPEN) {
    send_bytes(client, line, sizeof(line));
  }
  if (place == IN_DRAIN) {
    expect_bytes(client, line, sizeof(line));
  }
  AWAIT(read_stats().accepted == 2);
  send_bytes(other, "ping\n", 5);
  sem_post(&gate);
  if (place == IN_CLOSE) {
    expect_end(client);
  } else {
    expect_bytes(client, "once\n", 5);
    send_bytes(client, "x\n", 2);
    expect_bytes(client, "x\n", 2); /* and nothing before it */
  }
  expect_bytes(other, "ping\n", 5);
  close(client);
  close(other);
  AWAIT(read_stats().open == 0);
  struct xchg_stats stats = read_stats();
  ck_assert_uint_eq(stats.ended[XCHG_FINISHED], 2);
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}

START_TEST(calls_of_a_child_fail) { act_at(_i, call_in_child); }
END_TEST

START_TEST(calls_of_a_grandchild_fail) { act_at(IN_MESSAGE, call_in_grandchild); }
END_TEST

START_TEST(a_child_that_returns_from_its_callback_ends) { act_at(_i, return_in_child); }
END_TEST

START_TEST(a_child_that_returns_from_its_work_ends) {
  SETTINGS("XCHG_WORKERS=1", "XCHG_OFFLOAD_THREADS=1");
  parent = getpid();
  start_server(&forks);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "w\n", 2);
  expect_bytes(client, "once\n", 5);
  close(client);
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(a_callback_can_start_a_program) { act_at(_i, spawn); }
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {calls_of_a_child_fail, PLACES},
      {calls_of_a_grandchild_fail, 1},
      {a_child_that_returns_from_its_callback_ends, PLACES},
      {a_child_that_returns_from_its_work_ends, 1},
      {a_callback_can_start_a_program, PLACES},
  };
  return run_suite("api_fork_conn", tests, count_of(tests));
}
