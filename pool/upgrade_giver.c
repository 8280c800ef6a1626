/* upgrade_giver: see upgrade_giver.h. */
#include "pool/upgrade_giver.h"

#include "core/sys.h"
#include "pool/worker.h"

#include <inttypes.h>
#include <stdio.h>

static_assert(CONN_BATCH_MAX == UPGRADE_BATCH_MAX, "a packet holds what a worker packs");

/*
 * Passes without a connection that went, before those that are left count as staying: one may be in
 * the queue of its worker, or about to end.
 */
#define IDLE_PASSES_MAX 2

#define QUIET_NS NS_PER_S         /* for posted calls, publications and offloaded work to end */
#define REST_NS NS_PER_MS         /* between two looks for such work */
#define WORKER_NS (5 * NS_PER_S)  /* a worker that does not answer for so long is stuck */
#define FREEZE_NS (10 * NS_PER_S) /* how long all connections may wait together */

/* A deadline counts when it has passed for so long: this process may have been stopped. */
#define LATE_NS (100 * NS_PER_MS)

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
  if (giver->batch == NULL || conn_batch_answered(giver->batch)) {
    conn_batch_destroy(giver->batch);
  } /* else a worker is stuck and still has it */
  giver->batch = NULL;
  if (giver->file != -1) {
    sys_close(giver->file);
    giver->file = -1;
  }
}

/* ---- packing ---- */

static struct worker *present_worker(const struct upgrade_giver *giver) {
  return worker_of_inbox(server_inbox(giver->server, giver->worker));
}

/* An answer is due at ${deadline_ns}. ${why}: what it means if there is none. */
static void expect(struct upgrade_giver *giver, uint64_t deadline_ns, const char *why) {
  giver->deadline_ns = deadline_ns;
  giver->late = false;
  giver->why = why;
}

/* The present worker does ${what}; the giver is in ${state} meanwhile. */
static void ask_worker(struct upgrade_giver *giver, enum giver_state state,
                       enum conn_batch_what what) {
  giver->state = state;
  expect(giver, sys_now_ns() + WORKER_NS, "a worker does not answer");
  conn_batch_send(giver->batch, &present_worker(giver)->inbox, what);
}

/* It is the turn of worker ${i} in this pass. */
static void begin_worker(struct upgrade_giver *giver, uint32_t i) {
  giver->worker = i;
  giver->cursor = 0;
  giver->budget = atom_load_relaxed_u32(&present_worker(giver)->live);
}

static void begin_pass(struct upgrade_giver *giver) {
  begin_worker(giver, 0);
  giver->passed = 0;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    giver->stayed[i] = giver->stays[i];
    giver->stays[i] = 0;
  }
}

/* Ask the present worker for connections. */
static void pack(struct upgrade_giver *giver, uint64_t now_ns) {
  struct conn_batch *batch = giver->batch;
  conn_batch_clear(batch);
  batch->want = (uint32_t)min_u64(min_u64(giver->wanted, giver->budget), CONN_BATCH_MAX);
  batch->cursor = giver->cursor;
  batch->over = false;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    batch->stays[i] = 0;
  }
  giver->batch_ns = now_ns;
  ask_worker(giver, GIVER_PACK, CONN_BATCH_PACK);
}

/* The present worker gives no turns from now on.  One that is stuck delays the others shortly. */
static void ask_quiet(struct upgrade_giver *giver) {
  ask_worker(giver, GIVER_QUIET, CONN_BATCH_SUSPEND);
  giver->deadline_ns = min_u64(giver->deadline_ns, giver->quiet_ns);
}

/* Look at the work of all workers, which give no turns. */
static void look(struct upgrade_giver *giver) {
  giver->worker = 0;
  giver->before = giver->steps;
  giver->steps = 0;
  giver->busy = false;
  ask_quiet(giver);
}

void giver_begin(struct upgrade_giver *giver, uint32_t most, uint64_t patience_ns) {
  giver->wanted = most;
  giver->patience_ns = patience_ns;
  giver->idle_passes = 0;
  begin_pass(giver);
  if (giver->together) {
    giver->suspended = true;
    giver->steps = UINT64_MAX;
    giver->frozen_from_ns = sys_now_ns();
    giver->quiet_ns = add_sat_u64(giver->frozen_from_ns, QUIET_NS);
    giver->freeze_ns = add_sat_u64(giver->frozen_from_ns, FREEZE_NS);
    look(giver);
  } else {
    pack(giver, sys_now_ns());
  }
}

