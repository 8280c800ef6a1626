/*
 * check_service: what a service manager gets and when, from a server whose threads all wait.  The
 * tests set the times at which something is due, so none waits for them.
 */
#include "pool/service.h"

#include "pool/worker.h"
#include "pool/stall.h"
#include "tests/fixtures/server_fixture.h"

#include <inttypes.h>

static struct service service;
static struct log logger;
static struct config *config; /* of the server */
static int manager = -1;      /* the manager's end */
static char name[128];        /* NOTIFY_SOCKET=... */
static char message[512];     /* the last one */

static void keep(void *user, enum xchg_log_level level, const char *line) {
  keep_line(user, level, line);
}

static void set_up(void) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int length =
      snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, "check_service.%d", (int)getpid());
  snprintf(name, sizeof(name), "NOTIFY_SOCKET=@%s", at.sun_path + 1);
  manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  ck_assert_int_eq(bind(manager, (struct sockaddr *)&at, size), 0);
  lines_clear();
  log_init(&logger, keep, &lines, LOG_INFO, LOG_LOGFMT);
  SETTINGS();
  start_server(&echoes);
  config = (struct config *)(uintptr_t)server->config;
  config->stall_ns = 30 * NS_PER_S;
}

static void tear_down(void) {
  service_close(&service);
  xchg_server_destroy(server);
  if (manager != -1) {
    close(manager);
  }
}

/* Open it with these variables, which may be NULL. */
static void open_service(const char *usec, const char *pid) {
  const char *environment[] = {name, usec != NULL ? usec : "X=", pid != NULL ? pid : "X=", NULL};
  service_open(&service, environment, &logger);
}

/* The manager's next message is ${expected}; NULL: there is none. */
static void expect(const char *expected) {
  ssize_t got = recv(manager, message, sizeof(message) - 1, 0);
  if (expected == NULL) {
    ck_assert_msg(got == -1 && errno == EAGAIN, "%.*s", (int)got, message);
    return;
  }
  ck_assert_int_ne(got, -1);
  message[got] = 0;
  ck_assert_str_eq(message, expected);
}

static uint64_t tend(enum service_phase phase, uint64_t until_ns) {
  return service_tend(&service, server, phase, until_ns);
}

/* The manager's next message says that an upgrade begins. */
static void expect_reloading(uint64_t since_ns) {
  uint64_t usec;
  ssize_t got = recv(manager, message, sizeof(message) - 1, 0);
  ck_assert_int_ne(got, -1);
  message[got] = 0;
  ck_assert_int_eq(sscanf(message, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &usec), 1);
  ck_assert_uint_ge(usec, since_ns / NS_PER_US);
  ck_assert_uint_le(usec, sys_now_ns() / NS_PER_US);
}

#define SERVING "STATUS=serving 0 of 100 connections, 2 workers"

START_TEST(without_a_manager_nothing_is_due) {
  const char *environment[] = {"WATCHDOG_USEC=1000", NULL};
  service_open(&service, environment, &logger);
  service_ready(&service);
  ck_assert_uint_eq(tend(SERVICE_SERVING, NEVER), NEVER);
  service_stopping(&service);
  ck_assert_uint_eq(tend(SERVICE_DRAINING, 0), NEVER);
  ck_assert_uint_eq(lines_count("\n"), 0);
}
END_TEST

START_TEST(states_and_status) {
  open_service(NULL, NULL);
  service_ready(&service);
  expect("READY=1");
  uint64_t due_ns = tend(SERVICE_SERVING, NEVER);
  expect(SERVING);
  ck_assert_uint_gt(due_ns, sys_now_ns() + SERVICE_STATUS_NS / 2);
  ck_assert_uint_le(due_ns, sys_now_ns() + SERVICE_STATUS_NS);
  ck_assert_uint_eq(tend(SERVICE_SERVING, NEVER), due_ns); /* nothing is due */
  expect(NULL);
  int client = connect_and_ping(server);
  service.status_at_ns = 0; /* it is due */
  tend(SERVICE_SERVING, NEVER);
  expect("STATUS=serving 1 of 100 connections, 2 workers");
  service_stopping(&service);
  expect("STOPPING=1");
  tend(SERVICE_DELAYED, sys_now_ns() + 2 * NS_PER_S); /* another phase */
  expect(
      "STATUS=serving 1 of 100 connections, 2 workers, draining in 2 s\n"
      "EXTEND_TIMEOUT_USEC=30000000");
  tend(SERVICE_DRAINING, sys_now_ns() + 12 * NS_PER_S);
  expect("STATUS=draining, 1 left, 12 s\nEXTEND_TIMEOUT_USEC=30000000");
  tend(SERVICE_DRAINING, sys_now_ns());
  expect(NULL);
  service.status_at_ns = 0;
  tend(SERVICE_DRAINING, sys_now_ns()); /* the time is over */
  expect("STATUS=draining, 1 left, 0 s\nEXTEND_TIMEOUT_USEC=30000000");
  close(client);
}
END_TEST

