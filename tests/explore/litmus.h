/*
 * litmus: the small programs that compare memory models, run by the explorer.
 *
 * The outcomes that release and acquire allow are known for each.  The explorer must find all of
 * them and no other.
 */
#ifndef TESTS_EXPLORE_LITMUS_H
#define TESTS_EXPLORE_LITMUS_H

#include "tests/explore/explore.h"

/** The number of programs, and the name of the nth. */
unsigned litmus_count(void);
const char *litmus_name(unsigned n);
/** Run the nth; ${result} tells if its outcomes are wrong. */
void litmus_explore(unsigned n, struct explore_result *result);

#endif
