/*
 * check_group: who is visited, who is not, and what is given back.
 *
 * Connections are addresses that nobody looks behind.  The random test compares with a table of who
 * is in what, and disturbs every visit; its seed is printed, and CHECK_SEED sets it.  The program
 * brings an mmap and a munmap of its own, which count bytes and can fail.
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

static char places[CONNS];         /* what stands for connections */
static struct member *mine[CONNS]; /* theirs */
static struct groups groups;
static unsigned wrong; /* one report at the end: an assertion of libcheck costs a system call */

static struct xchg_conn *conn_of(uint32_t i) { return (struct xchg_conn *)(void *)&places[i]; }

static int join_as(uint32_t i, uint64_t number, enum xchg_slow slow) {
  return group_join(&groups, &mine[i], conn_of(i), number, slow);
}

static int join(uint32_t i, uint64_t number) { return join_as(i, number, XCHG_SLOW_SKIP); }

static int leave(uint32_t i, uint64_t number) { return group_leave(&groups, &mine[i], number); }

/** The index of the next of the visit; -1 where it is over. */
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

/** Everybody goes; nothing is left of it. */
static void finish(void) {
  for (uint32_t i = 0; i < CONNS; i++) {
    group_leave_all(&groups, &mine[i]);
    ck_assert_ptr_null(mine[i]);
  }
  ck_assert_uint_eq(groups.members.used, 0);
  ck_assert_uint_eq(groups.groups.used, 0);
  groups_fini(&groups);
  ck_assert_uint_eq(mapped_bytes, 0);
}

