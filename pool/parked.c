/* parked: see parked.h. */
#include "pool/parked.h"

#include "core/sys.h"
#include "pool/worker.h"

static void ask(struct parked *parked, enum parked_state state, enum conn_batch_what what) {
  parked->state = state;
  conn_batch_send(parked->batch, server_inbox(parked->server, parked->worker), what);
}

/* List the next connections of the present worker. */
static void find(struct parked *parked) {
  conn_batch_clear(parked->batch);
  parked->batch->want = CONN_BATCH_MAX;
  parked->batch->over = false;
  ask(parked, PARKED_FIND, CONN_BATCH_FIND);
}

/* It is the turn of worker ${i}, if there is one. */
static void begin_worker(struct parked *parked, uint32_t i) {
  parked->worker = i;
  parked->batch->cursor = 0;
  if (server_inbox(parked->server, i) == NULL) {
    parked->state = PARKED_OVER;
  } else {
    ask(parked, PARKED_CONTINUE, CONN_BATCH_CONTINUE);
  }
}

void parked_begin(struct parked *parked, struct xchg_server *server, struct conn_batch *batch,
                  bool gone) {
  *parked = (struct parked){.server = server, .batch = batch, .gone = gone};
  begin_worker(parked, 0);
}

void parked_return(struct xchg_server *server, uint32_t worker, struct conn_batch *batch) {
  for (uint32_t i = 0; i < batch->count; i++) {
    const struct conn_batch_item *item = &batch->items[i];
    if (item->gone) {
      sys_close(item->record.owned.fd);
      admission_release(&server->admission, item->record.owned.ip_slot);
      atom_sub_release_u32(&worker_of_inbox(server_inbox(server, worker))->live, 1);
    }
  }
}

/* The worker has answered. */
static void step(struct parked *parked) {
  struct conn_batch *batch = parked->batch;
  switch (parked->state) {
    case PARKED_OVER:
      break;
    case PARKED_CONTINUE:
      find(parked);
      break;
    case PARKED_FIND:
      for (uint32_t i = 0; i < batch->count; i++) {
        batch->items[i].gone = parked->gone;
      }
      ask(parked, PARKED_SETTLE, CONN_BATCH_SETTLE);
      break;
    case PARKED_SETTLE:
      parked_return(parked->server, parked->worker, batch);
      if (batch->over) {
        begin_worker(parked, parked->worker + 1);
      } else {
        find(parked);
      }
      break;
  }
}

bool parked_tend(struct parked *parked) {
  while (parked->state != PARKED_OVER && conn_batch_answered(parked->batch)) {
    step(parked);
  }
  return parked->state == PARKED_OVER;
}
