/*
 * check_acceptor_deferred: an acceptor holds a connection that the model refused at first, and the
 * kernel has no memory to watch the listeners again.  The acceptor waits and does not spin.
 */
#include "tests/fault/fault.h"
#include "tests/fixtures/acceptor_fixture.h"
#include "tests/fixtures/run_suite.h"

#include <poll.h>

/* The deferred connection took the last place: the acceptor waits until there is room again. */
START_TEST(no_room_after_the_deferred_conn) {
  (void)unix_path; /* no such listener here */
  fault_reset();
  SET_UP();
  atom_store_relaxed_u32(&fake.places, 1);
  atom_store_relaxed_u32(&fake.refuse, 1);
  start();
  orders_fail(FAULT_EPOLL_CTL, 2, ENOMEM, 1); /* after the removal of the listener */
  int first = connect_to_port(port()), second = connect_to_port(port());
  AWAIT(placed() == 1);
  uint64_t waits = orders_count(FAULT_EPOLL_WAIT), from_ns = sys_now_ns();
  struct pollfd never = {.fd = second, .events = POLLIN};
  ck_assert_int_eq(poll(&never, 1, 550),
                   0); /* for the time of the measurement: no client is served */
  uint64_t tenths = (sys_now_ns() - from_ns) / (100 * NS_PER_MS) + 1;
  ck_assert_uint_eq(orders_hits(), 1);
  ck_assert_uint_le(orders_count(FAULT_EPOLL_WAIT) - waits, 2 * tenths + 4);
  atom_store_relaxed_u32(&fake.places, 100);
  room_wake(&admission);
  AWAIT(placed() == 2);
  expect_closed(first);
  expect_closed(second);
  stop();
  join();
  ck_assert(!fake.overfull);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {no_room_after_the_deferred_conn, 1},
  };
  return run_suite("acceptor_deferred", tests, count_of(tests));
}
