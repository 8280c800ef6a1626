/* seam: the call sites of atomic operations, which mutants change. */
#ifndef TESTS_EXPLORE_SEAM_H
#define TESTS_EXPLORE_SEAM_H

#include "tests/explore/atom.h"

/** All sites of places that threads have reached so far. Return: how many. */
unsigned seam_sites(struct site ***sites);
/** Restore the operations of all sites. */
void seam_restore(void);
/** Sites reached from now on are reached in scenario ${bit}. */
void seam_scenario(uint64_t bit);
/** The first thread begins a burst: see SITE_FIRST_ONLY. */
void seam_burst(void);

#endif
