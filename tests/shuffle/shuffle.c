/*
 * shuffle: xchgd whose workers give connections to each other all the time.
 *
 * It is the program xchgd with one more thread.  That thread posts a call to each worker again and
 * again.  The call runs at a quiet point of the worker.  It packs some connections, and posts each
 * record to the next worker, which unpacks it.  The server itself has no code for it.  With one
 * worker the connections come back to it.
 *
 *   SHUFFLE_PAUSE_US   between two rounds; default 200
 *   SHUFFLE_MOVES      connections of a worker in a round; default 16
 *   SHUFFLE_REPORT     1: at the end, a line with what was moved, on standard error
 *
 * Before a stop the thread ends, and every record has arrived.  The linker's --wrap leads the
 * server's start and its stop through this file.  Servers with another handler than a built-in
 * exchange are left alone, and so is the admin endpoint.
 */
#include "net/conn_pack.h"
#include "pool/worker.h"
#include "pool/model.h"
#include "pool/server.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS_MAX 1024
#define TRIES_MAX 100000 /* to unpack a record before it is closed */

int __real_server_start(struct xchg_server *server);
int __wrap_server_start(struct xchg_server *server);
void __real_server_drain(struct xchg_server *server);
void __wrap_server_drain(struct xchg_server *server);
void __real_server_stop_now(struct xchg_server *server);
void __wrap_server_stop_now(struct xchg_server *server);
void __real_worker_send_leave(struct worker *worker, uint64_t leave_ns);
void __wrap_worker_send_leave(struct worker *worker, uint64_t leave_ns);

static struct {
  struct xchg_server *server;
  pthread_t thread;
  bool runs;
  uint64_t pause_us, moves;
  uint32_t workers;
  atom_u32 over;                    /* no more rounds */
  atom_u32 stopped;                 /* 1: the stop has been prepared */
  atom_u32 rounds[WORKERS_MAX];     /* 1: a call to this worker is under way */
  atom_u32 records;                 /* under way */
  uint64_t cursors[WORKERS_MAX];    /* the worker's: slot at which its next round begins */
  atom_u64 moved, input, output;    /* connections; those with unfinished input, with output */
  atom_u64 headers, returned, lost; /* within a PROXY header; given back; closed */
} shuffle;

/* A record on its way. */
struct parcel {
  uint32_t from, to;
  uint32_t tries;
  struct conn_owned owned;
  size_t size;
  uint8_t bytes[];
};

static struct worker *worker_at(uint32_t i) {
  struct model *model = shuffle.server->model;
  return container_of(model->ops->inbox(model, i), struct worker, inbox);
}

/* Never called: a post with it does not count in the server's statistics. */
static void returned(struct xchg_conn *conn, struct posted_call *posted) {
  (void)conn;
  (void)posted;
}

/* Post ${call} to worker ${i}. Return: was there memory? */
static bool post(uint32_t i, void (*call)(struct xchg_conn *, void *), void *argument) {
  struct posted_call *posted = posted_call_create(0, call, argument);
  if (posted == NULL) {
    return false;
  }
  posted->returned = returned;
  task_send(&worker_at(i)->inbox, &posted->task);
  return true;
}

static _Noreturn void die(const char *why) {
  fprintf(stderr, "level=error msg=\"shuffle: %s\"\n", why);
  abort();
}

/* ---- at the receiver ---- */

static void arrive(struct xchg_conn *none, void *argument);

/* No worker has memory for ${parcel}. */
static void lose(struct parcel *parcel, const struct conn_record *record) {
  struct worker *worker = worker_at(parcel->to);
  conn_record_close(&worker->ctx, record, XCHG_MEMORY);
  admission_release(worker->admission, parcel->owned.ip_slot);
  atom_sub_release_u32(&worker->live, 1);
  atom_add_relaxed_u64(&shuffle.lost, 1);
}

/* There was no memory: give ${parcel} back, that is, send it to the worker that it came from. */
static bool give_back(struct parcel *parcel) {
  uint32_t from = parcel->from;
  if (parcel->tries++ == TRIES_MAX) {
    return false;
  }
  parcel->from = parcel->to;
  parcel->to = from;
  atom_add_relaxed_u32(&worker_at(parcel->to)->live, 1);
  atom_sub_release_u32(&worker_at(parcel->from)->live, 1);
  atom_add_relaxed_u64(&shuffle.returned, 1);
  return post(parcel->to, arrive, parcel);
}

static void arrive(struct xchg_conn *none, void *argument) {
  struct parcel *parcel = argument;
  struct worker *worker = worker_at(parcel->to);
  struct conn_record record;
  (void)none;
  const char *why = conn_record_read(&record, parcel->bytes, parcel->size);
  if (why != NULL) {
    die(why);
  }
  record.owned = parcel->owned;
  struct xchg_conn *conn = conn_unpack(&worker->ctx, &record);
  if (conn != NULL) {
    conn_resume(conn, &record);
  } else if (errno != ENOMEM) {
    die(strerrordesc_np(errno));
  } else if (give_back(parcel)) {
    return;
  } else {
    lose(parcel, &record);
  }
  free(parcel);
  (void)atom_sub_release_u32(&shuffle.records, 1); /* the count itself is of no use here */
}

/* ---- at the sender ---- */

static void count(const struct xchg_conn *conn) {
  atom_add_relaxed_u64(&shuffle.moved, 1);
  atom_add_relaxed_u64(&shuffle.input, conn->in != NULL && conn->state == CONN_OPEN);
  atom_add_relaxed_u64(&shuffle.output, !send_queue_empty(&conn->out));
  atom_add_relaxed_u64(&shuffle.headers, conn->state == CONN_HEADER);
}