/* Give up, because of ${why}. Return: as giver_tend. */
static enum giver_result give_up(struct upgrade_giver *giver, const char *why) {
  giver->why = why;
  giver->state = GIVER_IDLE;
  return GIVER_FAILED;
}

/*
 * A worker has answered.  If no worker has work, and none has run a turn or a task since the last
 * look, none has run at the moment between both: nothing is under way from one to another.
 */
static enum giver_result on_looked(struct upgrade_giver *giver, uint64_t now_ns) {
  struct inbox *inbox = &present_worker(giver)->inbox;
  giver->steps += giver->batch->steps;
  giver->busy = giver->busy || giver->batch->waiting > 0 || ring_count_any(&inbox->ring) > 0 ||
                atom_load_relaxed_u32(&inbox->tasks_waiting) > 0;
  if (server_inbox(giver->server, giver->worker + 1) != NULL) {
    giver->worker++;
    ask_quiet(giver);
  } else if (!giver->busy && giver->steps == giver->before) {
    begin_worker(giver, 0);
    pack(giver, now_ns);
  } else if (now_ns >= giver->quiet_ns) {
    return give_up(giver, "posted calls or offloaded work do not end");
  } else {
    giver->state = GIVER_REST;
    expect(giver, giver->busy ? now_ns + REST_NS : now_ns, NULL);
  }
  return GIVER_BUSY;
}

/* May another pass move a connection?  Those that came back have one more chance. */
static bool more_moves(const struct upgrade_giver *giver) {
  struct model *model = giver->server->model;
  uint64_t stays = 0;
  for (int i = 0; i < CONN_STAYS_COUNT; i++) {
    stays += giver->stays[i];
  }
  bool back = giver->stays[CONN_STAYS_REFUSED] > 0 || giver->stays[CONN_STAYS_UNSENT] > 0;
  return model->ops->live(model) > stays || (back && giver->passed > 0);
}

/* The present worker has nothing more for this pass. Return: is the round over? */
static bool next_worker(struct upgrade_giver *giver) {
  if (server_inbox(giver->server, giver->worker + 1) != NULL) {
    begin_worker(giver, giver->worker + 1);
    return false;
  }
  giver->idle_passes = giver->passed > 0 ? 0 : giver->idle_passes + 1;
  bool over = giver->idle_passes > IDLE_PASSES_MAX || !more_moves(giver);
  begin_pass(giver);
  return over;
}

/* All workers were asked once. Return: as giver_tend. */
static enum giver_result end_together(struct upgrade_giver *giver) {
  struct model *model = giver->server->model;
  for (int stays = 0; stays < CONN_STAYS_COUNT; stays++) {
    if (giver->stays[stays] > 0) {
      return give_up(giver, conn_stays_text((enum conn_stays)stays));
    }
  }
  return giver->kept == model->ops->live(model) ? GIVER_DONE
                                                : give_up(giver, "a connection cannot move");
}

/* The batch is done with. Return: as giver_tend. */
static enum giver_result continue_pass(struct upgrade_giver *giver, uint64_t now_ns) {
  bool over = giver->batch->over || giver->budget == 0;
  giver->cursor = giver->batch->cursor;
  giver->state = GIVER_IDLE;
  conn_batch_clear(giver->batch);
  if (giver->together && over && server_inbox(giver->server, giver->worker + 1) == NULL) {
    return end_together(giver);
  }
  if (giver->stopped || giver->wanted == 0 || (over && next_worker(giver))) {
    return GIVER_DONE;
  }
  pack(giver, now_ns);
  return GIVER_BUSY;
}

/* ---- sending ---- */

/* The worker serves those that are not gone, because of ${why_stays}, and forgets the others. */
static void settle(struct upgrade_giver *giver, enum conn_stays why_stays) {
  for (uint32_t i = 0; i < giver->batch->count; i++) {
    giver->stays[why_stays] += !giver->batch->items[i].gone;
    giver->returned += !giver->batch->items[i].gone;
  }
  ask_worker(giver, GIVER_SETTLE, CONN_BATCH_SETTLE);
}

