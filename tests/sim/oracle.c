/* oracle: see oracle.h.  This file notes what happens and compares every byte. */
#include "tests/sim/oracle.h"

#include "tests/sim/kernel.h"
#include "tests/sim/plan.h"
#include "tests/sim/workload.h"

#include "net/conn_internal.h"
#include "pool/server.h"

#include <string.h>

#define POLLS_MAX 40000 /* waits in a row without progress; XCHG_SPIN is at most 200us here */
#define SLEEP_NS (100 * NS_PER_US) /* a longer wait is not one of them */
#define RECENT_NS (50 * NS_PER_MS) /* a connection may count as live this long after its close */

struct oracle oracle;

static struct xchg_handler inner; /* the server's own handler */

void oracle_reset(void) {
  memset(&oracle, 0, sizeof(oracle));
  oracle.stop_ns = oracle.stop_now_ns = NEVER;
}

struct record *record_of(const struct link *link) {
  return &oracle.records[link->peer->number];
}

/* ---- expected output ---- */

/* Bytes of the reply to a message: ${whole} bytes with its frame, ${data} of them data. */
static uint64_t reply_size(uint64_t whole, uint64_t data) {
  const struct config *config = &plan.config;
  return config->reply == REPLY_ECHO   ? whole
         : config->reply == REPLY_NONE ? 0
         : config->frame.kind == XCHG_FRAME_RAW || config->frame.kind == XCHG_FRAME_FIXED
             ? config->reply_text.size
             : config->reply_text.size + whole - data;
}

static uint64_t greeting_size(void) {
  const struct config *config = &plan.config;
  if (!config->has_greeting) {
    return 0;
  }
  switch (config->frame.kind) {
    case XCHG_FRAME_DELIMITER:
    case XCHG_FRAME_LINE:
      return config->greeting.size + 1;
    case XCHG_FRAME_PREFIX:
      return config->greeting.size + config->frame.size;
    default:
      return config->greeting.size;
  }
}

void oracle_expect(struct peer *peer) {
  struct record *record = &oracle.records[peer->number];
  uint64_t size = greeting_size();
  for (uint32_t i = 0; i < peer->pieces_count; i++) {
    struct piece *piece = &peer->pieces[i];
    size += reply_size(piece->end - piece->start, piece->size);
    piece->answered = size;
  }
  if (plan.config.frame.kind == XCHG_FRAME_RAW) { /* at worst a message per byte */
    uint64_t most = plan.config.messages > 0 ? plan.config.messages : peer->out_size;
    size += reply_size(peer->out_size, 0) + most * plan.config.reply_text.size;
  }
  record->expect_max = size;
  record->expect = arena_take(size + 1);
}

static void expect(struct record *record, const void *bytes, uint64_t size) {
  if (record->expect_size + size > record->expect_max) {
    world_fail("the server answers more than it was asked");
    return;
  }
  memcpy(record->expect + record->expect_size, bytes, size);
  record->expect_size += size;
  if (record->waits_ns == 0) {
    record->waits_ns = world.now_ns;
  }
}

/* The length prefix of a text of the server. */
static void expect_head(struct record *record, uint64_t size) {
  const struct xchg_frame *frame = &plan.config.frame;
  for (size_t i = 0; frame->kind == XCHG_FRAME_PREFIX && i < frame->size; i++) {
    uint8_t byte = (uint8_t)(size >> 8 * (frame->size - 1 - i));
    expect(record, &byte, 1);
  }
}

static void expect_greeting(struct record *record) {
  const struct config *config = &plan.config;
  if (config->has_greeting) {
    expect_head(record, config->greeting.size);
    expect(record, config->greeting.bytes, config->greeting.size);
    if (config->frame.kind == XCHG_FRAME_LINE) {
      expect(record, "\n", 1);
    } else if (config->frame.kind == XCHG_FRAME_DELIMITER) {
      expect(record, "", 1);
    }
  }
}

/* The reply to the message in ${size} bytes at ${bytes}, the last ${tail} of them a terminator. */
static void expect_reply(struct record *record, const uint8_t *bytes, uint64_t size,
                         uint64_t tail) {
  const struct config *config = &plan.config;
  if (config->reply == REPLY_ECHO) {
    expect(record, bytes, size);
  } else if (config->reply == REPLY_TEXT) {
    expect_head(record, config->reply_text.size);
    expect(record, config->reply_text.bytes, config->reply_text.size);
    expect(record, bytes + size - tail, tail);
  }
}

