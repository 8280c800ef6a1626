/* conn_batch: see conn_batch.h. */
#include "pool/conn_batch.h"

#include "core/sys.h"

#include <stdlib.h>
#include <sys/mman.h>

struct conn_batch *conn_batch_create(struct wake *wake) {
  struct conn_batch *batch = malloc(sizeof(*batch));
  void *arena = sys_map(CONN_RECORD_MAX);
  if (batch == NULL || arena == MAP_FAILED) {
    free(batch);
    if (arena != MAP_FAILED) {
      (void)sys_unmap(arena, CONN_RECORD_MAX); /* a failure leaks it */
    }
    return NULL;
  }
  batch->wake = wake;
  batch->arena = arena;
  batch->room = CONN_RECORD_MAX;
  batch->cursor = 0;
  batch->over = false;
  conn_batch_clear(batch);
  atom_store_relaxed_u32(&batch->answered, 1);
  return batch;
}

void conn_batch_destroy(struct conn_batch *batch) {
  if (batch != NULL) {
    (void)sys_unmap(batch->arena, CONN_RECORD_MAX); /* a failure leaks it */
    free(batch);
  }
}

/* ---- on the worker's thread ---- */

/* Pack the connection in ${slot}, if there is one that moves. Return: false if ${batch} is full. */
static bool pack_slot(struct conn_batch *batch, struct conn_ctx *ctx, uint32_t slot) {
  struct source *source = slab_at(ctx->reactor->slab, slot);
  if (!source_is_live(ctx->reactor, source)) {
    return true;
  }
  struct xchg_conn *conn = conn_of(source);
  if (conn->state == CONN_CLOSED) {
    return true; /* the kernel could not register it: its next turn ends it */
  }
  enum conn_stays stays = conn_stays(conn);
  size_t room = conn_record_room(conn);
  if (stays == CONN_MOVES && room > batch->room) {
    stays = CONN_STAYS_LARGE;
  }
  if (stays != CONN_MOVES) {
    batch->stays[stays]++;
    return true;
  }
  if (room > batch->room - batch->used) {
    return false;
  }
  size_t size = conn_pack(conn, batch->arena + batch->used);
  if (size == 0) {
    batch->stays[CONN_STAYS_HANDLER]++;
    return true;
  }
  struct conn_batch_item *item = &batch->items[batch->count++];
  *item = (struct conn_batch_item){.conn = conn, .size = size};
  item->record.owned = (struct conn_owned){.fd = conn->fd, .ip_slot = conn_peer(conn)->ip_slot};
  batch->used += size;
  return true;
}

static void pack(struct conn_batch *batch, struct conn_ctx *ctx) {
  while (batch->count < batch->want && batch->used < CONN_BATCH_FULL) {
    uint32_t slot = slab_next(ctx->reactor->slab, batch->cursor);
    if (slot == SLAB_NONE) {
      batch->over = true;
      return;
    }
    if (!pack_slot(batch, ctx, slot)) {
      return;
    }
    batch->cursor = slot + 1;
  }
}

static void unpack(struct conn_batch *batch, struct conn_ctx *ctx) {
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    item->conn = item->wanted ? conn_unpack(ctx, &item->record) : NULL;
  }
}

static void settle(struct conn_batch *batch, struct conn_ctx *ctx) {
  (void)ctx; /* each connection knows it */
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    if (item->conn != NULL && item->gone) {
      item->record.owned = conn_gone(item->conn);
    } else if (item->conn != NULL) {
      conn_resume(item->conn);
    }
    item->conn = NULL;
  }
}

static void suspend(struct conn_batch *batch, struct conn_ctx *ctx) {
  batch->waiting = conn_suspend(ctx);
  batch->steps = atom_load_relaxed_u64(&ctx->steps);
}

void conn_batch_run(struct task *task, struct conn_ctx *ctx) {
  struct conn_batch *batch = container_of(task, struct conn_batch, task);
  struct wake *wake = batch->wake;
  batch->run(batch, ctx);
  atom_store_release_u32(&batch->answered, 1); /* pairs with conn_batch_answered */
  wake_signal(wake);
}

/* ---- on the sender's thread ---- */

void conn_batch_send(struct conn_batch *batch, struct inbox *inbox, enum conn_batch_what what) {
  static void (*const runs[])(struct conn_batch *, struct conn_ctx *) = {pack, unpack, settle,
                                                                         suspend};
  batch->run = runs[what];
  batch->task = (struct task){.kind = TASK_BATCH};
  atom_store_relaxed_u32(&batch->answered, 0); /* the inbox publishes it */
  inbox_push_mpsc(inbox, &batch->task);
}
