/*
 * conn_internal: the data of one connection, from the hand-off to its end.
 *
 *                last message, end of stream,
 *                message too long, truncated            not all acknowledged, or the
 *                or invalid, xchg_finish,               peer sends or may send more:
 *                stop, lifetime                         half-close
 *   conn_open --> OPEN ---------------------> ENDING -------------------> LINGERING
 *                  |                           | sends what is queued       | reads and discards
 *                  |                           |                            |
 *                  | timeout, reset,           | the same, or               | end of stream, 1 MiB,
 *                  | no memory, xchg_abort,    | all is sent and            | XCHG_LINGER, error,
 *                  | XCHG_DRAIN_TIMEOUT        | acknowledged               | the same
 *                  v                           v                            v
 *               CLOSED, with the reason: conn.c releases it at the end of the connection's turn
 *
 * A connection of a listener with ;proxy= begins in HEADER instead: see conn_proxy.h.
 *
 * These fields are part of the state:
 *
 *   request        NONE --> FINISH --> ABORT; a call sets it, conn_apply_requests carries it out
 *   hold_reasons   HANDLER | DRAIN | OFFLOADS: no message is parsed.  HANDLER and OFFLOADS also
 *                  delay the end of the exchange; DRAIN waits for on_drain before that end
 *   readable       an event, a deadline or a stop sets MAYBE or UNTIL_EAGAIN, a read sets NO
 *   clock_stopped  the last turn found the input blocked: hold_reasons != 0, or max_pending bytes
 *                  queued.  The clock of the message stands, and buffered input waits
 *   stalled        the kernel took less than was queued; EPOLLOUT reports when it takes more
 *   drain_due      the handler has on_drain, and the kernel was offered bytes since its last call
 *   lifetime_over  XCHG_MAX_LIFETIME has passed: ENDING as soon as no message is in progress
 *   half_close     a stop or the lifetime ended an idle connection: LINGERING in any case, because
 *                  the peer may be sending a message
 *   eof            the end of the stream was read
 *   extra_input    bytes came after the last message
 *
 * Invariants at the end of every turn of a connection that is not CLOSED:
 *   out is empty         <=>  no byte waits for the kernel to take it; and none is staged
 *   in == NULL           <=>  no byte of an unfinished or unparsed message is held
 *   input not blocked     =>  in holds no complete message, or another turn is requested
 *   queued bytes          <=  max_pending + one reply + the greeting   (built-in exchanges)
 *   state != OPEN         =>  in == NULL, except for the beginning of a header in HEADER
 *   ENDING or LINGERING   =>  discarded <= LINGER_BYTES_MAX
 *   no turn is requested  =>  the timer fires at the next deadline, or earlier
 *
 * In ENDING and LINGERING the handler gets no callback but on_close.  A posted call and the result
 * of an offloaded job still arrive, but they cannot send.
 *
 * The engine's own ends are requests like a handler's: conn_begin_end and conn_request_close record
 * state and reason, and the loops stop.  Calls of core/xchg.h and publications queue output and set
 * requests at any time on the owner's thread; the rest happens in a turn of the connection.  A
 * connection runs on the thread that owns the context.
 */
#ifndef NET_CONN_INTERNAL_H
#define NET_CONN_INTERNAL_H

#include "core/probe.h"
#include "core/log.h"
#include "core/token_bucket.h"
#include "core/buf.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/reactor.h"
#include "net/send_queue.h"
#include "net/group.h"

#include <assert.h>
#include <stdbool.h>

/* The events that epoll reports for every connection. */
#define CONN_WATCHED (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)

