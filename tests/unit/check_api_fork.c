/*
 * check_api_fork: what each call of core/xchg.h does before and after a fork, in parent and child.
 * docs/library.md has the table. Connections in a forked child are in check_api_fork_conn.
 *
 * A child checks what it can and ends with 0. The parent then checks that its server and its
 * clients have noticed nothing.
 */
#include "tests/fixtures/fork_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64]; /* of the UNIX listener */

/* "ping" is echoed, anything else aborts the connection. */
static void ping_or_abort(struct xchg_conn *conn, const struct xchg_message *message) {
  if (message->size == 4 && memcmp(message->data, "ping", 4) == 0) {
    echo_message(conn, message);
  } else {
    ck_assert_int_eq(xchg_abort(conn), 0);
  }
}

static const struct xchg_handler pings = {
    .size = sizeof(pings), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = ping_or_abort};

static void make_server(void) {
  char listen[128];
  snprintf(path, sizeof(path), "/tmp/check_api_fork.%d", getpid());
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.1:0,unix:%s", path);
  load_settings((const char *const[]){listen, "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=100",
                                      "XCHG_STOP_GRACE=0", "XCHG_WATCHDOG=0", NULL});
  create_server(&pings);
}

static bool file_exists(void) {
  struct stat st;
  return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void ping(int client) {
  send_bytes(client, "ping\n", 5);
  expect_bytes(client, "ping\n", 5);
}

static int ping_unix(void) {
  int client = connect_unix(path);
  ping(client);
  return client;
}

static void never(struct xchg_conn *conn, void *argument) {
  (void)conn;
  (void)argument;
  abort();
}

/* The process does not own ${server}: nothing reaches its threads, and reading works. */
static void check_not_owner(void) {
  xchg_server_drain(server);
  xchg_server_stop(server);
  ck_assert_int_eq(xchg_server_wait(server), -1);
  ck_assert_int_eq(errno, EPERM);
  ck_assert_int_eq(xchg_post(server, 1, never, NULL), -1);
  ck_assert_int_eq(errno, EPERM);
  ck_assert_int_eq(xchg_publish(server, 7, "all", 3), -1);
  ck_assert_int_eq(errno, EPERM);
  ck_assert_uint_ne(port_of(server), 0);
  struct xchg_stats stats = read_stats();
  check_sums(&stats);
}

static void end_server(void) {
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
  ck_assert(!file_exists());
}

/* ---- a fork before the start ---- */

static void child_before_the_start(void) {
  check_not_owner();
  xchg_server_destroy(server);
}

static void *fork_on_thread(void *argument) {
  in_child(argument);
  return NULL;
}

/* Fork on this thread, or on another one. */
static void fork_somewhere(bool other, void (*child)(void)) {
  pthread_t thread;
  if (!other) {
    in_child(child);
    return;
  }
  ck_assert_int_eq(pthread_create(&thread, NULL, fork_on_thread, child), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

START_TEST(a_child_leaves_an_unstarted_server_alone) {
  make_server();
  fork_somewhere(_i == 1, child_before_the_start);
  ck_assert(file_exists());
  ck_assert_int_eq(xchg_server_start(server), 0);
  close(connect_and_ping(server));
  close(ping_unix());
  end_server();
}
END_TEST

/* A drain before the start is the owner's, wherever the start is. */
static void child_starts_a_drained_server(void) {
  ck_assert_int_eq(xchg_server_start(server), 0);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}

START_TEST(a_drain_before_the_fork_is_kept) {
  make_server();
  xchg_server_drain(server);
  in_child(child_starts_a_drained_server);
  ck_assert(!file_exists());
  xchg_server_destroy(server);
}
END_TEST

/* ---- a start in a child ---- */

enum { UP, DOWN, PIPES };
static int pipes[PIPES][2]; /* the child tells that it serves; the parent closes its end: stop */

static void child_serves(void) {
  char byte;
  close(pipes[DOWN][1]);
  ck_assert_int_eq(xchg_server_start(server), 0);
  ck_assert_int_eq(xchg_server_start(server), -1);
  ck_assert_int_eq(errno, EALREADY);
  ck_assert_int_eq(xchg_publish(server, 7, "all", 3), 0);
  ck_assert_int_eq(write(pipes[UP][1], "u", 1), 1);
  ck_assert_int_eq(read(pipes[DOWN][0], &byte, 1), 0);
  end_server();
  ck_assert_int_eq(write(pipes[UP][1], "d", 1), 1);
}

/* As daemon(3) does: the process that forks ends, and its child goes on. */
static void child_becomes_a_daemon(void) {
  ck_assert_int_eq(daemon(1, 1), 0);
  child_serves();
}

static void child_forks_again(void) {
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child > 0) {
    _exit(0);
  }
  child_serves();
}

static void expect_byte(char want) {
  char byte = 0;
  struct pollfd fds = {.fd = pipes[UP][0], .events = POLLIN};
  ck_assert_int_eq(poll(&fds, 1, 60000), 1);
  ck_assert_int_eq(read(pipes[UP][0], &byte, 1), 1);
  ck_assert_int_eq(byte, want);
}

/* The child owns the server. The parent may look at it, and its destroy frees its copy only. */
START_TEST(a_child_can_start_the_server) {
  static void (*const ways[])(void) = {child_serves, child_forks_again, child_becomes_a_daemon};
  make_server();
  for (int i = 0; i < PIPES; i++) {
    ck_assert_int_eq(pipe(pipes[i]), 0);
  }
  pid_t child = begin_child(ways[_i]);
  expect_byte('u');
  check_not_owner();
  ck_assert_int_eq(xchg_server_start(server), -1);
  ck_assert_int_eq(errno, EALREADY);
  int client = connect_and_ping(server), local = ping_unix();
  uint16_t port = port_of(server);
  xchg_server_destroy(server);
  ck_assert(file_exists());
  ping(client);
  ping(local);
  close(connect_to_port(port));
  close(pipes[DOWN][1]);
  expect_end(client);
  expect_end(local);
  close(client);
  close(local);
  expect_byte('d');
  if (_i == 0) {
    end_child(child);
  } else {
    ck_assert_int_eq(waitpid(child, NULL, 0), child); /* ended long ago */
  }
  ck_assert(!file_exists());
}
END_TEST

/* ---- a fork after the start ---- */

static unsigned descriptors_before; /* without the server's, and with the clients' */

static void child_after_the_start(void) {
  ck_assert_int_eq(xchg_server_start(server), -1);
  ck_assert_int_eq(errno, EALREADY);
  check_not_owner();
  ck_assert_uint_eq(read_stats().accepted, 2); /* as at the fork */
  xchg_server_destroy(server);
  ck_assert_uint_eq(count_descriptors(), descriptors_before);
}

START_TEST(a_child_leaves_a_running_server_alone) {
  descriptors_before = count_descriptors() + 2;
  make_server();
  ck_assert_int_eq(xchg_server_start(server), 0);
  int client = connect_and_ping(server), local = ping_unix();
  fork_somewhere(_i == 1, child_after_the_start);
  ck_assert(file_exists());
  ping(client); /* its descriptor is still in the parent's epoll set */
  ping(local);
  close(connect_and_ping(server));
  close(ping_unix());
  ck_assert_int_eq(xchg_publish(server, 7, "all", 3), 0);
  xchg_server_drain(server);
  expect_end(client);
  expect_end(local);
  close(client);
  close(local);
  end_server();
}
END_TEST

/* A child that serves with a server of its own. */
static void child_makes_its_own(void) {
  xchg_server_destroy(server);
  make_server();
  ck_assert_int_eq(xchg_server_start(server), 0);
  close(connect_and_ping(server));
  close(ping_unix());
  end_server();
}

START_TEST(a_child_can_make_its_own_server) {
  make_server();
  ck_assert_int_eq(xchg_server_start(server), 0);
  int client = connect_and_ping(server);
  in_child(child_makes_its_own);
  ping(client);
  close(client);
  end_server();
}
END_TEST

static void child_destroys_when_told(void) {
  char byte;
  close(pipes[DOWN][1]);
  ck_assert_int_eq(write(pipes[UP][1], "u", 1), 1);
  ck_assert_int_eq(read(pipes[DOWN][0], &byte, 1), 0);
  xchg_server_destroy(server);
  ck_assert_int_eq(write(pipes[UP][1], "d", 1), 1);
  ck_assert_int_eq(read(pipes[DOWN][0], &byte, 1), 0);
  pause(); /* until the parent kills it */
}

/* The client sees the end once no process has the connection. */
START_TEST(a_child_holds_connections_open_until_it_closes_them) {
  make_server();
  ck_assert_int_eq(xchg_server_start(server), 0);
  for (int i = 0; i < PIPES; i++) {
    ck_assert_int_eq(pipe(pipes[i]), 0);
  }
  int client = connect_and_ping(server);
  pid_t child = begin_child(child_destroys_when_told);
  expect_byte('u');
  send_bytes(client, "bye\n", 4);
  AWAIT(read_stats().open == 0);
  ck_assert(is_silent(client, 50));
  close(pipes[DOWN][1]);
  expect_byte('d');
  expect_closed(client);
  kill(child, SIGKILL);
  ck_assert_int_eq(waitpid(child, NULL, 0), child);
  end_server();
}
END_TEST

/* ---- another program ---- */

/* Each descriptor of the server is closed by exec, so that another program gets none. */
START_TEST(another_program_gets_no_descriptor) {
  bool before[256] = {false};
  for (int fd = 0; fd < 256; fd++) {
    before[fd] = fcntl(fd, F_GETFD) != -1;
  }
  make_server();
  ck_assert_int_eq(xchg_server_start(server), 0);
  int client = connect_and_ping(server), local = ping_unix();
  for (int fd = 0; fd < 256; fd++) {
    int flags = fcntl(fd, F_GETFD);
    ck_assert_msg(
        flags == -1 || before[fd] || fd == client || fd == local || (flags & FD_CLOEXEC) != 0,
        "descriptor %d", fd);
  }
  pid_t child = _i == 0 ? fork() : vfork();
  if (child == 0) {
    execl("/bin/true", "true", (char *)NULL);
    _exit(127);
  }
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  ping(client);
  ping(local);
  close(client);
  close(local);
  end_server();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_child_leaves_an_unstarted_server_alone, 2},
      {a_drain_before_the_fork_is_kept, 1},
      {a_child_can_start_the_server, 3},
      {a_child_leaves_a_running_server_alone, 2},
      {a_child_can_make_its_own_server, 1},
      {a_child_holds_connections_open_until_it_closes_them, 1},
      {another_program_gets_no_descriptor, 2},
  };
  return run_suite("api_fork", tests, count_of(tests));
}
