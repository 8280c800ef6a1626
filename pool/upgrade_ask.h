/*
 * upgrade_ask: xchgd --upgrade.  It asks the server at the socket of XCHG_UPGRADE to become one
 * with the variables of this environment, and waits for the outcome.
 */
#ifndef POOL_UPGRADE_ASK_H
#define POOL_UPGRADE_ASK_H

#include "core/config.h"

#include <stdio.h>

/**
 * upgrade_ask(config, environment, out, errors):
 * Ask. ${out} gets a line about the outcome: the variables that have changed, and the connections
 * that stay.  ${errors} gets the rest of a line about a failure, which its caller has begun.
 * Return: 0 or an exit code, see docs/upgrade.md.
 */
int upgrade_ask(const struct config *config, const char *const *environment, FILE *out,
                FILE *errors);

#endif
