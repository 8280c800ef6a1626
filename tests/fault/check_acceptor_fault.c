/*
 * check_acceptor_fault: a whole server with acceptor and workers in their threads, whose system
 * calls fail.  It continues, loses no descriptor, and its totals add up.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"
#include "tests/fixtures/log_to_fd.h"

#include "pool/server_stats.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#define HELLO "hello" /* with its NUL: what a client receives */

static struct xchg_server server;
static struct config config;
static struct log logger;
static const struct server_setup setup = {.config = &config, .log = &logger};
static int said[2]; /* a pipe: the lines of the log */
static unsigned before;

static void set_up(void) {
  fault_reset();
  before = count_descriptors();
  ck_assert_int_eq(pipe2(said, O_CLOEXEC | O_NONBLOCK), 0);
  log_to_fd(&logger, said[1], LOG_WARN, LOG_LOGFMT);
  config = (struct config){.has_greeting = true,
                           .greeting = {(uint8_t *)HELLO, strlen(HELLO)},
                           .frame = {.kind = XCHG_FRAME_DELIMITER},
                           .messages = 1,
                           .max_message_bytes = 1024,
                           .listen_count = 2,
                           .backlog = 128,
                           .workers = 2,
                           .queue = 4,
                           .max_connections = 4,
                           .max_pending_bytes = 4096,
                           .linger_ns = 2 * NS_PER_S,
                           .drain_timeout_ns = 20 * NS_PER_S};
  for (uint32_t i = 0; i < config.listen_count; i++) {
    ck_assert_int_eq(addr_parse_listen("127.0.0.1:0", &config.listen[i]), 0);
  }
}

static void tear_down(void) {
  close(said[0]);
  close(said[1]);
  ck_assert_uint_eq(fault_bad_closes(), 0);
  ck_assert_uint_eq(count_descriptors(), before);
  fault_reset();
}

/* Open and start. Return: does it run? */
static bool start(void) {
  int code = server_open(&server, &setup);
  if (code == 0) {
    code = server_start(&server);
  }
  if (code != 0) {
    ck_assert(code == SERVER_OSERR || code == SERVER_UNAVAILABLE);
    server_close(&server);
  }
  return code == 0;
}

/* All counters; ${stats} is cleared first. */
static void sum(struct stats *stats) { server_totals(&server, stats); }

static uint64_t ended(enum xchg_reason reason) {
  struct stats stats;
  sum(&stats);
  return atom_load_relaxed_u64(&stats.ended[reason]);
}

/* Stop, wait for the end, check that the totals add up, close. Return: connections accepted. */
static uint64_t stop(void) {
  struct stats stats;
  server_drain(&server);
  while (!server_finished(&server)) {
    struct pollfd done = {.fd = server_done_fd(&server), .events = POLLIN};
    uint64_t count;
    ck_assert_int_eq(poll(&done, 1, 60000), 1);
    ck_assert(read(done.fd, &count, sizeof(count)) != 0); /* it may not have been the last event */
  }
  sum(&stats);
  uint64_t accepted = atom_load_relaxed_u64(&stats.accepted);
  ck_assert_uint_eq(stats_ended(&stats), accepted);
  server_close(&server);
  return accepted;
}

/* A client in the queue of the ${i}th listener, with a long read timeout. */
static int dial(uint32_t i) {
  struct sockaddr_storage at;
  socklen_t size = sock_addr_to(&server.listeners[i].addr, &at);
  int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const struct timeval patience = {.tv_sec = 60};
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, size), 0);
  return fd;
}

/* Do the whole exchange. Return: did it succeed?  Even if not, no excess byte came. */
static bool converse(int fd) {
  char got[sizeof(HELLO) + 8];
  size_t size = 0;
  ssize_t count;
  while (size < sizeof(HELLO) && (count = recv(fd, got + size, sizeof(got) - size, 0)) > 0) {
    size += (size_t)count;
  }
  ck_assert_uint_le(size, sizeof(HELLO));
  ck_assert_mem_eq(got, HELLO, size);
  bool whole = size == sizeof(HELLO) && send(fd, "x\0", 2, MSG_NOSIGNAL) == 2;
  count = recv(fd, got, sizeof(got), 0);
  ck_assert(count == 0 || (count == -1 && errno != EAGAIN));
  close(fd);
  return whole && count == 0;
}

