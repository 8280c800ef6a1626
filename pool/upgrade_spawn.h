/*
 * upgrade_spawn: the child of an upgrade, from its start to its end.
 *
 * The process has a descriptor (pidfd), so its id cannot become that of another one.  A program may
 * wait for all its children: then only the exit status is lost.  The parent of a process can be
 * watched and killed in the same way: it has no status.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_SPAWN_H
#define POOL_UPGRADE_SPAWN_H

#include "pool/upgrade_image.h"

/* A status of a process that is no child, or that another part of the program has waited for. */
#define UPGRADE_UNKNOWN (-1)

/**
 * upgrade_spawn(image, channel, child):
 * Start the child ${*child}, which finds ${channel} open, with the signal mask of the calling
 * thread.
 * Return: its descriptor, or -1 with errno.  The descriptor becomes readable when the process ends.
 * Own: the descriptor is the caller's.  Call upgrade_reap until it returns true.
 */
int upgrade_spawn(struct upgrade_image *image, int channel, pid_t *child);

/** Return: a descriptor of the process ${pid}, or -1 with errno. Own: the caller's. */
int upgrade_watch(pid_t pid);

/** Send signal ${number} to the process ${fd}, if it has not ended. */
void upgrade_signal(int fd, int number);

/** The same for a signal that was sent to this process: it comes as SIGNALS_PASSED. */
void upgrade_pass(int fd, int number);

/** Has the process ${fd} ended? */
bool upgrade_ended(int fd);

/** Is the process ${fd} a child of this one that was not waited for? */
bool upgrade_is_child(int fd);

/** Close ${*fd} and set it to -1, if it is not. */
void upgrade_forget(int *fd);

/** Has the process ${fd} ended? Then ${*status} is that of waitpid; UPGRADE_UNKNOWN = unknown. */
bool upgrade_reap(int fd, int *status);

/**
 * The same, but the process stays a zombie.  When this process ends, too, the next parent gets the
 * status: a service manager, for which the child is the main process.
 */
bool upgrade_peek(int fd, int *status);

#endif
