/*
 * check_stats: sums and merges include every counter, times of connections are counted by powers of
 * two, and every reason has its name.
 *
 * Whole blocks are compared, so that a new counter is covered at once.
 */
#include "core/stats.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

#define COUNTERS (sizeof(struct stats) / sizeof(atom_u64))
#define THREADS 4
#define ROUNDS 2000

/* Counter i of ${stats} becomes ${factor} * (i + 1). */
static void fill(struct stats *stats, uint64_t factor) {
  atom_u64 *counters = (atom_u64 *)(void *)stats;
  for (size_t i = 0; i < COUNTERS; i++) {
    atom_store_relaxed_u64(&counters[i], factor * (i + 1));
  }
}

static void expect(const struct stats *stats, uint64_t factor) {
  const atom_u64 *counters = (const atom_u64 *)(const void *)stats;
  for (size_t i = 0; i < COUNTERS; i++) {
    ck_assert_uint_eq(atom_load_relaxed_u64(&counters[i]), factor * (i + 1));
  }
}

START_TEST(sum_and_merge_add_every_counter) {
  static struct stats a, b;
  fill(&a, 1);
  fill(&b, 1000);
  stats_sum(&b, &a);
  expect(&b, 1001);
  expect(&a, 1);
  stats_merge(&b, &a);
  expect(&b, 1002);
  expect(&a, 1);
}
END_TEST

START_TEST(ended_adds_all_reasons) {
  static struct stats stats;
  ck_assert_uint_eq(stats_ended(&stats), 0);
  uint64_t sum = 0;
  for (size_t i = 0; i < XCHG_REASONS; i++) {
    stats_add(&stats.ended[i], i + 1);
    sum += i + 1;
    ck_assert_uint_eq(stats_ended(&stats), sum);
  }
  stats_add(&stats.accepted, 1000);
  stats_add(&stats.messages, 1000);
  ck_assert_uint_eq(stats_ended(&stats), sum);
}
END_TEST

static void *merge_often(void *shared) {
  static _Thread_local struct stats own;
  fill(&own, 1);
  for (int i = 0; i < ROUNDS; i++) {
    stats_merge(shared, &own);
  }
  return NULL;
}

/* Many short-lived threads merge into one block: no count is lost. */
START_TEST(merge_is_atomic) {
  static struct stats shared;
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, merge_often, &shared), 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  expect(&shared, THREADS * ROUNDS);
}
END_TEST

/* Each power of two begins an entry, and 0 has the first. */
START_TEST(lived_counts_by_powers_of_two) {
  static struct stats stats;
  stats_lived(&stats, 0);
  stats_lived(&stats, 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&stats.lived[0]), 2);
  for (uint32_t i = 1; i < STATS_LIVED; i++) {
    uint64_t power = UINT64_C(1) << i;
    stats_lived(&stats, power - 1);
    stats_lived(&stats, power);
    ck_assert_uint_eq(atom_load_relaxed_u64(&stats.lived[i]), 1);
    ck_assert_uint_eq(atom_load_relaxed_u64(&stats.lived[i - 1]), i == 1 ? 3 : 2);
  }
  static struct stats some;
  stats_lived(&some, 7);
  stats_lived(&some, 1000);
  ck_assert_uint_eq(atom_load_relaxed_u64(&some.lived_ns), 1007);
}
END_TEST

/* The names of the reasons, which log lines and counters use. */
START_TEST(reasons_have_their_names) {
  static const struct {
    enum xchg_reason reason;
    const char *name;
  } want[] = {
      {XCHG_FINISHED, "finished"}, {XCHG_PEER, "peer"},           {XCHG_RESET, "reset"},
      {XCHG_TOO_LONG, "too_long"}, {XCHG_TRUNCATED, "truncated"}, {XCHG_IDLE, "idle"},
      {XCHG_MESSAGE, "message"},   {XCHG_WRITE, "write"},         {XCHG_LIFETIME, "lifetime"},
      {XCHG_DENIED, "denied"},     {XCHG_PER_IP, "per_ip"},       {XCHG_OVERLOAD, "overload"},
      {XCHG_MEMORY, "memory"},     {XCHG_DRAIN, "drain"},         {XCHG_ERROR, "error"},
      {XCHG_PROXY, "proxy"},
  };
  ck_assert_uint_eq(count_of(want), XCHG_REASONS);
  for (size_t i = 0; i < count_of(want); i++) {
    ck_assert_str_eq(xchg_reason_name(want[i].reason), want[i].name);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {sum_and_merge_add_every_counter, 1}, {ended_adds_all_reasons, 1},   {merge_is_atomic, 1},
      {lived_counts_by_powers_of_two, 1},   {reasons_have_their_names, 1},
  };
  return run_suite("stats", tests, count_of(tests));
}
