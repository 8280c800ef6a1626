/*
 * wheel: a timer wheel, for many deadlines that are mostly cancelled before they come.
 *
 * A hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7) has WHEEL_LEVELS levels of 64
 * slots.  A tick of the lowest level is 2^20 ns (1.05 ms).  Arming and cancelling are O(1).  A
 * bitmap of each level finds the next occupied slot, so armed timers cost nothing until one is due,
 * and a jump of the clock costs no more than the timers that it passes.  A timer never fires early,
 * and at most one tick late plus the caller's own delay.  Timers of different ticks fire in order,
 * those of one tick in any order.
 * One thread at a time uses a wheel.  Timers are embedded in their owners, nothing is allocated.
 */
#ifndef CORE_WHEEL_H
#define CORE_WHEEL_H

#include "core/base.h"

#include <stdbool.h>

#define WHEEL_TICK_SHIFT 20 /* a tick is 2^20 ns */
#define WHEEL_LEVELS 8      /* 64^8 ticks are more than 2^64 ns, so any deadline fits */
#define WHEEL_SLOTS 64
#define WHEEL_SLOT_SHIFT 6 /* bits of a tick that choose the slot of a level */

struct timer {
  struct timer *next;
  struct timer **link; /* the pointer to this timer; NULL = not armed */
  uint64_t expires;    /* tick, rounded up */
};

struct wheel {
  uint64_t now;                    /* all timers up to this tick, inclusive, have fired */
  uint32_t levels;                 /* one bit per level that has a timer */
  uint64_t occupied[WHEEL_LEVELS]; /* one bit per slot */
  struct timer *slots[WHEEL_LEVELS][WHEEL_SLOTS];
  struct timer *due; /* due, not yet taken by wheel_expire */
};

/** Start an empty wheel at the time ${now_ns}. */
void wheel_init(struct wheel *wheel, uint64_t now_ns);

/**
 * Arm ${timer} for ${deadline_ns}. It may be armed already, and must once have been set to zero. A
 * past deadline fires at the next wheel_expire. NEVER, and any time within its tick, cancels.
 */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t deadline_ns);

/**
 * Cancel ${timer}, even if it is due but not yet taken. Does nothing if it is not armed.
 */
void wheel_cancel(struct wheel *wheel, struct timer *timer);

/** Is ${timer} armed, or due but not yet taken? */
static inline bool timer_armed(const struct timer *timer) { return timer->link != NULL; }

/** The time at which ${timer}, which is armed, fires. It is at or after its deadline. */
static inline uint64_t timer_deadline_ns(const struct timer *timer) {
  return timer->expires << WHEEL_TICK_SHIFT;
}

/** The same as wheel_expire, which calls it only if a timer may be due. */
struct timer *wheel_advance(struct wheel *wheel, uint64_t tick);

/**
 * wheel_expire(wheel, now_ns):
 * Take a timer whose deadline is not after ${now_ns}. It is then no longer armed. Repeat this until
 * NULL. The caller may arm timers in between. If the clock goes back, time stands still.
 * Return: the timer, or NULL if none is due.
 */
static inline struct timer *wheel_expire(struct wheel *wheel, uint64_t now_ns) {
  uint64_t tick = now_ns >> WHEEL_TICK_SHIFT;
  return wheel->due == NULL && tick <= wheel->now ? NULL : wheel_advance(wheel, tick);
}

/**
 * The first tick of the first slot in use, which is never after the earliest expiry; NEVER = none.
 * The due timers do not count.
 */
static inline uint64_t wheel_next_tick(const struct wheel *wheel) {
  if (wheel->levels == 0) {
    return NEVER;
  }
  unsigned level = (unsigned)__builtin_ctz(wheel->levels);
  unsigned shift = level * WHEEL_SLOT_SHIFT;
  uint64_t above = wheel->now >> shift >> WHEEL_SLOT_SHIFT << WHEEL_SLOT_SHIFT;
  return (above | (uint64_t)__builtin_ctzll(wheel->occupied[level])) << shift;
}

/**
 * wheel_next_ns(wheel):
 * When to call wheel_expire next. This is never after the earliest deadline. It is before it at
 * most once per level, when the timers of an upper level must be moved down.
 * Return: a time, 0 if a timer is due already, or NEVER if none is armed.
 */
static inline uint64_t wheel_next_ns(const struct wheel *wheel) {
  if (wheel->due != NULL) {
    return 0;
  }
  uint64_t tick = wheel_next_tick(wheel);
  return tick == NEVER ? NEVER : tick << WHEEL_TICK_SHIFT;
}

#endif
