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

#define TICK_MAX (UINT64_MAX >> WHEEL_TICK_SHIFT)

static_assert(WHEEL_SLOTS == 1 << WHEEL_SLOT_SHIFT, "a slot is a group of bits of the tick");
static_assert(WHEEL_LEVELS * WHEEL_SLOT_SHIFT + WHEEL_TICK_SHIFT >= 64, "every time has a slot");

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
  unsigned level = (unsigned)(63 - __builtin_clzll(timer->expires ^ wheel->now)) / WHEEL_SLOT_SHIFT;
  unsigned slot = timer->expires >> level * WHEEL_SLOT_SHIFT & (WHEEL_SLOTS - 1);
  link_front(&wheel->slots[level][slot], timer);
  wheel->occupied[level] |= UINT64_C(1) << slot;
  wheel->levels |= 1u << level;
}

/** ${slot} of ${level} has no timer any more. */
static void leave_slot(struct wheel *wheel, unsigned level, unsigned slot) {
  wheel->occupied[level] &= ~(UINT64_C(1) << slot);
  if (wheel->occupied[level] == 0) {
    wheel->levels &= ~(1u << level);
  }
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
    leave_slot(wheel, (unsigned)(index / WHEEL_SLOTS), (unsigned)(index % WHEEL_SLOTS));
  }
}

/**
 * Empty the next occupied slot if it begins at or before ${tick}, which is after now. Return: was
 * a slot emptied?
 */
static bool advance(struct wheel *wheel, uint64_t tick) {
  uint64_t next = wheel_next_tick(wheel);
  if (next > tick) {
    wheel->now = tick;
    return false;
  }
  assert(next > wheel->now);
  wheel->now = next;
  unsigned level = (unsigned)__builtin_ctz(wheel->levels);
  struct timer **slot = &wheel->slots[level][__builtin_ctzll(wheel->occupied[level])];
  struct timer *timer = *slot;
  leave_slot(wheel, level, (unsigned)__builtin_ctzll(wheel->occupied[level]));
  *slot = NULL;
  while (timer != NULL) {
    struct timer *following = timer->next;
    sort_in(wheel, timer);
    timer = following;
  }
  return true;
}

struct timer *wheel_advance(struct wheel *wheel, uint64_t tick) {
  while (wheel->due == NULL) {
    if (tick <= wheel->now || !advance(wheel, tick)) {
      return NULL;
    }
  }
  struct timer *timer = wheel->due;
  unlink_timer(timer);
  return timer;
}
