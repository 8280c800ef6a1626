/* upgrade_giver: see upgrade_giver.h. */
#include "pool/upgrade_giver.h"

#include "core/sys.h"
#include "pool/worker.h"

#include <stdio.h>

static_assert(CONN_BATCH_MAX == UPGRADE_BATCH_MAX, "a packet holds what a worker packs");

/*
 * Passes without a connection that went, before those that are left count as staying: one may be in
 * the queue of its worker, or about to end.
 */
#define IDLE_PASSES_MAX 64

/* ---- life ---- */

int giver_open(struct upgrade_giver *giver, struct xchg_server *server,
               struct upgrade_channel *channel) {
  uint64_t most;
  *giver = (struct upgrade_giver){.server = server, .channel = channel};
  giver->file = memory_file_make(&most);
  if (giver->file == -1) {
    return -1;
  }
  giver->batch = conn_batch_create(&server->done);
  if (giver->batch == NULL) {
    giver_close(giver);
    return fail(ENOMEM);
  }
  giver->batch->room = min_u64(giver->batch->room, most);
  return 0;
}

void giver_close(struct upgrade_giver *giver) {
  conn_batch_destroy(giver->batch);
  giver->batch = NULL;
  if (giver->file != -1) {
    sys_close(giver->file);
    giver->file = -1;
  }
}

static void begin_pass(struct upgrade_giver *giver) {
  giver->worker = 0;
  giver->cursor = 0;
  giver->passed = 0;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    giver->stayed[i] = giver->stays[i];
    giver->stays[i] = 0;
  }
}

/* ---- packing ---- */

/* Ask the present worker for connections. */
static void pack(struct upgrade_giver *giver, uint64_t now_ns) {
  struct conn_batch *batch = giver->batch;
  conn_batch_clear(batch);
  batch->want = (uint32_t)min_u64(giver->wanted, CONN_BATCH_MAX);
  batch->cursor = giver->cursor;
  batch->over = false;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    batch->stays[i] = 0;
  }
  giver->state = GIVER_PACK;
  giver->batch_ns = now_ns;
  conn_batch_send(batch, server_inbox(giver->server, giver->worker), CONN_BATCH_PACK);
}

void giver_begin(struct upgrade_giver *giver, uint32_t most) {
  giver->wanted = most;
  giver->idle_passes = 0;
  begin_pass(giver);
  pack(giver, sys_now_ns());
}

/* Is a connection left that the last pass has not seen, or that moves? */
static bool more_is_left(const struct upgrade_giver *giver) {
  uint64_t stays = 0;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    stays += giver->stays[i];
  }
  struct model *model = giver->server->model;
  return model->ops->live(model) > stays;
}

/* The present worker has nothing more for this pass. Return: is the round over? */
static bool next_worker(struct upgrade_giver *giver) {
  giver->worker++;
  giver->cursor = 0;
  if (server_inbox(giver->server, giver->worker) != NULL) {
    return false;
  }
  giver->idle_passes = giver->passed > 0 ? 0 : giver->idle_passes + 1;
  bool over = giver->idle_passes > IDLE_PASSES_MAX || !more_is_left(giver);
  begin_pass(giver);
  return over;
}

/* The batch is done with. Return: as giver_tend. */
static enum giver_result continue_pass(struct upgrade_giver *giver, uint64_t now_ns) {
  bool over = giver->batch->over;
  giver->cursor = giver->batch->cursor;
  giver->state = GIVER_IDLE;
  conn_batch_clear(giver->batch);
  if (giver->withdrawn || giver->wanted == 0 || (over && next_worker(giver))) {
    return GIVER_DONE;
  }
  pack(giver, now_ns);
  return GIVER_BUSY;
}

/* ---- sending ---- */

/* Make the items that were not taken connections of this worker again. */
static void take_back(struct upgrade_giver *giver) {
  bool any = false;
  for (uint32_t i = 0; i < giver->batch->count; i++) {
    struct conn_batch_item *item = &giver->batch->items[i];
    int fd = item->record.owned.fd;
    uint32_t ip_slot = item->record.owned.ip_slot;
    item->wanted = fd != -1;
    item->taken = false;
    any |= item->wanted;
    if (item->wanted) {
      const char *why = conn_record_read(&item->record, item->bytes, item->size);
      item->record.owned.fd = fd;
      item->record.owned.ip_slot = ip_slot;
      item->wanted = why == NULL; /* else a bug of conn_pack: the connection is lost */
    }
  }
  giver->state = any ? GIVER_RETURN : GIVER_RESUME;
  if (any) {
    conn_batch_send(giver->batch, server_inbox(giver->server, giver->worker), CONN_BATCH_UNPACK);
  }
}

static enum giver_result on_packed(struct upgrade_giver *giver, uint64_t now_ns) {
  const struct conn_batch *batch = giver->batch;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    giver->stays[i] += batch->stays[i];
  }
  if (giver->wanted != UINT32_MAX) {
    giver->wanted -= batch->count;
  }
  if (batch->count == 0) {
    return continue_pass(giver, now_ns);
  }
  if (giver->withdrawn || memory_file_write(giver->file, batch->arena, batch->used) == -1) {
    take_back(giver);
  } else {
    giver->state = GIVER_SEND;
  }
  return GIVER_BUSY;
}

