/* daemon_run: runs the daemon (daemon_main, as xchgd does) from its start to its exit code. */
#ifndef TESTS_FAIL_NTH_DAEMON_RUN_H
#define TESTS_FAIL_NTH_DAEMON_RUN_H

#include <stddef.h>

/**
 * daemon_run(entries, count, start_clients):
 * Run the daemon with ${count} environment ${entries}.  Start the clients once it listens, ask it
 * for its statistics, and stop it when the clients have gone.  Exit code and totals are checked.
 */
void daemon_run(const char *const *entries, size_t count, void (*start_clients)(void));

#endif
