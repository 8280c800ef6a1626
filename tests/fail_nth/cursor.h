/*
 * cursor: which run comes next, so that a child which dies can be followed by one that goes on.
 */
#ifndef TESTS_FAIL_NTH_CURSOR_H
#define TESTS_FAIL_NTH_CURSOR_H

#include "tests/fail_nth/ledger.h"

struct cursor {
  enum nth_call call;
  unsigned every;  /* of all runs, one in so many */
  unsigned series; /* session, mode and errno; see cursor.c */
  unsigned nth;
  size_t bytes;
};

/** To the first run of cursor->call. */
void cursor_begin(struct cursor *cursor);

/** The run that comes next. Return: false behind the last. */
bool cursor_spec(const struct cursor *cursor, struct spec *spec);

/** Leave out what is left of its series. */
void cursor_skip(struct cursor *cursor);

/** It is over: was something injected, and how many calls of the kind were there? */
void cursor_advance(struct cursor *cursor, bool hit, unsigned count);

#endif