/* A model without workers, and a single worker. */
START_TEST(status_of_other_models) {
  struct config other = *config; /* the threads of the server read theirs */
  struct xchg_server view = {.config = &other, .model = server->model};
  open_service(NULL, NULL);
  other.model = MODEL_THREAD;
  (void)service_tend(&service, &view, SERVICE_SERVING, NEVER);
  expect("STATUS=serving 0 of 100 connections");
  other.model = MODEL_POOL;
  other.workers = 1;
  service.status_at_ns = 0;
  (void)service_tend(&service, &view, SERVICE_SERVING, NEVER);
  expect("STATUS=serving 0 of 100 connections, 1 worker");
}
END_TEST

static const struct {
  const char *usec, *pid; /* %d = this process */
  uint64_t every_ns;
  bool wrong; /* a warning */
} watchdogs[] = {
    {"WATCHDOG_USEC=60000000", "WATCHDOG_PID=%d", 15 * NS_PER_S, false},
    {"WATCHDOG_USEC=60000000", NULL, 15 * NS_PER_S, false},
    {"WATCHDOG_USEC=1", NULL, NS_PER_MS, false},
    {"WATCHDOG_USEC=60000000", "WATCHDOG_PID=1", NEVER, false},
    {NULL, "WATCHDOG_PID=%d", NEVER, false},
    {"WATCHDOG_USEC=18446744073709551615", NULL, NEVER, false},
    {"WATCHDOG_USEC=0", NULL, NEVER, true},
    {"WATCHDOG_USEC=60s", NULL, NEVER, true},
    {"WATCHDOG_USEC=-1", NULL, NEVER, true},
    {"WATCHDOG_USEC=60000000", "WATCHDOG_PID=x", NEVER, true},
};

START_TEST(watchdog_variables) {
  char pid[64];
  const char *format = watchdogs[_i].pid;
  snprintf(pid, sizeof(pid), "WATCHDOG_PID=%d", (int)getpid());
  open_service(watchdogs[_i].usec, format != NULL && strstr(format, "%d") != NULL ? pid : format);
  ck_assert_uint_eq(service.watchdog_ns, watchdogs[_i].every_ns);
  ck_assert_uint_eq(lines_count("is not a number: WATCHDOG=1"), watchdogs[_i].wrong);
  tend(SERVICE_SERVING, NEVER);
  if (watchdogs[_i].every_ns != NEVER) {
    expect("WATCHDOG=1");
  }
  expect(SERVING);
  expect(NULL);
}
END_TEST

static void set_turn(uint64_t turn_ns) {
  struct worker *worker = container_of(server_inbox(server, 1), struct worker, inbox);
  atom_store_relaxed_u64(&worker->turn_ns, turn_ns);
}

/* No message while a thread is stalled, whatever the phase; one as soon as it is not. */
START_TEST(watchdog_of_a_stalled_thread) {
  enum service_phase phase = (enum service_phase)_i;
  open_service("WATCHDOG_USEC=60000000", NULL);
  uint64_t begin_ns = sys_now_ns();
  tend(phase, begin_ns);
  if (phase == SERVICE_UPGRADING) {
    expect_reloading(begin_ns);
  }
  expect("WATCHDOG=1");
  ck_assert_int_gt(recv(manager, message, sizeof(message), 0), 0); /* the status */
  set_turn(sys_now_ns() - 31 * NS_PER_S);
  for (int i = 0; i < 2; i++) {
    service.watchdog_at_ns = 0;
    uint64_t due_ns = tend(phase, sys_now_ns());
    expect(NULL);
    ck_assert_uint_le(due_ns, sys_now_ns() + STALL_LOOK_AGAIN_NS); /* it looks again soon */
  }
  ck_assert_uint_eq(
      lines_count("WATCHDOG=1 is not sent: a thread is stalled\" stalled=\"xchg-work-1"), 1);
  set_turn(0);
  service.watchdog_at_ns = 0;
  tend(phase, sys_now_ns());
  expect("WATCHDOG=1");
  ck_assert_uint_eq(lines_count("WATCHDOG=1 is sent again"), 1);
}
END_TEST

static void fill(void) {
  while (send(service.notify.fd, "X=1", 3, MSG_DONTWAIT) == 3) {
  }
  ck_assert_int_eq(errno, EAGAIN);
}

static void empty(void) {
  while (recv(manager, message, sizeof(message), 0) > 0) {
  }
}

