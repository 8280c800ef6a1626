/*
 * rig: a worker in little, for tests of connections: a real reactor, slab and host, and a handler
 * that does what the test says and notes what it was told.
 *
 * The server's ends of the sockets are the rig's, the clients' ends are nonblocking and the test's.
 * Time passes by hand: the reactor's clock, which never goes back, is set ahead of the kernel's, so
 * that it stands still but for rig_advance: no test sleeps, and a slow machine changes nothing.
 * After every turn the invariants of net/conn_data.h are checked for every live connection.
 */
#ifndef TESTS_UNIT_RIG_H
#define TESTS_UNIT_RIG_H

#include "core/sys.h"
#include "net/frame.h"
#include "net/conn_out.h"
#include "net/conn_in.h"
#include "net/conn.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RIG_CONNS_MAX 64
#define RIG_INPUT_BYTES ((size_t)64 * 1024)
#define RIG_AHEAD_NS (1000000 * NS_PER_S) /* so far ahead of the kernel's clock is the rig's */
#define RIG_PATIENCE_NS (60 * NS_PER_S)   /* for what must come at once, on a loaded machine */

enum rig_reply { RIG_ECHO, RIG_SILENT, RIG_LONG };

struct rig {
  struct config config;
  struct xchg_handler handler;
  struct slab slab;
  struct reactor reactor;
  struct stats stats;
  struct conn_host host;
  uint8_t *input;    /* owns */
  uint32_t accepted; /* connections opened */

  /* what the handler does */
  const char *greeting; /* NULL = none */
  enum rig_reply reply;
  size_t long_bytes;     /* RIG_LONG: bytes of a reply, each the message's first byte */
  uint64_t finish_after; /* messages, then xchg_finish (and a send that must fail); 0 = never */
  uint64_t abort_after;  /* messages, then xchg_abort; 0 = never */
  bool open_finishes, open_aborts;

  /* what it was told */
  uint32_t opens, closes;
  enum xchg_reason reason; /* of the last on_close */
  uint64_t messages;
  uint8_t *got; /* owns: the messages' bytes, each with '|' behind it */
  size_t got_size, got_room;
};

/* ---- the handler ---- */

static inline struct rig *rig_of(const struct xchg_conn *conn) {
  return container_of(conn->host, struct rig, host);
}

static inline void rig_on_open(struct xchg_conn *conn) {
  struct rig *rig = rig_of(conn);
  rig->opens++;
  if (rig->greeting != NULL) {
    (void)xchg_send(conn, rig->greeting, strlen(rig->greeting));
  }
  if (rig->open_finishes) {
    xchg_finish(conn);
  }
  if (rig->open_aborts) {
    xchg_abort(conn);
  }
}

static inline void rig_on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct rig *rig = rig_of(conn);
  rig->messages++;
  if (rig->got_size + message->size + 1 > rig->got_room) {
    rig->got_room = 2 * (rig->got_size + message->size + 1);
    rig->got = realloc(rig->got, rig->got_room);
    ck_assert_ptr_nonnull(rig->got);
  }
  if (message->size > 0) {
    memcpy(rig->got + rig->got_size, message->data, message->size);
  }
  rig->got_size += message->size + 1;
  rig->got[rig->got_size - 1] = '|';
  if (rig->reply == RIG_ECHO) {
    (void)xchg_send(conn, message->frame, message->frame_size);
  } else if (rig->reply == RIG_LONG) {
    uint8_t *reply = malloc(rig->long_bytes);
    ck_assert_ptr_nonnull(reply);
    memset(reply, *(const uint8_t *)message->data, rig->long_bytes);
    (void)xchg_send(conn, reply, rig->long_bytes);
    free(reply);
  }
  if (conn->messages == rig->finish_after) {
    xchg_finish(conn);
    ck_assert_int_eq(xchg_send(conn, "x", 1), -1);
  }
  if (conn->messages == rig->abort_after) {
    xchg_abort(conn);
    ck_assert_int_eq(xchg_send(conn, "x", 1), -1);
  }
}

static inline void rig_on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  struct rig *rig = rig_of(conn);
  rig->closes++;
  rig->reason = reason;
}

