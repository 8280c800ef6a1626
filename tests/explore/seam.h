/*
 * seam: the call sites of atomic operations, for whoever makes mutants of them.
 */
#ifndef TESTS_EXPLORE_SEAM_H
#define TESTS_EXPLORE_SEAM_H

#include "tests/explore/atom.h"

/** All sites that threads have reached so far, at places. Return: how many. */
unsigned seam_sites(struct site ***sites);
/** All do again what they say. */
void seam_restore(void);
/** Whatever is reached from now on is reached in scenario ${bit}. */
void seam_scenario(uint64_t bit);
/** The first thread begins a burst: see SITE_FIRST_ONLY. */
void seam_burst(void);

#endif
