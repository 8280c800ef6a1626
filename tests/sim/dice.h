/*
 * dice: every decision of the simulator comes from here, and so from the seed.
 *
 * SplitMix64 (Steele, Lea and Flood, 2014): one word of state, good enough to decide with, and the
 * same on every machine.
 */
#ifndef TESTS_SIM_DICE_H
#define TESTS_SIM_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
  uint64_t state;
};

/** The next 64 bits. */
static inline uint64_t dice_next(struct dice *dice) {
  uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/** A number below ${end} (1 at least). */
static inline uint64_t dice_below(struct dice *dice, uint64_t end) { return dice_next(dice) % end; }

/** A number from ${low} to ${high}, both included. */
static inline uint64_t dice_between(struct dice *dice, uint64_t low, uint64_t high) {
  return low + dice_below(dice, high - low + 1);
}

/** The same, each power of two as likely as the next one: small numbers are frequent. */
static inline uint64_t dice_scaled(struct dice *dice, uint64_t low, uint64_t high) {
  uint64_t span = high - low + 1;
  unsigned bits = 64 - (unsigned)__builtin_clzll(span);
  uint64_t mask = (UINT64_C(2) << dice_below(dice, bits)) - 1;
  return low + (dice_next(dice) & mask) % span;
}

/** Is it so, ${permille} times in a thousand? */
static inline bool dice_chance(struct dice *dice, unsigned permille) {
  return permille > 0 && dice_below(dice, 1000) < permille;
}

#endif
