/*
 * atom: the operations of core/atom.h in the explorer.
 *
 * Each call site of an operation is a struct site, which names the site and its operation; memory.c
 * has the operation itself.  These are macros, because a site must know its caller: so a mutant can
 * change one line of the product without a copy of it.  The 64-bit counters order nothing and
 * decide nothing.  They are plain memory here, as is every 32-bit atomic that a scenario does not
 * declare a place.
 */
#ifndef TESTS_EXPLORE_ATOM_H
#define TESTS_EXPLORE_ATOM_H

#include <stdbool.h>
#include <stdint.h>

/* Structures, so that the product cannot access a value except by these functions. */
typedef struct {
  uint32_t value;
} atom_u32;
typedef struct {
  uint64_t value;
} atom_u64;
typedef struct {
  void *value;
} atom_ptr;

enum site_kind {
  SITE_LOAD,
  SITE_STORE,
  SITE_EXCHANGE,
  SITE_CAS,
  /* for mutants only */
  SITE_LOAD_STORE, /* a read-modify-write split into two */
  SITE_BLIND,      /* a load that returns what its thread knows already */
  SITE_SKIPPED,    /* no operation, 0 is returned */
  SITE_FIRST_ONLY, /* ... except for the first time in a burst */
};

struct site {
  const char *function, *operation, *object;
  enum site_kind kind;
  bool acquire, release;
  const char *place;  /* name of the place that it accesses */
  struct site *known; /* the first site of this name: a site in a header exists once per file */
  /* Of the first site: the scenarios (bits) that reached it, and its current operation. */
  uint64_t reached;
  enum site_kind now;
  bool acquire_now, release_now;
};

#define SITE(name, what, acquires, releases, on)     \
  __extension__({                                    \
    static struct site here = {.function = __func__, \
                               .operation = name,    \
                               .object = on,         \
                               .kind = what,         \
                               .acquire = acquires,  \
                               .release = releases}; \
    &here;                                           \
  })

uint32_t seam_load_u32(struct site *site, const atom_u32 *a);
void seam_store_u32(struct site *site, atom_u32 *a, uint32_t value);
uint32_t seam_exchange_u32(struct site *site, atom_u32 *a, uint32_t value);
uint32_t seam_add_u32(atom_u32 *a, uint32_t value);
void *seam_load_ptr(struct site *site, const atom_ptr *a);
void *seam_exchange_ptr(struct site *site, atom_ptr *a, void *value);
bool seam_cas_ptr(struct site *site, atom_ptr *a, void **expected, void *value);

#define atom_load_relaxed_u32(a) seam_load_u32(SITE("load_relaxed", SITE_LOAD, 0, 0, #a), a)
#define atom_load_acquire_u32(a) seam_load_u32(SITE("load_acquire", SITE_LOAD, 1, 0, #a), a)
#define atom_store_relaxed_u32(a, v) \
  seam_store_u32(SITE("store_relaxed", SITE_STORE, 0, 0, #a), a, v)
#define atom_store_release_u32(a, v) \
  seam_store_u32(SITE("store_release", SITE_STORE, 0, 1, #a), a, v)
#define atom_exchange_acq_rel_u32(a, v) \
  seam_exchange_u32(SITE("exchange_acq_rel", SITE_EXCHANGE, 1, 1, #a ", " #v), a, v)
/* Counters, not places: they are not mutated. */
#define atom_add_relaxed_u32(a, v) seam_add_u32(a, v)
#define atom_sub_release_u32(a, v) seam_add_u32(a, -(uint32_t)(v))
#define atom_sub_acq_rel_u32(a, v) seam_add_u32(a, -(uint32_t)(v))

#define atom_load_relaxed_ptr(a) seam_load_ptr(SITE("load_relaxed", SITE_LOAD, 0, 0, #a), a)
#define atom_exchange_acquire_ptr(a, v) \
  seam_exchange_ptr(SITE("exchange_acquire", SITE_EXCHANGE, 1, 0, #a), a, v)
#define atom_cas_release_ptr(a, expected, v) \
  seam_cas_ptr(SITE("cas_release", SITE_CAS, 0, 1, #a), a, expected, v)

static inline uint64_t atom_load_relaxed_u64(const atom_u64 *a) { return a->value; }
static inline void atom_store_relaxed_u64(atom_u64 *a, uint64_t value) { a->value = value; }
static inline uint64_t atom_add_relaxed_u64(atom_u64 *a, uint64_t value) {
  a->value += value;
  return a->value - value;
}

#endif