/* Send ${conn} to worker ${to}. Return: was there memory? */
static bool give(struct xchg_conn *conn, uint32_t from, uint32_t to) {
  struct parcel *parcel = malloc(sizeof(*parcel) + conn_record_room(conn));
  if (parcel == NULL) {
    return false;
  }
  count(conn);
  *parcel = (struct parcel){.from = from, .to = to};
  parcel->size = conn_pack(conn, parcel->bytes, &parcel->owned);
  atom_add_relaxed_u32(&shuffle.records, 1);
  atom_add_relaxed_u32(&worker_at(to)->live, 1);
  atom_sub_release_u32(&worker_at(from)->live, 1);
  if (!post(to, arrive, parcel)) {
    die("no memory");
  }
  return true;
}

/* A round of the worker whose number is ${argument}. */
static void round_of(struct xchg_conn *none, void *argument) {
  uint32_t i = (uint32_t)(uintptr_t)argument, to = (i + 1) % shuffle.workers;
  struct worker *worker = worker_at(i);
  (void)none;
  uint32_t slot = (uint32_t)shuffle.cursors[i];
  for (uint64_t moves = 0; moves < shuffle.moves && worker->ctx.stop_ns == NEVER;) {
    slot = slab_next(&worker->conns, slot);
    if (slot == SLAB_NONE) {
      slot = 0;
      break;
    }
    struct source *source = slab_at(&worker->conns, slot++);
    if (source_generation(&worker->reactor, source) == 0 ||
        conn_stays(conn_of(source)) != CONN_MOVES) {
      continue;
    }
    if (!give(conn_of(source), i, to)) {
      break;
    }
    moves++;
  }
  shuffle.cursors[i] = slot;
  atom_store_release_u32(&shuffle.rounds[i], 0);
}

/* ---- the thread ---- */

static void pause_us(uint64_t us) {
  const struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                                .tv_nsec = (long)(us % 1000000 * 1000)};
  (void)nanosleep(&time, NULL); /* a shorter pause is as good */
}

static void *run_rounds(void *unused) {
  while (atom_load_acquire_u32(&shuffle.over) == 0) {
    for (uint32_t i = 0; i < shuffle.workers; i++) {
      if (atom_load_acquire_u32(&shuffle.rounds[i]) == 0) {
        atom_store_relaxed_u32(&shuffle.rounds[i], 1);
        if (!post(i, round_of, (void *)(uintptr_t)i)) {
          atom_store_relaxed_u32(&shuffle.rounds[i], 0);
        }
      }
    }
    pause_us(shuffle.pause_us);
  }
  return unused;
}

static uint64_t setting(const char *name, uint64_t missing) {
  const char *text = getenv(name);
  return text == NULL ? missing : strtoull(text, NULL, 10);
}

int __wrap_server_start(struct xchg_server *server) {
  int code = __real_server_start(server);
  if (code != 0 || server->config->model != MODEL_POOL ||
      server->handler.user != &server->builtin) {
    return code;
  }
  shuffle.server = server;
  shuffle.workers = (uint32_t)min_u64(server->config->workers, WORKERS_MAX);
  shuffle.pause_us = setting("SHUFFLE_PAUSE_US", 200);
  shuffle.moves = setting("SHUFFLE_MOVES", 16);
  shuffle.runs = pthread_create(&shuffle.thread, NULL, run_rounds, NULL) == 0;
  return code;
}

static bool under_way(void) {
  bool any = atom_load_acquire_u32(&shuffle.records) > 0;
  for (uint32_t i = 0; i < shuffle.workers; i++) {
    any = any || atom_load_acquire_u32(&shuffle.rounds[i]) != 0;
  }
  return any;
}

/* End the thread, and wait until every record has arrived. */
static void stop_shuffling(const struct xchg_server *server) {
  if (server != shuffle.server || !shuffle.runs ||
      atom_exchange_acq_rel_u32(&shuffle.stopped, 1) != 0) {
    return;
  }
  atom_store_release_u32(&shuffle.over, 1);
  (void)pthread_join(shuffle.thread, NULL); /* it was created and is joined once */
  while (under_way()) {
    pause_us(100);
  }
  if (setting("SHUFFLE_REPORT", 0) == 1) {
    fprintf(stderr,
            "level=info msg=shuffled moved=%" PRIu64 " input=%" PRIu64 " output=%" PRIu64
            " headers=%" PRIu64 " returned=%" PRIu64 " lost=%" PRIu64 "\n",
            atom_load_relaxed_u64(&shuffle.moved), atom_load_relaxed_u64(&shuffle.input),
            atom_load_relaxed_u64(&shuffle.output), atom_load_relaxed_u64(&shuffle.headers),
            atom_load_relaxed_u64(&shuffle.returned), atom_load_relaxed_u64(&shuffle.lost));
  }
}

void __wrap_server_drain(struct xchg_server *server) {
  stop_shuffling(server);
  __real_server_drain(server);
}

void __wrap_server_stop_now(struct xchg_server *server) {
  stop_shuffling(server);
  __real_server_stop_now(server);
}

/* After an upgrade a worker may end, and would leave a call that was posted to it. */
void __wrap_worker_send_leave(struct worker *worker, uint64_t leave_ns) {
  if (shuffle.server != NULL) {
    stop_shuffling(shuffle.server);
  }
  __real_worker_send_leave(worker, leave_ns);
}
