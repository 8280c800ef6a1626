/*
 * check_group: which members are visited, and which memory is returned.
 *
 * Connections are only addresses here and are not dereferenced. The random test compares with a
 * table of memberships and changes them during each visit. Its seed is printed, and CHECK_SEED sets
 * it.
 */
#include "net/group.h"

#include "core/base.h"
#include "tests/fixtures/memory_fixture.h"
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#define CONNS 60u
#define NUMBERS 24u

static char places[CONNS];         /* their addresses stand for connections */
static struct member *mine[CONNS]; /* their memberships */
static struct groups groups;
static unsigned wrong; /* reported once at the end, as an assertion costs a system call */

static struct xchg_conn *conn_of(uint32_t i) { return (struct xchg_conn *)(void *)&places[i]; }

static int join_as(uint32_t i, uint64_t number, enum xchg_slow slow) {
  return group_join(&groups, &mine[i], conn_of(i), number, slow);
}

static int join(uint32_t i, uint64_t number) { return join_as(i, number, XCHG_SLOW_SKIP); }

static int leave(uint32_t i, uint64_t number) { return group_leave(&groups, &mine[i], number); }

/* The index of the next member of the visit; -1 at its end. */
static int next_as(enum xchg_slow *slow) {
  const void *conn = group_next(&groups, slow);
  return conn == NULL ? -1 : (int)((const char *)conn - places);
}

static int next(void) {
  enum xchg_slow slow;
  return next_as(&slow);
}

/** How many members ${number} has. */
static unsigned size_of(uint64_t number) {
  unsigned size = 0;
  group_begin(&groups, number);
  while (next() != -1) {
    size++;
  }
  return size;
}

/* All members leave, and no memory is left. */
static void finish(void) {
  for (uint32_t i = 0; i < CONNS; i++) {
    group_leave_all(&groups, &mine[i]);
    ck_assert_ptr_null(mine[i]);
  }
  ck_assert_uint_eq(groups.members.slab.used, 0);
  ck_assert_uint_eq(groups.groups.slab.used, 0);
  groups_fini(&groups);
  ck_assert_uint_eq(mapped_bytes, 0);
}

