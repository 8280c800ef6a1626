/*
 * signals: blocks signals in all threads and reads them from a signalfd.
 *
 * Every signal that the program handles is blocked in every thread, and the main thread reads it
 * from the signalfd.  So no signal handler runs.
 */
#ifndef POOL_SIGNALS_H
#define POOL_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct signals {
  int fd;           /* owns: the signalfd; -1 = closed */
  int stop;         /* the last signal that was SIGNALS_STOP; 0 = none */
  uint64_t stop_ns; /* when it was read */
};

enum signals_what {
  SIGNALS_NONE,    /* nothing that matters */
  SIGNALS_STOP,    /* SIGTERM, SIGINT, SIGQUIT */
  SIGNALS_STATS,   /* SIGUSR1 */
  SIGNALS_CHILD,   /* SIGCHLD */
  SIGNALS_UPGRADE, /* SIGUSR2, if it is not ignored */
};

/**
 * Block the signals above; ignore SIGHUP, SIGPIPE and, unless it ${upgrades}, SIGUSR2.  Call it
 * before the first thread starts, because threads inherit the mask.
 * Return: 0, or -1 with errno.
 */
int signals_open(struct signals *signals, bool upgrades);
void signals_close(struct signals *signals);

/**
 * signals_block_all(before): block all signals from outside in the calling thread, and so in the
 * threads that it starts.  Signals that a thread causes itself, such as SIGSEGV, are not blocked.
 * For the library's threads: signals belong to the program.
 * signals_restore(before): restore the mask.
 */
void signals_block_all(sigset_t *before);
void signals_restore(const sigset_t *before);

/**
 * Restore the mask, but discard one ${signum} that has come since for this thread, if the mask lets
 * it through.
 */
void signals_restore_without(const sigset_t *before, int signum);

/**
 * Let the kernel reap all children, those that have ended too.  For a program without children of
 * its own that gets those of others: as the first process of a container, or in place of a shell.
 */
void signals_reap_children(void);

/** From now on children stay until they are waited for, and SIGCHLD is SIGNALS_CHILD. */
void signals_keep_children(void);

/**
 * The next signal, or SIGNALS_NONE.  A repetition of the same stop signal within 100 ms is
 * SIGNALS_NONE: timeout(1), for example, signals a program and then its process group.  Never
 * waits.
 */
enum signals_what signals_next(struct signals *signals);

#endif
