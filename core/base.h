/*
 * base: the few things that every module needs and that belong to none.
 *
 * The compiler's attributes stand here so that no other file needs an #ifdef, beside the limits
 * that several modules must agree upon.  Nothing here has a body that does input or output.
 */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#include <stddef.h>
#include <stdint.h>

/* One cache line; fields with different writers keep this distance. */
#define CACHE_LINE 64

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* A time that never comes. */
#define NEVER UINT64_MAX

#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

/** The object of ${type} whose ${member} ${pointer} points to. */
#define container_of(pointer, type, member) \
  ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define count_of(array) (sizeof(array) / sizeof((array)[0]))

/** The smaller, the larger of two. */
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/** ${a} + ${b}, or NEVER where that overflows. */
static inline uint64_t add_sat_u64(uint64_t a, uint64_t b) { return a > NEVER - b ? NEVER : a + b; }

/** ${a} - ${b}, or 0 where ${b} is the larger. */
static inline uint64_t sub_sat_u64(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

#endif