/* ---- beginning and end ---- */

/* Values of a connection's life as XCHG_EXCHANGE=echo under the frame nul has them. */
static inline void rig_init(struct rig *rig) {
  *rig = (struct rig){.config = {.messages = 0,
                                 .max_message_bytes = 64 * 1024,
                                 .max_pending_bytes = 256 * 1024,
                                 .idle_timeout_ns = 60 * NS_PER_S,
                                 .message_timeout_ns = 10 * NS_PER_S,
                                 .write_timeout_ns = 10 * NS_PER_S,
                                 .linger_ns = 2 * NS_PER_S,
                                 .drain_timeout_ns = 30 * NS_PER_S},
                      .handler = {.size = sizeof(struct xchg_handler),
                                  .frame = {.kind = XCHG_FRAME_DELIMITER},
                                  .max_message = 64 * 1024,
                                  .on_open = rig_on_open,
                                  .on_message = rig_on_message,
                                  .on_close = rig_on_close}};
}

/* Start with what the test has made of config and handler; ${single}: wait with poll. */
static inline void rig_start(struct rig *rig, bool single) {
  rig->input = malloc(CONN_INPUT_FRONT + RIG_INPUT_BYTES);
  ck_assert_ptr_nonnull(rig->input);
  ck_assert_int_eq(slab_init(&rig->slab, conn_bytes(&rig->handler), RIG_CONNS_MAX), 0);
  if (single) {
    reactor_open_single(&rig->reactor, &rig->slab, &rig->stats);
  } else {
    ck_assert_int_eq(reactor_open(&rig->reactor, &rig->slab, &rig->stats), 0);
  }
  ck_assert_int_eq(
      conn_host_init(&rig->host, &rig->config, &rig->handler, &rig->reactor, RIG_CONNS_MAX), 0);
  rig->reactor.now_ns += RIG_AHEAD_NS;
  rig->host.input = rig->input + CONN_INPUT_FRONT;
  rig->host.input_bytes = RIG_INPUT_BYTES;
}

/* Everybody is gone, everything adds up, nothing is left. */
static inline void rig_fini(struct rig *rig) {
  ck_assert_uint_eq(rig->slab.used, 0);
  ck_assert_uint_eq(rig->host.bufs.bytes, 0);
  ck_assert_uint_eq(stats_ended(&rig->stats), rig->accepted);
  if (rig->handler.on_close == rig_on_close) {
    ck_assert_uint_eq(rig->opens, rig->closes);
  }
  conn_host_fini(&rig->host);
  reactor_close(&rig->reactor);
  slab_fini(&rig->slab);
  free(rig->input);
  free(rig->got);
}

/* Does this machine have IPv6? */
static inline bool rig_has_ipv6(void) {
  struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool has = fd != -1 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0;
  if (fd != -1) {
    close(fd);
  }
  return has;
}

/* Descriptors that this process has open. */
static inline unsigned rig_descriptors(void) {
  DIR *dir = opendir("/proc/self/fd");
  ck_assert_ptr_nonnull(dir);
  unsigned count = 0;
  while (readdir(dir) != NULL) {
    count++;
  }
  closedir(dir);
  return count;
}

static inline uint64_t rig_ended(struct rig *rig, enum xchg_reason reason) {
  return atom_load_relaxed_u64(&rig->stats.ended[reason]);
}

/* ---- turns ---- */

/* The first live connection; NULL where there is none. */
static inline struct xchg_conn *rig_conn(const struct rig *rig) {
  for (uint32_t slot = 0; (slot = slab_next(&rig->slab, slot)) != SLAB_NONE; slot++) {
    struct source *source = slab_at(&rig->slab, slot);
    if (source->generation != 0) {
      return conn_of(source);
    }
  }
  return NULL;
}

/* libcheck writes a record for each of its assertions; what is asked so often says only a no. */
static inline void rig_holds(bool holds, const char *invariant) {
  if (!holds) {
    ck_abort_msg("broken: %s", invariant);
  }
}