/* ---- reported to the handler ---- */

static struct link *link_of(const struct xchg_conn *conn) {
  return kernel_file(conn->fd, FILE_LINK)->object;
}

static uint64_t pending(const struct link *link) {
  return record_of(link)->expect_size - link->down_written;
}

/* Denied by XCHG_DENY or XCHG_ALLOW as plan.c sets them: both admit only 127.0.0.0/8. */
static bool is_denied(const struct peer *peer) {
  return peer->addr.bytes[0] != 127 && (plan.config.deny.count > 0 || plan.config.allow.count > 0);
}

static bool is_same_address(const struct peer *a, const struct peer *b) {
  size_t size = a->addr.family == ADDR_IPV6 ? 8 : sizeof(a->addr.bytes);
  return a->addr.family == b->addr.family && memcmp(a->addr.bytes, b->addr.bytes, size) == 0;
}

/* Open connections; without accepted ones that the server is about to refuse. */
static uint32_t live_connections(const struct peer *of_address) {
  uint32_t count = 0;
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    const struct record *record = &oracle.records[i];
    count += record->opened && !record->kernel_closed &&
             (of_address == NULL || is_same_address(peer_at(i), of_address));
  }
  return count;
}

static void opened(struct xchg_conn *conn) {
  struct link *link = link_of(conn);
  struct record *record = record_of(link);
  const struct config *config = &plan.config;
  if (record->opened || !record->accepted || record->kernel_closed) {
    world_fail("peer %u is opened at a wrong time", link->peer->number);
  }
  if (is_denied(link->peer)) {
    world_fail("peer %u is denied but was admitted", link->peer->number);
  }
  record->opened = true;
  record->opened_ns = record->touched_ns = record->sent_ns = world.now_ns;
  if (live_connections(NULL) > config->max_connections) {
    world_fail("more connections than XCHG_MAX_CONNECTIONS");
  }
  if (config->max_per_ip > 0 && live_connections(link->peer) > config->max_per_ip) {
    world_fail("more connections of peer %u's address than allowed", link->peer->number);
  }
  expect_greeting(record);
  if (inner.on_open != NULL) {
    inner.on_open(conn);
  }
}

/* Is it the next message of the peer's stream, byte for byte? */
static void compare(const struct link *link, const struct xchg_message *message) {
  const struct record *record = record_of(link);
  const struct peer *peer = link->peer;
  const struct piece *piece = &peer->pieces[record->handed];
  uint64_t start = record->handed_to, size = message->frame_size, data = start;
  if (plan.config.frame.kind != XCHG_FRAME_RAW) {
    bool by_end = record->handed >= peer->pieces_count || piece->kind != PIECE_MESSAGE ||
                  piece->end > link->up_read;
    size = by_end ? link->up_read - start : piece->end - piece->start;
    data = by_end ? start : piece->data;
    uint64_t inside = by_end ? size : piece->size;
    if (by_end && (!link->fin_read || plan.config.frame.kind == XCHG_FRAME_PREFIX ||
                   plan.config.frame.kind == XCHG_FRAME_FIXED)) {
      world_fail("peer %u: an unfinished message is delivered", peer->number);
    }
    if (message->size != inside || inside > plan.config.max_message_bytes) {
      world_fail("peer %u: message %u has %zu bytes, not %llu", peer->number, record->handed,
                 message->size, (unsigned long long)inside);
    }
  }
  if (message->frame_size != size || start + size > link->up_read ||
      memcmp(message->frame, peer->out + start, size) != 0 ||
      memcmp(message->data, peer->out + data, message->size) != 0) {
    world_fail("peer %u: message %u is not what was sent", peer->number, record->handed);
  }
}

