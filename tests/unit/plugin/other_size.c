/* other_size: a handler of the size that a smaller xchg.h declares. */
#include "core/xchg.h"

static const struct xchg_handler handler = {.size = sizeof(handler) - 8};

XCHG_PLUGIN(handler)
