/*
 * shuffle: xchgd whose workers give connections to each other all the time.
 *
 * It is the program xchgd with one more thread.  That thread does what both sides of an upgrade do,
 * with the same batches (pool/conn_batch): each worker packs some connections, the next one unpacks
 * and serves them, and they are gone from the first.  The server itself has no code for it.  With
 * one worker the connections come back to it.
 *
 *   SHUFFLE_PAUSE_US   between two rounds; default 200
 *   SHUFFLE_MOVES      connections of a worker in a round; default 16
 *   SHUFFLE_REPORT     1: at the end, a line with what was moved, on standard error
 *
 * Before a stop the thread ends, and nothing is under way.  The linker's --wrap leads the server's
 * start and its stop through this file.  Servers with a handler that has no state_version are left
 * alone, and so is the admin endpoint.
 */
#include "pool/conn_batch.h"
#include "pool/worker.h"
#include "pool/model.h"
#include "pool/server.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROUTES_MAX 64

int __real_server_start(struct xchg_server *server);
int __wrap_server_start(struct xchg_server *server);
void __real_server_drain(struct xchg_server *server);
void __wrap_server_drain(struct xchg_server *server);
void __real_server_stop_now(struct xchg_server *server);
void __wrap_server_stop_now(struct xchg_server *server);
void __real_worker_send_leave(struct worker *worker, uint64_t leave_ns);
void __wrap_worker_send_leave(struct worker *worker, uint64_t leave_ns);

/* What goes from one worker to the next. */
struct route {
  enum { ROUTE_IDLE, ROUTE_PACK, ROUTE_UNPACK, ROUTE_SETTLE } state;
  uint32_t from, to;
  uint32_t cursor;               /* slot at which the next round begins */
  struct conn_batch *out, *back; /* own: at the sender, at the receiver */
};

static struct {
  struct xchg_server *server;
  pthread_t thread;
  bool runs;
  uint64_t pause_us, moves;
  uint32_t workers;
  struct route routes[ROUTES_MAX];
  struct wake answers;
  atom_u32 over;                 /* no more rounds */
  atom_u32 stopped;              /* 1: the stop has been prepared */
  uint64_t moved, input, output; /* connections; those with unfinished input, with output */
  uint64_t headers, returned;    /* within a PROXY header; given back */
} shuffle;

static struct worker *worker_at(uint32_t i) {
  return worker_of_inbox(server_inbox(shuffle.server, i));
}

static _Noreturn void die(const char *why) {
  fprintf(stderr, "level=error msg=\"shuffle: %s\"\n", why);
  abort();
}

/* ---- the steps of a route ---- */

static void begin(struct route *route) {
  struct conn_batch *out = route->out;
  conn_batch_clear(out);
  out->want = (uint32_t)shuffle.moves;
  out->cursor = route->cursor;
  out->over = false;
  conn_batch_send(out, &worker_at(route->from)->inbox, CONN_BATCH_PACK);
  route->state = ROUTE_PACK;
}

static void count(const struct conn_record *record) {
  shuffle.moved++;
  shuffle.input += record->input.size > 0 && record->conn.state == CONN_OPEN;
  shuffle.output += record->output.size > 0;
  shuffle.headers += record->conn.state == CONN_HEADER;
}

/* The records are packed: let the receiver unpack them. */
static void on_packed(struct route *route) {
  struct conn_batch *out = route->out, *back = route->back;
  size_t at = 0;
  route->cursor = out->over ? 0 : out->cursor;
  conn_batch_clear(back);
  for (uint32_t i = 0; i < out->count; i++) {
    struct conn_batch_item *item = &back->items[back->count++];
    *item = (struct conn_batch_item){.wanted = true};
    const char *why = conn_record_read(&item->record, out->arena + at, out->items[i].size);
    if (why != NULL) {
      die(why);
    }
    item->record.owned = out->items[i].record.owned;
    count(&item->record);
    at += out->items[i].size;
  }
  atom_add_relaxed_u32(&worker_at(route->to)->live, back->count);
  conn_batch_send(back, &worker_at(route->to)->inbox, CONN_BATCH_UNPACK);
  route->state = ROUTE_UNPACK;
}

/* Those that were unpacked are served there; for others there was no memory, and they come back. */
static void on_unpacked(struct route *route) {
  uint32_t refused = 0;
  for (uint32_t i = 0; i < route->out->count; i++) {
    route->out->items[i].gone = route->back->items[i].conn != NULL;
    refused += !route->out->items[i].gone;
  }
  shuffle.returned += refused;
  atom_sub_release_u32(&worker_at(route->to)->live, refused);
  conn_batch_send(route->back, &worker_at(route->to)->inbox, CONN_BATCH_SETTLE);
  conn_batch_send(route->out, &worker_at(route->from)->inbox, CONN_BATCH_SETTLE);
  route->state = ROUTE_SETTLE;
}

