/*
 * old_entry: a plug-in for an unknown version of the interface.
 */
#include "core/xchg.h"

XCHG_ENTRY const struct xchg_handler *xchg_plugin_of_old(void);

static const struct xchg_handler handler = {.size = sizeof(handler)};

const struct xchg_handler *xchg_plugin_of_old(void) { return &handler; }
