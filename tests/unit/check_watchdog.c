/*
 * check_watchdog: when a blocked worker is reported, and how often.
 *
 * There is no thread and no clock: turns are random, and checks happen when watchdog_next_ns asks
 * for them, or later. The seed is printed, and CHECK_SEED sets it.
 */
#include "pool/watchdog.h"

#include "core/base.h"
#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <inttypes.h>

#define LIMIT (100 * NS_PER_MS)

static struct watchdog_state watchdog, before;

static void setup(void) { watchdog = (struct watchdog_state){.blocked = false}; }

static enum watchdog_result look_at(uint64_t turn_ns, uint64_t messages, uint64_t now_ns,
                                    uint64_t limit_ns) {
  const struct watchdog_sight sight = {.turn_ns = turn_ns, .steps = 1, .messages = messages};
  return watchdog_look(&watchdog, &sight, now_ns, limit_ns, &before);
}

static enum watchdog_result look(uint64_t turn_ns, uint64_t now_ns) {
  return look_at(turn_ns, 1, now_ns, LIMIT);
}

static uint64_t next_after(uint64_t now_ns) { return watchdog_next_ns(&watchdog, now_ns, LIMIT); }

START_TEST(waiting_is_not_blocked) {
  for (uint64_t now_ns = 1; now_ns < 100 * LIMIT; now_ns = next_after(now_ns)) {
    ck_assert_int_eq(look(0, now_ns), WATCHDOG_OK);
    ck_assert_uint_eq(next_after(now_ns), now_ns + LIMIT);
  }
}
END_TEST

