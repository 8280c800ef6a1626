/*
 * mover: see mover.h.
 *
 * A moved connection asks for a turn, and epoll reports again what is ready.  So a wait that
 * follows a move does not sleep, and what it reports is no reason for another move.
 */
#include "tests/sim/mover.h"

#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"

#include "net/conn_pack.h"
#include "pool/worker.h"
#include "pool/model.h"
#include "pool/server.h"

#include <inttypes.h>
#include <string.h>

#define RECORDS_BYTES ((size_t)16 * 1024 * 1024)
#define WORKERS_MAX 4    /* of plan.c */
#define UNPACKS_MAX 1000 /* of a connection, while memory is refused */

/* The workers of a run, and the records of one of them. */
static struct {
  struct xchg_server *server;
  bool due[WORKERS_MAX];       /* by worker: it has had turns since the last move */
  bool forced[WORKERS_MAX];    /* its wait follows a move */
  uint64_t steps[WORKERS_MAX]; /* its turns before the last move */
  struct prng prng;
  uint64_t moved, saved, restored, gone;
} mover;

/* The records of a worker: another one may run while it moves its connections. */
static struct packed {
  uint32_t count;
  struct {
    size_t at, size;
    struct xchg_conn *conn; /* parked: it comes back; NULL = it is gone */
    struct conn_owned owned;
  } records[LINKS_MAX];
  size_t used;
  uint8_t bytes[RECORDS_BYTES];
} all[WORKERS_MAX];

/* ---- the state of a handler ---- */

#define SAVED_MAX 256
#define VERSION 3

/* Some bytes that say what they are. Sometimes the connection has to stay. */
static ssize_t save(struct xchg_conn *conn, void *data, size_t size) {
  size_t saved = prng_below(&mover.prng, SAVED_MAX + 1);
  (void)conn;
  if (size != XCHG_SAVE_MAX || prng_below(&mover.prng, 20) == 0) {
    return -1;
  }
  memset(data, (int)(saved % 251), saved);
  mover.saved++;
  return (ssize_t)saved;
}

/* Sometimes it has to be asked again. */
static int restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  const uint8_t *bytes = data;
  bool same = version == VERSION && size <= SAVED_MAX;
  for (size_t i = 0; same && i < size; i++) {
    same = bytes[i] == size % 251;
  }
  if (!same || xchg_id(conn) == 0) {
    world_fail("what a handler has saved arrives otherwise");
  }
  if (prng_below(&mover.prng, 20) == 0) {
    return -1;
  }
  mover.restored++;
  return 0;
}

static void gone(struct xchg_conn *conn) {
  (void)conn;
  mover.gone++;
}

/* Half of the servers have a handler with a state. */
void mover_watch(struct xchg_server *server) {
  uint64_t moved = mover.moved;
  if (mover.restored != mover.gone || mover.gone > mover.saved) {
    world_fail("on_restore and on_gone were not called for the same connections");
  }
  memset(&mover, 0, sizeof(mover));
  mover.server = server;
  mover.prng = (struct prng){.state = world.seed};
  mover.moved = moved;
  if (server != NULL && prng_below(&mover.prng, 2) == 0) {
    server->handler.state_version = VERSION;
    server->handler.on_save = save;
    server->handler.on_restore = restore;
    server->handler.on_gone = gone;
  }
}

/* ---- moves ---- */

uint64_t mover_moved(void) { return mover.moved; }

/* The worker that waits with ${epoll_fd}, and its index; NULL = none does. */
static struct worker *worker_of(int epoll_fd, uint32_t *index) {
  struct model *model = mover.server == NULL ? NULL : mover.server->model;
  struct inbox *inbox;
  for (*index = 0; model != NULL && (inbox = model->ops->inbox(model, *index)) != NULL;
       (*index)++) {
    struct worker *worker = container_of(inbox, struct worker, inbox);
    if (worker->reactor.epoll_fd == epoll_fd) {
      return worker;
    }
  }
  return NULL;
}

