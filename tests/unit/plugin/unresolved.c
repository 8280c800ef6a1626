/* unresolved: a plug-in that calls an undefined function, but only when a connection is open. */
#include "core/xchg.h"

void xchg_call_of_another_version(struct xchg_conn *conn);

static void on_open(struct xchg_conn *conn) { xchg_call_of_another_version(conn); }

static const struct xchg_handler handler = {.size = sizeof(handler), .on_open = on_open};

XCHG_PLUGIN(handler)
