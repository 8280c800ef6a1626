/*
 * check_admin: the admin endpoint in one process with a server: the states that the main thread
 * sets, what commands ask of it, and places. tests/live/test_admin.py has the routes and guards.
 */
#include "pool/admin_server.h"

#include "tests/fixtures/server_fixture.h"

#include <stdlib.h>
#include <sys/socket.h>

static char folder[32];
static char path[64];
static struct config config;
static struct log logger;
static struct log_writer *writer;
static struct admin *admin;

static void set_up(void) {
  lines_clear();
  snprintf(folder, sizeof(folder), "/tmp/check_admin.XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(path, sizeof(path), "%s/admin", folder);
  writer = log_writer_create(STDERR_FILENO, LOG_LOGFMT, false);
  ck_assert_ptr_nonnull(writer);
  log_init(&logger, keep_line, &lines, LOG_WARN, LOG_LOGFMT);
}

static void tear_down(void) {
  config_fini(&config);
  log_writer_destroy(writer);
  rmdir(folder);
}

/* Open the endpoint that ${entry} describes. Return: the exit code. */
static int open_admin(const char *entry) {
  const char *const environment[] = {entry, "XCHG_LOG_LEVEL=warn", NULL};
  ck_assert_msg(load(&config, environment, &plenty) == 0, "%s", said);
  const struct admin_setup setup = {.config = &config,
                                    .facts = &plenty,
                                    .environment = environment,
                                    .log = &logger,
                                    .log_writer = writer};
  int code = admin_server_open(&admin, &setup);
  return code == 0 ? admin_server_start(admin) : code;
}

static void open_at_path(void) {
  char entry[96];
  snprintf(entry, sizeof(entry), "XCHG_ADMIN=unix:%s", path);
  ck_assert_int_eq(open_admin(entry), 0);
}

static int connect_to_admin(void) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
  set_socket_timeouts(fd);
  ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
  return fd;
}

/* Ask on ${fd} and compare the beginning of the answer, and its last line. */
static void expect_on(int fd, const char *method, const char *target, const char *status,
                      const char *body) {
  char request[256], answer[4096] = "";
  int size = snprintf(request, sizeof(request),
                      "%s %s HTTP/1.1\r\nHost: x\r\nXchg-Command: yes\r\n\r\n", method, target);
  send_bytes(fd, request, (size_t)size);
  size_t got = 0;
  const char *end = NULL;
  while (end == NULL || end[4] == 0 || answer[got - 1] != '\n') {
    ssize_t more = recv(fd, answer + got, sizeof(answer) - 1 - got, 0);
    ck_assert_int_gt(more, 0);
    got += (size_t)more;
    answer[got] = 0;
    end = strstr(answer, "\r\n\r\n");
  }
  ck_assert_msg(strncmp(answer + strlen("HTTP/1.1 "), status, 3) == 0, "%s: %s", target, answer);
  ck_assert_str_eq(end + 4, body);
}

static void expect(const char *method, const char *target, const char *status, const char *body) {
  int fd = connect_to_admin();
  expect_on(fd, method, target, status, body);
  close(fd);
}

START_TEST(no_endpoint) {
  ck_assert_int_eq(open_admin("XCHG_ADMIN="), 0);
  ck_assert_ptr_null(admin);
  admin_server_set_serving(admin, NULL);
  admin_server_set_draining(admin);
  ck_assert(!admin_server_drain_asked(admin));
  ck_assert_uint_eq(admin_server_tend_log(admin, 1), NEVER);
  admin_server_end(admin);
  admin_server_close(admin);
  ck_assert_uint_eq(count_threads("xchg-adm"), 0);
}
END_TEST

START_TEST(address_in_use) {
  int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = loopback_address(0);
  socklen_t size = sizeof(at);
  ck_assert_int_eq(bind(taken, (const struct sockaddr *)&at, sizeof(at)), 0);
  ck_assert_int_eq(listen(taken, 1), 0);
  ck_assert_int_eq(getsockname(taken, (struct sockaddr *)&at, &size), 0);
  char entry[64];
  snprintf(entry, sizeof(entry), "XCHG_ADMIN=127.0.0.1:%u", ntohs(at.sin_port));
  ck_assert_int_eq(open_admin(entry), SERVER_UNAVAILABLE);
  ck_assert_uint_eq(lines_count("cannot bind an address of XCHG_ADMIN"), 1);
  ck_assert_uint_eq(lines_count("or set XCHG_ADMIN to another port"), 1);
  admin_server_close(admin);
  close(taken);
}
END_TEST

