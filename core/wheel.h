/*
 * wheel: many deadlines, few of which ever come.
 *
 * A hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7): WHEEL_LEVELS levels of 64
 * slots, a tick of 2^20 ns (1.05 ms) at the lowest.  Arming and cancelling are O(1); a bitmap a
 * level finds the next occupied slot, so that nothing is done while nothing is due however many
 * timers are armed, and a jump of the clock costs no more than the timers it passes.  A timer
 * never fires early and at most one tick late (plus the caller's own delay); timers of different
 * ticks fire in order, those of one tick in any.
 * One thread at a time; timers are embedded in their owners, and nothing is allocated.
 */
#ifndef CORE_WHEEL_H
#define CORE_WHEEL_H

#include "core/base.h"

#include <stdbool.h>

#define WHEEL_TICK_SHIFT 20 /* a tick is 2^20 ns */
#define WHEEL_LEVELS 8      /* 64^8 ticks: more than 2^64 ns, so no deadline is too far */
#define WHEEL_SLOTS 64

struct timer {
  struct timer *next;
  struct timer **link; /* what points to this timer; NULL = not armed */
  uint64_t expires;    /* tick, rounded up */
};

struct wheel {
  uint64_t now;                    /* the tick up to which everything has fired, inclusive */
  uint64_t occupied[WHEEL_LEVELS]; /* a bit a slot */
  struct timer *slots[WHEEL_LEVELS][WHEEL_SLOTS];
  struct timer *due; /* fired, not yet taken by wheel_expire */
};

/** Start at the time ${now_ns}. */
void wheel_init(struct wheel *wheel, uint64_t now_ns);

/**
 * Arm ${timer} (armed or not, but initialised to zero once) for ${deadline_ns}; a past deadline
 * fires at the next wheel_expire. NEVER cancels, as does any other time within its tick.
 */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t deadline_ns);

/**
 * Cancel ${timer}; nothing happens where it is not armed. A timer that is due but not yet taken is
 * cancelled as well.
 */
void wheel_cancel(struct wheel *wheel, struct timer *timer);

/** Is ${timer} armed, or due and not yet taken? */
static inline bool timer_armed(const struct timer *timer) { return timer->link != NULL; }

/** The time at which ${timer}, which is armed, fires: at or after its deadline. */
static inline uint64_t timer_deadline_ns(const struct timer *timer) {
  return timer->expires << WHEEL_TICK_SHIFT;
}

/**
 * wheel_expire(wheel, now_ns):
 * Take one timer whose deadline is not after ${now_ns}; it is not armed any more.  Call until NULL;
 * arming meanwhile is allowed.
 * Return: the timer, or NULL where none is due. A clock that goes back is taken as standing still.
 */
struct timer *wheel_expire(struct wheel *wheel, uint64_t now_ns);

/**
 * wheel_next_ns(wheel): when wheel_expire must be called next: never after the earliest deadline,
 * and at most once a level before it (where timers of an upper level must be sorted anew).
 * Return: a time, 0 where a timer is due already, or NEVER where none is armed.
 */
uint64_t wheel_next_ns(const struct wheel *wheel);

#endif
