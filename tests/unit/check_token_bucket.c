/* check_token_bucket: bursts, the rate over time, counts of refusals, a clock that goes back. */
#include "core/token_bucket.h"

#include "tests/fixtures/run_suite.h"

static struct token_bucket bucket;
static uint64_t suppressed;

/* How many tokens there are at ${now_ns}, when ${tries} are asked for. */
static uint32_t take(uint64_t now_ns, uint32_t tries) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < tries; i++) {
    count += token_bucket_take(&bucket, now_ns, &suppressed);
  }
  return count;
}

START_TEST(a_full_bucket_has_the_tokens_of_a_second) {
  static const uint32_t rates[] = {1, 3, 10, 100, 1000};
  for (size_t i = 0; i < count_of(rates); i++) {
    token_bucket_init(&bucket, rates[i]);
    ck_assert_uint_eq(take(0, 5000), rates[i]);
    ck_assert_uint_eq(take(NS_PER_S, 5000), rates[i]);
    ck_assert_uint_eq(take(1000 * NS_PER_S, 5000), rates[i]); /* no more, however long it rests */
  }
}
END_TEST

START_TEST(it_fills_evenly) {
  token_bucket_init(&bucket, 10);
  ck_assert_uint_eq(take(NS_PER_S, 10), 10);
  ck_assert_uint_eq(take(NS_PER_S + 99 * NS_PER_MS, 1), 0);
  ck_assert_uint_eq(take(NS_PER_S + 100 * NS_PER_MS, 2), 1);
  ck_assert_uint_eq(take(NS_PER_S + 350 * NS_PER_MS, 5), 2);
  ck_assert_uint_eq(take(NS_PER_S + 400 * NS_PER_MS, 5), 1);
}
END_TEST

/* Whatever the pattern, no second has more than two seconds' tokens, and in the long run one's. */
START_TEST(the_rate_holds) {
  uint32_t count = 0;
  token_bucket_init(&bucket, 10);
  for (uint64_t now_ns = 0; now_ns < 100 * NS_PER_S; now_ns += 7 * NS_PER_MS) {
    count += take(now_ns, 1);
  }
  ck_assert_uint_ge(count, 1000);
  ck_assert_uint_le(count, 1010);
}
END_TEST

START_TEST(refusals_are_told_once) {
  token_bucket_init(&bucket, 2);
  ck_assert_uint_eq(take(0, 2), 2);
  ck_assert_uint_eq(suppressed, 0);
  ck_assert_uint_eq(take(0, 7), 0);
  ck_assert_uint_eq(take(500 * NS_PER_MS, 1), 1);
  ck_assert_uint_eq(suppressed, 7);
  ck_assert_uint_eq(take(NS_PER_S, 1), 1);
  ck_assert_uint_eq(suppressed, 0);
}
END_TEST

START_TEST(a_clock_that_goes_back_gives_nothing) {
  token_bucket_init(&bucket, 10);
  ck_assert_uint_eq(take(5 * NS_PER_S, 10), 10);
  ck_assert_uint_eq(take(4 * NS_PER_S, 10), 0);
  ck_assert_uint_eq(take(0, 10), 0);
  ck_assert_uint_eq(take(6 * NS_PER_S, 20), 10);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_full_bucket_has_the_tokens_of_a_second, 1},
      {it_fills_evenly, 1},
      {the_rate_holds, 1},
      {refusals_are_told_once, 1},
      {a_clock_that_goes_back_gives_nothing, 1},
  };
  return run_suite("token_bucket", tests, count_of(tests));
}
