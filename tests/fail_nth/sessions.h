/*
 * sessions: the scenarios that are repeated: a server from its first call to its last, with
 * clients.
 */
#ifndef TESTS_FAIL_NTH_SESSIONS_H
#define TESTS_FAIL_NTH_SESSIONS_H

#include "tests/fail_nth/calls.h"

#include <stdbool.h>
#include <stdio.h>

struct session {
  const char *name;
  void *(*main)(void *argument); /* the first thread */
  bool tcp;                      /* over TCP: in_flight has to wait for the kernel */
  bool one_by_one;               /* a connection is served while the others wait */
  bool no_file;                  /* there is no UNIX listener */
};

extern const struct session sessions[];
extern const unsigned sessions_count;

/** The path of the socket file, and a stale one of a server that was killed. */
const char *sessions_path(void);
void sessions_set_folder(const char *folder);
void sessions_leave_stale_file(void);

/** A stream that discards what is written to it. */
FILE *sessions_nowhere(void);

/** Did the server start in this run? */
bool sessions_started(void);
void sessions_set_started(bool started);

/**
 * The start was refused with ${error}: does that fit the order?  A call that the server can do
 * without must not make the start fail.
 */
void sessions_check_refusal(int error);

/** Does ${call} check for a stale socket file?  The server leaves a file that it cannot check. */
bool sessions_looks_for_stale(enum nth_call call);

/** Start the clients of library.c's handler. */
void library_start_clients(bool tcp);

void *library_main(void *argument);
void *library_tcp_main(void *argument);
void *greet_main(void *argument);
void *greet_admin_main(void *argument);
void *greet_thread_main(void *argument);
void *greet_iterative_main(void *argument);
void *passed_main(void *argument);

#endif
