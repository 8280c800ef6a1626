/*
 * wheel: see wheel.h.
 *
 * A timer stands at the level of the highest group of six bits in which its tick differs from the
 * wheel's, in the slot which that group of its tick names.  So, with g(t, l) = bits 6l .. 6l+5 of
 * t, for every timer in slot s of level l:
 *
 *   all groups of timer->expires above l equal those of now      g(expires, l) == s > g(now, l)
 *
 * Nothing ever wraps around, the lowest set bit of the lowest level that has one is what comes
 * next, and eight levels hold every time that 64 bits of nanoseconds can say.  While now moves up
 * to, but not onto, the beginning of the next occupied slot, the invariant holds by itself;
 * moving onto it empties the slot: at level 0 its timers are due, above it they sink at least one
 * level.  A timer sinks at most WHEEL_LEVELS - 1 times in its life, and most are cancelled before
 * they sink once.
 */
#include "core/wheel.h"

#include <assert.h>

#define SLOT_SHIFT 6 /* bits of a tick that a level looks at */
#define TICK_MAX (UINT64_MAX >> WHEEL_TICK_SHIFT)

static_assert(WHEEL_SLOTS == 1 << SLOT_SHIFT, "a slot is a group of bits of the tick");
static_assert(WHEEL_LEVELS * SLOT_SHIFT + WHEEL_TICK_SHIFT >= 64, "every time has a slot");

/** Put ${timer}, which is in no list, in front of ${list}. */
static void link_front(struct timer **list, struct timer *timer) {
  timer->next = *list;
  timer->link = list;
  if (timer->next != NULL) {
    timer->next->link = &timer->next;
  }
  *list = timer;
}

/** Take ${timer} out of the list in which it is. */
static void unlink_timer(struct timer *timer) {
  *timer->link = timer->next;
  if (timer->next != NULL) {
    timer->next->link = timer->link;
  }
  timer->next = NULL;
  timer->link = NULL;
}

/** Put ${timer}, which is in no list, where its tick belongs. */
static void sort_in(struct wheel *wheel, struct timer *timer) {
  if (timer->expires <= wheel->now) {
    link_front(&wheel->due, timer);
    return;
  }
  unsigned level = (unsigned)(63 - __builtin_clzll(timer->expires ^ wheel->now)) / SLOT_SHIFT;
  unsigned slot = timer->expires >> level * SLOT_SHIFT & (WHEEL_SLOTS - 1);
  link_front(&wheel->slots[level][slot], timer);
  wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_init(struct wheel *wheel, uint64_t now_ns) {
  *wheel = (struct wheel){.now = now_ns >> WHEEL_TICK_SHIFT};
}

void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t deadline_ns) {
  wheel_cancel(wheel, timer);
  if (deadline_ns > TICK_MAX << WHEEL_TICK_SHIFT) { /* no tick of this clock is after it */
    return;
  }
  bool between = (deadline_ns & ((UINT64_C(1) << WHEEL_TICK_SHIFT) - 1)) != 0;
  timer->expires = (deadline_ns >> WHEEL_TICK_SHIFT) + (between ? 1 : 0);
  sort_in(wheel, timer);
}

void wheel_cancel(struct wheel *wheel, struct timer *timer) {
  if (timer->link == NULL) {
    return;
  }
  /* The last timer of a slot takes its bit along; ->due and a timer's ->next are no slots. */
  struct timer **first = &wheel->slots[0][0];
  uintptr_t offset = (uintptr_t)timer->link - (uintptr_t)first;
  bool last = timer->next == NULL && offset < sizeof(wheel->slots);
  unlink_timer(timer);
  if (last) {
    size_t index = offset / sizeof(*first);
    wheel->occupied[index / WHEEL_SLOTS] &= ~(UINT64_C(1) << index % WHEEL_SLOTS);
  }
}

/** The lowest level with a timer; WHEEL_LEVELS where there is none. */
static unsigned lowest_level(const struct wheel *wheel) {
  unsigned level = 0;
  while (level < WHEEL_LEVELS && wheel->occupied[level] == 0) {
    level++;
  }
  return level;
}

/** The tick at which the first occupied slot of ${level}, which has one, begins. */
static uint64_t slot_tick(const struct wheel *wheel, unsigned level) {
  unsigned shift = level * SLOT_SHIFT;
  uint64_t above = wheel->now >> shift >> SLOT_SHIFT << SLOT_SHIFT;
  return (above | (uint64_t)__builtin_ctzll(wheel->occupied[level])) << shift;
}

/**
 * Empty the next occupied slot if it begins no later than ${tick}, which is after now. Return: did
 * it?
 */
static bool advance(struct wheel *wheel, uint64_t tick) {
  unsigned level = lowest_level(wheel);
  uint64_t next = level == WHEEL_LEVELS ? NEVER : slot_tick(wheel, level);
  if (next > tick) {
    wheel->now = tick;
    return false;
  }
  assert(next > wheel->now);
  wheel->now = next;
  struct timer **slot = &wheel->slots[level][__builtin_ctzll(wheel->occupied[level])];
  wheel->occupied[level] &= wheel->occupied[level] - 1;
  struct timer *timer = *slot;
  *slot = NULL;
  while (timer != NULL) {
    struct timer *following = timer->next;
    sort_in(wheel, timer);
    timer = following;
  }
  return true;
}

struct timer *wheel_expire(struct wheel *wheel, uint64_t now_ns) {
  uint64_t tick = now_ns >> WHEEL_TICK_SHIFT;
  while (wheel->due == NULL) {
    if (tick <= wheel->now || !advance(wheel, tick)) { /* the former costs most turns nothing */
      return NULL;
    }
  }
  struct timer *timer = wheel->due;
  unlink_timer(timer);
  return timer;
}

uint64_t wheel_next_ns(const struct wheel *wheel) {
  if (wheel->due != NULL) {
    return 0;
  }
  unsigned level = lowest_level(wheel);
  return level == WHEEL_LEVELS ? NEVER : slot_tick(wheel, level) << WHEEL_TICK_SHIFT;
}