static void message_came(struct xchg_conn *conn, const struct xchg_message *message) {
  struct link *link = link_of(conn);
  struct record *record = record_of(link);
  const uint8_t *frame = message->frame, *data = message->data;
  uint64_t tail = (uint64_t)(frame + message->frame_size - (data + message->size));
  if (!record->opened || record->closed || record->last_by_end) {
    world_fail("peer %u: a message at a wrong time", link->peer->number);
  }
  if (plan.config.messages > 0 && record->handed >= plan.config.messages) {
    world_fail("peer %u: more messages than XCHG_MESSAGES", link->peer->number);
  }
  compare(link, message);
  record->last_by_end = link->fin_read;
  record->handed++;
  record->handed_to += message->frame_size;
  oracle.messages++;
  expect_reply(record, frame, message->frame_size, tail);
  record->was_blocked = record->was_blocked || pending(link) >= plan.config.max_pending_bytes;
  if (inner.on_message != NULL) {
    inner.on_message(conn, message);
  }
}

/* What a connection counts of itself is what the kernel has given and taken. */
static void check_account(const struct xchg_conn *conn, const struct link *link) {
  const struct conn_peer *peer = conn_peer(conn);
  if (conn->bytes_in != link->up_read || conn->bytes_out != link->down_written) {
    world_fail("peer %u: counts %llu and %llu bytes, not %llu and %llu", link->peer->number,
               (unsigned long long)conn->bytes_in, (unsigned long long)conn->bytes_out,
               (unsigned long long)link->up_read, (unsigned long long)link->down_written);
  }
  if (peer->opened_ns > world.now_ns || peer->opened_ns > record_of(link)->opened_ns ||
      network_port(peer->listener) != link->port) {
    world_fail("peer %u: wrong time of opening or listener", link->peer->number);
  }
}

static void closed(struct xchg_conn *conn, enum xchg_reason reason) {
  struct link *link = link_of(conn);
  struct record *record = record_of(link);
  check_account(conn, link);
  world_trace("peer %u: closed, %s", link->peer->number, xchg_reason_name(reason));
  if (!record->opened || record->closed) {
    world_fail("peer %u is closed at a wrong time", link->peer->number);
  }
  record->closed = true;
  record->reason = reason;
  oracle.ended[reason]++;
  check_end_reason(link, reason);
}

void oracle_listen(struct xchg_server *server) {
  inner = server->handler;
  server->handler.on_open = opened;
  server->handler.on_message = message_came;
  server->handler.on_close = closed;
}

/* ---- reported by the network and the calls ---- */

/* The running thread has made progress. */
static void note_progress(void) {
  if (world_self() != -1) {
    oracle.polls[world_self()] = 0;
  }
}

void oracle_syn(struct link *link) {
  record_of(link)->syn_in_time = oracle.stop_ns == NEVER;
  if (plan.faults.option == 0 && !oracle.over && oracle.stop_ns != NEVER &&
      world.now_ns > oracle.stop_ns + RECENT_NS + check_patience_ns()) {
    world_fail("peer %u begins a handshake after the stop", link->peer->number);
  }
}

void oracle_excuse(void) { note_progress(); }

void oracle_queued(struct link *link) { record_of(link)->queued_ns = world.now_ns; }

/* A connection comes or waits in the backlog, and the listener is closed. */
void oracle_missed(struct link *link) {
  const struct config *config = &plan.config;
  if (oracle.over || !record_of(link)->syn_in_time) {
    return;
  }
  uint64_t grace_ns = add_sat_u64(oracle.stop_ns, config->stop_grace_ns);
  bool waited = link->state == LINK_QUEUED && record_of(link)->queued_ns <= grace_ns;
  if ((world.now_ns < grace_ns || waited) && world.now_ns < oracle.stop_now_ns) {
    world_fail("peer %u is lost in the backlog", link->peer->number);
  }
}

void oracle_accepted(struct link *link) {
  struct record *record = record_of(link);
  if (record->accepted) {
    world_fail("peer %u is accepted twice", link->peer->number);
  }
  note_progress();
  record->accepted = true;
  record->accepted_ns = world.now_ns;
  oracle.accepted++;
}

void oracle_accept_failed(void) { oracle.accept_ns = world.now_ns; }

void oracle_read(struct link *link, uint64_t from, uint64_t count) {
  struct record *record = record_of(link);
  struct peer *peer = link->peer;
  note_progress();
  record->touched_ns = world.now_ns;
  oracle.bytes_in += count;
  for (uint32_t i = record->handed; i < peer->pieces_count; i++) {
    struct piece *piece = &peer->pieces[i];
    if (piece->start >= from + count) {
      break;
    }
    if (piece->start >= from) {
      piece->first_read_ns = world.now_ns;
    }
  }
}

