/*
 * other_size: a handler as a smaller xchg.h would declare it.
 */
#include "core/xchg.h"

static const struct xchg_handler handler = {.size = sizeof(handler) - 8};

XCHG_PLUGIN(handler)
