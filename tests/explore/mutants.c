/*
 * mutants: see mutants.h.
 *
 * An exchange whose result is used becomes a plain load, and one whose result is not used a plain
 * store.  Both keep acquire or release: so the mutant shows that the read-modify-write is needed,
 * not only its order.
 */
#include "tests/explore/mutants.h"

#include "core/base.h"
#include "tests/explore/memory.h"
#include "tests/explore/seam.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* One way to weaken an operation. */
struct weakening {
  enum site_kind of, now;
  bool from_acquire, from_release; /* required of the site */
  bool acquire, release;
  const char *name;
};

/* Mutants that do no harm, with the reason. */
struct harmless {
  const char *name, *argument;
};

/*
 * A mistake in the protocol: a change at all sites in ${function} (NULL: any) that access
 * ${place}.
 */
struct mistake {
  const char *name;
  const char *function, *place;
  enum site_kind of;
  struct weakening to;
  const char *also; /* also all sites in this function; NULL = none */
};

static const struct weakening weakenings[] = {
    {SITE_LOAD, SITE_LOAD, true, false, false, false, "relaxed"},
    {SITE_STORE, SITE_STORE, false, true, false, false, "relaxed"},
    {SITE_CAS, SITE_CAS, false, true, false, false, "relaxed"},
    {SITE_CAS, SITE_LOAD_STORE, false, true, true, true, "load, then store"},
    {SITE_EXCHANGE, SITE_EXCHANGE, true, false, false, false, "relaxed"},
    {SITE_EXCHANGE, SITE_EXCHANGE, true, true, true, false, "acquire only"},
    {SITE_EXCHANGE, SITE_EXCHANGE, true, true, false, true, "release only"},
    {SITE_EXCHANGE, SITE_LOAD_STORE, true, false, true, true, "load, then store"},
    {SITE_EXCHANGE, SITE_LOAD, true, false, true, false, "plain load"},
    {SITE_EXCHANGE, SITE_STORE, true, true, false, true, "plain store"},
};

#define NOTHING_OF_THE_OWNER \
  "a sender reads nothing that the owner wrote, and passes the release sequence on"
#define NOTHING_FROM_THE_OWNER "an owner publishes nothing by this flag"
#define AWAKE                                                                             \
  "the owner is awake, passes the release sequence on, and learns all of it by its next " \
  "announcement, before it sleeps"

static const struct harmless harmless[] = {
    {"sleep_flag_clear: exchange_acq_rel(&flag->waits, 0) of sleeping -> release only",
     NOTHING_OF_THE_OWNER},
    {"sleep_flag_prepare: exchange_acq_rel(&flag->waits, 1) of sleeping -> acquire only",
     NOTHING_FROM_THE_OWNER},
    {"sleep_flag_cancel: exchange_acq_rel(&flag->waits, 0) of sleeping -> relaxed", AWAKE},
    {"sleep_flag_cancel: exchange_acq_rel(&flag->waits, 0) of sleeping -> acquire only", AWAKE},
    {"sleep_flag_cancel: exchange_acq_rel(&flag->waits, 0) of sleeping -> release only", AWAKE},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of sleeping -> relaxed", AWAKE},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of sleeping -> acquire only", AWAKE},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of sleeping -> release only", AWAKE},
    {"sleep_flag_clear: exchange_acq_rel(&flag->waits, 0) of acceptor_waits -> release only",
     NOTHING_OF_THE_OWNER},
    {"sleep_flag_prepare: exchange_acq_rel(&flag->waits, 1) of acceptor_waits -> acquire only",
     NOTHING_FROM_THE_OWNER},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of acceptor_waits -> relaxed", AWAKE},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of acceptor_waits -> acquire only",
     AWAKE},
    {"sleep_flag_finish: exchange_acq_rel(&flag->waits, 0) of acceptor_waits -> release only",
     AWAKE},
    {"the kernel's write and wait order nothing",
     "the woken owner announces its next sleep by an exchange, and checks after that"},
};

static const struct mistake mistakes[] = {
    {"the fully relaxed protocol: every exchange of sleeping",
     NULL,
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_EXCHANGE},
     NULL},
    {"every exchange of sleeping acquire only",
     NULL,
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_EXCHANGE, .acquire = true},
     NULL},
    {"every exchange of sleeping release only",
     NULL,
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_EXCHANGE, .release = true},
     NULL},
    {"every exchange of acceptor_waits relaxed",
     NULL,
     "acceptor_waits",
     SITE_EXCHANGE,
     {.now = SITE_EXCHANGE},
     NULL},
    {"the re-check of the ring and the tasks is left out",
     "ring_empty_consumer",
     "tail",
     SITE_LOAD,
     {.now = SITE_BLIND},
     "inbox_empty"},
    {"the re-check of the ring is left out",
     "ring_empty_consumer",
     "tail",
     SITE_LOAD,
     {.now = SITE_BLIND},
     NULL},
    {"the re-check of the tasks is left out",
     "inbox_empty",
     "tasks",
     SITE_LOAD,
     {.now = SITE_BLIND},
     NULL},
    {"the re-check for room is left out",
     "ring_count_producer",
     "head",
     SITE_LOAD,
     {.now = SITE_BLIND},
     NULL},
    {"the check for a sleeper is skipped within a burst",
     "sleep_flag_clear",
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_FIRST_ONLY, .acquire = true, .release = true},
     NULL},
    {"no sender checks for a sleeper",
     "sleep_flag_clear",
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_SKIPPED},
     NULL},
    {"no worker checks for an acceptor that waits for room",
     "sleep_flag_clear",
     "acceptor_waits",
     SITE_EXCHANGE,
     {.now = SITE_SKIPPED},
     NULL},
    {"the sleep is not announced",
     "sleep_flag_prepare",
     "sleeping",
     SITE_EXCHANGE,
     {.now = SITE_SKIPPED},
     NULL},
    {"the wait for room is not announced",
     "sleep_flag_prepare",
     "acceptor_waits",
     SITE_EXCHANGE,
     {.now = SITE_SKIPPED},
     NULL},
};

