/*
 * fuzz_conn_record: any bytes are the record of a connection, or are refused.  A record that is
 * read does no harm: its connection is served, moves again, and ends once.
 *
 * Input: the frame (over 127: the handler has a state), the bytes that the client sends (their
 * number and the bytes), the record.
 */
#include "net/conn.h"
#include "net/builtin.h"
#include "net/conn_pack.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX 4
#define INPUT_BYTES 256
#define RECORD_MAX ((size_t)16 * 1024)
#define CLIENT_MAX 64
#define TURNS_MAX 5000
#define AHEAD_NS (1000000 * NS_PER_S) /* so far that only this program moves the clock */

static const struct xchg_frame frames[] = {
    {.kind = XCHG_FRAME_DELIMITER},
    {.kind = XCHG_FRAME_LINE},
    {.kind = XCHG_FRAME_PREFIX, .size = 2},
    {.kind = XCHG_FRAME_FIXED, .size = 5},
    {.kind = XCHG_FRAME_RAW},
};

/* A worker without its thread; made once for all inputs. */
static struct {
  bool ready;
  struct config config;
  struct builtin exchange;
  struct slab slab;
  struct reactor reactor;
  struct stats stats;
  struct conn_ctx ctx;
  uint8_t input[CONN_INPUT_FRONT + INPUT_BYTES];
  uint8_t state[256]; /* what on_restore has got last */
  size_t saved;
  int client; /* the other end of the connection's socket */
} play;

static void make_once(void) {
  if (play.ready) {
    return;
  }
  play.config = (struct config){.max_message_bytes = 4096,
                                .max_pending_bytes = 8192,
                                .idle_timeout_ns = 10 * NS_PER_S,
                                .message_timeout_ns = 5 * NS_PER_S,
                                .write_timeout_ns = 3 * NS_PER_S,
                                .max_lifetime_ns = 20 * NS_PER_S,
                                .drain_timeout_ns = NS_PER_S,
                                .linger_ns = NS_PER_S,
                                .proxy_timeout_ns = NS_PER_S,
                                .reply = REPLY_ECHO,
                                .listen_count = 1};
  play.config.listen[0].proxy = ADDR_PROXY_ANY;
  fuzz_holds(builtin_init(&play.exchange, &play.config) == 0, "memory is available");
  fuzz_holds(slab_init(&play.slab, conn_bytes(&play.exchange.handler), CONNS_MAX) == 0 &&
                 reactor_open(&play.reactor, &play.slab, &play.stats) == 0 &&
                 conn_ctx_init(&play.ctx, &play.config, &play.exchange.handler, &play.reactor,
                               CONNS_MAX) == 0,
             "a worker opens");
  play.reactor.now_ns += AHEAD_NS;
  play.ctx.input = play.input + CONN_INPUT_FRONT;
  play.ctx.input_bytes = INPUT_BYTES;
  play.ready = true;
}

/* ---- the state of a handler ---- */

/* Refused by its first byte. */
static int restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  const uint8_t *bytes = data;
  fuzz_holds(version != 0 && size <= XCHG_SAVE_MAX, "a state has a version and a limit");
  (void)xchg_send(conn, data, min_u64(size, 16));
  play.saved = min_u64(size, sizeof(play.state));
  if (play.saved > 0) {
    memcpy(play.state, bytes, play.saved);
  }
  return play.saved > 0 && bytes[0] == 'r' ? -1 : 0;
}

static ssize_t save(struct xchg_conn *conn, void *data, size_t size) {
  (void)conn;
  fuzz_holds(size >= play.saved, "there is room");
  memcpy(data, play.state, play.saved);
  return (ssize_t)play.saved;
}

static void set_handler(bool state) {
  struct xchg_handler *handler = &play.exchange.handler;
  handler->state_version = state ? 1 : 0;
  handler->on_save = state ? save : NULL;
  handler->on_restore = state ? restore : NULL;
}

/* ---- turns ---- */

static struct xchg_conn *live(void) {
  uint32_t slot = slab_next(&play.slab, 0);
  return slot == SLAB_NONE ? NULL : conn_of(slab_at(&play.slab, slot));
}

/* The client reads what is there, and forgets it. */
static bool client_reads(void) {
  uint8_t bytes[4096];
  return play.client != -1 && recv(play.client, bytes, sizeof(bytes), 0) > 0;
}

/* One turn. Return: was there something to do? */
static bool turn(void) {
  reactor_wait(&play.reactor, 0);
  bool busy = play.reactor.ready > 0 || reactor_busy(&play.reactor);
  reactor_dispatch(&play.reactor);
  for (struct source *source; (source = reactor_reap(&play.reactor)) != NULL;) {
    reactor_free(&play.reactor, source);
  }
  return busy;
}

