/*
 * check_wheel: timers fire never early, at most one tick late and in order, and cost nothing before
 * they are due.
 *
 * The random test compares with an array of deadlines that is searched from end to end. Its seed is
 * printed, and CHECK_SEED sets it.
 */
#include "core/wheel.h"

#include "tests/fixtures/random.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdlib.h>

#define TICK (UINT64_C(1) << WHEEL_TICK_SHIFT)
#define DAY (UINT64_C(86400) * NS_PER_S)
#define BASE (DAY / TICK * TICK)
#define TIMERS 400
#define STEPS 40000
#define MILLION 1000000

static const uint64_t starts[] = {
    0, 1, 5 * TICK - 1, 3600 * NS_PER_S, 63 * TICK, (TICK << 36) - 7, NEVER / 2, NEVER - 30 * DAY};

/*
 * One timer at many distances from many starts fires in its tick, and wheel_next_ns leads there in
 * few steps.
 */
START_TEST(one_timer_fires_in_its_tick) {
  static const uint64_t distances[] = {0,         1,         TICK - 1,  TICK,        TICK + 1,
                                       63 * TICK, 64 * TICK, 65 * TICK, 4096 * TICK, 60 * NS_PER_S,
                                       DAY,       20 * DAY};
  uint64_t start = starts[_i];
  for (size_t i = 0; i < count_of(distances); i++) {
    static struct wheel wheel;
    struct timer timer = {.expires = 0};
    wheel_init(&wheel, start);
    ck_assert_uint_eq(wheel_next_ns(&wheel), NEVER);
    uint64_t deadline = start + distances[i], now = start;
    wheel_arm(&wheel, &timer, deadline);
    ck_assert(timer_armed(&timer));
    ck_assert_uint_ge(timer_deadline_ns(&timer), deadline);
    ck_assert_uint_lt(timer_deadline_ns(&timer) - deadline, TICK);
    uint64_t fires = max_u64(timer_deadline_ns(&timer), start);
    int steps = 0;
    struct timer *fired = wheel_expire(&wheel, now);
    while (fired == NULL) {
      ck_assert_uint_lt(now, fires);
      ck_assert_uint_gt(wheel_next_ns(&wheel), now);
      now = wheel_next_ns(&wheel);
      ck_assert_uint_le(now, fires);
      ck_assert_ptr_null(wheel_expire(&wheel, now - 1));
      fired = wheel_expire(&wheel, now);
      steps++;
    }
    ck_assert_ptr_eq(fired, &timer);
    ck_assert_uint_eq(now, fires);
    ck_assert_int_le(steps, WHEEL_LEVELS);
    ck_assert(!timer_armed(&timer));
    ck_assert_ptr_null(wheel_expire(&wheel, now));
    ck_assert_uint_eq(wheel_next_ns(&wheel), NEVER);
  }
}
END_TEST

START_TEST(never_and_nearly_never) {
  static struct wheel wheel;
  struct timer timer = {.expires = 0};
  wheel_init(&wheel, DAY);
  wheel_arm(&wheel, &timer, NEVER);
  ck_assert(!timer_armed(&timer));
  wheel_arm(&wheel, &timer, 2 * DAY);
  wheel_arm(&wheel, &timer, NEVER);
  ck_assert(!timer_armed(&timer));
  ck_assert_uint_eq(wheel_next_ns(&wheel), NEVER);
  wheel_arm(&wheel, &timer, NEVER - TICK + 2); /* rounds up to more than a clock can show */
  ck_assert(!timer_armed(&timer));
  wheel_arm(&wheel, &timer, NEVER - TICK + 1); /* the last tick */
  ck_assert(timer_armed(&timer));
  ck_assert_ptr_null(wheel_expire(&wheel, NEVER - TICK));
  ck_assert_ptr_eq(wheel_expire(&wheel, NEVER - TICK + 1), &timer);
}
END_TEST

/*
 * A timer can be cancelled and armed again in any position: alone, first, in the middle or last in
 * a slot, or due.
 */
