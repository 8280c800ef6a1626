/*
 * upgrade_image: what an upgrade executes: a program, its arguments and its environment.
 *
 * The program is the file at the path of this process's own program, opened once.  So the child and
 * its parent, which executes it later, run the same file.  Plug-ins and shared libraries are not a
 * part of the image: each process opens them at their paths.  The arguments and the environment are
 * those of this process; a request replaces all variables whose names begin with XCHG_.
 *
 * XCHG_UPGRADE_CHANNEL names the channel in the new program, and the path:
 *
 *   7,0,/usr/bin/xchgd        its descriptor is 7; the parent is at the other end, and serves
 *   7,1234,/usr/bin/xchgd     the child 1234 is at the other end, and serves
 *
 * /proc/self/exe would not do for the path: another file may have taken the name meanwhile.
 *
 * Thread: main.  Main must be outside of the sandbox, because the sandbox forbids to execute
 * programs.
 */
#ifndef POOL_UPGRADE_IMAGE_H
#define POOL_UPGRADE_IMAGE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define UPGRADE_CHANNEL_NAME "XCHG_UPGRADE_CHANNEL"

struct upgrade_program {
  char path[PATH_MAX]; /* "" = unknown */
};

/** The path is ${inherited}.  NULL = find that of this process's program, before it is replaced. */
void upgrade_program_find(struct upgrade_program *program, const char *inherited);

struct upgrade_image_setup {
  const struct upgrade_program *program;
  const char *const *environment;
  const char *const *request; /* all XCHG_ variables as NAME=value, then NULL; NULL = keep */
  bool passed;                /* LISTEN_FDS passed sockets to this process: LISTEN_PID names it */
};

/* Texts as execve takes them. */
struct upgrade_texts {
  char **list; /* owns, NULL at the end */
  char *bytes; /* owns: the texts */
};

struct upgrade_image {
  int binary;       /* owns; -1 = closed */
  const char *path; /* borrows, of the program */
  struct upgrade_texts arguments;
  struct upgrade_texts environment;                           /* its last text is ${channel} */
  char channel[sizeof(UPGRADE_CHANNEL_NAME) + 32 + PATH_MAX]; /* so the struct stays at its place */
};

/** Open the image of ${setup}, and copy what it needs. Return: 0, or -1 with errno. */
int upgrade_image_open(struct upgrade_image *image, const struct upgrade_image_setup *setup);

/** Free ${image}. It can be closed again. */
void upgrade_image_close(struct upgrade_image *image);

/** The program will find the channel at the descriptor ${fd}; ${child} = 0: it is the child. */
void upgrade_image_set_channel(struct upgrade_image *image, int fd, pid_t child);

/**
 * upgrade_image_execute(image, channel):
 * Execute the program in this process, with the descriptor ${channel} open.  Only system calls: a
 * child that shares the memory of its parent may call it.  It returns on failure, with errno, and
 * ${channel} closes on execve again.  A child that another thread starts meanwhile may get it.
 */
void upgrade_image_execute(const struct upgrade_image *image, int channel);

/* What UPGRADE_CHANNEL_NAME says. */
struct upgrade_inherited {
  int channel;
  pid_t child;      /* 0 = the process at the other end is the parent */
  const char *path; /* borrows, from the environment */
};

/**
 * upgrade_inherited_find(inherited, environment, list):
 * Take ${environment} without UPGRADE_CHANNEL_NAME into ${*list}, to be freed.
 * Return: 0; or -1: there is no valid text, or ENOMEM in errno.
 */
int upgrade_inherited_find(struct upgrade_inherited *inherited, const char *const *environment,
                           const char ***list);

#endif