/* The worker is done with the batch: return what those that are gone owned. */
static void return_gone(struct upgrade_giver *giver) {
  for (uint32_t i = 0; i < giver->batch->count; i++) {
    const struct conn_batch_item *item = &giver->batch->items[i];
    if (item->gone) {
      parked_return(&item->record.owned, &giver->server->admission, &present_worker(giver)->live);
    }
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
  giver->budget -= batch->count;
  if (batch->count == 0) {
    return continue_pass(giver, now_ns);
  }
  bool written = memory_file_write(giver->file, batch->arena, batch->used) == 0;
  if (giver->together && !written) {
    return give_up(giver, conn_stays_text(CONN_STAYS_UNSENT));
  }
  if (giver->stopped || !written) {
    settle(giver, CONN_STAYS_UNSENT);
  } else {
    giver->state = GIVER_SEND;
    expect(giver, now_ns + giver->patience_ns, "the new process does not take connections");
  }
  return GIVER_BUSY;
}

static enum giver_result send_batch(struct upgrade_giver *giver) {
  const struct conn_batch *from = giver->batch;
  struct upgrade_packet packet = {.kind = UPGRADE_BATCH, .number = giver->number + 1};
  packet.batch.count = from->count;
  packet.batch.file = giver->file;
  for (uint32_t i = 0; i < from->count; i++) {
    packet.batch.records[i] = (struct upgrade_record){.size = (uint32_t)from->items[i].size,
                                                      .fd = from->items[i].record.owned.fd};
  }
  enum channel_result sent = upgrade_channel_send(giver->channel, &packet);
  if (sent == CHANNEL_OK) {
    giver->number++;
    giver->state = GIVER_WAIT;
  } else if (sent == CHANNEL_ERROR) {
    static const char why[] = "a batch cannot be sent";
    if (giver->together) {
      return give_up(giver, why);
    }
    settle(giver, CONN_STAYS_UNSENT);
    giver->why = why;
    return GIVER_FAILED;
  } /* else the channel is full, or the next packet says that the other process is gone */
  return GIVER_BUSY;
}

/* ${count} connections are the other process's.  They were in none since ${from_ns}. */
static void count_moved(struct upgrade_giver *giver, uint64_t count, uint64_t from_ns) {
  uint64_t frozen_ns = sub_sat_u64(sys_now_ns(), from_ns);
  for (uint64_t i = 0; i < count; i++) {
    histogram_record(&giver->frozen_ns, frozen_ns);
    histogram_record(&giver->server->base->own_frozen_ns, frozen_ns);
  }
  giver->moved += count;
}

bool giver_on_taken(struct upgrade_giver *giver, uint32_t number, uint64_t taken) {
  uint32_t count = giver->batch->count;
  if (giver->state != GIVER_WAIT || number != giver->number ||
      (count < 64 && taken >> count != 0)) {
    return false;
  }
  uint32_t taken_count = (uint32_t)__builtin_popcountll(taken);
  if (giver->together) {
    giver->kept += taken_count;
    giver->stays[CONN_STAYS_REFUSED] += count - taken_count;
    giver->state = GIVER_KEPT;
    return true;
  }
  for (uint32_t i = 0; i < count; i++) {
    giver->batch->items[i].gone = (taken >> i & 1) != 0;
  }
  giver->passed += taken_count;
  count_moved(giver, taken_count, giver->batch_ns);
  settle(giver, CONN_STAYS_REFUSED);
  return true;
}

/* ---- taking back ---- */

void giver_stop(struct upgrade_giver *giver, const char *why) {
  giver->stopped = true;
  giver->rest = why;
  if (giver->state == GIVER_SEND) {
    settle(giver, CONN_STAYS_UNSENT);
  }
}

/* All that moved together are ${gone}, or come back. */
static void settle_all(struct upgrade_giver *giver, bool gone) {
  giver->suspended = false;
  giver->kept = 0;
  giver->gone = gone;
  giver->state = GIVER_ALL;
  expect(giver, NEVER, NULL);
  server_settle(giver->server, gone);
}

void giver_commit(struct upgrade_giver *giver) {
  if (giver->suspended) {
    count_moved(giver, giver->kept, giver->frozen_from_ns);
    settle_all(giver, true);
  }
}

void giver_abandon(struct upgrade_giver *giver) {
  uint32_t count = giver->batch->count;
  uint64_t all = count == CONN_BATCH_MAX ? UINT64_MAX : (1ULL << count) - 1;
  if (giver->state == GIVER_WAIT && !giver->together) {
    (void)giver_on_taken(giver, giver->number, all); /* true: it is an answer to the last batch */
  }
}

void giver_withdraw(struct upgrade_giver *giver) {
  if (giver->suspended) {
    struct model *model = giver->server->model;
    giver->stopped = true;
    giver->returned += model->ops->live(model);
    settle_all(giver, false); /* although a worker may have the batch */
    return;
  }
  giver_stop(giver, giver->rest);
  if (giver->state == GIVER_WAIT) {
    settle(giver, CONN_STAYS_UNSENT);
  }
}

/* ---- steps ---- */

static enum giver_result step(struct upgrade_giver *giver, uint64_t now_ns) {
  switch (giver->state) {
    case GIVER_IDLE:
      return GIVER_DONE;
    case GIVER_PACK:
      return on_packed(giver, now_ns);
    case GIVER_SEND:
      return send_batch(giver);
    case GIVER_WAIT:
      break;
    case GIVER_SETTLE:
      return_gone(giver);
      return continue_pass(giver, now_ns);
    case GIVER_QUIET:
      return on_looked(giver, now_ns);
    case GIVER_REST:
      if (now_ns >= giver->deadline_ns) {
        look(giver);
      }
      break;
    case GIVER_KEPT:
      return continue_pass(giver, now_ns);
    case GIVER_ALL:
      if (server_settled(giver->server)) {
        conn_batch_clear(giver->batch);
        giver->state = GIVER_IDLE;
      }
      break;
  }
  return GIVER_BUSY;
}

enum giver_result giver_tend(struct upgrade_giver *giver, uint64_t now_ns) {
  enum giver_result result = GIVER_BUSY;
  if (giver->suspended && giver->state != GIVER_IDLE && now_ns >= giver->freeze_ns) {
    giver->why = "connections wait for too long";
    return GIVER_FAILED;
  }
  while (result == GIVER_BUSY && conn_batch_answered(giver->batch)) {
    enum giver_state before = giver->state;
    result = step(giver, now_ns);
    if (giver->state == before) { /* it waits for the channel, or for the worker again */
      break;
    }
  }
  if (result != GIVER_BUSY || now_ns < giver->deadline_ns) {
    return result;
  }
  bool failed = giver->late;
  giver->late = true;
  giver->deadline_ns = now_ns + LATE_NS;
  return failed ? GIVER_FAILED : GIVER_BUSY;
}

uint64_t giver_next_ns(const struct upgrade_giver *giver) {
  if (giver->state == GIVER_IDLE || giver->stopped) {
    return NEVER;
  }
  return giver->suspended ? min_u64(giver->deadline_ns, giver->freeze_ns) : giver->deadline_ns;
}

uint64_t giver_staying(const struct upgrade_giver *giver) {
  struct model *model = giver->server->model;
  if (giver->state == GIVER_ALL && giver->gone) {
    return 0; /* live counts some of them still */
  }
  uint32_t under_way = giver->state == GIVER_WAIT ? giver->batch->count : 0;
  return sub_sat_u64(model->ops->live(model), giver->kept + under_way);
}

bool giver_left(const struct upgrade_giver *giver, uint32_t i, struct upgrade_left *left) {
  if (giver->rest != NULL) {
    left->count = giver_staying(giver);
    snprintf(left->reason, sizeof(left->reason), "%s", giver->rest);
    return i == 0 && left->count > 0;
  }
  for (int stays = 0; stays < CONN_STAYS_COUNT; stays++) {
    if (giver->stayed[stays] > 0 && i-- == 0) {
      left->count = giver->stayed[stays];
      snprintf(left->reason, sizeof(left->reason), "%s", conn_stays_text((enum conn_stays)stays));
      return true;
    }
  }
  return false;
}

void giver_describe_left(const struct upgrade_giver *giver, char text[UPGRADE_TEXT]) {
  struct upgrade_left left;
  size_t used = 0;
  text[0] = 0;
  for (uint32_t i = 0; used < UPGRADE_TEXT && giver_left(giver, i, &left); i++) {
    used += (size_t)snprintf(text + used, UPGRADE_TEXT - used, "%s%" PRIu64 " (%s)",
                             i == 0 ? "" : ", ", left.count, left.reason);
  }
}
