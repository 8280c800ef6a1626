/* conn_internal: see conn_internal.h. */
#include "net/conn_internal.h"

#include <assert.h>
#include <unistd.h>

#define EXIT_RETURNED 70 /* EX_SOFTWARE */

_Thread_local const char conn_thread_mark = 0;

void conn_forked(struct conn_ctx *ctx) {
  ctx->thread = NULL;
  if (ctx->current != NULL && ctx->current->state != CONN_CLOSED) {
    ctx->current->request = REQUEST_NONE;
    conn_request_close(ctx->current, XCHG_ERROR); /* so that its turn ends without output */
  }
}

void conn_end_child(void) { _exit(EXIT_RETURNED); }

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
    if (conn->cold->jobs != NULL) {
      ctx->end_jobs(conn);
    }
    group_leave_all(&ctx->groups, &conn->cold->memberships);
    buf_release(&ctx->bufs, &conn->cold->header);
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
