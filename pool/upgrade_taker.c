/* upgrade_taker: see upgrade_taker.h. */
#include "pool/upgrade_taker.h"

#include "core/sys.h"
#include "pool/worker.h"

int taker_open(struct upgrade_taker *taker, struct xchg_server *server,
               struct upgrade_channel *channel, struct log *log) {
  *taker = (struct upgrade_taker){.server = server, .channel = channel, .log = log};
  acceptor_order_init(&taker->adopt, &server->done);
  taker->batch = conn_batch_create(&server->done);
  return taker->batch == NULL ? -1 : 0;
}

void taker_close(struct upgrade_taker *taker) {
  conn_batch_destroy(taker->batch);
  taker->batch = NULL;
}

/* The worker with the fewest connections. */
static struct worker *choose_worker(struct xchg_server *server) {
  struct worker *best = NULL;
  struct inbox *inbox;
  for (uint32_t i = 0; (inbox = server_inbox(server, i)) != NULL; i++) {
    struct worker *worker = worker_of_inbox(inbox);
    if (best == NULL || atom_load_relaxed_u32(&worker->live) < atom_load_relaxed_u32(&best->live)) {
      best = worker;
    }
  }
  return best;
}

/* Copy the bytes of all records to the arena. Return: NULL, or why not. */
static const char *read_bytes(struct conn_batch *batch, const struct upgrade_batch *from) {
  uint64_t size = 0;
  for (uint32_t i = 0; i < from->count; i++) {
    size += from->records[i].size;
  }
  return size <= batch->room && memory_file_read(from->file, batch->arena, size) == 0
             ? NULL
             : "its bytes cannot be read";
}

/* Read the next record, whose bytes are in the arena. Return: NULL, or why not. */
static const char *read_record(struct upgrade_taker *taker, struct upgrade_record *from) {
  struct conn_batch *batch = taker->batch;
  struct conn_batch_item *item = &batch->items[batch->count];
  const char *why = conn_record_read(&item->record, batch->arena + batch->used, from->size);
  batch->used += from->size;
  if (why == NULL) {
    uint32_t listener = item->record.listener;
    bool known = taker->listener_of != NULL && listener < CONFIG_LISTEN_MAX;
    listener = known ? taker->listener_of[listener] : 0;
    item->record.listener = listener == UINT32_MAX ? 0 : listener; /* 0: its own is gone */
    item->record.owned.fd = from->fd;
    item->wanted = true;
    from->fd = -1;
  }
  return why;
}

static void begin_unpack(struct upgrade_taker *taker) {
  taker->state = TAKER_UNPACK;
  conn_batch_send(taker->batch, &taker->worker->inbox, CONN_BATCH_UNPACK);
}

void taker_on_batch(struct upgrade_taker *taker, struct upgrade_packet *packet) {
  struct conn_batch *batch = taker->batch;
  taker->number = packet->number;
  taker->worker = choose_worker(taker->server);
  uint32_t wanted = 0;
  const char *unread = read_bytes(batch, &packet->batch);
  for (; batch->count < packet->batch.count; batch->count++) {
    batch->items[batch->count] = (struct conn_batch_item){.record = {.owned = {.fd = -1}}};
    const char *why =
        unread == NULL ? read_record(taker, &packet->batch.records[batch->count]) : unread;
    wanted += why == NULL;
    if (why != NULL) {
      struct log_line line;
      log_begin(&line, taker->log, LOG_WARN, "a connection cannot be taken over");
      log_str(&line, "reason", why);
      log_end(&line);
    }
  }
  upgrade_packet_close(packet);
  atom_add_relaxed_u32(&taker->worker->live, wanted);
  bool counts = taker->server->admission.nodes != NULL;
  taker->adopt.batch = counts ? batch : NULL;
  taker->adopt.count = wanted;
  acceptor_order_send(&taker->adopt, &taker->server->acceptor, ACCEPTOR_ADOPT);
  taker->state = TAKER_ADOPT;
  if (!counts) { /* the acceptor only learns that there is less room */
    begin_unpack(taker);
  }
}

/*
 * Say which there are.  If the other process is gone, they are this one's all the same.  Without
 * room for the answer it comes later, and nothing is served until then.
 */
static void answer(struct upgrade_taker *taker) {
  struct conn_batch *batch = taker->batch;
  struct upgrade_packet packet = {.kind = UPGRADE_TAKEN, .number = taker->number};
  for (uint32_t i = 0; i < batch->count; i++) {
    packet.taken |= (uint64_t)(batch->items[i].conn != NULL) << i;
  }
  enum channel_result sent = upgrade_channel_send(taker->channel, &packet);
  if (sent != CHANNEL_OK && sent != CHANNEL_GONE) {
    return;
  }
  uint64_t moved = 0;
  for (uint32_t i = 0; i < batch->count; i++) {
    struct conn_batch_item *item = &batch->items[i];
    bool taken = item->conn != NULL;
    taker->taken += taken;
    taker->refused += !taken;
    if (item->wanted && !taken) {
      sys_close(item->record.owned.fd);
      admission_release(&taker->server->admission, item->record.owned.ip_slot);
      atom_sub_release_u32(&taker->worker->live, 1);
    }
    moved += taken;
  }
  if (taker->refused > 0) {
    room_wake(&taker->server->admission); /* live had been raised for them */
  }
  stats_add(&taker->server->base->own_totals.moved, moved);
  taker->state = TAKER_SETTLE;
  if (!taker->together) {
    conn_batch_send(batch, &taker->worker->inbox, CONN_BATCH_SETTLE);
  }
}

/* What moved together is this process's, or ${gone}. */
static void settle_all(struct upgrade_taker *taker, bool gone) {
  if (taker->together) {
    taker->state = TAKER_ALL;
    server_settle(taker->server, gone);
  }
}

void taker_commit(struct upgrade_taker *taker) { settle_all(taker, false); }

void taker_drop(struct upgrade_taker *taker) { settle_all(taker, true); }

/* Go on from the present state, if what it waits for has come. */
static void step(struct upgrade_taker *taker) {
  switch (taker->state) {
    case TAKER_IDLE:
      break;
    case TAKER_ADOPT:
      if (acceptor_order_answered(&taker->adopt)) {
        begin_unpack(taker);
      }
      break;
    case TAKER_UNPACK:
      if (conn_batch_answered(taker->batch)) {
        taker->state = TAKER_ANSWER;
      }
      break;
    case TAKER_ANSWER:
      answer(taker);
      break;
    case TAKER_SETTLE:
      if (conn_batch_answered(taker->batch) && acceptor_order_answered(&taker->adopt)) {
        conn_batch_clear(taker->batch);
        taker->state = TAKER_IDLE;
      }
      break;
    case TAKER_ALL:
      if (server_settled(taker->server)) {
        taker->state = TAKER_IDLE;
      }
      break;
  }
}

bool taker_tend(struct upgrade_taker *taker) {
  enum taker_state before;
  do {
    before = taker->state;
    step(taker);
  } while (taker->state != before);
  return taker->state == TAKER_IDLE;
}