START_TEST(nobody) {
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  ck_assert_int_eq(next(), -1); /* not even begun */
  ck_assert_uint_eq(size_of(7), 0);
  errno = 0;
  ck_assert_int_eq(leave(0, 7), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(join(0, 8), 0);
  ck_assert_int_eq(leave(0, 7), -1); /* it is in another */
  ck_assert_int_eq(leave(1, 8), -1); /* another is in it */
  group_begin(&groups, 8);
  group_begin(&groups, 7); /* begun anew, for nobody */
  ck_assert_int_eq(next(), -1);
  finish();
}
END_TEST

/* A worker where nobody ever joined has groups of zeros, as has one whose groups were ended. */
START_TEST(never_begun) {
  groups = (struct groups){.chains = NULL};
  for (int i = 0; i < 2; i++) {
    group_leave_all(&groups, &mine[0]);
    groups_trim(&groups);
    groups_fini(&groups);
  }
  ck_assert_uint_eq(mapped_bytes, 0);
}
END_TEST

START_TEST(joined_again) {
  enum xchg_slow slow = XCHG_SLOW_SKIP;
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  ck_assert_int_eq(join_as(3, 7, XCHG_SLOW_SKIP), 0);
  ck_assert_int_eq(join_as(3, 7, XCHG_SLOW_DROP), 0);
  ck_assert_uint_eq(groups.members.used, 1);
  group_begin(&groups, 7);
  ck_assert_int_eq(next_as(&slow), 3);
  ck_assert_int_eq(slow, XCHG_SLOW_DROP);
  ck_assert_int_eq(next(), -1);
  ck_assert_int_eq(leave(3, 7), 0);
  ck_assert_int_eq(leave(3, 7), -1);
  finish();
}
END_TEST

/* The head is the one who joined last: a visit of 4 members goes 3, 2, 1, 0. */
static void begin_with_four(void) {
  ck_assert_int_eq(groups_init(&groups, 10), 0);
  for (uint32_t i = 0; i < 4; i++) {
    ck_assert_int_eq(join(i, 7), 0);
  }
  group_begin(&groups, 7);
  ck_assert_int_eq(next(), 3);
}

/* Visited, under the cursor twice, the last: each goes, and nobody else is passed over. */
START_TEST(leavers) {
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
  ck_assert_int_eq(leave(3, 7), 0); /* visited; shall not be again */
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

/* The group ends during its visit, and another of the same number takes its place and memory. */
START_TEST(group_ends_under_a_visit) {
  begin_with_four();
  for (uint32_t i = 0; i < 4; i++) {
    group_leave_all(&groups, &mine[i]);
  }
  ck_assert_uint_eq(groups.groups.used, 0);
  groups_trim(&groups);
  ck_assert_int_eq(join(5, 7), 0);
  ck_assert_int_eq(next(), -1);
  ck_assert_uint_eq(size_of(7), 1);
  finish();
}
END_TEST

static const uint32_t ceilings[] = {1, 2, 3, 7, CONNS};

/* Full with a group for each; who is refused has changed nothing; a place that is left is taken. */
START_TEST(ceiling) {
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
  ck_assert_uint_eq(groups.members.used, max);
  ck_assert_uint_eq(groups.groups.used, max);
  ck_assert_uint_eq(size_of(max), 0);
  ck_assert_int_eq(leave(0, 0), 0);
  ck_assert_int_eq(join(0, max), 0);
  for (uint32_t i = 1; i <= max; i++) {
    ck_assert_uint_eq(size_of(i), 1);
  }
  finish();
}
END_TEST

/* Each map of groups_init fails in its turn, then each of a first group_join. */
START_TEST(no_memory) {
  for (unsigned maps = 0; maps < 3; maps++) {
    maps_left = maps;
    errno = 0;
    ck_assert_int_eq(groups_init(&groups, 100), -1);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_uint_eq(mapped_bytes, 0);
    groups_fini(&groups); /* harmless */
  }
  maps_left = 3;
  ck_assert_int_eq(groups_init(&groups, 100), 0);
  for (unsigned maps = 0; maps < 2; maps++) {
    maps_left = maps;
    errno = 0;
    ck_assert_int_eq(join(0, 7), -1);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_ptr_null(mine[0]);
    ck_assert_uint_eq(groups.members.used + groups.groups.used, 0);
    ck_assert_uint_eq(size_of(7), 0);
  }
  maps_left = 1; /* that of members is there already */
  ck_assert_int_eq(join(0, 7), 0);
  finish();
}
END_TEST

/* A trim gives back what was mapped since the beginning, also without memory for a new table. */
START_TEST(trim) {
  ck_assert_int_eq(groups_init(&groups, 1000), 0);
  size_t empty = mapped_bytes;
  groups_trim(&groups);
  ck_assert_uint_eq(maps_left, UINT32_MAX - 3); /* nothing was touched, so nothing is replaced */
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
  ck_assert_uint_eq(maps_left, 10 - 3); /* members, groups, a fresh table */
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

/* Room for 2^28 is a table of 2 GiB; thousands of groups stand at its beginning. */
START_TEST(ceiling_costs_nothing) {
  size_t before = resident_bytes();
  ck_assert_int_eq(groups_init(&groups, UINT32_C(1) << 28), 0);
  ck_assert_uint_gt(mapped_bytes, UINT64_C(2) << 30);
  for (uint64_t number = 0; number < 4000; number++) {
    ck_assert_int_eq(join((uint32_t)(number % CONNS), number), 0);
  }
  ck_assert_uint_lt(resident_bytes(), before + (12 << 20));
  finish();
}
END_TEST

/** The longest chain. */
static unsigned longest(void) {
  unsigned most = 0;
  for (uint32_t i = 0; i < groups.groups.used; i++) {
    unsigned length = 0;
    for (const struct group *group = groups.chains[i]; group != NULL; group = group->chain) {
      length++;
    }
    most = length > most ? length : most;
  }
  return most;
}

#define SPREAD 5000u
#define CHAIN_MAX 24u /* of random numbers, one in 10^15 tables has a longer one */

static const uint64_t factors[] = {1, 64, UINT64_C(1) << 32, UINT64_C(1) << 51, 1000003};

/* Numbers with a pattern make no long chains, while groups come and while they go. */
START_TEST(spread) {
  static struct member *members[SPREAD];
  ck_assert_int_eq(groups_init(&groups, SPREAD), 0);
  for (uint64_t i = 0; i < SPREAD; i++) {
    wrong += group_join(&groups, &members[i], conn_of(0), i * factors[_i], XCHG_SLOW_SKIP) != 0;
    wrong += i % 500 == 0 && longest() > CHAIN_MAX;
  }
  ck_assert_uint_eq(groups.groups.used, SPREAD);
  for (uint64_t i = 0; i < SPREAD; i++) {
    wrong += group_leave(&groups, &members[i], i * factors[_i]) != 0;
    wrong += i % 500 == 0 && longest() > CHAIN_MAX;
    wrong += i + 1 < SPREAD && size_of((i + 1) * factors[_i]) != 1;
  }
  ck_assert_uint_eq(wrong, 0);
  finish();
}
END_TEST

/* ---- against a model ----------------------------------------------------------------------- */

#define MODEL_STEPS 30000
#define MODEL_MAX 400u /* of CONNS * NUMBERS = 1,440 */

static struct {
  bool in[CONNS][NUMBERS];
  enum xchg_slow slow[CONNS][NUMBERS];
  uint32_t sizes[NUMBERS];
  uint32_t members, groups;
  bool due[CONNS];  /* still to be visited */
  uint32_t visited; /* number, by its index */
  uint32_t refused;
  uint64_t state;
} model;

static uint32_t below(uint32_t limit) {
  return (uint32_t)(random_next(&model.state) >> 33) % limit;
}

/** The numbers: 0, the largest, powers of two between. */
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
    model.due[i] = false; /* and not if it joins again */
  }
}

static void do_join(uint32_t i, uint32_t n) {
  enum xchg_slow slow = below(2) == 0 ? XCHG_SLOW_SKIP : XCHG_SLOW_DROP;
  bool full = !model.in[i][n] && model.members == MODEL_MAX;
  wrong += join_as(i, number_of(n), slow) != (full ? -1 : 0);
  model.refused += full;
  model.slow[i][n] = slow; /* of no account where it is full */
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

/** Joins prevail while ${filling}; the group that is visited is met as often as all others. */
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
  wrong += groups.members.used != model.members;
  wrong += groups.groups.used != model.groups;
}

/** Visit one group; ${disturbance} things happen meanwhile, on average, to each that is visited. */
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
    wrong += !model.due[i]; /* joined later, left, or seen before */
    wrong += slow != model.slow[i][n];
    model.due[i] = false;
  }
  for (uint32_t i = 0; i < CONNS; i++) {
    wrong += model.due[i];
  }
}

START_TEST(random_against_model) {
  model.state = random_seed();
  ck_assert_int_eq(groups_init(&groups, MODEL_MAX), 0);
  for (int step = 0; step < MODEL_STEPS; step++) {
    bool filling = step / 3000 % 2 == 0; /* by turns it grows and shrinks */
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
      {nobody, 1},
      {never_begun, 1},
      {joined_again, 1},
      {leavers, 1},
      {joiners_are_not_visited, 1},
      {group_ends_under_a_visit, 1},
      {ceiling, count_of(ceilings)},
      {no_memory, 1},
      {trim, 1},
      {ceiling_costs_nothing, 1},
      {spread, count_of(factors)},
      {random_against_model, 1},
  };
  return run_suite_fixture("group", tests, count_of(tests), memory_fixture_init,
                           memory_fixture_fini);
}
