/*
 * confine: what a program gives up between its binds and its first thread, in the one right order.
 *
 *   addresses bound, descriptors open
 *     confine_begin   bounding set -> groups, gid, uid -> cores -> capabilities -> the sandbox's
 *                     rules; with a handler, its restriction: nothing of the handler runs before
 *     threads start   each enters the sandbox as its first act; on_start runs
 *     confine_main    main enters as the last thread, and msg=sandbox says what is in force
 *   msg=listening
 *
 * Under XCHG_SANDBOX=off only XCHG_USER applies.  Under a model other than pool, where threads and
 * processes start later, `auto` changes the user and gives up capabilities, and nothing else.
 *
 * Thread: main.
 */
#ifndef POOL_CONFINE_H
#define POOL_CONFINE_H

#include "pool/sandbox.h"

struct confine_setup {
  const struct config *config; /* its user has been found: privileges_find_user */
  const struct config_facts *facts;
  bool handler; /* a handler runs in this process */
  struct log *log;
};

/**
 * confine_begin(sandbox, setup):
 * Give up the user, the capabilities, and what ${sandbox} forbids before threads start. If the
 * kernel lacks a part, log one warning, or end the start if XCHG_SANDBOX requires that part.
 * Return: 0, or an exit code after a line in the log; call sandbox_fini in both cases.
 */
int confine_begin(struct sandbox *sandbox, const struct confine_setup *setup);

/**
 * All threads run: restrict main, close what ${sandbox} has opened, and log what is in force.
 * Return: 0, or an exit code after a line in the log.
 */
int confine_main(struct sandbox *sandbox, struct log *log);

#endif
