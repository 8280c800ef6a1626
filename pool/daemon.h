/*
 * daemon: a server as a whole program: environment in, exit code out.
 *
 * xchg_main of core/xchg.h is this with a program's handler, xchgd is this with the built-in
 * exchanges or a plug-in.
 */
#ifndef POOL_DAEMON_H
#define POOL_DAEMON_H

#include "core/xchg.h"

/**
 * daemon_main(handler, argc, argv): as xchg_main; without ${handler}, that of XCHG_HANDLER, or else
 * the exchange that XCHG_EXCHANGE and the others describe.
 */
int daemon_main(const struct xchg_handler *handler, int argc, char **argv);

#endif
