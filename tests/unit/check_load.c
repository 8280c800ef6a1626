/*
 * check_load: the whole load engine against small servers with one known fault each.
 *
 * No check depends on the speed of the machine.  The tests check counts that must add up, kinds of
 * errors, and latencies that a known stall makes long.  Connections that a server still holds at
 * the end of a test are closed with the test's process.
 */
#include "xchg-bench/load.h"

#include "tests/fixtures/load.h"
#include "tests/fixtures/run_suite.h"
#include "tests/unit/load_server.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GREETING "Message from server"
/* ---- no fault ---- */

static const struct {
  uint32_t threads, connections, pipeline;
  uint64_t count;
} counts[] = {{1, 1, 1, 100},  {2, 10, 1, 1000}, {3, 7, 1, 1001}, {4, 3, 1, 500},
              {2, 5, 16, 999}, {2, 300, 1, 900}, {2, 20, 1, 7},   {2, 4, 1, 1}};

START_TEST(test_count_is_exact) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, counts[_i].threads, counts[_i].connections);
  options.pipeline = counts[_i].pipeline;
  options.count = counts[_i].count;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, options.count);
  ck_assert_uint_eq(result_errors(result), 0);
  ck_assert_uint_eq(result->latency->count, options.count);
  ck_assert_uint_ge(result->first_byte->count, options.count);
  ck_assert_uint_eq(result->connected, options.connections);
  ck_assert_uint_eq(result->connect->count, options.connections);
  ck_assert_uint_ge(result->bytes_in, options.count * FIXTURE_SIZE);
  ck_assert_uint_ge(result->bytes_out, options.count * FIXTURE_SIZE);
  ck_assert(result->has_latency && !result->interrupted);
  ck_assert(result->seconds > 0);
  /* A run of one exchange may end before all are accepted. The test's time limit ends the wait. */
  while (atom_load_relaxed_u32(&server.accepted) < options.connections) {
    poll(NULL, 0, 1);
  }
  ck_assert_uint_eq(atom_load_relaxed_u32(&server.accepted), options.connections);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_greet) {
  struct load_server server = {.greeting = GREETING};
  static uint8_t greeting[] = GREETING;
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 5);
  options.exchange.has_greeting = true;
  options.exchange.greeting = (struct config_text){greeting, sizeof(GREETING) - 1};
  options.exchange.reply = REPLY_NONE;
  options.exchange.frame.kind = XCHG_FRAME_DELIMITER;
  options.exchange.messages = 1;
  options.count = 203;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 203);
  ck_assert_uint_eq(result_errors(result), 0);
  ck_assert_uint_ge(result->connect->count, 203);
  ck_assert_uint_ge(result->latency->max_ns, result->connect->min_ns);
  ck_assert_uint_eq(result->connected, 5);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* The intervals are the run, divided into seconds. */
START_TEST(test_intervals) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.duration_ns = 2 * NS_PER_S + 300 * NS_PER_MS;
  options.warmup_ns = 100 * NS_PER_MS;
  struct result *result = fixture_run(&options);
  uint64_t exchanges = 0, bytes = 0;
  double seconds = 0;
  ck_assert_double_eq_tol(result->seconds, 2.3, 1e-6);
  ck_assert_uint_eq(result->intervals_count, 3);
  for (uint32_t i = 0; i < 3; i++) {
    const struct interval *row = &result->intervals[i];
    ck_assert_double_eq(row->at_s, i);
    ck_assert_uint_le(row->p50_ns, row->p99_ns);
    ck_assert_uint_le(row->p99_ns, row->max_ns);
    exchanges += row->exchanges;
    bytes += row->bytes_in;
    seconds += row->seconds;
  }
  ck_assert_uint_gt(exchanges, 0);
  ck_assert_uint_eq(exchanges, result->exchanges);
  ck_assert_uint_eq(bytes, result->bytes_in);
  ck_assert_double_eq_tol(seconds, 2.3, 1e-6);
  ck_assert(result->client.cpu_s > 0);
  ck_assert(result->thread_busy_max > 0);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* Each scheduled exchange ended, was dropped, or was in flight at the end, one per connection. */
