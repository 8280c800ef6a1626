/*
 * wheel: see wheel.h.
 *
 * A tick is split into groups of six bits, one for each level.  A timer is at the level of the
 * highest group in which its tick differs from the wheel's.  Its slot is the value of that group.
 * With g(t, l) = bits 6l .. 6l+5 of t, for every timer in slot s of level l:
 *
 *   all groups of timer->expires above l equal those of now      g(expires, l) == s > g(now, l)
 *
 * So slots never wrap around.  The next slot is the lowest set bit of the lowest level that has
 * one.  The invariant stays true while now moves to any tick before the next occupied slot.  When
 * now reaches that slot, the slot is emptied: at level 0 its timers are due, above it they move
 * down at least one level.  A timer moves at most WHEEL_LEVELS - 1 times, and most are cancelled
 * before the first move.
 */
#include "core/wheel.h"

#include <assert.h>

#define SLOT_SHIFT 6 /* bits of a tick in one group */
#define TICK_MAX (UINT64_MAX >> WHEEL_TICK_SHIFT)

static_assert(WHEEL_SLOTS == 1 << SLOT_SHIFT, "a slot is a group of bits of the tick");
static_assert(WHEEL_LEVELS * SLOT_SHIFT + WHEEL_TICK_SHIFT >= 64, "every time has a slot");

/** Put ${timer}, which is in no list, at the front of ${list}. */
static void link_front(struct timer **list, struct timer *timer) {
  timer->next = *list;
  timer->link = list;
  if (timer->next != NULL) {
    timer->next->link = &timer->next;
  }
  *list = timer;
}

/** Remove ${timer} from its list. */
static void unlink_timer(struct timer *timer) {
  *timer->link = timer->next;
  if (timer->next != NULL) {
    timer->next->link = timer->link;
  }
  timer->next = NULL;
  timer->link = NULL;
}

/** Put ${timer}, which is in no list, into the slot of its tick, or into the due list. */
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
  if (deadline_ns > TICK_MAX << WHEEL_TICK_SHIFT) { /* the clock has no later tick */
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
  /* Removing the last timer of a slot clears its bit. The link may also be due or a next. */
  struct timer **first = &wheel->slots[0][0];
  uintptr_t offset = (uintptr_t)timer->link - (uintptr_t)first;
  bool last = timer->next == NULL && offset < sizeof(wheel->slots);
  unlink_timer(timer);
  if (last) {
    size_t index = offset / sizeof(*first);
    wheel->occupied[index / WHEEL_SLOTS] &= ~(UINT64_C(1) << index % WHEEL_SLOTS);
  }
}

/** The lowest level with a timer, or WHEEL_LEVELS if there is none. */
static unsigned lowest_level(const struct wheel *wheel) {
  unsigned level = 0;
  while (level < WHEEL_LEVELS && wheel->occupied[level] == 0) {
    level++;
  }
  return level;
}

/** The first tick of the first occupied slot of ${level}, which must have one. */
static uint64_t slot_tick(const struct wheel *wheel, unsigned level) {
  unsigned shift = level * SLOT_SHIFT;
  uint64_t above = wheel->now >> shift >> SLOT_SHIFT << SLOT_SHIFT;
  return (above | (uint64_t)__builtin_ctzll(wheel->occupied[level])) << shift;
}

/**
 * Empty the next occupied slot if it begins at or before ${tick}, which is after now. Return: was
 * a slot emptied?
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
    if (tick <= wheel->now || !advance(wheel, tick)) { /* mostly the first condition holds */
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
