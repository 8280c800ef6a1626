/*
 * no_entry: a shared object with the entry of another version of the interface.
 */
#include "core/xchg.h"

const struct xchg_handler *xchg_plugin_2(void);

static const struct xchg_handler handler = {.size = sizeof(handler)};

const struct xchg_handler *xchg_plugin_2(void) { return &handler; }
