/* check_reactor_fault: a reactor whose system calls fail: only the failed call is lost. */
#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"

struct bench {
  struct slab slab;
  struct stats stats;
  struct reactor reactor;
  struct source *source;
  uint32_t events; /* of all turns so far */
  int fds[2];
};

/* Static, because a source has no room for a pointer to its bench; tests run one at a time. */
static struct bench bench;

static void note(struct source *source, uint32_t events) {
  ck_assert_ptr_eq(source, bench.source);
  bench.events |= events;
}

static void set_up(void) {
  bench = (struct bench){.events = 0};
  fault_reset();
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, bench.fds),
                   0);
  ck_assert_int_eq(slab_init(&bench.slab, sizeof(struct source), 8), 0);
}

static void bench_open(bool single) {
  if (single) {
    reactor_open_single(&bench.reactor, &bench.slab, &bench.stats);
  } else {
    ck_assert_int_eq(reactor_open(&bench.reactor, &bench.slab, &bench.stats), 0);
  }
  bench.source = reactor_alloc(&bench.reactor);
  ck_assert_ptr_nonnull(bench.source);
  bench.reactor.on_event = note;
}

static void tear_down(void) {
  reactor_close(&bench.reactor);
  slab_fini(&bench.slab);
  close(bench.fds[0]);
  close(bench.fds[1]);
  ck_assert_uint_eq(fault_bad_closes(), 0);
  fault_reset();
}

static void turn(void) {
  reactor_wait(&bench.reactor, 0);
  reactor_dispatch(&bench.reactor);
}

/*
 * A wait that fails, and fails again when it is repeated, reports no events; the next one reports
 * them.
 */
START_TEST(test_wait_fails) {
  bool single = _i == 1;
  enum fault_call call = single ? FAULT_POLL : FAULT_EPOLL_WAIT;
  bench_open(single);
  ck_assert_int_eq(reactor_add(&bench.reactor, bench.source, bench.fds[0], EPOLLIN | EPOLLET), 0);
  ck_assert_int_eq(send(bench.fds[1], "x", 1, 0), 1);
  uint64_t before_ns = bench.reactor.now_ns = sys_now_ns();
  orders_fail(call, 1, EINTR, 6);
  for (int i = 0; i < 3; i++) {
    turn();
    ck_assert_uint_eq(bench.events, 0);
    ck_assert_int_eq(bench.reactor.ready, 0);
  }
  ck_assert_uint_gt(bench.reactor.now_ns, before_ns); /* time advances nevertheless */
  turn();
  ck_assert_uint_eq(bench.events, EPOLLIN);
  ck_assert_uint_eq(orders_hits(), 6);
}
END_TEST

/* After an interruption, which may have been a long stop, the same turn reports pending events. */
START_TEST(test_interrupted_wait_looks_again) {
  bool single = _i == 1;
  bench_open(single);
  ck_assert_int_eq(reactor_add(&bench.reactor, bench.source, bench.fds[0], EPOLLIN | EPOLLET), 0);
  ck_assert_int_eq(send(bench.fds[1], "x", 1, 0), 1);
  orders_fail(single ? FAULT_POLL : FAULT_EPOLL_WAIT, 1, EINTR, 1);
  turn();
  ck_assert_uint_eq(bench.events, EPOLLIN);
  ck_assert_uint_eq(orders_hits(), 1);
}
END_TEST

/* Timers fire although every wait fails. */
START_TEST(test_timers_fire_though_waits_fail) {
  bench_open(_i == 1);
  orders_fail(_i == 1 ? FAULT_POLL : FAULT_EPOLL_WAIT, 1, EINTR, UINT64_MAX);
  uint64_t deadline_ns = sys_now_ns() + 20 * NS_PER_MS;
  reactor_arm(&bench.reactor, bench.source, deadline_ns);
  uint64_t until_ns = sys_now_ns() + FIXTURE_TIMEOUT_NS;
  while (bench.events == 0 && sys_now_ns() < until_ns) {
    turn();
  }
  ck_assert_uint_eq(bench.events, EVENT_TIMER);
  ck_assert_uint_ge(bench.reactor.now_ns, deadline_ns);
}
END_TEST

/* An error of epoll_ctl is reported with its errno. */
START_TEST(test_control_fails) {
  static const int errors[] = {ENOMEM, ENOSPC, EPERM};
  struct wake wake;
  bench_open(false);
  ck_assert_int_eq(wake_open(&wake), 0);
  for (size_t i = 0; i < count_of(errors); i++) {
    orders_fail(FAULT_EPOLL_CTL, 1, errors[i], 2);
    errno = 0;
    ck_assert_int_eq(reactor_add_wake(&bench.reactor, &wake), -1);
    ck_assert_int_eq(errno, errors[i]);
    errno = 0;
    ck_assert_int_eq(reactor_add(&bench.reactor, bench.source, bench.fds[0], EPOLLIN | EPOLLET),
                     -1);
    ck_assert_int_eq(errno, errors[i]);
  }
  ck_assert_int_eq(reactor_add(&bench.reactor, bench.source, bench.fds[0], EPOLLIN | EPOLLET), 0);
  orders_fail(FAULT_EPOLL_CTL, 1, ENOMEM, 1);
  ck_assert_int_eq(reactor_modify(&bench.reactor, bench.source, bench.fds[0], EPOLLOUT), -1);
  orders_fail(FAULT_EPOLL_CTL, 1, ENOENT, 1);
  reactor_remove(&bench.reactor, bench.source, bench.fds[0]); /* has no way to report it */
  wake_close(&wake);
}
END_TEST

/* No memory for a source: NULL, and the next call succeeds. */
START_TEST(test_take_fails) {
  reactor_open_single(&bench.reactor, &bench.slab, &bench.stats);
  orders_fail(FAULT_MAP, 1, ENOMEM, 1);
  ck_assert_ptr_null(reactor_alloc(&bench.reactor));
  ck_assert_uint_eq(bench.slab.used, 0);
  ck_assert_ptr_nonnull(reactor_alloc(&bench.reactor));
}
END_TEST

/* A wake that a signal interrupts is repeated; a full counter means that a wake is pending. */
START_TEST(test_wake_is_written) {
  struct wake wake;
  bench_open(false);
  ck_assert_int_eq(wake_open(&wake), 0);
  ck_assert_int_eq(reactor_add_wake(&bench.reactor, &wake), 0);
  orders_fail(FAULT_WRITE, 1, EINTR, 2);
  wake_signal(&wake);
  ck_assert_uint_eq(orders_count(FAULT_WRITE), 3);
  reactor_wait(&bench.reactor, NEVER); /* returns */
  orders_fail(FAULT_WRITE, 1, EAGAIN, 1);
  wake_signal(&wake);
  ck_assert_uint_eq(orders_count(FAULT_WRITE), 4);
  orders_fail(FAULT_CLOSE, 1, EINTR, 1);
  wake_close(&wake);
  ck_assert_int_eq(wake.fd, -1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_wait_fails, 2},
      {test_timers_fire_though_waits_fail, 2},
      {test_interrupted_wait_looks_again, 2},
      {test_control_fails, 1},
      {test_take_fails, 1},
      {test_wake_is_written, 1},
  };
  return run_suite_fixture("reactor_fault", tests, count_of(tests), set_up, tear_down);
}