START_TEST(cancel_anywhere) {
  static struct wheel wheel;
  struct timer timers[5] = {{.expires = 0}};
  for (size_t out = 0; out < count_of(timers); out++) {
    for (int due = 0; due < 2; due++) {
      wheel_init(&wheel, BASE);
      for (size_t i = 0; i < count_of(timers); i++) {
        wheel_arm(&wheel, &timers[i], BASE + 100 * TICK);
      }
      size_t left = count_of(timers) - 1;
      if (due == 1) { /* one fires, the others are in the list of due timers */
        struct timer *fired = wheel_expire(&wheel, BASE + 100 * TICK);
        ck_assert_ptr_nonnull(fired);
        left -= fired != &timers[out];
      }
      wheel_cancel(&wheel, &timers[out]);
      wheel_cancel(&wheel, &timers[out]);
      ck_assert(!timer_armed(&timers[out]));
      while (left-- > 0) {
        struct timer *fired = wheel_expire(&wheel, BASE + 100 * TICK);
        ck_assert_ptr_nonnull(fired);
        ck_assert_ptr_ne(fired, &timers[out]);
      }
      ck_assert_ptr_null(wheel_expire(&wheel, 2 * BASE));
      ck_assert_uint_eq(wheel_next_ns(&wheel), NEVER);
    }
  }
  wheel_arm(&wheel, &timers[0], 3 * BASE);
  wheel_cancel(&wheel, &timers[0]); /* the last one of a slot clears its bit */
  ck_assert_uint_eq(wheel_next_ns(&wheel), NEVER);
}
END_TEST

START_TEST(past_deadlines_and_clocks_that_go_back) {
  static struct wheel wheel;
  struct timer timer = {.expires = 0};
  wheel_init(&wheel, BASE);
  wheel_arm(&wheel, &timer, 0);
  ck_assert_uint_eq(wheel_next_ns(&wheel), 0);
  ck_assert_ptr_eq(wheel_expire(&wheel, 0), &timer); /* due even before that time */
  wheel_arm(&wheel, &timer, BASE + 10 * TICK);
  ck_assert_ptr_null(wheel_expire(&wheel, BASE + 5 * TICK));
  ck_assert_ptr_null(wheel_expire(&wheel, 7));
  ck_assert_uint_eq(wheel_next_ns(&wheel), timer_deadline_ns(&timer));
  ck_assert_ptr_eq(wheel_expire(&wheel, BASE + 10 * TICK), &timer);
}
END_TEST

/* A timer that is armed again while it expires fires once in each call. */
START_TEST(arming_again_while_expiring) {
  static struct wheel wheel;
  struct timer timers[3] = {{.expires = 0}};
  wheel_init(&wheel, 0);
  for (size_t i = 0; i < count_of(timers); i++) {
    wheel_arm(&wheel, &timers[i], TICK);
  }
  for (uint64_t now = TICK; now < 200 * TICK; now += TICK) {
    size_t fired = 0;
    for (struct timer *t; (t = wheel_expire(&wheel, now)) != NULL; fired++) {
      wheel_arm(&wheel, t, now + TICK);
    }
    ck_assert_uint_eq(fired, count_of(timers));
  }
}
END_TEST

/* ---- against the model ---- */

struct model {
  struct wheel wheel;
  struct timer timers[TIMERS];
  uint64_t deadlines[TIMERS]; /* NEVER = not armed */
  uint64_t now;
  uint64_t armed_until; /* deadlines up to here may have been past when they were armed */
};

/* Count errors: exactly the due timers must fire, in the order of ticks. */
static unsigned model_fire(struct model *m) {
  unsigned wrong = 0;
  uint64_t last = 0;
  for (struct timer *t; (t = wheel_expire(&m->wheel, m->now)) != NULL;) {
    size_t i = (size_t)(t - m->timers);
    wrong += m->deadlines[i] > m->now;
    wrong += timer_deadline_ns(t) > m->now;
    wrong += m->deadlines[i] > m->armed_until && timer_deadline_ns(t) < last;
    last = max_u64(last, m->deadlines[i] > m->armed_until ? timer_deadline_ns(t) : 0);
    m->deadlines[i] = NEVER;
  }
  m->armed_until = m->now;
  return wrong;
}

