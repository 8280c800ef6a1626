/* check_server: the whole server in this process: start, serve, stop, totals, exit codes. */
#include "pool/server_stats.h"

#include "tests/fixtures/pool_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct config config;
static struct log logger;
static const struct server_setup setup = {.config = &config, .log = &logger};
static struct xchg_server *server;

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  log_fixture_open(&logger);
  server = aligned_alloc(CACHE_LINE, (sizeof(*server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
  ck_assert_ptr_nonnull(server);
}

/* Of two entries for the same variable the first counts. */
#define SET_UP(...)                                                                  \
  set_up((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) "XCHG_LISTEN=127.0.0.1:0", \
                               "XCHG_WORKERS=2", "XCHG_MAX_CONNECTIONS=100", NULL})

static void start(void) {
  ck_assert_int_eq(server_open(server, &setup), 0);
  ck_assert_int_eq(server_start(server), 0);
  ck_assert(!server_finished(server));
  ck_assert(!server_failed(server));
}

static uint16_t port(void) { return server->listeners[0].addr.addr.port; }

/* Wait as main does, and report ended children to the server. */
static void await_finished(void) {
  uint64_t until_ns = sys_now_ns() + FIXTURE_TIMEOUT_NS;
  while (!server_finished(server)) {
    ck_assert_msg(sys_now_ns() < until_ns, "the server does not finish");
    struct pollfd pollfd = {.fd = server_done_fd(server), .events = POLLIN};
    if (poll(&pollfd, 1, 20) == 1) {
      uint64_t count;
      ck_assert_int_eq(read(pollfd.fd, &count, sizeof(count)), sizeof(count));
    }
    server_sigchld(server);
  }
}

static void tear_down(void) {
  server_close(server);
  free(server);
  log_fixture_close(&logger);
  config_fini(&config);
}

/* The value of ${key} in the last line with msg=${msg}. */
static uint64_t reported(const char *msg, const char *key) {
  char what[64];
  const char *line = NULL;
  snprintf(what, sizeof(what), "msg=%s ", msg);
  for (const char *at = log_fixture_text(&logger); (at = strstr(at, what)) != NULL; at++) {
    line = at;
  }
  ck_assert_msg(line != NULL, "no line msg=%s", msg);
  snprintf(what, sizeof(what), " %s=", key);
  const char *at = strstr(line, what);
  ck_assert_msg(at != NULL && at < strchr(line, '\n'), "no %s in %s", key, line);
  return strtoull(at + strlen(what), NULL, 10);
}

/* In the line, accepted = finished + all closed. */
static void check_totals(const char *msg) {
  uint64_t ended = reported(msg, "finished");
  for (int reason = XCHG_FINISHED + 1; reason < XCHG_REASONS; reason++) {
    char key[32];
    snprintf(key, sizeof(key), "closed_%s", xchg_reason_name((enum xchg_reason)reason));
    ended += reported(msg, key);
  }
  ck_assert_uint_eq(reported(msg, "accepted"), ended);
}

static void stop_and_check(uint64_t finished) {
  uint16_t old_port = port();
  server_drain(server);
  server_drain(server); /* a second call does nothing */
  await_finished();
  server_report(server, "stopped", false);
  check_totals("stopped");
  ck_assert_uint_eq(reported("stopped", "finished"), finished);
  ck_assert(port_is_closed(old_port));
}

/* ---- each model serves, reports and stops ---- */

static const char *const models[] = {"XCHG_MODEL=pool", "XCHG_MODEL=iterative", "XCHG_MODEL=fork",
                                     "XCHG_MODEL=thread"};

START_TEST(serves_and_stops) {
  SET_UP(models[_i]);
  start();
  for (int i = 0; i < 5; i++) {
    greet_and_close(connect_to_port(port()));
  }
  stop_and_check(5);
  ck_assert_uint_eq(reported("stopped", "messages"), 5);
  ck_assert_uint_eq(reported("stopped", "bytes_in"), 5 * 6);
  ck_assert_uint_eq(reported("stopped", "bytes_out"), 5 * sizeof(GREETING));
  tear_down();
}
END_TEST

/* A scrape has the same totals under every model, and figures of workers under pool only. */
START_TEST(scrapes_add_up) {
  static char text[65536];
  const struct server_state state = {.state = "serving", .log_lines_lost = METRICS_UNKNOWN};
  char want[64];
  bool pool = strcmp(models[_i], "XCHG_MODEL=pool") == 0;
  SET_UP(models[_i]);
  start();
  for (int i = 0; i < 5; i++) {
    greet_and_close(connect_to_port(port()));
  }
  stop_and_check(5);
  size_t size = server_metrics(server, &state, METRICS_TEXT, text, sizeof(text) - 1);
  ck_assert_uint_lt(size, sizeof(text) - 1);
  text[size] = 0;
  ck_assert_ptr_nonnull(strstr(text, "\nxchg_connections_accepted_total 5\n"));
  ck_assert_ptr_nonnull(strstr(text, "\nxchg_connections_ended_total{reason=\"finished\"} 5\n"));
  ck_assert_ptr_nonnull(strstr(text, "\nxchg_connections_open 0\n"));
  snprintf(want, sizeof(want), "\nxchg_workers %d\n", pool ? 2 : 0);
  ck_assert_ptr_nonnull(strstr(text, want));
  ck_assert_int_eq(strstr(text, "xchg_worker_") != NULL, pool);
  ck_assert_int_eq(strstr(text, "xchg_handoff_") != NULL, pool);
  ck_assert_ptr_nonnull(strstr(text, "\nxchg_connection_seconds_count 5\n"));
  ck_assert_ptr_null(strstr(text, "process_"));
  tear_down();
}
END_TEST

/* No client has connected. */
START_TEST(stops_without_a_client) {
  SET_UP(models[_i]);
  start();
  stop_and_check(0);
  tear_down();
}
END_TEST

START_TEST(closes_without_a_start) {
  SET_UP(models[_i]);
  ck_assert_int_eq(server_open(server, &setup), 0);
  tear_down();
}
END_TEST

START_TEST(a_live_connection_holds_the_stop) {
  SET_UP(models[_i], "XCHG_FRAME=line", "XCHG_GREETING=none", "XCHG_REPLY=echo");
  start();
  int client = connect_to_port(port());
  send_bytes(client, "begun ", 6);
  AWAIT(acceptor_accepted(&server->acceptor) == 1);
  server_drain(server);
  ck_assert(is_silent(client, 200));
  ck_assert(!server_finished(server));
  send_bytes(client, "and done\n", 9);
  expect_bytes(client, "begun and done\n", 15);
  expect_end(client);
  close(client);
  stop_and_check(1);
  tear_down();
}
END_TEST

START_TEST(the_drain_timeout_closes_connections) {
  SET_UP(models[_i], "XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=200ms");
  start();
  int client = connect_to_port(port());
  send_bytes(client, "begun", 5);
  AWAIT(acceptor_accepted(&server->acceptor) == 1);
  stop_and_check(0);
  close(client);
  ck_assert_uint_eq(reported("stopped", "closed_drain"), 1);
  ck_assert_uint_eq(reported("stopped", "cut"), 1);
  tear_down();
}
END_TEST

/* ---- the report ---- */

START_TEST(reports_what_is_open) {
  SET_UP("XCHG_EXCHANGE=echo", "XCHG_LOG_LEVEL=error");
  log_set_level(&logger, LOG_ERROR);
  start();
  int clients[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = connect_to_port(port());
    send_bytes(clients[i], "ping", 4);
    expect_bytes(clients[i], "ping", 4);
  }
  server_report(server, "stats", true);
  ck_assert_uint_eq(reported("stats", "open"), 3);
  ck_assert_uint_eq(reported("stats", "accepted"), 3);
  ck_assert_uint_eq(reported("stats", "messages"), 3);
  close(clients[0]);
  AWAIT((server_report(server, "stats", true), reported("stats", "open") == 2));
  ck_assert_uint_eq(reported("stats", "finished"), 1);
  stop_and_check(3);
  ck_assert_ptr_null(strstr(strstr(log_fixture_text(&logger), "msg=stopped"), " open="));
  close(clients[1]);
  close(clients[2]);
  tear_down();
}
END_TEST

/* ---- failures at the start ---- */

START_TEST(an_address_in_use_is_one_error_line) {
  SET_UP();
  ck_assert_int_eq(server_open(server, &setup), 0);
  char listen[64];
  snprintf(listen, sizeof(listen), "XCHG_LISTEN=127.0.0.1:%u", port());
  struct xchg_server *first = server;
  struct config first_config = config;
  first->config = &first_config;
  log_fixture_close(&logger);
  SET_UP(listen);
  ck_assert_int_eq(server_open(server, &setup), SERVER_UNAVAILABLE);
  ck_assert_uint_eq(log_fixture_count(&logger, "\n"), 1); /* exactly one line */
  ck_assert_uint_eq(log_fixture_count(&logger, strchr(listen, '1')), 1);
  tear_down();
  server_close(first);
  free(first);
  config_fini(&first_config);
}
END_TEST

/* The second of two addresses fails: the first is released. */
START_TEST(a_failed_start_releases_bound_addresses) {
  SET_UP("XCHG_LISTEN=127.0.0.1:0,unix:/nonexistent/folder/socket");
  ck_assert_int_eq(server_open(server, &setup), SERVER_UNAVAILABLE);
  uint16_t old_port = port();
  ck_assert_uint_ne(old_port, 0);
  ck_assert_uint_eq(log_fixture_count(&logger, "\n"), 1);
  tear_down();
  ck_assert(port_is_closed(old_port));
}
END_TEST

/* Inherited descriptors begin at 3: run in a child, where they are free. */
static int serve_passed(bool listening) {
  close_range(3, ~0U, 0);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = loopback_address(0);
  socklen_t size = sizeof(at);
  if (fd != 3 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) == -1 ||
      (listening && listen(fd, 8) == -1) || getsockname(fd, (struct sockaddr *)&at, &size) == -1) {
    return 1;
  }
  log_to_fd(&logger, STDERR_FILENO, LOG_ERROR, LOG_LOGFMT);
  const struct listen_fd passed = {.fd = fd};
  const struct server_setup passing = {
      .config = &config, .log = &logger, .passed = &passed, .passed_count = 1};
  int code = server_open(server, &passing);
  if (code == 0 && server_start(server) == 0) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    char greeting[sizeof(GREETING)];
    if (connect(client, (const struct sockaddr *)&at, sizeof(at)) == -1 ||
        recv(client, greeting, sizeof(greeting), MSG_WAITALL) != sizeof(greeting)) {
      return 2;
    }
    close(client);
    server_drain(server);
    while (!server_finished(server)) {
      poll(NULL, 0, 1);
    }
  }
  server_close(server);
  if (code != 0) {
    close(fd); /* the server owns an inherited socket once it has checked it */
  }
  return code;
}

