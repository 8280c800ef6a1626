/* conn_internal: see conn_internal.h. */
#include "net/conn_internal.h"

#include <assert.h>

_Thread_local const char conn_thread_mark = 0;

struct conn_cold *conn_cold(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  uint32_t slot;
  if (conn->cold != &ctx->no_cold) {
    return conn->cold;
  }
  struct conn_cold *cold = slab_alloc(&ctx->colds, &slot);
  if (cold != NULL) {
    *cold = ctx->no_cold;
    cold->slot = slot;
    conn->cold = cold;
  }
  return cold;
}

void conn_release_cold(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  if (conn->cold != &ctx->no_cold) {
    group_leave_all(&ctx->groups, &conn->cold->memberships);
    slab_free(&ctx->colds, conn->cold->slot);
    conn->cold = &ctx->no_cold;
  }
}

int conn_offload_begin(struct xchg_conn *conn) {
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL) {
    return -1;
  }
  cold->offloads++;
  conn->hold_reasons |= HOLD_OFFLOADS;
  return 0;
}

void conn_offload_end(struct xchg_conn *conn) {
  assert(conn->cold->offloads > 0);
  if (--conn->cold->offloads == 0) {
    conn->hold_reasons &= HOLD_ALL & ~HOLD_OFFLOADS;
  }
}