/* Lines logged since the last call. */
static int lines(void) {
  char text[65536];
  ssize_t got = read(said[0], text, sizeof(text));
  int count = 0;
  for (ssize_t i = 0; i < got; i++) {
    count += text[i] == '\n';
  }
  return count;
}

/* ---- accept4 ---- */

/* An error of one connection is counted, and the next one is accepted. */
START_TEST(test_accept_fails_for_one) {
  static const int errors[] = {ECONNABORTED, EPROTO, EINTR, ENETDOWN, EPERM};
  ck_assert(start());
  for (size_t i = 0; i < count_of(errors); i++) {
    orders_fail(FAULT_ACCEPT, 1, errors[i], 3);
    ck_assert(converse(dial(i & 1)));
  }
  ck_assert_uint_eq(atom_load_relaxed_u64(&server.acceptor.stats.accept_errors), 3 * 5);
  ck_assert_uint_eq(atom_load_relaxed_u64(&server.acceptor.stats.accept_pauses), 0);
  ck_assert_uint_eq(stop(), 5);
  ck_assert_int_eq(lines(), 0);
}
END_TEST

/* Descriptors or memory are exhausted: a pause, one line, then every client is served. */
START_TEST(test_accept_is_exhausted) {
  static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
  ck_assert(start());
  orders_fail(FAULT_ACCEPT, 1, errors[_i], 3);
  int fds[3];
  for (uint32_t i = 0; i < count_of(fds); i++) {
    fds[i] = dial(i & 1);
  }
  for (size_t i = 0; i < count_of(fds); i++) {
    ck_assert(converse(fds[i]));
  }
  ck_assert_uint_eq(atom_load_relaxed_u64(&server.acceptor.stats.accept_pauses), 3);
  ck_assert_uint_eq(stop(), 3);
  ck_assert_int_ge(lines(),
                   1); /* the beginning of the episode; its end as well if a second has passed */
}
END_TEST

/* While it lasts, the acceptor does not spin although clients wait. */
START_TEST(test_exhaustion_does_not_spin) {
  ck_assert(start());
  orders_fail(FAULT_ACCEPT, 1, EMFILE, UINT64_MAX);
  int fds[2] = {dial(0), dial(1)};
  uint64_t waits = orders_count(FAULT_EPOLL_WAIT), from_ns = sys_now_ns();
  struct pollfd never = {.fd = fds[0], .events = POLLIN};
  ck_assert_int_eq(poll(&never, 1, 550),
                   0); /* for the time of the measurement: no client is served */
  uint64_t tenths = (sys_now_ns() - from_ns) / (100 * NS_PER_MS) + 1;
  ck_assert_uint_le(orders_count(FAULT_ACCEPT), 2 * tenths + 2);
  ck_assert_uint_le(orders_count(FAULT_EPOLL_WAIT) - waits, 4 * tenths + 8);
  orders_heal();
  ck_assert(converse(fds[0]));
  ck_assert(converse(fds[1]));
  ck_assert_uint_eq(stop(), 2);
}
END_TEST

/* A listener breaks: it is logged, the other one serves, and the server knows. */
START_TEST(test_listener_breaks) {
  static const int errors[] = {EBADF, EINVAL, ENOTSOCK};
  ck_assert(start());
  ck_assert(converse(dial(0)));
  ck_assert(!server_failed(&server));
  orders_fail(FAULT_ACCEPT, 1, errors[_i], 1);
  int fd = dial(0);
  char byte;
  ck_assert_int_eq(recv(fd, &byte, 1, 0), -1); /* reset with the listener */
  close(fd);
  struct pollfd done = {.fd = server_done_fd(&server), .events = POLLIN};
  ck_assert_int_eq(poll(&done, 1, 60000), 1);
  ck_assert(server_failed(&server));
  ck_assert(converse(dial(1)));
  ck_assert_uint_eq(stop(), 2);
  ck_assert_int_eq(lines(), 1);
}
END_TEST

/* ---- the workers ---- */

