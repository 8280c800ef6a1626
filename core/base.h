/*
 * base: limits, compiler attributes and arithmetic that all modules share.
 *
 * The compiler's attributes are here so that no other file needs an #ifdef.
 */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#if __SIZEOF_POINTER__ < 8
#error "xchg needs a 64-bit system: threads share ids and counters as words of 64 bits"
#endif

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* This machine's AUDIT_ARCH_* of <linux/audit.h>; 0 = none that a sandbox was written for. */
#if defined(__x86_64__)
#define MACHINE_AUDIT_ARCH UINT32_C(0xC000003E)
#elif defined(__AARCH64EL__)
#define MACHINE_AUDIT_ARCH UINT32_C(0xC00000B7)
#else
#define MACHINE_AUDIT_ARCH UINT32_C(0)
#endif

/* Fields with different writers are in different cache lines. */
#define CACHE_LINE 64

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* A time that never comes. */
#define NEVER UINT64_MAX

#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

/*
 * A function that its caller seldom needs.  Inlined, it would make every call save its registers.
 */
#define OUTLINED __attribute__((noinline))

/** The object of ${type} whose ${member} ${pointer} points to. */
#define container_of(pointer, type, member) \
  ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define count_of(array) (sizeof(array) / sizeof((array)[0]))

/** The smaller and the larger of two numbers. */
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/** ${a} + ${b}, or NEVER if that overflows. */
static inline uint64_t add_sat_u64(uint64_t a, uint64_t b) { return a > NEVER - b ? NEVER : a + b; }

/** ${a} - ${b}, or 0 if ${b} is larger. */
static inline uint64_t sub_sat_u64(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/** The bits that the numbers below ${count} need. */
static inline uint32_t bits_for(uint64_t count) {
  return count < 2 ? 0 : 64 - (uint32_t)__builtin_clzll(count - 1);
}

/** Set errno to ${error}. Return: -1. */
static inline int fail(int error) {
  errno = error;
  return -1;
}

#endif
