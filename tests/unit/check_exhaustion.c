/* check_exhaustion: an episode is two lines, however many failures it has. */
#include "pool/exhaustion.h"

#include "tests/fixtures/log_fixture.h"

#include <errno.h>

START_TEST(an_episode_is_two_lines) {
  struct exhaustion episode = {.start_ns = NEVER};
  start(ends[1], LOG_LOGFMT);
  ck_assert_uint_eq(exhaustion_over_ns(&episode), NEVER);
  exhaustion_end(&episode, &logger); /* there is none: no line */
  for (int round = 0; round < 2; round++) {
    uint64_t begin_ns = (uint64_t)round * 10 * NS_PER_S + 7;
    exhaustion_note(&episode, &logger, begin_ns, "accepting pauses", EMFILE);
    ck_assert_uint_eq(exhaustion_over_ns(&episode), begin_ns + NS_PER_S);
    exhaustion_note(&episode, &logger, begin_ns + 100 * NS_PER_MS, "accepting pauses", ENFILE);
    exhaustion_note(&episode, &logger, begin_ns + 1500 * NS_PER_MS, "accepting pauses", ENOMEM);
    ck_assert_uint_eq(exhaustion_over_ns(&episode), begin_ns + 2500 * NS_PER_MS);
    exhaustion_end(&episode, &logger);
    ck_assert_uint_eq(exhaustion_over_ns(&episode), NEVER);
  }
  exhaustion_end(&episode, &logger);
  take(ends[0]);
  const char *at = text;
  for (int round = 0; round < 2; round++) {
    at = expect(at, LOG_LOGFMT,
                " level=warn msg=\"accepting pauses\" error=\"Too many open files\"\n");
    at = expect(at, LOG_LOGFMT, " level=warn msg=\"accepting again\" failures=3 ms=1500\n");
  }
  ck_assert_str_eq(at, "");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{an_episode_is_two_lines, 1}};
  return run_suite_fixture("exhaustion", tests, count_of(tests), setup, teardown);
}