START_TEST(empty_groups_have_no_member) {
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  ck_assert_int_eq(next(), -1); /* no visit has begun */
  ck_assert_uint_eq(size_of(7), 0);
  errno = 0;
  ck_assert_int_eq(leave(0, 7), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(join(0, 8), 0);
  ck_assert_int_eq(leave(0, 7), -1); /* the connection is in another group */
  ck_assert_int_eq(leave(1, 8), -1); /* another connection is in the group */
  group_begin(&groups, 8);
  group_begin(&groups, 7); /* a new visit of a group without members */
  ck_assert_int_eq(next(), -1);
  finish();
}
END_TEST

/* A worker without any member has groups of zeros, and so has one after groups_fini. */
START_TEST(zeroed_groups_are_empty) {
  groups = (struct groups){.cursor = NULL};
  for (int i = 0; i < 2; i++) {
    group_leave_all(&groups, &mine[0]);
    groups_trim(&groups);
    groups_fini(&groups);
  }
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

START_TEST(joining_again_replaces_the_policy) {
  enum xchg_slow slow = XCHG_SLOW_SKIP;
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  ck_assert_int_eq(join_as(3, 7, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(join_as(3, 7, XCHG_SLOW_DROP), 0);
  ck_assert_uint_eq(groups.members.slab.used, 1);
  group_begin(&groups, 7);
  ck_assert_int_eq(next_as(&slow), 3);
  ck_assert_int_eq(slow, XCHG_SLOW_DROP);
  ck_assert_int_eq(next(), -1);
  ck_assert_int_eq(leave(3, 7), 0);
  ck_assert_int_eq(leave(3, 7), -1);
  finish();
}
END_TEST

/* The last member to join is the first: a visit of 4 members goes 3, 2, 1, 0. */
static void begin_with_four(void) {
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  for (uint32_t i = 0; i < 4; i++) {
    ck_assert_int_eq(join(i, 7), 0);
  }
  group_begin(&groups, 7);
  ck_assert_int_eq(next(), 3);
}

/*
 * Members leave that were visited, that are next (twice), and the last one: no other member is
 * skipped.
 */
START_TEST(leaving_during_a_visit_skips_no_other) {
  begin_with_four();
  ck_assert_int_eq(leave(3, 7), 0);
  ck_assert_int_eq(leave(2, 7), 0);
  group_leave_all(&groups, &mine[1]);
  ck_assert_int_eq(join(4, 7), 0);
  ck_assert_int_eq(next(), 0);
  ck_assert_int_eq(leave(0, 7), 0);
  ck_assert_int_eq(next(), -1);
  ck_assert_int_eq(next(), -1);
  finish();
}
END_TEST

START_TEST(joiners_are_not_visited) {
  begin_with_four();
  ck_assert_int_eq(join(4, 7), 0);
  ck_assert_int_eq(leave(3, 7), 0); /* already visited, and not visited again */
  ck_assert_int_eq(join(3, 7), 0);
  ck_assert_int_eq(leave(2, 7), 0);
  ck_assert_int_eq(join(2, 7), 0);
  ck_assert_int_eq(next(), 1);
  ck_assert_int_eq(next(), 0);
  ck_assert_int_eq(next(), -1);
  ck_assert_uint_eq(size_of(7), 5);
  finish();
}
END_TEST

/* The group ends during its visit, and another with the same number reuses its memory. */
START_TEST(group_ends_under_a_visit) {
  begin_with_four();
  for (uint32_t i = 0; i < 4; i++) {
    group_leave_all(&groups, &mine[i]);
  }
  ck_assert_uint_eq(groups.groups.slab.used, 0);
  groups_trim(&groups);
  ck_assert_int_eq(join(5, 7), 0);
  ck_assert_int_eq(next(), -1);
  ck_assert_uint_eq(size_of(7), 1);
  finish();
}
END_TEST

static const uint32_t ceilings[] = {1, 2, 3, 7, CONNS};

/*
 * The limit is reached with one group for each member. A refused join changes nothing, and a freed
 * membership is reused.
 */
START_TEST(joins_over_the_limit_are_refused) {
  uint32_t max = ceilings[_i];
  ck_assert_int_eq(groups_init(&groups, max), 0);
  for (uint32_t i = 0; i < max; i++) {
    ck_assert_int_eq(join(i, i), 0);
  }
  errno = 0;
  ck_assert_int_eq(join(0, max), -1);
  ck_assert_int_eq(errno, ENOMEM);
  ck_assert_int_eq(join(0, max - 1), max == 1 ? 0 : -1);
  ck_assert_int_eq(join_as(0, 0, XCHG_SLOW_DROP), 0); /* needs no memory */
  ck_assert_uint_eq(groups.members.slab.used, max);
  ck_assert_uint_eq(groups.groups.slab.used, max);
  ck_assert_uint_eq(size_of(max), 0);
  ck_assert_int_eq(leave(0, 0), 0);
  ck_assert_int_eq(join(0, max), 0);
  for (uint32_t i = 1; i <= max; i++) {
    ck_assert_uint_eq(size_of(i), 1);
  }
  finish();
}
END_TEST

/* Each mapping of groups_init fails in turn, then each of the first group_join. */
START_TEST(each_mapping_may_fail) {
  for (unsigned maps = 0; maps < 4; maps++) {
    maps_left = maps;
    errno = 0;
    ck_assert_int_eq(groups_init(&groups, 100), -1);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_uint_eq(mapped_bytes, 0);
    groups_fini(&groups); /* a second call does nothing */
  }
  maps_left = 4;
  ck_assert_int_eq(groups_init(&groups, 100), 0);
  for (unsigned maps = 0; maps < 2; maps++) {
    maps_left = maps;
    errno = 0;
    ck_assert_int_eq(join(0, 7), -1);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_ptr_null(mine[0]);
    ck_assert_uint_eq(groups.members.slab.used + groups.groups.slab.used, 0);
    ck_assert_uint_eq(size_of(7), 0);
  }
  maps_left = 1; /* the mapping of groups exists already */
  ck_assert_int_eq(join(0, 7), 0);
  finish();
}
END_TEST

/* groups_trim returns all memory since groups_init, even if it cannot map a new table. */
START_TEST(trim_returns_memory) {
  ck_assert_int_eq(groups_init(&groups, 1000), 0);
  size_t empty = mapped_bytes;
  groups_trim(&groups);
  ck_assert_uint_eq(maps_left, UINT32_MAX - 4); /* unused, so not replaced */
  ck_assert_int_eq(join(0, 7), 0);
  ck_assert_uint_gt(mapped_bytes, empty);
  groups_trim(&groups);
  group_leave_all(&groups, &mine[0]);
  maps_left = 0;
  groups_trim(&groups);
  ck_assert_uint_eq(mapped_bytes, empty);
  maps_left = 10;
  ck_assert_int_eq(join(0, 7), 0);
  ck_assert_uint_eq(size_of(7), 1);
  group_leave_all(&groups, &mine[0]);
  groups_trim(&groups);
  ck_assert_uint_eq(mapped_bytes, empty);
  ck_assert_uint_eq(maps_left, 10 - 4); /* members, groups, two fresh arrays */
  finish();
}
END_TEST

static size_t resident_bytes(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  size_t size = 0, resident = 0;
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fscanf(file, "%zu %zu", &size, &resident), 2);
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* The arrays for 2^28 members have 2 GiB each, but thousands of groups use only the beginning. */
START_TEST(a_high_limit_costs_no_memory) {
  size_t before = resident_bytes();
  ck_assert_int_eq(groups_init(&groups, UINT32_C(1) << 28), 0);
  ck_assert_uint_gt(mapped_bytes, UINT64_C(4) << 30);
  for (uint64_t number = 0; number < 4000; number++) {
    ck_assert_int_eq(join((uint32_t)(number % CONNS), number), 0);
  }
  ck_assert_uint_lt(resident_bytes(), before + (12 << 20));
  finish();
}
END_TEST

/** The longest chain of ${table}. */
static unsigned longest_of(const struct hash_table *table) {
  unsigned most = 0;
  for (uint32_t i = 0; i < table->slab.used; i++) {
    unsigned length = 0;
    for (const struct hashed *object = table->buckets[i]; object != NULL; object = object->next) {
      length++;
    }
    most = length > most ? length : most;
  }
  return most;
}

static unsigned longest(void) {
  unsigned members = longest_of(&groups.members), all = longest_of(&groups.groups);
  return members > all ? members : all;
}

#define SPREAD 5000u
#define CHAIN_MAX 24u /* with random numbers, one in 10^15 tables has a longer chain */

/*
 * A connection in the most groups: one more is refused with an errno of its own, joining again and
 * another connection's joins are not.
 */
START_TEST(a_connection_has_a_share) {
  ck_assert_int_eq(groups_init(&groups, 2 * XCHG_GROUPS_MAX), 0);
  for (uint64_t i = 0; i < XCHG_GROUPS_MAX; i++) {
    ck_assert_int_eq(join(0, i), 0);
  }
  errno = 0;
  ck_assert_int_eq(join(0, 1000), -1);
  ck_assert_int_eq(errno, EMLINK);
  ck_assert_int_eq(join_as(0, 100, XCHG_SLOW_DROP), 0);
  for (uint64_t i = 0; i < XCHG_GROUPS_MAX; i++) {
    ck_assert_int_eq(join(1, 2 * i), 0);
  }
  ck_assert_int_eq(leave(0, 77), 0); /* in the middle of its list, and at both ends */
  ck_assert_int_eq(leave(0, 0) + leave(0, XCHG_GROUPS_MAX - 1), 0);
  for (uint64_t i = 1000; i < 1004; i++) {
    ck_assert_int_eq(join(0, i), i < 1003 ? 0 : -1);
  }
  finish();
}
END_TEST

static const uint64_t factors[] = {1, 64, UINT64_C(1) << 32, UINT64_C(1) << 51, 1000003};

/* The same for members: many groups of a connection, and many connections of a group. */
START_TEST(members_are_found_by_hash) {
  ck_assert_int_eq(groups_init(&groups, CONNS * XCHG_GROUPS_MAX), 0);
  for (uint32_t i = 0; i < 2 * CONNS; i++) {
    for (uint64_t number = 0; number < XCHG_GROUPS_MAX; number++) {
      uint64_t other = number * factors[_i];
      ck_assert_int_eq(i < CONNS ? join(i, other) : leave(i - CONNS, other), 0);
    }
    ck_assert_uint_le(longest(), CHAIN_MAX);
  }
  finish();
}
END_TEST

/* Numbers with a pattern make no long chains, neither while groups are added nor while they end. */
START_TEST(patterns_make_no_long_chains) {
  static struct member *members[SPREAD];
  ck_assert_int_eq(groups_init(&groups, SPREAD), 0);
  for (uint64_t i = 0; i < SPREAD; i++) {
    wrong += group_join(&groups, &members[i], conn_of(0), i * factors[_i], XCHG_SLOW_SKIP) != 0;
    wrong += i % 500 == 0 && longest() > CHAIN_MAX;
  }
  ck_assert_uint_eq(groups.groups.slab.used, SPREAD);
  for (uint64_t i = 0; i < SPREAD; i++) {
    wrong += group_leave(&groups, &members[i], i * factors[_i]) != 0;
    wrong += i % 500 == 0 && longest() > CHAIN_MAX;
    wrong += i + 1 < SPREAD && size_of((i + 1) * factors[_i]) != 1;
  }
  ck_assert_uint_eq(wrong, 0);
  finish();
}
END_TEST

/* ---- against a model ---- */

#define MODEL_STEPS 30000
#define MODEL_MAX 400u /* of CONNS * NUMBERS = 1,440 */

static struct {
  bool in[CONNS][NUMBERS];
  enum xchg_slow slow[CONNS][NUMBERS];
  uint32_t sizes[NUMBERS];
  uint32_t members, groups;
  bool due[CONNS];  /* still to be visited */
  uint32_t visited; /* index of its number */
  uint32_t refused;
  uint64_t state;
} model;

static uint32_t below(uint32_t limit) {
  return (uint32_t)(random_next(&model.state) >> 33) % limit;
}

/* The numbers are 0, the largest one, and powers of two. */
static uint64_t number_of(uint32_t n) {
  return n == 0 ? 0 : n == NUMBERS - 1 ? UINT64_MAX : UINT64_C(1) << (n - 1) * 64 / NUMBERS;
}

static void model_leave(uint32_t i, uint32_t n) {
  if (!model.in[i][n]) {
    return;
  }
  model.in[i][n] = false;
  model.members--;
  model.groups -= --model.sizes[n] == 0;
  if (n == model.visited) {
    model.due[i] = false; /* not even if it joins again */
  }
}

static void do_join(uint32_t i, uint32_t n) {
  enum xchg_slow slow = below(2) == 0 ? XCHG_SLOW_SKIP : XCHG_SLOW_DROP;
  bool full = !model.in[i][n] && model.members == MODEL_MAX;
  wrong += join_as(i, number_of(n), slow) != (full ? -1 : 0);
  model.refused += full;
  model.slow[i][n] = slow; /* unused if the group is full */
  if (!full && !model.in[i][n]) {
    model.in[i][n] = true;
    model.members++;
    model.groups += model.sizes[n]++ == 0;
  }
}

static void do_leave(uint32_t i, uint32_t n) {
  wrong += leave(i, number_of(n)) != (model.in[i][n] ? 0 : -1);
  model_leave(i, n);
}

static void do_leave_all(uint32_t i) {
  group_leave_all(&groups, &mine[i]);
  wrong += mine[i] != NULL;
  for (uint32_t n = 0; n < NUMBERS; n++) {
    model_leave(i, n);
  }
}

/* Mostly joins while ${filling}. Half of the changes are in the group that is visited. */
static void do_anything(bool filling) {
  uint32_t i = below(CONNS), n = below(2) == 0 ? model.visited : below(NUMBERS), what = below(100);
  if (what < (filling ? 70 : 30)) {
    do_join(i, n);
  } else if (what < 95) {
    do_leave(i, n);
  } else if (what < 99) {
    do_leave_all(i);
  } else {
    groups_trim(&groups);
  }
  wrong += groups.members.slab.used != model.members;
  wrong += groups.groups.slab.used != model.groups;
}

/* Visit one group with ${disturbance} changes on average before each member. */
static void do_visit(uint32_t n, uint32_t disturbance, bool filling) {
  model.visited = n;
  for (uint32_t i = 0; i < CONNS; i++) {
    model.due[i] = model.in[i][n];
  }
  group_begin(&groups, number_of(n));
  for (;;) {
    for (uint32_t things = below(2 * disturbance + 1); things > 0; things--) {
      do_anything(filling);
    }
    enum xchg_slow slow;
    int i = next_as(&slow);
    if (i == -1) {
      break;
    }
    wrong += !model.due[i]; /* joined later, has left, or was visited before */
    wrong += slow != model.slow[i][n];
    model.due[i] = false;
  }
  for (uint32_t i = 0; i < CONNS; i++) {
    wrong += model.due[i];
  }
}

START_TEST(random_changes_match_the_model) {
  model.state = random_seed();
  ck_assert_int_eq(groups_init(&groups, MODEL_MAX), 0);
  for (int step = 0; step < MODEL_STEPS; step++) {
    bool filling = step / 3000 % 2 == 0; /* it grows and shrinks in turn */
    do_anything(filling);
    if (step % 10 == 0) {
      do_visit(below(NUMBERS), below(3), filling);
    }
    for (uint32_t n = 0; step % 1000 == 0 && n < NUMBERS; n++) {
      do_visit(n, 0, filling);
    }
    ck_assert_msg(wrong == 0, "step %d: differs from the model", step);
  }
  ck_assert_uint_gt(model.refused, 0);
  finish();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {empty_groups_have_no_member, 1},
      {zeroed_groups_are_empty, 1},
      {joining_again_replaces_the_policy, 1},
      {leaving_during_a_visit_skips_no_other, 1},
      {joiners_are_not_visited, 1},
      {group_ends_under_a_visit, 1},
      {joins_over_the_limit_are_refused, count_of(ceilings)},
      {each_mapping_may_fail, 1},
      {trim_returns_memory, 1},
      {a_high_limit_costs_no_memory, 1},
      {a_connection_has_a_share, 1},
      {members_are_found_by_hash, count_of(factors)},
      {patterns_make_no_long_chains, count_of(factors)},
      {random_changes_match_the_model, 1},
  };
  return run_suite_fixture("group", tests, count_of(tests), memory_fixture_init,
                           memory_fixture_fini);
}
