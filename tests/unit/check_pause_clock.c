/* check_pause_clock: pauses add up, a pause that lasts counts, and no reader sees a step back. */
#include "pool/pause_clock.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>

static struct pause_clock watch;

static void expect(uint64_t now_ns, uint64_t all_ns, bool paused) {
  bool found;
  ck_assert_uint_eq(pause_clock_ns(&watch, now_ns, &found), all_ns);
  ck_assert_int_eq(found, paused);
}

START_TEST(pauses_add_up) {
  watch = (struct pause_clock){.read_ns = 0};
  expect(1000, 0, false);
  pause_clock_start(&watch, 1000);
  expect(1000, 0, true);
  expect(1300, 300, true);
  pause_clock_start(&watch, 1400); /* it lasts already */
  expect(1500, 500, true);
  pause_clock_stop(&watch, 1600);
  expect(5000, 600, false);
  pause_clock_stop(&watch, 1700); /* it is over already */
  expect(5000, 600, false);
  pause_clock_start(&watch, 6000);
  expect(6001, 601, true);
  pause_clock_stop(&watch, 6400);
  expect(9000, 1000, false);
}
END_TEST

START_TEST(a_late_writer_makes_no_step_back) {
  watch = (struct pause_clock){.read_ns = 0};
  pause_clock_start(&watch, 1000);
  expect(1700, 700, true);
  pause_clock_stop(&watch, 1600); /* its turn began before the reader looked */
  expect(1800, 700, false);
  pause_clock_start(&watch, 2000);
  expect(1900, 700, true); /* so is the reader's time, now and then */
  expect(2200, 800, true);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {pauses_add_up, 1},
      {a_late_writer_makes_no_step_back, 1},
  };
  return run_suite("pause_clock", tests, count_of(tests));
}