/* The invariants of net/conn_data.h. */
static inline void rig_check(const struct rig *rig, const struct xchg_conn *conn) {
  const struct xchg_handler *handler = &rig->handler;
  size_t reply_max = 8 + rig->host.max_message + rig->long_bytes;
  size_t greeting = rig->greeting == NULL ? 0 : strlen(rig->greeting);
  size_t pending = outbox_size(&conn->out);
  rig_holds(outbox_empty(&conn->out) || pending > 0, "out is empty where nothing waits");
  rig_holds(conn->in == NULL || buf_size(conn->in) > 0, "in == NULL where nothing is held");
  rig_holds(pending <= rig->config.max_pending_bytes + reply_max + greeting, "pending's bound");
  rig_holds(conn->state == CONN_OPEN || conn->in == NULL, "state != OPEN => in == NULL");
  rig_holds(conn->state != CONN_DRAINING || outbox_empty(&conn->out), "DRAINING => out is empty");
  rig_holds(conn->thrown_away <= DRAIN_BYTES_MAX, "a drain's bound");
  bool cuts = !conn_in_stands(conn) && handler->frame.kind != XCHG_FRAME_CUSTOM;
  if (conn->in != NULL && cuts && !conn->source.queued) {
    struct frame_cut cut = {.scanned = 0};
    rig_holds(frame_cut(&handler->frame, rig->host.max_message, buf_data(conn->in),
                        buf_size(conn->in), &cut) == FRAME_MORE,
              "not blocked => in holds no complete message");
  }
}

/* Reap, then check what is left. */
static inline void rig_reap(struct rig *rig) {
  struct source *source;
  while ((source = reactor_reap(&rig->reactor)) != NULL) {
    ck_assert_int_eq(conn_of(source)->fd, -1);
    ck_assert_ptr_null(conn_of(source)->in);
    ck_assert(outbox_empty(&conn_of(source)->out));
    reactor_free(&rig->reactor, source);
  }
  for (uint32_t slot = 0; (slot = slab_next(&rig->slab, slot)) != SLAB_NONE; slot++) {
    rig_check(rig, conn_of(slab_at(&rig->slab, slot)));
  }
}

/* One turn, which waits until ${until_ns} at most. */
static inline void rig_turn(struct rig *rig, uint64_t until_ns) {
  reactor_wait(&rig->reactor, until_ns);
  reactor_dispatch(&rig->reactor);
  rig_reap(rig);
}

/* Turns until nothing is ready and nobody asks for more. */
static inline void rig_settle(struct rig *rig) {
  for (int i = 0; i < 100000; i++) {
    reactor_wait(&rig->reactor, 0);
    bool idle = rig->reactor.ready == 0 && !reactor_busy(&rig->reactor);
    reactor_dispatch(&rig->reactor);
    rig_reap(rig);
    if (idle) {
      return;
    }
  }
  ck_abort_msg("the reactor spins");
}

/* Turns until ${condition} holds, which must come without any timer. */
#define RIG_UNTIL(rig, condition)                                \
  do {                                                           \
    uint64_t until_ns_ = sys_now_ns() + RIG_PATIENCE_NS;         \
    while (!(condition) && sys_now_ns() < until_ns_) {           \
      rig_turn(rig, sys_now_ns() + 10 * NS_PER_MS);              \
    }                                                            \
    ck_assert_msg((condition), "it never came: %s", #condition); \
  } while (0)

/* Let ${ns} pass, and its timers fire. */
static inline void rig_advance(struct rig *rig, uint64_t ns) {
  rig->reactor.now_ns += ns;
  reactor_dispatch(&rig->reactor);
  rig_reap(rig);
}

/* ---- connections ---- */

/* Let the server have ${fd}, a client's address being of ${family}. */
static inline int rig_admit(struct rig *rig, int fd, enum addr_family family) {
  struct guest guest = {.accepted_ns = rig->reactor.now_ns,
                        .addr = {.family = (uint8_t)family},
                        .fd = fd,
                        .ticket = GUEST_NO_TICKET};
  rig->accepted++;
  int result = conn_open(&rig->host, &guest);
  rig_reap(rig);
  return result;
}

/*
 * Connect over a pair of UNIX sockets of ${type}; return the client's end.  What one end has not
 * read is what the other's SIOCOUTQ says, so that acknowledgement is in the test's hand.
 */
static inline int rig_connect_pair(struct rig *rig, int type) {
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  rig_admit(rig, fds[1], ADDR_UNIX);
  return fds[0];
}

static inline int rig_connect(struct rig *rig) { return rig_connect_pair(rig, SOCK_STREAM); }

/* A pair of TCP sockets over loopback: the client's end, the server's in ${*server}. */
static inline int rig_tcp_pair(int *server) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(at);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(listener, -1);
  ck_assert_int_ne(client, -1);
  ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, size), 0);
  ck_assert_int_eq(listen(listener, 1), 0);
  ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
  ck_assert_int_eq(connect(client, (struct sockaddr *)&at, size), 0);
  ck_assert_int_eq(fcntl(client, F_SETFL, O_NONBLOCK), 0);
  *server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ck_assert_int_ne(*server, -1);
  close(listener);
  return client;
}

