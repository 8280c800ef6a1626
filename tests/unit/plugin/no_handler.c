/* no_handler: an entry that returns NULL. */
#include "core/xchg.h"

const struct xchg_handler *xchg_plugin_0(void);

const struct xchg_handler *xchg_plugin_0(void) { return NULL; }
