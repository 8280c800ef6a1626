/*
 * signals: blocks signals in all threads and reads them from a signalfd.
 *
 * Every signal that the program handles is blocked in every thread, and the main thread reads it
 * from the signalfd.  So no signal handler runs.
 */
#ifndef POOL_SIGNALS_H
#define POOL_SIGNALS_H

#include <signal.h>

enum signals_what {
  SIGNALS_NONE,  /* nothing that matters */
  SIGNALS_STOP,  /* SIGTERM, SIGINT, SIGQUIT */
  SIGNALS_STATS, /* SIGUSR1 */
  SIGNALS_CHILD, /* SIGCHLD */
};

/**
 * Block the signals above; ignore SIGHUP, SIGUSR2 and SIGPIPE.  Call it before the first thread
 * starts, because threads inherit the mask.
 * Return: the signalfd, which is the caller's, or -1 with errno.
 */
int signals_open(void);

/**
 * signals_block_all(before): block all signals from outside in the calling thread, and so in the
 * threads that it starts.  Signals that a thread causes itself, such as SIGSEGV, are not blocked.
 * For the library's threads: signals belong to the program.
 * signals_restore(before): restore the mask.
 */
void signals_block_all(sigset_t *before);
void signals_restore(const sigset_t *before);

/** The next signal from ${fd}, or SIGNALS_NONE. Never waits. */
enum signals_what signals_next(int fd);

#endif
