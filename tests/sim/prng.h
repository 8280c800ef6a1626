/*
 * prng: the source of every decision of the simulator, seeded with the seed of the run.
 *
 * SplitMix64 (Steele, Lea and Flood, 2014): one word of state, good enough for decisions, and the
 * same on every machine.
 */
#ifndef TESTS_SIM_PRNG_H
#define TESTS_SIM_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
  uint64_t state;
};

/** The next 64 bits. */
static inline uint64_t prng_next(struct prng *prng) {
  uint64_t z = prng->state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/** A number below ${end} (1 at least). */
static inline uint64_t prng_below(struct prng *prng, uint64_t end) { return prng_next(prng) % end; }

/** A number from ${low} to ${high}, both included. */
static inline uint64_t prng_between(struct prng *prng, uint64_t low, uint64_t high) {
  return low + prng_below(prng, high - low + 1);
}

/** The same with each power of two equally likely, so that small numbers are frequent. */
static inline uint64_t prng_scaled(struct prng *prng, uint64_t low, uint64_t high) {
  uint64_t span = high - low + 1;
  unsigned bits = 64 - (unsigned)__builtin_clzll(span);
  uint64_t mask = (UINT64_C(2) << prng_below(prng, bits)) - 1;
  return low + (prng_next(prng) & mask) % span;
}

/** True ${permille} times in a thousand. */
static inline bool prng_chance(struct prng *prng, unsigned permille) {
  return permille > 0 && prng_below(prng, 1000) < permille;
}

#endif
