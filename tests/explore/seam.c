/*
 * seam: the bodies of atom.h: a step of the thread, then the operation on the place in memory.h.
 *
 * A site is identified by function, operation, object and the name of its place.  Mutants change
 * the current operation of the first site of a name.  So each change is one line of the product, in
 * whatever file it was compiled, for one use of it: sleep_flag.h's lines are mutated once for the
 * inbox and once for admission.
 */
#include "tests/explore/seam.h"

#include "tests/explore/explore.h"
#include "tests/explore/memory.h"

#include <assert.h>
#include <string.h>

#define SITES_MAX 64

static struct {
  struct site *sites[SITES_MAX];
  unsigned count;
  uint64_t scenario; /* a bit */
  bool in_burst;     /* SITE_FIRST_ONLY: the first time has passed */
} seam;

void seam_scenario(uint64_t bit) { seam.scenario = bit; }

void seam_burst(void) { seam.in_burst = false; }

static void restore(struct site *site) {
  site->now = site->kind;
  site->acquire_now = site->acquire;
  site->release_now = site->release;
}

void seam_restore(void) {
  for (unsigned i = 0; i < seam.count; i++) {
    restore(seam.sites[i]);
  }
}

/* The first site of this name. */
static struct site *first_of(struct site *site) {
  for (unsigned i = 0; i < seam.count; i++) {
    const struct site *other = seam.sites[i];
    if (strcmp(other->function, site->function) == 0 &&
        strcmp(other->operation, site->operation) == 0 &&
        strcmp(other->object, site->object) == 0 && strcmp(other->place, site->place) == 0) {
      return seam.sites[i];
    }
  }
  assert(seam.count < SITES_MAX);
  restore(site);
  return seam.sites[seam.count++] = site;
}

static struct site *known(struct site *site, unsigned place) {
  if (site->known == NULL) {
    site->place = memory_name(place);
    site->known = first_of(site);
  }
  assert(strcmp(site->place, memory_name(place)) == 0);
  site->known->reached |= seam.scenario;
  return site->known;
}

unsigned seam_sites(struct site ***sites) {
  *sites = seam.sites;
  return seam.count;
}

static struct order order_of(const struct site *site) {
  return (struct order){.acquire = site->acquire_now, .release = site->release_now};
}

static void tell(const struct site *site, unsigned place, uint64_t value) {
  if (explore_trace() != NULL) {
    fprintf(explore_trace(), "  %-9s %s: %s(%s) %s = %llx\n", explore_name(explore_current()),
            site->function, site->operation, site->object, memory_name(place),
            (unsigned long long)value);
  }
}

/* Is it a later access in a burst of the first thread? */
static bool is_skipped(const struct site *site) {
  bool again = seam.in_burst;
  if (site->now != SITE_FIRST_ONLY || explore_current() != 0) {
    return false;
  }
  seam.in_burst = true;
  return again;
}

/* An operation of a site that reads, and may write ${value}. */
static uint64_t perform(struct site *site, unsigned place, uint64_t value) {
  uint64_t was = 0;
  switch (is_skipped(site) ? SITE_SKIPPED : site->now) {
    case SITE_LOAD:
      explore_step_read();
      was = memory_load(place, site->acquire_now);
      break;
    case SITE_BLIND:
      was = memory_last(place);
      break;
    case SITE_STORE:
      explore_step_write(memory_own(place));
      memory_store(place, value, site->release_now);
      break;
    case SITE_LOAD_STORE:
      explore_step_read();
      was = memory_load(place, site->acquire_now);
      explore_step_write(memory_own(place));
      memory_store(place, value, site->release_now);
      break;
    case SITE_SKIPPED:
      break;
    case SITE_FIRST_ONLY:
    default:
      explore_step_write(memory_own(place));
      was = memory_exchange(place, value, order_of(site));
      break;
  }
  tell(site, place, site->kind == SITE_STORE ? value : was);
  return was;
}

uint32_t seam_load_u32(struct site *site, const atom_u32 *a) {
  unsigned place = memory_find(a);
  return place == MEMORY_NOWHERE ? a->value : (uint32_t)perform(known(site, place), place, 0);
}

void seam_store_u32(struct site *site, atom_u32 *a, uint32_t value) {
  unsigned place = memory_find(a);
  if (place == MEMORY_NOWHERE) {
    a->value = value;
  } else {
    perform(known(site, place), place, value);
  }
}

uint32_t seam_exchange_u32(struct site *site, atom_u32 *a, uint32_t value) {
  unsigned place = memory_find(a);
  uint32_t was = a->value;
  if (place == MEMORY_NOWHERE) {
    a->value = value;
    return was;
  }
  return (uint32_t)perform(known(site, place), place, value);
}

uint32_t seam_add_u32(atom_u32 *a, uint32_t value) {
  assert(memory_find(a) == MEMORY_NOWHERE);
  a->value += value;
  return a->value - value;
}

void *seam_load_ptr(struct site *site, const atom_ptr *a) {
  unsigned place = memory_find(a);
  return place == MEMORY_NOWHERE ? a->value
                                 : (void *)(uintptr_t)perform(known(site, place), place, 0);
}

void *seam_exchange_ptr(struct site *site, atom_ptr *a, void *value) {
  unsigned place = memory_find(a);
  void *was = a->value;
  if (place == MEMORY_NOWHERE) {
    a->value = value;
    return was;
  }
  return (void *)(uintptr_t)perform(known(site, place), place, (uintptr_t)value);
}

bool seam_cas_ptr(struct site *site, atom_ptr *a, void **expected, void *value) {
  unsigned place = memory_find(a);
  uint64_t wanted = (uintptr_t)*expected;
  if (place == MEMORY_NOWHERE) {
    bool same = a->value == *expected;
    *expected = a->value;
    a->value = same ? value : a->value;
    return same;
  }
  struct site *here = known(site, place);
  if (here->now == SITE_LOAD_STORE) {
    explore_step_read();
    wanted = memory_load(place, here->acquire_now);
    if (wanted == (uintptr_t)*expected) {
      explore_step_write(memory_own(place));
      memory_store(place, (uintptr_t)value, here->release_now);
      return true;
    }
  } else {
    explore_step_write(memory_own(place));
    bool done = memory_cas(place, &wanted, (uintptr_t)value, order_of(here));
    tell(here, place, done);
    if (done) {
      return true;
    }
  }
  *expected = (void *)(uintptr_t)wanted;
  return false;
}