/* A connection that had asked for a turn leaves its slot to the next dispatch: is there another? */
static void pack_all(struct worker *worker, struct packed *packed) {
  uint32_t slots = worker->conns.objects_max - worker->conns.used;
  packed->count = 0;
  packed->used = 0;
  for (uint32_t slot = 0; (slot = slab_next(&worker->conns, slot)) != SLAB_NONE; slot++) {
    struct source *source = slab_at(&worker->conns, slot);
    if (!source_is_live(&worker->reactor, source) || conn_of(source)->state == CONN_CLOSED ||
        (source->queued && slots == 0) ||
        conn_record_room(conn_of(source)) > sizeof(packed->bytes) - packed->used) {
      continue;
    }
    uint32_t i = packed->count;
    packed->records[i].at = packed->used;
    packed->records[i].size = conn_pack(conn_of(source), packed->bytes + packed->used);
    packed->records[i].conn = conn_of(source);
    packed->used += packed->records[i].size;
    if (packed->records[i].size > 0) {
      packed->count++;
      slots -= source->queued;
    }
  }
}

/* Packed and written again, the record has the same bytes, except that a read is due. */
static void compare_again(const struct xchg_conn *conn, const uint8_t *bytes, size_t size) {
  static uint8_t again[RECORDS_BYTES];
  if (conn_record_room(conn) < size || conn_record_write(conn, again) != size) {
    world_fail("a moved connection has a record of another size");
  }
  uint32_t differ = 0;
  for (size_t i = 0; i < size; i++) {
    differ += again[i] != bytes[i];
  }
  if (differ > 1) {
    world_fail("a moved connection differs in %" PRIu32 " bytes of its record", differ);
  }
}

/* One of four comes back, and the others go.  An order of turns is changed by both. */
static void let_go(struct packed *packed) {
  for (uint32_t i = 0; i < packed->count; i++) {
    if (prng_below(&mover.prng, 4) != 0) {
      packed->records[i].owned = conn_gone(packed->records[i].conn);
      packed->records[i].conn = NULL;
    }
  }
}

/* Unpack record ${i}. Without memory it waits, as with a sender that keeps it. */
static void unpack(struct worker *worker, const struct packed *packed, uint32_t i) {
  struct conn_record record;
  if (packed->records[i].conn != NULL) {
    conn_resume(packed->records[i].conn);
    return;
  }
  const uint8_t *bytes = packed->bytes + packed->records[i].at;
  const char *why = conn_record_read(&record, bytes, packed->records[i].size);
  if (why != NULL) {
    world_fail("a record is refused: %s", why);
  }
  record.owned = packed->records[i].owned;
  for (int tries = 0; tries < UNPACKS_MAX; tries++) {
    struct xchg_conn *conn = conn_unpack(&worker->ctx, &record);
    if (conn != NULL) {
      conn_resume(conn);
      if (conn->state != CONN_CLOSED) {
        size_t saved = record.saved.size == 0 ? 0 : FIELD_HEAD + record.saved.size;
        saved += record.state_version == 0 ? 0 : FIELD_NUMBER;
        compare_again(conn, bytes + saved, packed->records[i].size - saved);
      }
      return;
    }
  }
  world_fail("a connection cannot be unpacked");
}

static void unpack_all(struct worker *worker, struct packed *packed) {
  while (packed->count > 0) {
    uint32_t i = (uint32_t)prng_below(&mover.prng, packed->count);
    unpack(worker, packed, i);
    packed->records[i] = packed->records[--packed->count];
  }
}

bool mover_move(int epoll_fd, bool polls) {
  uint32_t index;
  struct worker *worker = worker_of(epoll_fd, &index);
  if (worker == NULL || worker->stopping_now || worker->conns.used == 0) {
    return false;
  }
  uint64_t steps = atom_load_relaxed_u64(&worker->ctx.steps);
  bool busy = polls && reactor_busy(&worker->reactor);
  if ((!mover.due[index] && !busy) || mover.steps[index] == steps) {
    return false; /* a worker that spins gives no turns */
  }
  mover.steps[index] = steps;
  struct packed *packed = &all[index];
  pack_all(worker, packed);
  uint32_t count = packed->count;
  mover.moved += count;
  let_go(packed);
  unpack_all(worker, packed);
  mover.due[index] = false;
  mover.forced[index] = count > 0;
  oracle_excuse();
  return count > 0;
}

void mover_waited(int epoll_fd, bool polls, int ready) {
  uint32_t index;
  if (worker_of(epoll_fd, &index) == NULL) {
    return;
  }
  mover.due[index] = !mover.forced[index] && (ready > 0 || !polls);
  mover.forced[index] = false;
}
