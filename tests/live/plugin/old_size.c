/*
 * old_size: a plug-in that was built against a smaller xchg.h.
 */
#include "core/xchg.h"

static const struct xchg_handler handler = {.size = sizeof(handler) - 16};

XCHG_PLUGIN(handler)
