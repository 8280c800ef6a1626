/* Send a byte every ten seconds. */
#include <xchg.h>

#define PERIOD_NS UINT64_C(10000000000)

static void tick(struct xchg_conn *conn) {
  xchg_send(conn, ".", 1);
  xchg_timer(conn, PERIOD_NS);
}

static void begin(struct xchg_conn *conn) {
  xchg_timer(conn, PERIOD_NS);
}

const struct xchg_handler handler = {
    .size = sizeof(struct xchg_handler),
    .on_open = begin,
    .on_timer = tick,
};
