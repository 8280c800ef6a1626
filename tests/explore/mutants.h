/*
 * mutants: deliberate errors, which the explorer must find.
 *
 * Each operation that orders something is weakened in every way, one call site at a time.  Then
 * come mistakes in the protocol.  A mutant that does no harm is listed with the reason, and must
 * not fail in any scenario.
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
/** Change the operations as ${mutant} says; NULL: restore those of the product. */
void mutant_apply(const struct mutant *mutant);
/** The scenarios (bits) that reach one of its changes. */
uint64_t mutant_scenarios(const struct mutant *mutant);

#endif
