/*
 * check_watchdog: who is told, when, and how often.
 *
 * No thread and no clock: turns are drawn at random, and looks fall on them when watchdog_next_ns
 * says so, punctually or late.  The seed is printed, and CHECK_SEED sets it.
 */
#include "pool/watchdog.h"

#include "core/base.h"
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <inttypes.h>

#define LIMIT (100 * NS_PER_MS)

static struct watched watched, before;

static void setup(void) { watched = (struct watched){.turn_ns = 0}; }

static enum watchdog_says look(uint64_t turn_ns, uint64_t now_ns) {
  return watchdog_look(&watched, turn_ns, now_ns, LIMIT, &before);
}

static uint64_t next_after(uint64_t now_ns) { return watchdog_next_ns(&watched, now_ns, LIMIT); }

START_TEST(waiting) {
  for (uint64_t now_ns = 1; now_ns < 100 * LIMIT; now_ns = next_after(now_ns)) {
    ck_assert_int_eq(look(0, now_ns), WATCHDOG_QUIET);
    ck_assert_uint_eq(next_after(now_ns), now_ns + LIMIT);
  }
}
END_TEST

START_TEST(episode) {
  const uint64_t turn = 5000;
  ck_assert_int_eq(look(turn, turn + 10), WATCHDOG_QUIET);
  uint64_t now = next_after(turn + 10);
  ck_assert_uint_gt(now, turn + LIMIT);
  ck_assert_uint_le(now, turn + LIMIT + NS_PER_MS);
  ck_assert_int_eq(look(turn, turn + LIMIT), WATCHDOG_QUIET); /* not over it yet */
  ck_assert_int_eq(look(turn, now), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(before.turn_ns, turn);
  ck_assert_int_eq(before.blocked, false);
  for (int i = 0; i < 5; i++) {
    ck_assert_uint_eq(next_after(now), now + LIMIT);
    now = next_after(now);
    ck_assert_int_eq(look(turn, now), WATCHDOG_QUIET); /* told already */
  }
  ck_assert_int_eq(look(0, now + LIMIT), WATCHDOG_OVER);
  ck_assert_uint_eq(before.turn_ns, turn);
  ck_assert_uint_eq(before.seen_ns, now);
  ck_assert_int_eq(before.blocked, true);
  ck_assert_int_eq(look(0, now + 2 * LIMIT), WATCHDOG_QUIET);
}
END_TEST

/* From one long turn into the next without a wait: the end of one, then the other, each once. */
START_TEST(episode_upon_episode) {
  const uint64_t first = 5000, second = first + 2 * LIMIT;
  look(first, first);
  ck_assert_int_eq(look(first, first + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_int_eq(look(second, second + 1), WATCHDOG_OVER);
  ck_assert_uint_eq(before.turn_ns, first);
  ck_assert_uint_eq(before.seen_ns, first + LIMIT + 1);
  ck_assert_int_eq(look(second, second + LIMIT), WATCHDOG_QUIET);
  ck_assert_int_eq(look(second, second + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(before.turn_ns, second);
  ck_assert_int_eq(look(0, second + LIMIT + 2), WATCHDOG_OVER);
}
END_TEST

/* A worker that is busy for an hour in turns of half the limit. */
START_TEST(turns_follow_each_other) {
  uint64_t now = NS_PER_S, looks = 0;
  while (now < 3600 * NS_PER_S) {
    ck_assert_int_eq(look(now - now % (LIMIT / 2), now), WATCHDOG_QUIET);
    uint64_t next = next_after(now);
    ck_assert_uint_gt(next, now);
    now = next;
    looks++;
  }
  ck_assert_uint_lt(looks, 3600 * NS_PER_S / (LIMIT / 2)); /* one a turn would be too many */
}
END_TEST

/* After a SIGSTOP everything looks old; what then ends soon is not told. */
START_TEST(old_at_first_sight) {
  const uint64_t turn = 5000, now = turn + 50 * LIMIT;
  ck_assert_int_eq(look(turn, now), WATCHDOG_QUIET);
  ck_assert_uint_eq(next_after(now), now + NS_PER_MS);
  struct watched seen = watched;
  ck_assert_int_eq(look(0, now + NS_PER_MS), WATCHDOG_QUIET);
  watched = seen;
  ck_assert_int_eq(look(turn, now + NS_PER_MS), WATCHDOG_BLOCKED);
}
END_TEST

/* The worker's clock is read after the looker's. */
START_TEST(turn_later_than_now) {
  const uint64_t turn = 5 * LIMIT;
  ck_assert_int_eq(look(turn, turn - 2 * LIMIT), WATCHDOG_QUIET);
  ck_assert_int_eq(look(turn, turn - LIMIT), WATCHDOG_QUIET);
  ck_assert_uint_gt(next_after(turn - LIMIT), turn + LIMIT);
  ck_assert_int_eq(look(turn, turn + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_int_eq(look(turn, turn - 1), WATCHDOG_QUIET);
  ck_assert_int_eq(look(0, turn + 2 * LIMIT), WATCHDOG_OVER);
  ck_assert_uint_eq(before.seen_ns, turn + LIMIT + 1); /* the latest time of all */
}
END_TEST

static const uint64_t huge[] = {NEVER, NEVER - 1, NEVER - NS_PER_MS, NEVER / 2 + 1};

START_TEST(limit_is_huge) {
  const uint64_t limit = huge[_i], turn = NEVER / 2, late = turn + NS_PER_S;
  ck_assert_int_eq(watchdog_look(&watched, 0, turn, limit, &before), WATCHDOG_QUIET);
  ck_assert_uint_eq(watchdog_next_ns(&watched, turn, limit), NEVER);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(watchdog_look(&watched, turn, late, limit, &before), WATCHDOG_QUIET);
    ck_assert_uint_eq(watchdog_next_ns(&watched, late, limit), NEVER);
  }
}
END_TEST

/* A limit below what a wait can measure makes nobody spin. */
START_TEST(limit_is_tiny) {
  const uint64_t now = NS_PER_S;
  ck_assert_int_eq(watchdog_look(&watched, 0, now, 1, &before), WATCHDOG_QUIET);
  ck_assert_uint_eq(watchdog_next_ns(&watched, now, 1), now + NS_PER_MS);
  ck_assert_int_eq(watchdog_look(&watched, now, now, 1, &before), WATCHDOG_QUIET);
  ck_assert_uint_eq(watchdog_next_ns(&watched, now, 1), now + 1 + NS_PER_MS);
  ck_assert_int_eq(watchdog_look(&watched, now, now + 2, 1, &before), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(watchdog_next_ns(&watched, now + 2, 1), now + 2 + NS_PER_MS);
}
END_TEST

/* ---- random turns -------------------------------------------------------------------------- */

#define TURNS 4000u

static struct turn {
  uint64_t start_ns, end_ns; /* it lasts to just before its end */
  unsigned blocked, over;    /* times it was told */
} turns[TURNS];

static const struct {
  uint64_t limit_ns, late_ns; /* how late a look may be */
} schedules[] = {
    {LIMIT, 0},     {LIMIT, 3 * LIMIT},         {10 * NS_PER_S, 0},
    {NS_PER_MS, 0}, {NS_PER_MS, 5 * NS_PER_MS}, {NS_PER_US, 0},
    {1, 0},
};

/** Short ones, ones about the limit and what must be told, long ones; none is empty. */
static uint64_t draw_length(uint64_t *state, uint64_t limit_ns) {
  uint64_t random = random_next(state) >> 16;
  switch (random_next(state) >> 40 & 7) {
    case 0:
      return limit_ns + random % (4 * NS_PER_MS);
    case 1:
      return limit_ns + 2 * NS_PER_MS + (random & 1);
    case 2:
      return limit_ns - random % 2 + (limit_ns == 1);
    case 3:
      return limit_ns * (1 + random % 5) + random % limit_ns;
    default:
      return 1 + random % limit_ns;
  }
}

static void draw_turns(uint64_t *state, uint64_t limit_ns) {
  uint64_t now_ns = NS_PER_S;
  for (unsigned i = 0; i < TURNS; i++) {
    uint64_t random = random_next(state) >> 16;
    if (random % 3 != 0) { /* else it follows the last one without a wait */
      now_ns += random % (random % 5 == 0 ? 3 * limit_ns + NS_PER_MS : limit_ns);
    }
    uint64_t length_ns = draw_length(state, limit_ns);
    turns[i] = (struct turn){.start_ns = now_ns, .end_ns = now_ns + length_ns};
    now_ns += length_ns;
  }
}

/** The episode that ${before} describes is over, as seen at ${now_ns}. */
static void check_over(struct turn *told, uint64_t now_ns) {
  ck_assert_ptr_nonnull(told); /* BLOCKED came first */
  told->over++;
  ck_assert_uint_eq(before.turn_ns, told->start_ns);
  ck_assert_uint_lt(before.seen_ns, told->end_ns);
  ck_assert_uint_ge(now_ns, told->end_ns);
}

/** Look from before the first turn until after the last, up to ${late_ns} later than is due. */
static void look_on(uint64_t *state, uint64_t limit_ns, uint64_t late_ns) {
  struct turn *told = NULL;
  unsigned i = 0;
  for (uint64_t now_ns = 1; i < TURNS || told != NULL;) {
    while (i < TURNS && turns[i].end_ns <= now_ns) {
      i++;
    }
    uint64_t turn_ns = i < TURNS && turns[i].start_ns <= now_ns ? turns[i].start_ns : 0;
    switch (watchdog_look(&watched, turn_ns, now_ns, limit_ns, &before)) {
      case WATCHDOG_BLOCKED:
        ck_assert_ptr_null(told);
        ck_assert_uint_ne(turn_ns, 0);
        ck_assert_uint_eq(before.turn_ns, turn_ns);
        ck_assert_uint_gt(now_ns, turn_ns + limit_ns);
        told = &turns[i];
        told->blocked++;
        break;
      case WATCHDOG_OVER:
        check_over(told, now_ns);
        told = NULL;
        break;
      case WATCHDOG_QUIET:
        break;
    }
    uint64_t next_ns = watchdog_next_ns(&watched, now_ns, limit_ns);
    ck_assert_msg(next_ns > now_ns, "a look at %" PRIu64 " asks for no later one", now_ns);
    now_ns = next_ns + (late_ns == 0 ? 0 : (random_next(state) >> 16) % late_ns);
  }
}

START_TEST(random_turns) {
  uint64_t limit_ns = schedules[_i].limit_ns, late_ns = schedules[_i].late_ns;
  uint64_t state = random_seed();
  unsigned wrong = 0, must = 0, told = 0;
  draw_turns(&state, limit_ns);
  look_on(&state, limit_ns, late_ns);
  for (unsigned i = 0; i < TURNS; i++) {
    const struct turn *turn = &turns[i];
    uint64_t length_ns = turn->end_ns - turn->start_ns;
    bool punctual = late_ns == 0 && length_ns >= limit_ns + 2 * NS_PER_MS;
    wrong += turn->blocked > (length_ns > limit_ns) || turn->over != turn->blocked;
    wrong += punctual && turn->blocked != 1;
    must += punctual;
    told += turn->blocked;
  }
  ck_assert_uint_eq(wrong, 0);
  ck_assert_uint_gt(told, 0);
  ck_assert_uint_ge(told, must);
  ck_assert(late_ns > 0 || must > TURNS / 100);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {waiting, 1},
      {episode, 1},
      {episode_upon_episode, 1},
      {turns_follow_each_other, 1},
      {old_at_first_sight, 1},
      {turn_later_than_now, 1},
      {limit_is_huge, count_of(huge)},
      {limit_is_tiny, 1},
      {random_turns, count_of(schedules)},
  };
  return run_suite_fixture("watchdog", tests, count_of(tests), setup, NULL);
}