static void on_settled(struct route *route) {
  uint32_t gone = 0;
  for (uint32_t i = 0; i < route->out->count; i++) {
    gone += route->out->items[i].gone;
  }
  atom_sub_release_u32(&worker_at(route->from)->live, gone);
  room_wake(&shuffle.server->admission); /* both workers had counted them */
  route->state = ROUTE_IDLE;
}

static void tend(struct route *route) {
  static void (*const steps[])(struct route *) = {begin, on_packed, on_unpacked, on_settled};
  bool over = atom_load_acquire_u32(&shuffle.over) != 0;
  if (conn_batch_answered(route->out) && conn_batch_answered(route->back) &&
      !(over && route->state == ROUTE_IDLE)) {
    steps[route->state](route);
  }
}

/* ---- the thread ---- */

static bool all_idle(void) {
  bool idle = true;
  for (uint32_t i = 0; i < shuffle.workers; i++) {
    idle = idle && shuffle.routes[i].state == ROUTE_IDLE;
  }
  return idle;
}

static void pause_us(uint64_t us) {
  const struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                                .tv_nsec = (long)(us % 1000000 * 1000)};
  (void)nanosleep(&time, NULL); /* a shorter pause is as good */
}

/* Wait for an answer. */
static void await_answer(void) {
  struct pollfd fds[] = {{.fd = shuffle.answers.fd, .events = POLLIN}};
  uint64_t count;
  (void)poll(fds, 1, -1);                                 /* a needless look does no harm */
  (void)!read(shuffle.answers.fd, &count, sizeof(count)); /* likewise */
}

static void *run_rounds(void *unused) {
  while (atom_load_acquire_u32(&shuffle.over) == 0) {
    do {
      for (uint32_t i = 0; i < shuffle.workers; i++) {
        tend(&shuffle.routes[i]);
      }
      if (!all_idle()) {
        await_answer();
      }
    } while (!all_idle());
    pause_us(shuffle.pause_us);
  }
  return unused;
}

/* Return: was there memory? */
static bool open_routes(void) {
  bool opened = wake_open(&shuffle.answers) == 0;
  for (uint32_t i = 0; i < shuffle.workers; i++) {
    struct route *route = &shuffle.routes[i];
    *route = (struct route){.from = i,
                            .to = (i + 1) % shuffle.workers,
                            .out = conn_batch_create(&shuffle.answers),
                            .back = conn_batch_create(&shuffle.answers)};
    opened = opened && route->out != NULL && route->back != NULL;
  }
  return opened;
}

static uint64_t setting(const char *name, uint64_t missing) {
  const char *text = getenv(name);
  return text == NULL ? missing : strtoull(text, NULL, 10);
}

int __wrap_server_start(struct xchg_server *server) {
  int code = __real_server_start(server);
  bool moves = server->handler.user == &server->builtin || server->handler.state_version != 0;
  if (code != 0 || server->config->model != MODEL_POOL || !moves) {
    return code;
  }
  shuffle.server = server;
  shuffle.workers = (uint32_t)min_u64(server->config->workers, ROUTES_MAX);
  shuffle.pause_us = setting("SHUFFLE_PAUSE_US", 200);
  shuffle.moves = min_u64(setting("SHUFFLE_MOVES", 16), CONN_BATCH_MAX);
  shuffle.runs = open_routes() && pthread_create(&shuffle.thread, NULL, run_rounds, NULL) == 0;
  return code;
}

/* End the thread: then nothing is under way. */
static void stop_shuffling(const struct xchg_server *server) {
  if (server != shuffle.server || !shuffle.runs ||
      atom_exchange_acq_rel_u32(&shuffle.stopped, 1) != 0) {
    return;
  }
  atom_store_release_u32(&shuffle.over, 1);
  (void)pthread_join(shuffle.thread, NULL); /* it was created and is joined once */
  for (uint32_t i = 0; i < shuffle.workers; i++) {
    conn_batch_destroy(shuffle.routes[i].out);
    conn_batch_destroy(shuffle.routes[i].back);
  }
  if (setting("SHUFFLE_REPORT", 0) == 1) {
    fprintf(stderr,
            "level=info msg=shuffled moved=%" PRIu64 " input=%" PRIu64 " output=%" PRIu64
            " headers=%" PRIu64 " returned=%" PRIu64 "\n",
            shuffle.moved, shuffle.input, shuffle.output, shuffle.headers, shuffle.returned);
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
