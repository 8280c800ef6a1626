/*
 * mutants: what is done wrong on purpose, so that the explorer must find it.
 *
 * Each operation that orders something is weakened in every way, one call site at a time; then come
 * the mistakes of protocol.  Where a mutant does no harm this is said, with the reason, and must
 * prove true in every scenario.
 */
#ifndef TESTS_EXPLORE_MUTANTS_H
#define TESTS_EXPLORE_MUTANTS_H

#include "tests/explore/atom.h"

#include <stddef.h>

#define MUTANTS_MAX 96
#define MUTANT_CHANGES_MAX 24

struct mutant_change {
  struct site *site;
  enum site_kind now;
  bool acquire, release;
};

struct mutant {
  char name[160];
  const char *argument; /* NULL, or why it does no harm */
  struct mutant_change changes[MUTANT_CHANGES_MAX];
  size_t changes_count;
  bool kernel_unordered; /* the kernel's calls order nothing */
};

/** Make all mutants of the sites reached so far. Return: how many. */
size_t mutants_make(struct mutant mutants[MUTANTS_MAX]);
/** Do as ${mutant} says, or, NULL, as the product does. */
void mutant_apply(const struct mutant *mutant);
/** The scenarios (bits) which reach one of its changes. */
uint64_t mutant_scenarios(const struct mutant *mutant);

#endif