START_TEST(a_blocked_worker_is_reported_once) {
  const uint64_t turn = 5000;
  ck_assert_int_eq(look(turn, turn + 10), WATCHDOG_OK);
  ck_assert_uint_eq(next_after(turn + 10), turn + 10 + LIMIT / 4);
  uint64_t now = next_after(turn + LIMIT - 1);
  ck_assert_uint_gt(now, turn + LIMIT);
  ck_assert_uint_le(now, turn + LIMIT + NS_PER_MS);
  ck_assert_int_eq(look(turn, turn + LIMIT), WATCHDOG_OK); /* not longer than the limit */
  ck_assert_int_eq(look(turn, now), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(before.since_ns, turn);
  ck_assert_int_eq(before.blocked, false);
  for (int i = 0; i < 5; i++) {
    ck_assert_uint_eq(next_after(now), now + LIMIT);
    now = next_after(now);
    ck_assert_int_eq(look(turn, now), WATCHDOG_OK); /* already reported */
  }
  ck_assert_int_eq(look(0, now + LIMIT), WATCHDOG_OVER);
  ck_assert_uint_eq(before.since_ns, turn);
  ck_assert_uint_eq(before.seen_ns, now);
  ck_assert_int_eq(before.blocked, true);
  ck_assert_int_eq(look(0, now + 2 * LIMIT), WATCHDOG_OK);
}
END_TEST

/*
 * One long turn follows another without a wait: each is reported once, and its end before the next.
 */
START_TEST(two_episodes_are_reported_once_each) {
  const uint64_t first = 5000, second = first + 2 * LIMIT;
  look(first, first);
  ck_assert_int_eq(look(first, first + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_int_eq(look(second, second + 1), WATCHDOG_OVER);
  ck_assert_uint_eq(before.since_ns, first);
  ck_assert_uint_eq(before.seen_ns, first + LIMIT + 1);
  ck_assert_int_eq(look(second, second + LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look(second, second + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(before.since_ns, second);
  ck_assert_int_eq(look(0, second + LIMIT + 2), WATCHDOG_OVER);
}
END_TEST

/*
 * One turn of an hour, in which every message takes half the limit, or far less: the worker is only
 * busy.  The same without progress is reported, but only once the limit has passed since the look
 * that saw the last message.
 */
START_TEST(a_long_turn_with_progress_is_not_reported) {
  const uint64_t turn = NS_PER_S, each = _i == 0 ? LIMIT / 2 : 20;
  uint64_t now = turn, messages = 0;
  while (now < 3600 * NS_PER_S) {
    messages = (now - turn) / each;
    ck_assert_int_eq(look_at(turn, messages, now, LIMIT), WATCHDOG_OK);
    now = next_after(now);
  }
  ck_assert_int_eq(look_at(turn, messages + 1, now, LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look_at(turn, messages + 1, now + LIMIT, LIMIT), WATCHDOG_OK);
  ck_assert_uint_eq(next_after(now + LIMIT), now + LIMIT + NS_PER_MS);
  ck_assert_int_eq(look_at(turn, messages + 1, now + LIMIT + 1, LIMIT), WATCHDOG_BLOCKED);
  ck_assert_int_eq(look_at(turn, messages + 2, now + LIMIT + 2, LIMIT), WATCHDOG_OVER);
}
END_TEST

/* A turn that had several messages since the last look: the present one may have begun just now. */
START_TEST(a_callback_late_in_a_turn_has_its_time) {
  const uint64_t turn = 5000, seen = turn + LIMIT;
  ck_assert_int_eq(look_at(0, 1, turn - 1, LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look_at(turn, 3, seen, LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look_at(turn, 3, seen + LIMIT, LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look_at(turn, 3, seen + LIMIT + 1, LIMIT), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(watchdog.since_ns, seen);
}
END_TEST

/* A worker is busy for an hour in turns of half the limit. */
START_TEST(short_turns_without_a_wait_are_not_reported) {
  uint64_t now = NS_PER_S, looks = 0;
  while (now < 3600 * NS_PER_S) {
    ck_assert_int_eq(look(now - now % (LIMIT / 2), now), WATCHDOG_OK);
    uint64_t next = next_after(now);
    ck_assert_uint_gt(next, now);
    now = next;
    looks++;
  }
  ck_assert_uint_le(looks, 4 * 3600 * NS_PER_S / LIMIT); /* few, however short the turns are */
}
END_TEST

/* After a SIGSTOP every turn looks old. One that then ends soon is not reported. */
START_TEST(a_turn_that_was_stopped_is_not_reported) {
  const uint64_t turn = 5000, now = turn + 50 * LIMIT;
  ck_assert_int_eq(look(turn, now), WATCHDOG_OK);
  ck_assert_uint_eq(next_after(now), now + NS_PER_MS);
  struct watchdog_state seen = watchdog;
  ck_assert_int_eq(look(0, now + NS_PER_MS), WATCHDOG_OK);
  watchdog = seen;
  ck_assert_int_eq(look(turn, now + NS_PER_MS), WATCHDOG_BLOCKED);
}
END_TEST

/* The worker reads the clock after the checking thread. */
START_TEST(a_turn_may_start_after_now) {
  const uint64_t turn = 5 * LIMIT;
  ck_assert_int_eq(look(turn, turn - 2 * LIMIT), WATCHDOG_OK);
  ck_assert_int_eq(look(turn, turn - LIMIT), WATCHDOG_OK);
  ck_assert_uint_eq(next_after(turn - LIMIT), turn - LIMIT + LIMIT / 4);
  ck_assert_int_eq(look(turn, turn + LIMIT + 1), WATCHDOG_BLOCKED);
  ck_assert_int_eq(look(turn, turn - 1), WATCHDOG_OK);
  ck_assert_int_eq(look(0, turn + 2 * LIMIT), WATCHDOG_OVER);
  ck_assert_uint_eq(before.seen_ns, turn + LIMIT + 1); /* the latest time of all */
}
END_TEST

static const uint64_t huge[] = {NEVER, NEVER - 1, NEVER - NS_PER_MS, NEVER / 2 + 1};

START_TEST(a_huge_limit_does_not_overflow) {
  const uint64_t limit = huge[_i], turn = NEVER / 2, late = turn + NS_PER_S;
  ck_assert_int_eq(look_at(0, 1, turn, limit), WATCHDOG_OK);
  ck_assert_uint_eq(watchdog_next_ns(&watchdog, turn, limit), NEVER);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(look_at(turn, 1, late, limit), WATCHDOG_OK);
    ck_assert_uint_gt(watchdog_next_ns(&watchdog, late, limit), late);
  }
}
END_TEST

/* A limit below the resolution of a wait does not make the checks spin. */
START_TEST(a_tiny_limit_does_not_spin) {
  const uint64_t now = NS_PER_S;
  ck_assert_int_eq(look_at(0, 1, now, 1), WATCHDOG_OK);
  ck_assert_uint_eq(watchdog_next_ns(&watchdog, now, 1), now + NS_PER_MS);
  ck_assert_int_eq(look_at(now, 1, now, 1), WATCHDOG_OK);
  ck_assert_uint_eq(watchdog_next_ns(&watchdog, now, 1), now + NS_PER_MS);
  ck_assert_int_eq(look_at(now, 1, now + 2, 1), WATCHDOG_BLOCKED);
  ck_assert_uint_eq(watchdog_next_ns(&watchdog, now + 2, 1), now + 2 + NS_PER_MS);
}
END_TEST

/* ---- random turns ---- */

#define TURNS 4000u

static struct turn {
  uint64_t start_ns, end_ns; /* the turn lasts until just before its end */
  unsigned blocked, over;    /* how often it was reported */
} turns[TURNS];

static const struct {
  uint64_t limit_ns, late_ns; /* how late a check may be */
} schedules[] = {
    {LIMIT, 0},     {LIMIT, 3 * LIMIT},         {10 * NS_PER_S, 0},
    {NS_PER_MS, 0}, {NS_PER_MS, 5 * NS_PER_MS}, {NS_PER_US, 0},
    {1, 0},
};

/* Short turns, turns around the limit and long ones. None is empty. */
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
    if (random % 3 != 0) { /* otherwise it follows the last one without a wait */
      now_ns += random % (random % 5 == 0 ? 3 * limit_ns + NS_PER_MS : limit_ns);
    }
    uint64_t length_ns = draw_length(state, limit_ns);
    turns[i] = (struct turn){.start_ns = now_ns, .end_ns = now_ns + length_ns};
    now_ns += length_ns;
  }
}

/* The episode of ${before} has ended, as checked at ${now_ns}. */
static void check_over(struct turn *told, uint64_t now_ns) {
  ck_assert_ptr_nonnull(told); /* it has been reported as BLOCKED */
  told->over++;
  ck_assert_uint_eq(before.since_ns, told->start_ns);
  ck_assert_uint_lt(before.seen_ns, told->end_ns);
  ck_assert_uint_ge(now_ns, told->end_ns);
}

/* Check from before the first turn until after the last, up to ${late_ns} late. */
static void look_on(uint64_t *state, uint64_t limit_ns, uint64_t late_ns) {
  struct turn *told = NULL;
  unsigned i = 0;
  for (uint64_t now_ns = 1; i < TURNS || told != NULL;) {
    while (i < TURNS && turns[i].end_ns <= now_ns) {
      i++;
    }
    uint64_t turn_ns = i < TURNS && turns[i].start_ns <= now_ns ? turns[i].start_ns : 0;
    switch (look_at(turn_ns, 1, now_ns, limit_ns)) {
      case WATCHDOG_BLOCKED:
        ck_assert_ptr_null(told);
        ck_assert_uint_ne(turn_ns, 0);
        ck_assert_uint_eq(before.since_ns, turn_ns);
        ck_assert_uint_gt(now_ns, turn_ns + limit_ns);
        told = &turns[i];
        told->blocked++;
        break;
      case WATCHDOG_OVER:
        check_over(told, now_ns);
        told = NULL;
        break;
      case WATCHDOG_OK:
        break;
    }
    uint64_t next_ns = watchdog_next_ns(&watchdog, now_ns, limit_ns);
    ck_assert_msg(next_ns > now_ns, "a check at %" PRIu64 " asks for no later one", now_ns);
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
      {waiting_is_not_blocked, 1},
      {a_blocked_worker_is_reported_once, 1},
      {two_episodes_are_reported_once_each, 1},
      {a_long_turn_with_progress_is_not_reported, 2},
      {a_callback_late_in_a_turn_has_its_time, 1},
      {short_turns_without_a_wait_are_not_reported, 1},
      {a_turn_that_was_stopped_is_not_reported, 1},
      {a_turn_may_start_after_now, 1},
      {a_huge_limit_does_not_overflow, count_of(huge)},
      {a_tiny_limit_does_not_spin, 1},
      {random_turns, count_of(schedules)},
  };
  return run_suite_fixture("watchdog", tests, count_of(tests), setup, NULL);
}