static void settle(void) {
  bool busy = true;
  for (int i = 0; busy && i < TURNS_MAX; i++) {
    busy = turn();
    busy = client_reads() || busy;
  }
  fuzz_holds(!busy, "the connection comes to rest");
}

static void client_ends(void) {
  if (play.client != -1) {
    close(play.client);
    play.client = -1;
  }
}

/* ---- one record ---- */

static void within(const struct conn_bytes *part, const uint8_t *bytes, size_t size) {
  fuzz_holds(part->size == 0 ? part->data == NULL || part->data <= bytes + size
                             : part->data >= bytes && part->data + part->size <= bytes + size,
             "a part lies in the record");
}

/* Serve ${record} on a new pair of sockets. Return: does a connection live? */
static bool serve(struct conn_record *record) {
  int fds[2];
  fuzz_holds(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0,
             "there is a pair of sockets");
  play.client = fds[0];
  record->owned = (struct conn_owned){.fd = fds[1], .ip_slot = NO_IP_SLOT};
  record->listener = 0;
  struct xchg_conn *conn = conn_unpack(&play.ctx, record);
  if (conn == NULL) {
    fuzz_holds(errno == ENOMEM || errno == EBADMSG || errno == ECANCELED, "a refusal has a reason");
    close(fds[1]);
    client_ends();
    return false;
  }
  conn_resume(conn);
  return true;
}

/* Pack the connection at its quiet point and serve it again. */
static void move(void) {
  static uint8_t bytes[1 << 20];
  struct xchg_conn *conn = live();
  if (conn == NULL || conn_stays(conn) != CONN_MOVES) {
    return;
  }
  struct conn_record record;
  fuzz_holds(conn_record_room(conn) <= sizeof(bytes), "a record has room");
  size_t size = conn_pack(conn, bytes);
  fuzz_holds(conn_record_read(&record, bytes, size) == NULL, "what was packed is read");
  record.owned = conn_gone(conn);
  (void)turn(); /* its object is freed */
  conn = conn_unpack(&play.ctx, &record);
  fuzz_holds(conn != NULL, "what was packed is unpacked");
  conn_resume(conn);
}

/* Let it run until it has ended. */
static void finish(void) {
  client_ends();
  settle();
  for (int i = 0; i < 8 && live() != NULL; i++) {
    play.reactor.now_ns += 3600 * NS_PER_S;
    (void)turn();
  }
  fuzz_holds(live() == NULL, "the connection ends");
  fuzz_holds(stats_ended(&play.stats) == 1, "it is counted once");
  fuzz_holds(play.ctx.bufs.bytes == 0 && play.ctx.colds.used == 0, "it keeps no memory");
  play.reactor.now_ns = sys_now_ns() + AHEAD_NS;
}

static void run(struct conn_record *record, const uint8_t *sent, size_t sent_size) {
  memset(&play.stats, 0, sizeof(play.stats));
  if (!serve(record)) {
    (void)turn(); /* its object is freed, if it had asked for a turn */
    fuzz_holds(live() == NULL && play.ctx.bufs.bytes == 0, "a refusal leaves nothing");
    return;
  }
  move(); /* before its first turn */
  settle();
  move();
  (void)!send(play.client, sent, sent_size, MSG_NOSIGNAL); /* it may have ended */
  (void)turn();
  move();
  settle();
  play.reactor.now_ns += 2 * NS_PER_S;
  settle();
  move();
  finish();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  struct conn_record record;
  size_t sent_size, record_size;
  uint8_t frame = fuzz_byte(&input);
  const uint8_t *sent = fuzz_bytes(&input, fuzz_byte(&input) % CLIENT_MAX, &sent_size);
  const uint8_t *from = fuzz_bytes(&input, RECORD_MAX, &record_size);
  make_once();
  play.exchange.handler.frame = frames[(frame & 127) % count_of(frames)];
  set_handler(frame > 127);
  /* A block of its own, so that the sanitizer sees the first byte after it. */
  uint8_t *bytes = malloc(max_u64(record_size, 1));
  fuzz_holds(bytes != NULL, "memory is available");
  if (record_size > 0) {
    memcpy(bytes, from, record_size);
  }
  if (conn_record_read(&record, bytes, record_size) == NULL) {
    within(&record.input, bytes, record_size);
    within(&record.output, bytes, record_size);
    within(&record.header, bytes, record_size);
    within(&record.groups, bytes, record_size);
    within(&record.saved, bytes, record_size);
    run(&record, sent, sent_size);
  }
  free(bytes);
  return 0;
}
