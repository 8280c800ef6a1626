/*
 * signals: what the process is told from outside, as descriptors and words.
 *
 * All signals that mean something are blocked in every thread and read by main from a signalfd, so
 * that no handler runs anywhere.
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
 * Block and route the signals; ignore SIGHUP, SIGUSR2 and SIGPIPE. Before the first thread starts,
 * which inherits it.
 * Return: a descriptor that becomes readable (the caller's), or -1 with errno.
 */
int signals_open(void);

/**
 * signals_block_all(before): block in the calling thread, and so in those that it starts, all
 * signals that come from outside; what a thread does to itself (SIGSEGV and the like) still comes.
 * For the threads of a library, which are none of the program's signals' affair.
 * signals_restore(before): undo it.
 */
void signals_block_all(sigset_t *before);
void signals_restore(const sigset_t *before);

/** The next signal from ${fd}, if there is one. Never waits. */
enum signals_what signals_next(int fd);

#endif
