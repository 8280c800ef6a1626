/*
 * daemon: a server as a whole program, from its environment to its exit code.
 *
 * xchg_main of core/xchg.h runs it with a program's handler, xchgd with the built-in exchanges or a
 * plug-in.
 */
#ifndef POOL_DAEMON_H
#define POOL_DAEMON_H

#include "core/xchg.h"

/**
 * daemon_main(handler, argc, argv): as xchg_main.  If ${handler} is NULL, it takes the plug-in of
 * XCHG_HANDLER, or else the built-in exchange that the configuration describes.
 */
int daemon_main(const struct xchg_handler *handler, int argc, char **argv);

#endif
