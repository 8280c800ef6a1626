/* conn_batch: see conn_batch.h. */
#include "pool/conn_batch.h"

#include "core/sys.h"

#include <stdlib.h>
#include <sys/mman.h>

struct conn_batch *conn_batch_create(struct wake *wake) {
  struct conn_batch *batch = malloc(sizeof(*batch));
  if (batch != NULL) {
    batch->wake = wake;
    batch->count = 0;
    batch->large = 0;
    batch->arena_used = 0;
    atom_store_relaxed_u32(&batch->answered, 1);
  }
  return batch;
}

void conn_batch_clear(struct conn_batch *batch) {
  for (uint32_t i = 0; i < batch->count; i++) {
    if (batch->items[i].memory != NULL) {
      (void)sys_unmap(batch->items[i].memory, batch->items[i].memory_size); /* a failure leaks it */
      batch->items[i].memory = NULL;
    }
  }
  batch->count = 0;
  batch->large = 0;
  batch->arena_used = 0;
}

void conn_batch_destroy(struct conn_batch *batch) {
  if (batch != NULL) {
    conn_batch_clear(batch);
    free(batch);
  }
}

/* ---- on the worker's thread ---- */

/* Memory for a record of ${size} bytes. Return: false if ${batch} is full. */
static bool place(struct conn_batch *batch, struct conn_batch_item *item, size_t size) {
  if (size <= CONN_BATCH_INLINE) {
    bool fits = CONN_BATCH_BYTES - batch->arena_used >= size;
    item->bytes = batch->arena + batch->arena_used;
    return fits;
  }
  void *memory = batch->large < CONN_BATCH_LARGE ? sys_map(size) : MAP_FAILED;
  if (memory == MAP_FAILED) {
    return false;
  }
  batch->large++;
  item->memory = memory;
  item->memory_size = size;
  item->bytes = memory;
  return true;
}

/* Pack the connection in ${slot}, if there is one that moves. Return: false if ${batch} is full. */
static bool pack_slot(struct conn_batch *batch, struct conn_ctx *ctx, uint32_t slot) {
  struct source *source = slab_at(ctx->reactor->slab, slot);
  if (source_generation(ctx->reactor, source) == 0) {
    return true;
  }
  struct xchg_conn *conn = conn_of(source);
  enum conn_stays stays = conn_stays(conn);
  if (stays != CONN_MOVES) {
    batch->stays[stays]++;
    return true;
  }
  struct conn_batch_item *item = &batch->items[batch->count];
  *item = (struct conn_batch_item){.memory = NULL};
  if (!place(batch, item, conn_record_room(conn))) {
    return false;
  }
  item->size = conn_pack(conn, (uint8_t *)item->bytes, &item->record.owned);
  batch->arena_used += item->memory == NULL ? (item->size + 15) / 16 * 16 : 0;
  batch->arena_used = min_u64(batch->arena_used, CONN_BATCH_BYTES);
  batch->count++;
  return true;
}

static void pack(struct conn_batch *batch, struct conn_ctx *ctx) {
  while (batch->count < batch->want) {
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
    item->taken = item->conn != NULL;
  }
}

static void resume(struct conn_batch *batch, struct conn_ctx *ctx) {
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    if (item->conn != NULL && item->wanted) {
      conn_resume(item->conn, &item->record);
      item->record.owned.fd = -1;
    } else if (item->conn != NULL) {
      conn_unpack_undo(item->conn);
    } else if (item->lost) {
      conn_record_close(ctx, &item->record, XCHG_MEMORY);
      item->record.owned.fd = -1;
    }
    item->conn = NULL;
  }
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
  static void (*const runs[])(struct conn_batch *, struct conn_ctx *) = {pack, unpack, resume};
  batch->run = runs[what];
  batch->task = (struct task){.kind = TASK_BATCH};
  atom_store_relaxed_u32(&batch->answered, 0); /* the inbox publishes it */
  inbox_push_mpsc(inbox, &batch->task);
}
