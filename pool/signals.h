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
  int fd;                /* owns: the signalfd; -1 = closed */
  int stop;              /* the last stop signal that was noted; 0 = none */
  int last_sent;         /* the last one that was sent to this process */
  uint64_t stop_ns;      /* when that was read */
  uint32_t sent, passed; /* how many came each way */
  bool reaps;            /* the program has no children of its own: signals_reap_children */
};

/* The value of a signal that the parent passes on, as of sigqueue(3). */
#define SIGNALS_PASSED_VALUE 0x78636867

/* How a stop signal comes to this process. */
enum signals_way {
  SIGNALS_SENT,
  SIGNALS_PASSED, /* by the old process of an upgrade, or by the parent */
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
void signals_reap_children(struct signals *signals);

/**
 * signals_keep_children(before): from now on children stay until they are waited for.  A function
 * of the program for SIGCHLD stays.
 * signals_restore_children(before): restore what was before.
 */
void signals_keep_children(struct sigaction *before);
void signals_restore_children(const struct sigaction *before);

/**
 * signals_note(signals, number, way):
 * Note the stop signal ${number}.  A manager or a terminal signals both processes of an upgrade,
 * and the old one passes its signal on.  So the nth that is sent and the nth that is passed are
 * one, whatever the time between them. A repetition of a sent one within 100 ms does not count:
 * timeout(1), for example, signals a program and then its process group.
 * Return: SIGNALS_STOP; or SIGNALS_NONE if it is known already.
 */
enum signals_what signals_note(struct signals *signals, int number, enum signals_way way);

/** The next signal, or SIGNALS_NONE. A stop signal has been noted. Never waits. */
enum signals_what signals_next(struct signals *signals);

#endif
