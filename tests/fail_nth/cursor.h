/* cursor: which run comes next, so that a new child can continue after one that died. */
#ifndef TESTS_FAIL_NTH_CURSOR_H
#define TESTS_FAIL_NTH_CURSOR_H

#include "tests/fail_nth/ledger.h"

struct cursor {
  enum nth_call call;
  unsigned every;  /* one run in ${every} is made */
  unsigned series; /* session, mode and errno; see cursor.c */
  unsigned nth;
  size_t bytes;
};

/** Go to the first run of cursor->call. */
void cursor_begin(struct cursor *cursor);

/** The next run. Return: false after the last. */
bool cursor_spec(const struct cursor *cursor, struct spec *spec);

/** Skip the rest of its series. */
void cursor_skip(struct cursor *cursor);

/** The run has ended: did something fail, and how many calls of the kind were made? */
void cursor_advance(struct cursor *cursor, bool hit, unsigned count);

#endif
