/*
 * upgrade_spawn: the new process of an upgrade, from its program and its environment to its end.
 *
 * The program is the file at the path of this process's own program, opened once.  The arguments
 * and the environment are those of this process; a request replaces all variables whose names begin
 * with XCHG_.
 *
 * The process has a descriptor (pidfd), so its id cannot become that of another one.  A program may
 * wait for all its children: then only the exit status is lost.
 *
 * Thread: main.  Main must be outside of the sandbox, because the sandbox forbids to execute
 * programs.
 */
#ifndef POOL_UPGRADE_SPAWN_H
#define POOL_UPGRADE_SPAWN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The variable that names the descriptor of the channel in the new process. */
#define UPGRADE_CHANNEL_NAME "XCHG_UPGRADE_CHANNEL"

/* A status of a process that another part of the program has waited for. */
#define UPGRADE_UNKNOWN (-1)

struct upgrade_program {
  char path[PATH_MAX]; /* "" = unknown */
};

/** Find the path of this process's program, before another file can take its name. */
void upgrade_program_find(struct upgrade_program *program);

struct upgrade_spawn_setup {
  const struct upgrade_program *program;
  const char *const *environment;
  const char *const *request; /* all XCHG_ variables as NAME=value, then NULL; NULL = keep */
  bool passed;                /* LISTEN_FDS passed sockets to this process: LISTEN_PID names it */
  int channel;                /* borrows: stays open in the new process */
};

/**
 * upgrade_spawn(setup, child):
 * Start the new process ${*child}, with the signal mask of the calling thread.
 * Return: its descriptor, or -1 with errno.  The descriptor becomes readable when the process ends.
 * Own: the descriptor is the caller's.  Call upgrade_reap until it returns true.
 */
int upgrade_spawn(const struct upgrade_spawn_setup *setup, pid_t *child);

/** Kill the process ${fd}, if it has not ended. */
void upgrade_kill(int fd);

/** Close ${*fd} and set it to -1, if it is not. */
void upgrade_forget(int *fd);

/** Has the process ${fd} ended? Then ${*status} is that of waitpid; UPGRADE_UNKNOWN = unknown. */
bool upgrade_reap(int fd, int *status);

/**
 * Take ${environment} without UPGRADE_CHANNEL_NAME into ${*list}, to be freed.
 * Return: the descriptor that it names; -1 = none, or ENOMEM in errno.
 */
int upgrade_spawned(const char *const *environment, const char ***list);

#endif