/* No memory for connections: each is refused and counted, and the limit is not used up. */
START_TEST(test_worker_without_memory) {
  enum fault_call call = _i == 0 ? FAULT_EPOLL_CTL : FAULT_MAP;
  ck_assert(start());
  orders_fail(call, 1, ENOMEM, UINT64_MAX);
  uint64_t refused = 3 * config.max_connections;
  for (uint64_t i = 0; i < refused; i++) {
    ck_assert(!converse(dial(i & 1)));
  }
  orders_heal();
  for (uint64_t i = 0; i < refused; i++) {
    ck_assert(converse(dial(i & 1)));
  }
  ck_assert_uint_eq(ended(XCHG_MEMORY), refused);
  ck_assert_uint_eq(stop(), 2 * refused);
}
END_TEST

/* EINTR from every call changes nothing. */
START_TEST(test_interrupted_everywhere) {
  ck_assert(start());
  for (int round = 0; round < 20; round++) {
    orders_fail(FAULT_ACCEPT, 1, EINTR, 2);
    orders_fail(FAULT_RECV, 1, EINTR, 2);
    orders_fail(FAULT_SEND, 1, EINTR, 2);
    orders_fail(FAULT_WRITE, 1, EINTR, 2);
    orders_fail(FAULT_EPOLL_WAIT, 1, EINTR, 5);
    orders_fail(FAULT_CLOSE, 1, EINTR, 1);
    ck_assert(converse(dial(round & 1)));
  }
  ck_assert_uint_eq(stop(), 20);
}
END_TEST

/* After a pause a listener cannot be registered again at first: it is tried again. */
START_TEST(test_resuming_fails) {
  ck_assert(start());
  orders_fail(FAULT_EPOLL_CTL, 3 + (uint64_t)_i, ENOMEM, 1); /* after the removal of both */
  orders_fail(FAULT_ACCEPT, 1, EMFILE, 1);
  int fds[2] = {dial(0), dial(1)};
  ck_assert(converse(fds[0]));
  ck_assert(converse(fds[1]));
  /* Accepting is paused for lack of memory, so the other listener is not left watched: no spin. */
  ck_assert_uint_lt(orders_count(FAULT_EPOLL_WAIT), 100);
  ck_assert_uint_eq(stop(), 2);
}
END_TEST

/* ---- all calls, from the start to the stop ---- */

static const struct {
  enum fault_call call;
  int error;
} faults[] = {
    {FAULT_ACCEPT, EMFILE},    {FAULT_ACCEPT, ECONNABORTED}, {FAULT_RECV, ECONNRESET},
    {FAULT_SEND, EPIPE},       {FAULT_WRITE, EINTR},         {FAULT_SHUTDOWN, ENOTCONN},
    {FAULT_CLOSE, EINTR},      {FAULT_IOCTL, EINVAL},        {FAULT_SETSOCKOPT, ENOMEM},
    {FAULT_EPOLL_CTL, ENOMEM}, {FAULT_EPOLL_WAIT, EINTR},    {FAULT_MAP, ENOMEM},
    {FAULT_UNMAP, ENOMEM},
};

/* The Nth call fails for N = 1, 2, ... until it is not made, those of the start included. */
START_TEST(test_every_call_fails_once) {
  for (uint64_t nth = 1; nth <= 60; nth++) {
    fault_reset();
    orders_fail(faults[_i].call, nth, faults[_i].error, 1);
    if (start()) {
      for (uint32_t i = 0; i < 3; i++) {
        (void)converse(dial(i & 1));
      }
      uint64_t accepted = stop();
      ck_assert_uint_le(accepted, 3);
      ck_assert(accepted == 3 || faults[_i].call == FAULT_ACCEPT);
    } else {
      ck_assert_int_ge(lines(), 1);
    }
    ck_assert_uint_eq(fault_bad_closes(), 0);
    ck_assert_uint_eq(count_descriptors(), before + 2);
    (void)lines();
    if (orders_hits() == 0) {
      return;
    }
  }
  ck_assert_int_eq(faults[_i].call, FAULT_EPOLL_WAIT); /* its number has no bound */
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_accept_fails_for_one, 1},     {test_accept_is_exhausted, 4},
      {test_exhaustion_does_not_spin, 1}, {test_listener_breaks, 3},
      {test_worker_without_memory, 2},    {test_interrupted_everywhere, 1},
      {test_resuming_fails, 2},           {test_every_call_fails_once, count_of(faults)},
  };
  return run_suite_fixture("acceptor_fault", tests, count_of(tests), set_up, tear_down);
}