START_TEST(test_open_loop_adds_up) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 3, 5);
  options.rate = _i == 0 ? 500 : 1;
  options.warmup_ns = _i == 0 ? NS_PER_S : 0;
  struct result *result = fixture_run(&options);
  const uint64_t may_begin = (uint64_t)(options.rate * 2);
  ck_assert_uint_le(result->exchanges, may_begin);
  ck_assert_uint_ge(result->exchanges + result->dropped + 5, may_begin);
  ck_assert_uint_gt(result->exchanges, 0);
  ck_assert_uint_eq(result_errors(result), 0);
  ck_assert_uint_eq(result->uncorrected->count, result->exchanges);
  ck_assert_uint_ge(result->latency->max_ns, result->uncorrected->min_ns);
  ck_assert_double_eq(result->target_rate, options.rate);
  ck_assert_double_eq(result->intervals[0].target_rate, options.rate);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_open_loop_count) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 6);
  options.rate = 2000;
  options.count = 101;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 101);
  ck_assert_uint_eq(result->dropped, 0);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_reconnect) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 1, 2);
  options.reconnect = 5;
  options.count = 100;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 100);
  ck_assert_uint_eq(result_errors(result), 0);
  ck_assert_uint_ge(atom_load_relaxed_u32(&server.accepted), 19);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_discard) {
  struct load_server server = {.fault = FAULT_MUTE};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.exchange.reply = REPLY_NONE;
  options.pipeline = 8;
  options.duration_ns = 300 * NS_PER_MS;
  struct result *result = fixture_run(&options);
  ck_assert(!result->has_latency);
  ck_assert_uint_gt(result->exchanges, 0);
  ck_assert_uint_ge(result->bytes_out, result->exchanges * FIXTURE_SIZE);
  ck_assert_uint_eq(result->latency->count, 0);
  ck_assert_uint_eq(result_errors(result), 0);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_idle) {
  struct load_server server = {0};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 3);
  options.idle = 200;
  options.count = 50;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->idle_connected, 200);
  ck_assert_uint_eq(result->connected, 3);
  ck_assert_uint_eq(result->exchanges, 50);
  ck_assert_uint_eq(result_errors(result), 0);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* A UNIX socket with a small backlog, which is full most of the time, answers with EAGAIN. */
START_TEST(test_unix) {
  char path[64];
  snprintf(path, sizeof(path), "/tmp/check-load-%d", (int)getpid());
  struct load_server server = {.path = path, .backlog = _i == 0 ? 4096 : 1};
  load_server_start(&server);
  struct options options = fixture_echo(0, 2, 60);
  options.address = (struct addr_listen){.addr = {.family = ADDR_UNIX}};
  strcpy(options.address.path, path);
  options.count = 300;
  struct result *result = fixture_run(&options);
  ck_assert_uint_eq(result->exchanges, 300);
  ck_assert_uint_eq(result_errors(result), 0);
  result_destroy(result);
  load_server_stop(&server);
  unlink(path);
}
END_TEST

/* ---- faults ---- */

static const struct {
  enum load_fault fault;
  enum bench_error error;
  int error_errno;
} faults[] = {{FAULT_WRONG, ERROR_WRONG, 0},
              {FAULT_SHORT, ERROR_SHORT, 0},
              {FAULT_RESET, ERROR_RESET, ECONNRESET}};