START_TEST(states) {
  open_at_path();
  ck_assert_uint_eq(lines_count("msg=admin addr=unix:"), 1);
  expect("GET", "/readyz", "503", "starting\n");
  expect("GET", "/stats", "503", "starting\n");
  expect("POST", "/drain", "503", "starting\n");
  ck_assert(!admin_server_drain_asked(admin));
  SETTINGS();
  start_server(&echoes);
  admin_server_set_serving(admin, server);
  expect("GET", "/readyz", "200", "ok\n");
  expect("POST", "/ready?state=off", "200", "off\n");
  expect("GET", "/readyz", "503", "off\n");
  expect("POST", "/ready?state=on", "200", "on\n");
  expect("GET", "/livez", "200", "ok\n");
  expect("POST", "/close?id=1", "404", "gone\n");
  expect("POST", "/drain", "202", "draining\n");
  ck_assert(admin_server_drain_asked(admin));
  struct pollfd woken = {.fd = server_done_fd(server), .events = POLLIN};
  ck_assert_int_eq(poll(&woken, 1, 0), 1);
  expect("GET", "/readyz", "503", "draining\n");
  expect("POST", "/ready?state=on", "200", "on\n");
  expect("GET", "/readyz", "503", "draining\n");
  ck_assert_uint_eq(lines_count("msg=command command=/ready"), 3);
  admin_server_end(admin);
  AWAIT(count_threads("xchg-adm") == 0);
  xchg_server_destroy(server);
  admin_server_close(admin);
  ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

/* The main thread passes the time, so no time passes here. */
START_TEST(level_of_the_log) {
  open_at_path();
  SETTINGS();
  start_server(&echoes);
  admin_server_set_serving(admin, server);
  ck_assert_uint_eq(admin_server_tend_log(admin, 5 * NS_PER_S), NEVER);
  expect("POST", "/log?level=debug&for=2s", "200", "debug for 2s\n");
  ck_assert_uint_eq(admin_server_tend_log(admin, 10 * NS_PER_S), 12 * NS_PER_S);
  ck_assert_uint_eq(atom_load_relaxed_u32(&logger.level), LOG_DEBUG);
  ck_assert_uint_eq(admin_server_tend_log(admin, 12 * NS_PER_S - 1), 12 * NS_PER_S);
  expect("POST", "/log?level=debug&for=2s", "200", "debug for 2s\n"); /* again: it lasts longer */
  ck_assert_uint_eq(admin_server_tend_log(admin, 13 * NS_PER_S), 15 * NS_PER_S);
  ck_assert_uint_eq(atom_load_relaxed_u32(&logger.level), LOG_DEBUG);
  ck_assert_uint_eq(admin_server_tend_log(admin, 15 * NS_PER_S), NEVER);
  ck_assert_uint_eq(atom_load_relaxed_u32(&logger.level), LOG_WARN);
  expect("POST", "/log?level=error&for=1h", "400",
         "level takes error, warn, info or debug; for takes 1s to 60m\n");
  expect("POST", "/log?level=error&for=60m", "200", "error for 60m\n");
  ck_assert_uint_eq(admin_server_tend_log(admin, 0), 3600 * NS_PER_S);
  ck_assert_uint_eq(atom_load_relaxed_u32(&logger.level), LOG_ERROR);
  admin_server_end(admin);
  xchg_server_destroy(server);
  admin_server_close(admin);
}
END_TEST

/* Each new connection closes the one that was used least recently, and no other. */
START_TEST(places) {
  int clients[3 * ADMIN_CONNECTIONS];
  open_at_path();
  for (size_t i = 0; i < count_of(clients); i++) {
    clients[i] = connect_to_admin();
    expect_on(clients[i], "GET", "/livez", "200", "ok\n");
    if (i >= ADMIN_CONNECTIONS) {
      char byte;
      ck_assert_int_eq(recv(clients[i - ADMIN_CONNECTIONS], &byte, 1, 0), 0);
      close(clients[i - ADMIN_CONNECTIONS]);
    }
  }
  for (size_t i = count_of(clients) - ADMIN_CONNECTIONS; i < count_of(clients); i++) {
    expect_on(clients[i], "GET", "/livez", "200", "ok\n");
    close(clients[i]);
  }
  admin_server_close(admin);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {no_endpoint, 1}, {address_in_use, 1}, {states, 1}, {level_of_the_log, 1}, {places, 1}};
  return run_suite_fixture("admin", tests, count_of(tests), set_up, tear_down);
}
