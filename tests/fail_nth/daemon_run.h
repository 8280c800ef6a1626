/*
 * daemon_run: the daemon itself (daemon_main: what xchgd is), from its start to its exit code.
 */
#ifndef TESTS_FAIL_NTH_DAEMON_RUN_H
#define TESTS_FAIL_NTH_DAEMON_RUN_H

#include <stddef.h>

/**
 * daemon_run(entries, count, start_clients):
 * Run it with ${count} environment ${entries}; let clients come when it listens, ask it for its
 * statistics and stop it when they have gone.  Exit code and totals are checked.
 */
void daemon_run(const char *const *entries, size_t count, void (*start_clients)(void));

#endif
