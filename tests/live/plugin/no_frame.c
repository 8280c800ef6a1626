/*
 * no_frame: a plug-in with an invalid frame: messages of no bytes.
 */
#include "core/xchg.h"

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_FIXED}};

XCHG_PLUGIN(handler)