/* Fields that few connections need: an object of its own slab, allocated at the first use. */
struct conn_cold {
  uint64_t progress_ns;       /* the peer last acknowledged more, or a stall or linger began */
  uint64_t timer_ns;          /* when on_timer is due; NEVER = not armed */
  uint64_t lifetime_ns;       /* when the lifetime ends, or (lifetime_over) when it ended */
  struct member *memberships; /* owns */
  void *jobs;                 /* what the offload calls keep of the connection; NULL = nothing */
  struct buf *header;         /* owns: the PROXY header, if it is kept; else NULL */
  uint32_t acknowledged;      /* of bytes_out, what the peer had when last asked; modulo 2^32 */
  uint32_t offloads;          /* jobs that have not come back */
  uint32_t slot;              /* of this object */
  uint32_t unused;            /* 0 */
};

/*
 * Fields that only the opening and the end of a connection touch, and a visit of /connections; in
 * an array by slot, apart from the hot fields.
 */
struct conn_peer {
  struct addr addr;
  uint32_t ip_slot;        /* of pool/admission; the worker returns it */
  uint64_t listener : 6;   /* index of the listener */
  uint64_t opened_ns : 58; /* when accept4 returned; 2^58 ns are nine years since the boot */
};
#define CONN_OPENED_MASK ((UINT64_C(1) << 58) - 1)
#define CONN_LISTENER_MASK (UINT64_C(63))
static_assert(CONFIG_LISTEN_MAX <= CONN_LISTENER_MASK + 1, "its bits hold the index of a listener");
static_assert(sizeof(struct conn_peer) == 32, "docs/tuning.md counts on it");

/* The PROXY header of a connection; in an array by slot. See conn_proxy.h. */
struct conn_proxy {
  uint64_t accepted_ns;    /* the header's time runs from here */
  struct addr via;         /* the peer of the socket: the proxy */
  struct addr destination; /* that the client connected to; ADDR_NONE = not announced */
  uint8_t accepts;         /* enum addr_proxy */
  uint8_t version;         /* of the complete header */
  uint8_t command;         /* likewise: enum proxy_command */
  bool announced;          /* the address in conn_peer is that of the header */
  bool opened;             /* the header is complete: on_open was called */
  uint8_t unused[3];
};

/* A worker's context: what its connections share. */
struct conn_ctx {
  const struct config *config;        /* borrows permanently */
  const struct xchg_handler *handler; /* borrows permanently */
  struct reactor *reactor;            /* borrows permanently */
  struct stats *stats;                /* borrows; this thread is its writer */
  struct xchg_server *server;         /* borrows; opaque here, for the handler; NULL = none */
  const void *thread;                 /* conn_thread() of the thread that runs the connections;
                                NULL = in a child that one of its callbacks has forked */
  struct xchg_conn *current;          /* borrows: the connection that has its turn; NULL = none */
  size_t max_message;                 /* of the handler, or else of the configuration */
  atom_u64 steps;  /* turns of connections and tasks so far, for the watchdog: any thread reads */
  uint32_t index;  /* of the worker; part of the connections' ids */
  uint32_t parked; /* connections in CONN_PARKED */
  bool suspended;  /* no connection has a turn, see conn_suspend */
  uint32_t conns_max;
  uint32_t peers_end;                 /* no slot from here on has been used since the last trim */
  struct conn_peer *peers;            /* owns: mapped; by slot */
  struct conn_proxy *proxies;         /* owns: likewise; NULL = no listener has ;proxy= */
  uint32_t proxies_end;               /* as peers_end */
  struct buf_pool bufs;               /* owns */
  struct send_queue_pool send_queues; /* owns; prepared when the first reference is queued */
  struct slab colds;                  /* of struct conn_cold */
  struct conn_cold no_cold;           /* constant: the cold part of connections without one */
  struct groups groups;               /* owns; prepared when the first connection joins one */
  struct log *log;                    /* borrows: of the server; or no_log */
  struct log no_log;                  /* constant: writes nothing */
  enum log_level log_from;            /* the level of the log at which conn_log has work */
  struct conn_pace *paces;            /* owns: mapped; by slot; NULL = without XCHG_SLOW_LOG */
  struct token_bucket slow_lines, life_lines;
  void (*end_jobs)(struct xchg_conn *conn); /* its end: takes cold->jobs, which is not NULL */
  uint8_t *input; /* borrows: every read goes here; CONN_INPUT_FRONT bytes before it are free */
  size_t input_bytes;
  uint64_t random;  /* state of the generator that spreads lifetimes */
  uint64_t stop_ns; /* when the stop began; NEVER = no stop */
};

