/*
 * atom: the functions of core/atom.h in the simulator.
 *
 * Threads are coroutines, so that a plain variable is atomic.  What varies is which thread runs
 * between two operations: another one may run before each operation that publishes, takes or
 * announces something.  (The explorer and the thread sanitizer check weaker memory orders.)
 */
#ifndef TESTS_SIM_ATOM_H
#define TESTS_SIM_ATOM_H

#include <stdbool.h>
#include <stdint.h>

typedef uint32_t atom_u32;
typedef uint64_t atom_u64;
typedef void *atom_ptr;

/** Another thread may run now (tests/sim/world.c). */
void world_atom(void);

static inline uint32_t atom_load_relaxed_u32(const atom_u32 *a) { return *a; }
static inline uint32_t atom_load_acquire_u32(const atom_u32 *a) {
  world_atom();
  return *a;
}
static inline void atom_store_relaxed_u32(atom_u32 *a, uint32_t value) { *a = value; }
static inline void atom_store_release_u32(atom_u32 *a, uint32_t value) {
  world_atom();
  *a = value;
}
static inline uint32_t atom_exchange_acq_rel_u32(atom_u32 *a, uint32_t value) {
  world_atom();
  uint32_t old = *a;
  *a = value;
  return old;
}
static inline uint32_t atom_add_relaxed_u32(atom_u32 *a, uint32_t value) {
  uint32_t old = *a;
  *a += value;
  return old;
}
static inline uint32_t atom_sub_release_u32(atom_u32 *a, uint32_t value) {
  world_atom();
  uint32_t old = *a;
  *a -= value;
  return old;
}
static inline uint32_t atom_sub_acq_rel_u32(atom_u32 *a, uint32_t value) {
  return atom_sub_release_u32(a, value);
}

static inline uint64_t atom_load_relaxed_u64(const atom_u64 *a) { return *a; }
static inline void atom_store_relaxed_u64(atom_u64 *a, uint64_t value) { *a = value; }
static inline uint64_t atom_add_relaxed_u64(atom_u64 *a, uint64_t value) {
  uint64_t old = *a;
  *a += value;
  return old;
}

static inline void *atom_load_relaxed_ptr(const atom_ptr *a) { return *a; }
static inline void *atom_exchange_acquire_ptr(atom_ptr *a, void *value) {
  world_atom();
  void *old = *a;
  *a = value;
  return old;
}
static inline bool atom_cas_release_ptr(atom_ptr *a, void **expected, void *value) {
  world_atom();
  if (*a != *expected) {
    *expected = *a;
    return false;
  }
  *a = value;
  return true;
}

#endif