/* Each fault is counted by its kind, the connection is replaced, and the run continues. */
START_TEST(test_fault_by_kind) {
  struct load_server server = {.fault = faults[_i].fault, .after = 100};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.count = 120;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  const uint64_t errors = result->errors[faults[_i].error];
  ck_assert_uint_gt(errors, 1);
  ck_assert_uint_eq(result_errors(result), errors);
  ck_assert_uint_eq(result->exchanges + errors, 120);
  ck_assert_uint_ge(result->exchanges, 90);
  ck_assert_uint_eq(result->errnos[ECONNRESET], faults[_i].error_errno != 0 ? errors : 0);
  ck_assert_uint_gt(atom_load_relaxed_u32(&server.accepted), 4);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

START_TEST(test_never_answers) {
  struct load_server server = {.fault = FAULT_MUTE};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.timeout_ns = 300 * NS_PER_MS;
  struct result *result = fixture_run(&options);
  ck_assert_uint_ge(result->errors[ERROR_TIMEOUT], 4);
  ck_assert_uint_eq(result->errors[ERROR_TIMEOUT], result_errors(result));
  ck_assert_uint_eq(result->exchanges, 0);
  ck_assert_uint_eq(result->latency->count, result->errors[ERROR_TIMEOUT]);
  ck_assert_uint_ge(result->latency->min_ns, 300 * NS_PER_MS);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

/* Without a listener, connections are refused; the load neither spins nor hangs. */
START_TEST(test_absent) {
  int fd;
  const bool counted = _i == 1;
  struct options options = fixture_echo(load_server_absent(&fd), 2, 4);
  options.exchange.messages = counted ? 1 : 0;
  options.duration_ns = NS_PER_S;
  struct result *result = fixture_run(&options);
  ck_assert_uint_ge(result->errors[ERROR_CONNECT], 4);
  ck_assert_uint_eq(result->errors[ERROR_CONNECT], result_errors(result));
  ck_assert_uint_eq(result->errors[ERROR_CONNECT], result->errnos[ECONNREFUSED]);
  ck_assert_uint_le(result->errors[ERROR_CONNECT], 4 * (1000 / 10 + 2)); /* a pause of 10 ms */
  ck_assert_uint_eq(result->exchanges, 0);
  ck_assert_uint_eq(result->connected, 0);
  result_destroy(result);
  close(fd);
}
END_TEST

START_TEST(test_absent_count_ends) {
  int fd;
  struct options options = fixture_echo(load_server_absent(&fd), 2, 4);
  options.count = 20;
  options.duration_ns = NEVER;
  struct result *result = fixture_run(&options);
  ck_assert_uint_ge(result->errors[ERROR_CONNECT], 20);
  ck_assert_uint_eq(result->exchanges, 0);
  result_destroy(result);
  close(fd);
}
END_TEST

/*
 * The server stalls for half a second of two.  A quarter of the scheduled exchanges waits for it,
 * 250 ms on average.  Without correction, only the exchange in flight on each connection does.
 */
START_TEST(test_stall_is_not_omitted) {
  struct load_server server = {.fault = FAULT_STALL, .after = 100, .stall_ns = 500 * NS_PER_MS};
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 2);
  options.rate = 200;
  struct result *result = fixture_run(&options);
  ck_assert_uint_ge(result->exchanges, 300);
  ck_assert_uint_ge(hdr_percentile(result->latency, 99), 400 * NS_PER_MS);
  ck_assert_uint_ge(hdr_percentile(result->latency, 90), 200 * NS_PER_MS);
  ck_assert_uint_ge(result->uncorrected->max_ns, 450 * NS_PER_MS); /* the one in flight */
  ck_assert_uint_lt(hdr_percentile(result->uncorrected, 90),
                    hdr_percentile(result->latency, 90) / 2);
  ck_assert_uint_ge(result->late, 50);
  ck_assert_uint_ge(result->late_max_ns, 400 * NS_PER_MS);
  result_destroy(result);
  load_server_stop(&server);
}
END_TEST

static pthread_t runner; /* the thread that is in load_run */

static void on_signal(int signal) {
  (void)signal;
  load_interrupt();
}

/* As in xchg-bench, the interrupt comes in a handler of the thread that runs the load. */
static void signal_runner(void) { ck_assert_int_eq(pthread_kill(runner, SIGUSR1), 0); }

START_TEST(test_interrupt) {
  struct load_server server = {.fault = FAULT_CALL, .after = 200, .call = signal_runner};
  const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  runner = pthread_self();
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  load_server_start(&server);
  struct options options = fixture_echo(server.port, 2, 4);
  options.duration_ns = _i == 0 ? 3600 * NS_PER_S : NEVER;
  options.warmup_ns = _i == 2 ? 3600 * NS_PER_S : 0;
  struct result *result = fixture_run(&options);
  ck_assert(result->interrupted);
  ck_assert_double_lt(result->seconds, 3000);
  if (_i == 2) {
    ck_assert_uint_eq(result->exchanges + result->intervals_count, 0);
  } else {
    ck_assert_uint_ge(result->exchanges, 150);
  }
  result_destroy(result);
  load_server_stop(&server);
  load_interrupt(); /* there is no run */
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_count_is_exact, count_of(counts)},
      {test_greet, 1},
      {test_intervals, 1},
      {test_open_loop_adds_up, 2},
      {test_open_loop_count, 1},
      {test_reconnect, 1},
      {test_discard, 1},
      {test_idle, 1},
      {test_unix, 2},
      {test_fault_by_kind, count_of(faults)},
      {test_never_answers, 1},
      {test_absent, 2},
      {test_absent_count_ends, 1},
      {test_stall_is_not_omitted, 1},
      {test_interrupt, 3},
  };
  return run_suite("load", tests, count_of(tests));
}