enum conn_state {
  CONN_OPEN,
  CONN_ENDING,
  CONN_LINGERING,
  CONN_HEADER,
  CONN_CLOSED,
  CONN_PARKED = 0x80, /* added to the state of a connection on its way, see net/conn_pack.h */
};

/* What a call asked for. FINISH can become ABORT, nothing else changes. */
enum conn_request { REQUEST_NONE, REQUEST_FINISH, REQUEST_ABORT };

/* Whether a read may find bytes, an end or an error. */
enum conn_readable {
  READABLE_NO,
  READABLE_MAYBE,        /* a short read shows that nothing is left */
  READABLE_UNTIL_EAGAIN, /* a short read does not: UNIX sockets, urgent data, end of stream */
};

/* Why no message is parsed. */
enum {
  HOLD_HANDLER = 1,  /* xchg_pause */
  HOLD_DRAIN = 2,    /* the last message was delivered, and on_drain may still send */
  HOLD_OFFLOADS = 4, /* offloaded jobs have not come back */
  HOLD_ALL = 7,
};

struct xchg_conn {
  struct source source; /* first: the slab's objects begin with it */
  struct conn_ctx *ctx;
  struct conn_cold *cold; /* owns; or points to ctx->no_cold */
  struct buf *in;         /* owns: an unfinished message, or messages while input is blocked */
  struct send_queue out;  /* owns: bytes that the kernel has not taken; only in its turn staged */
  int fd;                 /* owns */
  uint8_t state;          /* enum conn_state */
  uint8_t end_reason;     /* enum xchg_reason, once state != CONN_OPEN or a request is ABORT */
  uint8_t request : 2;    /* enum conn_request */
  uint8_t readable : 2;   /* enum conn_readable */
  uint8_t hold_reasons : 3;
  bool is_unix : 1; /* constant: an AF_UNIX socket */
  bool eof : 1;
  bool extra_input : 1;
  bool clock_stopped : 1;
  bool drain_due : 1;
  bool stalled : 1;
  bool lifetime_over : 1;
  bool half_close : 1;
  bool proxied : 1;   /* constant: its listener has ;proxy= */
  uint64_t messages;  /* complete messages so far */
  uint64_t active_ns; /* time of the last byte read or written */
  uint64_t bytes_in;  /* read from the kernel */
  uint64_t bytes_out; /* given to the kernel */
  union {
    /* OPEN: start of the message in progress, or the accept; while clock_stopped: how long the
     * message had taken by then. */
    uint64_t message_clock_ns;
    uint64_t discarded; /* afterwards: bytes read since, LINGER_BYTES_MAX at most; 0 in HEADER */
  };
};

/** Most bytes that a connection reads and discards after its end. */
#define LINGER_BYTES_MAX ((uint32_t)1024 * 1024)

/** The connection that contains ${source}. */
static inline struct xchg_conn *conn_of(struct source *source) {
  return container_of(source, struct xchg_conn, source);
}

/** Address, opening and admission slot of ${conn}; valid until the worker frees its slot. */
static inline struct conn_peer *conn_peer(const struct xchg_conn *conn) {
  return &conn->ctx->peers[source_slot(conn->ctx->reactor, &conn->source)];
}

/** What xchg_id returns: worker, generation and slot of ${conn}; see net/conn_api.h. */
static inline uint64_t conn_id(const struct xchg_conn *conn) {
  return (uint64_t)conn->ctx->index << (64 - conn->ctx->reactor->owner_bits) | conn->source.key;
}