/* Is the result of its exchange used? */
static bool result_used(const struct site *site) {
  static const char *const unused[] = {"sleep_flag_prepare", "sleep_flag_cancel",
                                       "sleep_flag_finish"};
  for (size_t i = 0; i < count_of(unused); i++) {
    if (strcmp(site->function, unused[i]) == 0) {
      return false;
    }
  }
  return true;
}

static bool weakens(const struct weakening *weakening, const struct site *site) {
  bool suits = weakening->of == site->kind && site->acquire >= weakening->from_acquire &&
               site->release >= weakening->from_release;
  if (weakening->of == SITE_EXCHANGE && weakening->now == SITE_LOAD) {
    return suits && result_used(site);
  }
  if (weakening->of == SITE_EXCHANGE && weakening->now == SITE_STORE) {
    return suits && !result_used(site);
  }
  return suits;
}

/* ---- making mutants ---- */

static void change(struct mutant *mutant, struct site *site, const struct weakening *to) {
  assert(mutant->changes_count < MUTANT_CHANGES_MAX);
  mutant->changes[mutant->changes_count++] = (struct mutant_change){
      .site = site, .now = to->now, .acquire = to->acquire, .release = to->release};
}

static size_t make_weakened(struct mutant mutants[MUTANTS_MAX], struct site *site) {
  size_t count = 0;
  for (size_t i = 0; i < count_of(weakenings); i++) {
    if (weakens(&weakenings[i], site)) {
      struct mutant *mutant = &mutants[count++];
      change(mutant, site, &weakenings[i]);
      snprintf(mutant->name, sizeof(mutant->name), "%s: %s(%s) of %s -> %s", site->function,
               site->operation, site->object, site->place, weakenings[i].name);
    }
  }
  return count;
}

static bool concerns(const struct site *site, const char *function, const char *place) {
  return (function == NULL || strcmp(site->function, function) == 0) &&
         strcmp(site->place, place) == 0;
}

static void make_mistake(struct mutant *mutant, const struct mistake *mistake, struct site **sites,
                         unsigned count) {
  snprintf(mutant->name, sizeof(mutant->name), "%s", mistake->name);
  for (unsigned i = 0; i < count; i++) {
    bool also = mistake->also != NULL && strcmp(sites[i]->function, mistake->also) == 0;
    if (sites[i]->kind == mistake->of &&
        (also || concerns(sites[i], mistake->function, mistake->place))) {
      change(mutant, sites[i], &mistake->to);
    }
  }
}

static const char *argument_of(const char *name) {
  for (size_t i = 0; i < count_of(harmless); i++) {
    if (strcmp(harmless[i].name, name) == 0) {
      return harmless[i].argument;
    }
  }
  return NULL;
}

size_t mutants_make(struct mutant mutants[MUTANTS_MAX]) {
  struct site **sites;
  unsigned sites_count = seam_sites(&sites);
  size_t count = 0;
  memset(mutants, 0, MUTANTS_MAX * sizeof(mutants[0]));
  for (unsigned i = 0; i < sites_count; i++) {
    assert(count + count_of(weakenings) < MUTANTS_MAX);
    if (strncmp(sites[i]->object, "&shared.", 8) == 0) {
      continue; /* the explorer's own */
    }
    count += make_weakened(&mutants[count], sites[i]);
  }
  for (size_t i = 0; i < count_of(mistakes); i++) {
    assert(count < MUTANTS_MAX);
    make_mistake(&mutants[count++], &mistakes[i], sites, sites_count);
  }
  mutants[count].kernel_unordered = true;
  snprintf(mutants[count].name, sizeof(mutants[count].name),
           "the kernel's write and wait order nothing");
  count++;
  size_t arguments = 0;
  for (size_t i = 0; i < count; i++) {
    mutants[i].argument = argument_of(mutants[i].name);
    arguments += mutants[i].argument != NULL;
  }
  assert(arguments == count_of(harmless)); /* every entry of harmless names a mutant */
  return count;
}

/* ---- applying mutants ---- */

void mutant_apply(const struct mutant *mutant) {
  bool swapped = true;
  seam_restore();
  memory_kernel_orders(mutant == NULL || !mutant->kernel_unordered);
  for (size_t i = 0; mutant != NULL && i < mutant->changes_count; i++) {
    const struct mutant_change *to = &mutant->changes[i];
    to->site->now = to->now;
    to->site->acquire_now = to->acquire;
    to->site->release_now = to->release;
    swapped =
        swapped && to->now != SITE_LOAD && to->now != SITE_STORE && to->now != SITE_LOAD_STORE;
  }
  memory_swapped(swapped);
}

uint64_t mutant_scenarios(const struct mutant *mutant) {
  uint64_t reached = mutant->kernel_unordered ? UINT64_MAX : 0;
  for (size_t i = 0; i < mutant->changes_count; i++) {
    reached |= mutant->changes[i].site->reached;
  }
  return reached;
}