static enum giver_result send_batch(struct upgrade_giver *giver, uint64_t now_ns) {
  const struct conn_batch *from = giver->batch;
  struct upgrade_packet packet = {.kind = UPGRADE_BATCH, .number = giver->number + 1};
  packet.batch.count = from->count;
  packet.batch.file = giver->file;
  for (uint32_t i = 0; i < from->count; i++) {
    packet.batch.records[i] = (struct upgrade_record){.size = (uint32_t)from->items[i].size,
                                                      .fd = from->items[i].record.owned.fd};
  }
  enum channel_result sent = upgrade_channel_send(giver->channel, &packet);
  if (sent == CHANNEL_AGAIN) {
    return GIVER_BUSY;
  }
  giver->number++;
  giver->sent_ns = now_ns;
  giver->state = GIVER_WAIT;
  return sent == CHANNEL_OK ? GIVER_BUSY : GIVER_FAILED;
}

/* ${item} belongs to the other process. */
static void give_away(struct upgrade_giver *giver, struct conn_batch_item *item) {
  struct worker *worker = worker_of_inbox(server_inbox(giver->server, giver->worker));
  sys_close(item->record.owned.fd);
  item->record.owned.fd = -1;
  admission_release(&giver->server->admission, item->record.owned.ip_slot);
  atom_sub_release_u32(&worker->live, 1);
}

bool giver_on_taken(struct upgrade_giver *giver, uint32_t number, uint64_t taken, uint64_t now_ns) {
  uint32_t count = giver->batch->count;
  if (giver->state != GIVER_WAIT || number != giver->number ||
      (count < 64 && taken >> count != 0)) {
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    if ((taken >> i & 1) != 0) {
      give_away(giver, &giver->batch->items[i]);
      histogram_record(&giver->frozen_ns, sub_sat_u64(now_ns, giver->batch_ns));
      histogram_record(&giver->server->base->frozen_ns, sub_sat_u64(now_ns, giver->batch_ns));
      giver->moved++;
      giver->passed++;
    }
  }
  take_back(giver);
  return true;
}

/* ---- taking back ---- */

/* The worker has made connections of what it could; serve them. */
static void resume(struct upgrade_giver *giver) {
  struct worker *worker = worker_of_inbox(server_inbox(giver->server, giver->worker));
  for (uint32_t i = 0; i < giver->batch->count; i++) {
    struct conn_batch_item *item = &giver->batch->items[i];
    giver->returned += item->taken;
    if (item->record.owned.fd != -1 && !item->taken) { /* no memory, although it had some before */
      item->lost = true;
      admission_release(&giver->server->admission, item->record.owned.ip_slot);
      atom_sub_release_u32(&worker->live, 1);
      giver->lost++;
    }
  }
  giver->state = GIVER_RESUME;
  conn_batch_send(giver->batch, &worker->inbox, CONN_BATCH_RESUME);
}

void giver_withdraw(struct upgrade_giver *giver) {
  giver->withdrawn = true;
  if (giver->state == GIVER_SEND || giver->state == GIVER_WAIT) {
    take_back(giver);
  }
}

/* ---- steps ---- */

enum giver_result giver_tend(struct upgrade_giver *giver, uint64_t now_ns) {
  enum giver_result result = giver->state == GIVER_IDLE ? GIVER_DONE : GIVER_BUSY;
  while (result == GIVER_BUSY && conn_batch_answered(giver->batch)) {
    switch (giver->state) {
      case GIVER_IDLE:
        return GIVER_DONE;
      case GIVER_PACK:
        result = on_packed(giver, now_ns);
        break;
      case GIVER_SEND:
        result = send_batch(giver, now_ns);
        if (giver->state == GIVER_SEND) {
          return result; /* the channel is full */
        }
        break;
      case GIVER_WAIT:
        return now_ns < giver_next_ns(giver) ? GIVER_BUSY : GIVER_FAILED;
      case GIVER_RETURN:
        resume(giver);
        break;
      case GIVER_RESUME:
        result = continue_pass(giver, now_ns);
        break;
    }
  }
  return result;
}

uint64_t giver_next_ns(const struct upgrade_giver *giver) {
  return giver->state == GIVER_WAIT ? giver->sent_ns + UPGRADE_TAKEN_NS : NEVER;
}

bool giver_left(const struct upgrade_giver *giver, uint32_t i, struct upgrade_left *left) {
  for (int stays = 0; stays < CONN_STAYS_COUNT; stays++) {
    if (giver->stayed[stays] > 0 && i-- == 0) {
      left->count = giver->stayed[stays];
      snprintf(left->reason, sizeof(left->reason), "%s", conn_stays_text((enum conn_stays)stays));
      return true;
    }
  }
  return false;
}