/* Connect over TCP; return the client's end. */
static inline int rig_connect_tcp(struct rig *rig) {
  int server;
  int client = rig_tcp_pair(&server);
  rig_admit(rig, server, ADDR_IPV4);
  return client;
}

/* The client sends everything, the server reading meanwhile. */
static inline void rig_put(struct rig *rig, int fd, const void *data, size_t size) {
  uint64_t until_ns = sys_now_ns() + RIG_PATIENCE_NS;
  for (size_t at = 0; at < size;) {
    ssize_t put = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);
    ck_assert(put != -1 || errno == EAGAIN);
    ck_assert_uint_lt(sys_now_ns(), until_ns);
    at += put == -1 ? 0 : (size_t)put;
    rig_turn(rig, 0);
  }
}

#define RIG_PUT(rig, fd, text) rig_put(rig, fd, text, sizeof(text) - 1)

/* The client reads ${size} bytes or up to the end, the server working meanwhile; how many came. */
static inline size_t rig_get(struct rig *rig, int fd, void *data, size_t size) {
  uint64_t until_ns = sys_now_ns() + RIG_PATIENCE_NS;
  size_t at = 0;
  while (at < size) {
    ssize_t got = recv(fd, (char *)data + at, size - at, 0);
    ck_assert_msg(got != -1 || errno == EAGAIN, "the client's read: %s", strerror(errno));
    ck_assert_uint_lt(sys_now_ns(), until_ns);
    if (got == 0) {
      break;
    }
    at += got == -1 ? 0 : (size_t)got;
    rig_turn(rig, got == -1 ? sys_now_ns() + NS_PER_MS : 0);
  }
  return at;
}

/* The next bytes are ${text}. */
#define RIG_GET(rig, fd, text)                                                     \
  do {                                                                             \
    char got_[sizeof(text)];                                                       \
    ck_assert_uint_eq(rig_get(rig, fd, got_, sizeof(text) - 1), sizeof(text) - 1); \
    ck_assert_mem_eq(got_, text, sizeof(text) - 1);                                \
  } while (0)

/* The end of the stream is next. */
static inline void rig_get_end(struct rig *rig, int fd) {
  char byte;
  ck_assert_uint_eq(rig_get(rig, fd, &byte, 1), 0);
}

/* Nothing can be read now. */
static inline void rig_get_nothing(struct rig *rig, int fd) {
  char byte;
  rig_settle(rig);
  ck_assert_int_eq(recv(fd, &byte, 1, MSG_PEEK), -1);
  ck_assert_int_eq(errno, EAGAIN);
}

/* The one connection has ended as ${why}, and was told so once. */
static inline void rig_over(struct rig *rig, enum xchg_reason why) {
  RIG_UNTIL(rig, rig->slab.used == 0);
  ck_assert_uint_eq(rig_ended(rig, why), rig->accepted);
  ck_assert_uint_eq(rig->closes, rig->accepted);
  ck_assert_int_eq(rig->reason, why);
}

/* Are all ${size} bytes ${want}? */
static inline bool rig_all(const char *data, size_t size, char want) {
  for (size_t i = 0; i < size; i++) {
    if (data[i] != want) {
      return false;
    }
  }
  return true;
}

#endif
