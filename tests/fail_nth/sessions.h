/*
 * sessions: what is run again and again: a server from its first call to its last, with clients.
 */
#ifndef TESTS_FAIL_NTH_SESSIONS_H
#define TESTS_FAIL_NTH_SESSIONS_H

#include "tests/fail_nth/calls.h"

#include <stdbool.h>
#include <stdio.h>

struct session {
  const char *name;
  void *(*main)(void *argument); /* the first fiber */
  bool tcp;                      /* the kernel takes its time */
  bool one_by_one;               /* who is served keeps the others waiting */
  bool no_file;                  /* there is no UNIX listener */
};

extern const struct session sessions[];
extern const unsigned sessions_count;

/** Where a session's socket file lies, and lay when its last server was killed. */
const char *sessions_path(void);
void sessions_set_folder(const char *folder);
void sessions_leave_stale_file(void);

/** A stream that forgets what is written to it. */
FILE *sessions_nowhere(void);

/** Did the server start in this run? */
bool sessions_started(void);
void sessions_set_started(bool started);

/**
 * The start was refused with ${error}: is that what the order said?  A start that may not fail on
 * that account is a fault.
 */
void sessions_check_refusal(int error);

/** Does ${call} look whether an old socket file is in the way?  What it cannot tell, it leaves. */
bool sessions_looks_for_stale(enum nth_call call);

/** Start the clients of library.c's handler. */
void library_start_clients(bool tcp);

void *library_main(void *argument);
void *library_tcp_main(void *argument);
void *greet_main(void *argument);
void *greet_thread_main(void *argument);
void *greet_iterative_main(void *argument);
void *passed_main(void *argument);

#endif
