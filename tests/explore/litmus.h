/*
 * litmus: the small programs by which memory models are compared, run by the explorer.
 *
 * For each the outcomes that release and acquire allow are known: the explorer must come to all of
 * them, and to no other.
 */
#ifndef TESTS_EXPLORE_LITMUS_H
#define TESTS_EXPLORE_LITMUS_H

#include "tests/explore/explore.h"

/** How many there are, and what the nth is called. */
unsigned litmus_count(void);
const char *litmus_name(unsigned n);
/** Run the nth; what is wrong with its outcomes stands in ${result}. */
void litmus_explore(unsigned n, struct explore_result *result);

#endif