/** The PROXY header of ${conn}, whose listener has ;proxy=. */
static inline struct conn_proxy *conn_proxy(const struct xchg_conn *conn) {
  return &conn->ctx->proxies[source_slot(conn->ctx->reactor, &conn->source)];
}

/* Offset of the handler's state in the object; the slab aligns objects to 16 bytes at least. */
#define CONN_STATE_OFFSET ((sizeof(struct xchg_conn) + 15) / 16 * 16)

/* Its address identifies the thread. It is never written. */
extern _Thread_local const char conn_thread_mark;

/** A value that no other living thread gets. */
static inline const void *conn_thread(void) { return &conn_thread_mark; }

/* References that a connection may queue. A worker has room for as many for each connection. */
#define CONN_REFS_MAX 64

/*
 * Most bytes of one connection that a turn reads, delivers and sends.  A longer message is
 * delivered alone.  If there is more, the connection asks for another turn, so that others come
 * first.
 */
#define CONN_TURN_BYTES ((size_t)64 * 1024)

/* Bytes for the staging block of ctx->bufs: its head, and what a turn may send. */
#define CONN_STAGING_BYTES (sizeof(struct buf) + CONN_TURN_BYTES)

/* Free bytes before ctx->input: room for the beginning of a message that a read continues. */
#define CONN_INPUT_FRONT ((size_t)4096)

/**
 * conn_forked(ctx):
 * Called in a child that a callback of ${ctx} forks. The connections are the parent's: calls fail,
 * and if the callback returns, nothing is sent, received or called any more.
 * conn_end_child():
 * End the child whose callback has returned.
 */
void conn_forked(struct conn_ctx *ctx);
_Noreturn void conn_end_child(void);

/** The bits of an id that name one of ${workers} workers: see net/conn_api.h. */
static inline uint32_t conn_id_worker_bits(uint32_t workers) {
  return (uint32_t)max_u64(bits_for(workers), 1);
}

/** The writable cold part of ${conn}, which keeps it until its end. Return: NULL without memory. */
struct conn_cold *conn_cold(struct xchg_conn *conn);

/** Free the cold part of ${conn} and leave its groups. */
void conn_release_cold(struct xchg_conn *conn);

/** Must ${conn} wait for its handler, for on_drain or for offloaded jobs? */
static inline bool conn_paused(const struct xchg_conn *conn) { return conn->hold_reasons != 0; }

/** Does the exchange end after a number of messages? Otherwise it is endless. */
static inline bool conn_counted(const struct xchg_conn *conn) {
  return conn->ctx->handler->messages != 0;
}

/** CONN_OPEN -> CONN_ENDING: queued bytes are sent, then the connection ends as ${reason}. */
static inline void conn_begin_end(struct xchg_conn *conn, enum xchg_reason reason) {
  assert(conn->state == CONN_OPEN);
  conn->state = CONN_ENDING;
  conn->end_reason = (uint8_t)reason;
  conn->discarded = 0; /* the clock of the message is over */
}

/**
 * Record that ${conn} closes as ${reason} at the end of this turn.  Queued bytes are lost, and
 * nothing is read, sent or called any more but on_close.
 */
static inline void conn_request_close(struct xchg_conn *conn, enum xchg_reason reason) {
  conn->state = CONN_CLOSED;
  conn->end_reason = (uint8_t)reason;
  conn->readable = READABLE_NO;
}

/** Does the server stop, or is the lifetime over? Then ${conn} ends after the current message. */
static inline bool conn_must_leave(const struct xchg_conn *conn) {
  return conn->lifetime_over || conn->ctx->stop_ns != NEVER;
}

/** Let the next read find out whether there is input. */
static inline void conn_look_again(struct xchg_conn *conn) {
  if (conn->readable == READABLE_NO) {
    conn->readable = READABLE_MAYBE;
  }
}

/** Count one more offloaded job of ${conn}, or one less. The former returns -1 without memory. */
int conn_offload_begin(struct xchg_conn *conn);
void conn_offload_end(struct xchg_conn *conn);

#endif
