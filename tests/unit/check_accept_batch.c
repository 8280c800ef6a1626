/* check_accept_batch: when the batch grows, when it falls, and how the patience follows. */
#include "pool/accept_batch.h"

#include "tests/fixtures/run_suite.h"

#include "core/base.h"

static struct accept_batch batch;

static void set_up(void) { accept_batch_init(&batch); }

/* ${count} full batches, none of which makes it grow but the last. */
static void expect_growth_after(uint32_t count) {
  uint32_t size = batch.size;
  for (uint32_t i = 0; i < count; i++) {
    ck_assert_uint_eq(batch.size, size);
    accept_batch_adapt(&batch, size);
  }
  ck_assert_uint_eq(batch.size, size * 2);
}

START_TEST(eight_full_batches_double_it) {
  set_up();
  for (uint32_t size = 1; size < ACCEPT_BATCH_MAX; size *= 2) {
    ck_assert_uint_eq(batch.size, size);
    expect_growth_after(8);
  }
  for (int i = 0; i < 100; i++) { /* the maximum stays */
    accept_batch_adapt(&batch, ACCEPT_BATCH_MAX);
    ck_assert_uint_eq(batch.size, ACCEPT_BATCH_MAX);
  }
}
END_TEST

START_TEST(falls_to_what_was_found) {
  set_up();
  for (int i = 0; i < 3; i++) {
    expect_growth_after(8);
  }
  accept_batch_adapt(&batch, 5);
  ck_assert_uint_eq(batch.size, 5);
  accept_batch_adapt(&batch, 0);
  ck_assert_uint_eq(batch.size, 1);
}
END_TEST

START_TEST(a_batch_that_is_not_full_starts_the_count_again) {
  set_up();
  for (int i = 0; i < 7; i++) {
    accept_batch_adapt(&batch, 1);
  }
  accept_batch_adapt(&batch, 0);
  expect_growth_after(8);
}
END_TEST

START_TEST(each_failed_attempt_doubles_the_patience) {
  set_up();
  for (uint32_t patience = 8; patience < 1024; patience *= 2) {
    expect_growth_after(patience);
    accept_batch_adapt(&batch, 1);
    ck_assert_uint_eq(batch.size, 1);
  }
  for (int i = 0; i < 2; i++) { /* the maximum stays */
    expect_growth_after(1024);
    accept_batch_adapt(&batch, 1);
  }
}
END_TEST

START_TEST(a_successful_attempt_restores_the_patience) {
  set_up();
  expect_growth_after(8);
  accept_batch_adapt(&batch, 1);
  expect_growth_after(16);
  accept_batch_adapt(&batch, 2);
  ck_assert_uint_eq(batch.size, 2);
  for (int i = 0; i < 6; i++) {
    accept_batch_adapt(&batch, 2);
  }
  ck_assert_uint_eq(batch.size, 2);
  accept_batch_adapt(&batch, 2); /* the eighth full one of that size */
  ck_assert_uint_eq(batch.size, 4);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {eight_full_batches_double_it, 1},
      {falls_to_what_was_found, 1},
      {a_batch_that_is_not_full_starts_the_count_again, 1},
      {each_failed_attempt_doubles_the_patience, 1},
      {a_successful_attempt_restores_the_patience, 1},
  };
  return run_suite("accept_batch", tests, count_of(tests));
}