/* A full queue delays the states in their order.  The other messages are made anew. */
START_TEST(a_full_queue) {
  open_service("WATCHDOG_USEC=60000000", NULL);
  fill();
  service_ready(&service);
  for (int i = 0; i < 3; i++) {
    uint64_t due_ns = tend(SERVICE_SERVING, NEVER);
    ck_assert_uint_le(due_ns, sys_now_ns() + SD_NOTIFY_RETRY_MS * NS_PER_MS);
    service.watchdog_at_ns = service.status_at_ns = 0;
  }
  service_stopping(&service);
  tend(SERVICE_DRAINING, sys_now_ns());
  empty();
  service.watchdog_at_ns = service.status_at_ns = 0;
  uint64_t due_ns = tend(SERVICE_DRAINING, sys_now_ns());
  expect("READY=1");
  expect("STOPPING=1");
  expect("WATCHDOG=1");
  expect("STATUS=draining, 0 left, 0 s\nEXTEND_TIMEOUT_USEC=30000000");
  expect(NULL);
  ck_assert_uint_gt(due_ns, sys_now_ns() + SERVICE_STATUS_NS / 2);
}
END_TEST

/* An upgrade is a reload, whether it succeeds or not. */
START_TEST(an_upgrade) {
  open_service(NULL, NULL);
  tend(SERVICE_SERVING, NEVER);
  expect(SERVING);
  uint64_t begin_ns = sys_now_ns();
  tend(SERVICE_UPGRADING, NEVER);
  expect_reloading(begin_ns);
  expect(SERVING ", upgrading");
  tend(SERVICE_UPGRADING, NEVER);
  expect(NULL);
  tend(SERVICE_SERVING, NEVER);
  expect("READY=1");
  expect(SERVING);
  expect(NULL);
}
END_TEST

/* The new process of an upgrade says nothing of a begin. */
START_TEST(the_end_of_an_upgrade) {
  open_service(NULL, NULL);
  service_set_upgrading(&service);
  tend(SERVICE_UPGRADING, NEVER);
  expect(SERVING ", upgrading");
  tend(SERVICE_SERVING, NEVER);
  expect("READY=1");
  expect(SERVING);
}
END_TEST

/* The last state that the manager gets is the present one. */
START_TEST(an_upgrade_while_the_queue_is_full) {
  open_service(NULL, NULL);
  fill();
  service_ready(&service);
  uint64_t begin_ns = sys_now_ns();
  tend(SERVICE_UPGRADING, NEVER);
  tend(SERVICE_SERVING, NEVER);
  empty();
  service.status_at_ns = 0;
  tend(SERVICE_SERVING, NEVER);
  expect_reloading(begin_ns);
  expect("READY=1");
  expect(SERVING);
}
END_TEST

/* MAINPID= is kept until there is room; it is the last message of this process. */
START_TEST(another_process_is_the_server) {
  bool full = _i == 1;
  char own[64];
  open_service("WATCHDOG_USEC=60000000", NULL);
  if (full) {
    fill();
  }
  service_set_main(&service, 12345);
  ck_assert_int_eq(service_pending(&service), full);
  if (full) {
    ck_assert_uint_lt(tend(SERVICE_DELAYED, NEVER), sys_now_ns() + NS_PER_S);
    empty();
  }
  ck_assert_uint_eq(tend(SERVICE_DELAYED, NEVER), NEVER);
  expect("MAINPID=12345");
  ck_assert(!service_pending(&service));
  ck_assert_uint_eq(tend(SERVICE_DRAINING, 0), NEVER);
  expect(NULL);
  if (full) {
    fill();
    service_set_main(&service, 12345);
  }
  service_set_main(&service, getpid()); /* it has not become the server: only this counts */
  empty();
  tend(SERVICE_SERVING, NEVER);
  snprintf(own, sizeof(own), "MAINPID=%d", (int)getpid());
  if (full) {
    expect(own);
  }
  expect("WATCHDOG=1");
  expect(SERVING);
}
END_TEST

/* The manager ends: one line, and the server works without it. */
START_TEST(the_manager_ends) {
  open_service("WATCHDOG_USEC=60000000", NULL);
  close(manager);
  manager = -1;
  for (int i = 0; i < 3; i++) {
    service.watchdog_at_ns = service.status_at_ns = 0;
    ck_assert_uint_gt(tend(SERVICE_SERVING, NEVER), sys_now_ns() + SERVICE_STATUS_NS / 2);
  }
  ck_assert_uint_eq(lines_count("cannot send to NOTIFY_SOCKET"), 1);
  ck_assert_uint_eq(lines_count("\n"), 1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{without_a_manager_nothing_is_due, 1},
                                     {states_and_status, 1},
                                     {status_of_other_models, 1},
                                     {watchdog_variables, count_of(watchdogs)},
                                     {watchdog_of_a_stalled_thread, 4},
                                     {a_full_queue, 1},
                                     {an_upgrade, 1},
                                     {the_end_of_an_upgrade, 1},
                                     {an_upgrade_while_the_queue_is_full, 1},
                                     {another_process_is_the_server, 2},
                                     {the_manager_ends, 1}};
  return run_suite_fixture("service", tests, count_of(tests), set_up, tear_down);
}