static int code_of_passed(bool listening) {
  SET_UP();
  pid_t pid = fork();
  ck_assert_int_ne(pid, -1);
  if (pid == 0) {
    _exit(serve_passed(listening));
  }
  int status;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert(WIFEXITED(status));
  free(server);
  log_fixture_close(&logger);
  config_fini(&config);
  return WEXITSTATUS(status);
}

START_TEST(an_inherited_socket_is_served) { ck_assert_int_eq(code_of_passed(true), 0); }
END_TEST

START_TEST(an_inherited_socket_must_listen) {
  ck_assert_int_eq(code_of_passed(false), SERVER_OSERR);
}
END_TEST

START_TEST(a_failed_listener_is_reported) {
  SET_UP("XCHG_STOP_GRACE=0");
  ck_assert_int_eq(server_open(server, &setup), 0);
  int fd = server->listeners[0].fd;
  ck_assert_int_eq(server_start(server), 0);
  ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
  struct pollfd pollfd = {.fd = server_done_fd(server), .events = POLLIN};
  ck_assert_int_eq(poll(&pollfd, 1, (int)(FIXTURE_TIMEOUT_NS / NS_PER_MS)), 1);
  ck_assert(server_failed(server));
  ck_assert(!server_finished(server)); /* main decides */
  server_drain(server);
  await_finished();
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {serves_and_stops, count_of(models)},
      {scrapes_add_up, count_of(models)},
      {stops_without_a_client, count_of(models)},
      {closes_without_a_start, count_of(models)},
      {a_live_connection_holds_the_stop, count_of(models)},
      {the_drain_timeout_closes_connections, count_of(models)},
      {reports_what_is_open, 1},
      {an_address_in_use_is_one_error_line, 1},
      {a_failed_start_releases_bound_addresses, 1},
      {an_inherited_socket_is_served, 1},
      {an_inherited_socket_must_listen, 1},
      {a_failed_listener_is_reported, 1},
  };
  return run_suite("server", tests, count_of(tests));
}