static void model_expire(struct model *m) {
  unsigned wrong = model_fire(m);
  uint64_t earliest = NEVER;
  for (size_t i = 0; i < TIMERS; i++) {
    wrong += timer_armed(&m->timers[i]) != (m->deadlines[i] != NEVER);
    if (m->deadlines[i] != NEVER) {
      wrong += timer_deadline_ns(&m->timers[i]) <= m->now;
      earliest = min_u64(earliest, timer_deadline_ns(&m->timers[i]));
    }
  }
  ck_assert_uint_eq(wrong, 0);
  uint64_t next = wheel_next_ns(&m->wheel);
  ck_assert_uint_le(next, earliest);
  ck_assert((next == NEVER) == (earliest == NEVER));
  ck_assert_uint_gt(next, m->now);
  if (earliest != NEVER && earliest >> 6 >> WHEEL_TICK_SHIFT == m->now >> 6 >> WHEEL_TICK_SHIFT) {
    ck_assert_uint_eq(next, earliest); /* level 0 is exact */
  }
}

START_TEST(random_operations_match_the_model) {
  static struct model m;
  uint64_t state = random_seed();
  m.now = m.armed_until = starts[_i] / 2;
  wheel_init(&m.wheel, m.now);
  for (size_t i = 0; i < TIMERS; i++) {
    m.deadlines[i] = NEVER;
  }
  for (int step = 0; step < STEPS; step++) {
    uint64_t random = random_next(&state);
    size_t i = random % TIMERS;
    unsigned spread = random >> 16 & 63; /* distances of every magnitude */
    uint64_t distance = random_next(&state) >> (spread < 8 ? 8 : spread);
    if (random >> 32 & 1) {
      uint64_t deadline =
          random >> 33 & 1 ? add_sat_u64(m.now, distance) : sub_sat_u64(m.now, distance);
      wheel_arm(&m.wheel, &m.timers[i], deadline);
      m.deadlines[i] = timer_armed(&m.timers[i]) ? deadline : NEVER;
    } else if (random >> 34 & 1) {
      wheel_cancel(&m.wheel, &m.timers[i]);
      m.deadlines[i] = NEVER;
    } else {
      uint64_t next = wheel_next_ns(&m.wheel);
      bool jump = next == NEVER || (random >> 35 & 1);
      m.now = jump ? add_sat_u64(m.now, distance >> 8) : max_u64(next, m.now);
      model_expire(&m);
    }
  }
}
END_TEST

/* ---- many timers ---- */

/*
 * A million timers of one day: until the first is due, a reactor wakes at most once for each level.
 */
START_TEST(idle_timers_cost_few_wakes) {
  static struct wheel wheel;
  struct timer *timers = calloc(MILLION, sizeof(*timers));
  ck_assert_ptr_nonnull(timers);
  uint64_t start = 1000 * DAY;
  wheel_init(&wheel, start);
  for (size_t i = 0; i < MILLION; i++) {
    wheel_arm(&wheel, &timers[i], start + DAY + i * 1000);
  }
  int wakes = 0; /* as a reactor does that sleeps until wheel_next_ns */
  uint64_t next;
  while ((next = wheel_next_ns(&wheel)) < start + DAY) {
    ck_assert_ptr_null(wheel_expire(&wheel, next));
    wakes++;
  }
  ck_assert_int_le(wakes, WHEEL_LEVELS);
  size_t fired = 0, wrong = 0;
  uint64_t last = 0;
  for (struct timer *t; (t = wheel_expire(&wheel, start + 400 * DAY)) != NULL; fired++) {
    wrong += timer_deadline_ns(t) < last; /* days late, but still in order */
    last = timer_deadline_ns(t);
  }
  ck_assert_uint_eq(fired, MILLION);
  ck_assert_uint_eq(wrong, 0);
  free(timers);
}
END_TEST

/* Two hundred jumps of a thousand days are fast: the 82 billion ticks of each are not walked. */
START_TEST(jumps_are_fast) {
  static struct wheel wheel;
  struct timer timer = {.expires = 0};
  uint64_t now = 0;
  wheel_init(&wheel, now);
  for (int i = 0; i < 200; i++) {
    wheel_arm(&wheel, &timer, now + 999 * DAY);
    now += 1000 * DAY;
    ck_assert_ptr_eq(wheel_expire(&wheel, now), &timer);
    ck_assert_ptr_null(wheel_expire(&wheel, now));
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {one_timer_fires_in_its_tick, count_of(starts)},
      {never_and_nearly_never, 1},
      {cancel_anywhere, 1},
      {past_deadlines_and_clocks_that_go_back, 1},
      {arming_again_while_expiring, 1},
      {random_operations_match_the_model, count_of(starts)},
      {idle_timers_cost_few_wakes, 1},
      {jumps_are_fast, 1},
  };
  return run_suite("wheel", tests, count_of(tests));
}