void oracle_wrote(struct link *link, const void *data, uint64_t count) {
  struct record *record = record_of(link);
  uint64_t end = link->down_written, start = end - count;
  if (record->closed) {
    world_fail("peer %u is written to after its end", link->peer->number);
  }
  if (end > record->expect_size || memcmp(record->expect + start, data, count) != 0) {
    world_fail("peer %u gets wrong bytes after %llu", link->peer->number,
               (unsigned long long)start);
  }
  note_progress();
  record->touched_ns = record->sent_ns = world.now_ns;
  record->waits_ns = end < record->expect_size ? record->waits_ns : 0;
  oracle.bytes_out += count;
}

void oracle_waited(int ready, uint64_t began_ns) {
  int self = world_self();
  bool slept = world.now_ns > began_ns + SLEEP_NS;
  oracle.turns[self] = world.now_ns;
  oracle.timeouts[self] += slept && ready == 0;
  oracle.polls[self] = slept ? 0 : oracle.polls[self] + 1;
  if (oracle.polls[self] > POLLS_MAX) {
    world_fail("a thread waits repeatedly without an event");
  }
}

/* A reset goes to the peer; check_end_close and check_peers check what it could destroy. */
void oracle_resets(struct link *link) {
  world_trace("peer %u: a reset goes down", link->peer->number);
}

/* A half-close at a stop: everything that came before this turn must have been read. */
void oracle_shut(struct link *link) {
  struct record *record = record_of(link);
  int self = world_self();
  bool counted = plan.config.messages > 0;
  bool over = link->fin_read || (counted && record->handed >= plan.config.messages) ||
              (record->handed < link->peer->pieces_count &&
               link->peer->pieces[record->handed].kind == PIECE_TOO_LONG);
  record->shut_ns = world.now_ns;
  record->shut_begun = link->up_read - record->handed_to;
  if (pending(link) > 0) {
    world_fail("peer %u: half-closed with a reply unsent", link->peer->number);
  }
  if (!over && record->handed > 0 && link->up_arrived > link->up_read && self != -1 &&
      link_oldest_ns(link) < oracle.turns[self]) {
    world_fail("peer %u: half-closed with a message unread", link->peer->number);
  }
}

/* Other connections that the server may count; those of the same address if ${same}. */
static uint32_t counted_beside(const struct link *link, bool same) {
  uint64_t recent_ns = RECENT_NS + check_patience_ns();
  uint32_t count = 0;
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    const struct record *record = &oracle.records[i];
    bool live = record->accepted &&
                (!record->kernel_closed || world.now_ns < record->closed_ns + recent_ns);
    count += live && i != link->peer->number && (!same || is_same_address(peer_at(i), link->peer));
  }
  return count;
}

/* May the server close it without opening it: denied, per_ip, overload, memory, drain? */
static bool may_refuse(const struct link *link) {
  const struct config *config = &plan.config;
  bool full = config->overload == XCHG_OVERLOAD_REFUSE &&
              counted_beside(link, false) >= min_u64(config->max_connections, config->queue);
  bool many = config->max_per_ip > 0 && counted_beside(link, true) >= config->max_per_ip;
  return is_denied(link->peer) || full || many || oracle.no_memory ||
         world.now_ns >= oracle.stop_now_ns;
}

void oracle_closes(struct link *link) {
  struct record *record = record_of(link);
  if (record->kernel_closed) {
    world_fail("peer %u is closed twice", link->peer->number);
  }
  note_progress();
  record->kernel_closed = true;
  record->closed_ns = world.now_ns;
  oracle.freed_ns = world.now_ns;
  record->all_acked = link->down_acked == link->down_written || link->fin_read;
  if (!record->opened) {
    oracle.refused++;
    if (!may_refuse(link)) {
      world_fail("peer %u is refused for no reason", link->peer->number);
    }
  } else if (!record->closed) {
    world_fail("peer %u is closed and the handler was not told", link->peer->number);
  } else {
    check_end_close(link);
  }
}
