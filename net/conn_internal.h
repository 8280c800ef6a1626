/*
 * conn_internal: one connection from the hand-off to its end.
 *
 *                last message, message too long
 *                or truncated, end of stream,           not all acknowledged, or more
 *                stop, lifetime                         came: half-close
 *   conn_open --> OPEN ---------------------> ENDING -------------------> LINGERING
 *                  |                           | sends what is queued       | reads and discards
 *                  | timeout, reset,           | error, timeout;            | end of stream, 1 MiB,
 *                  | no memory, abort          | all acknowledged           | XCHG_LINGER, error
 *                  v                           v                            v
 *               CLOSED, with the reason: conn.c releases it at the end of the connection's turn
 *
 * While OPEN, these fields are part of the state:
 *
 *   request        NONE --> FINISH --> ABORT      a call asked for it; applied after the callback
 *   hold_reasons   HANDLER | DRAIN | OFFLOADS     an answer is still to come: no end of exchange
 *   readable       NO <--> MAYBE, UNTIL_EAGAIN    an event sets it, a read clears it
 *   clock_stopped  input is blocked: hold_reasons != 0, or max_pending bytes are queued
 *   stalled        the kernel took less than was queued; EPOLLOUT reports when it takes more
 *   drain_due      something was sent since on_drain was called last
 *   lifetime_over  XCHG_MAX_LIFETIME has passed: ENDING between two messages
 *   half_close     ENDING came from this side: LINGERING even if all is acknowledged
 *   eof            the peer's end of stream was read; extra_input: bytes after the last message
 *
 * Invariants at the end of every turn:
 *   out is empty         <=>  no byte waits for the kernel to take it
 *   in == NULL           <=>  no byte of an unfinished or unparsed message is held
 *   input not blocked     =>  in holds no complete message, or another turn is requested
 *   queued bytes          <=  max_pending + one reply (plus the greeting)
 *   state != OPEN         =>  in == NULL, and no callback but on_close comes
 *   state != CLOSED
 *
 * Everything that happens to a connection happens in one of its turns (conn.c).  The engine's own
 * ends are requests like a handler's: conn_begin_end and conn_request_close record state and
 * reason, and the loops stop.  Runs on the thread that owns the context.
 */
#ifndef NET_CONN_INTERNAL_H
#define NET_CONN_INTERNAL_H

#include "core/buf.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/reactor.h"
#include "net/send_queue.h"
#include "net/group.h"

#include <assert.h>
#include <stdbool.h>

/* The events that every connection is watched for. */
#define CONN_WATCHED (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)

/* What few connections need, in a slab of its own. Allocated at its first use. */
struct conn_cold {
  uint64_t progress_ns; /* the last advance of acknowledgement, or a stall's or linger's start */
  uint64_t timer_ns;    /* when on_timer is due; NEVER = not armed */
  uint64_t lifetime_ns; /* when the lifetime ends, or (lifetime_over) when it ended */
  struct member *memberships; /* owns */
  uint32_t acknowledged;      /* part of sent that the peer had when last asked; modulo 2^32 */
  uint32_t offloads;          /* offloaded work that has not come back */
  uint32_t slot;              /* of this object */
};

/* What is read once a connection at most; in an array by slot, apart from the hot fields. */
struct conn_peer {
  struct addr addr;
  uint32_t ip_slot; /* admission's; the worker gives it back */
};

/* What the connections of a worker share. */
struct conn_ctx {
  const struct config *config;        /* borrows permanently */
  const struct xchg_handler *handler; /* borrows permanently */
  struct reactor *reactor;            /* borrows permanently */
  struct stats *stats;                /* borrows; this thread is its writer */
  struct xchg_server *server;         /* borrows; for the handler, opaque here; NULL = none */
  const void *thread;                 /* conn_thread() of the thread that runs the connections */
  struct xchg_conn *current;          /* borrows: whose turn it is; NULL between turns */
  size_t max_message;                 /* the handler's, or else the configuration's */
  atom_u64 *turn_ns; /* borrows: when the worker's turn began, for a watchdog; NULL = no watchdog */
  uint32_t heartbeats; /* turns of connections and tasks: see watchdog_heartbeat */
  uint32_t index;      /* of the worker; part of the connections' ids */
  uint32_t conns_max;
  uint32_t peers_end;                 /* no slot from here on was used since the last trim */
  struct conn_peer *peers;            /* owns: mapped; by slot */
  struct buf_pool bufs;               /* owns */
  struct send_queue_pool send_queues; /* owns; prepared when the first reference is queued */
  struct slab colds;                  /* of struct conn_cold */
  struct conn_cold no_cold;           /* the cold part of connections without one; constant */
  struct groups groups;               /* owns; prepared when the first connection joins one */
  uint8_t *input; /* borrows: where every read goes; CONN_INPUT_FRONT bytes before it are free */
  size_t input_bytes;
  uint64_t random;  /* state of the generator that spreads lifetimes */
  uint64_t stop_ns; /* when the stop began; NEVER = no stop */
};

enum conn_state { CONN_OPEN, CONN_ENDING, CONN_LINGERING, CONN_CLOSED };

/* What a call asked for. The greater one wins. */
enum conn_request { REQUEST_NONE, REQUEST_FINISH, REQUEST_ABORT };

/* Whether a read may find something. */
enum conn_readable {
  READABLE_NO,
  READABLE_MAYBE,        /* a short read shows that nothing is left */
  READABLE_UNTIL_EAGAIN, /* a short read shows nothing: UNIX sockets, urgent data, end of stream */
};

/* Why the exchange cannot go on. */
enum {
  HOLD_HANDLER = 1,  /* xchg_pause */
  HOLD_DRAIN = 2,    /* the last message was answered, and on_drain may still send */
  HOLD_OFFLOADS = 4, /* offloaded work is out */
  HOLD_ALL = 7,
};

struct xchg_conn {
  struct source source; /* first: the slab's objects begin with it */
  struct conn_ctx *ctx;
  struct conn_cold *cold; /* owns; or points to ctx->no_cold */
  struct buf *in;         /* owns: an unfinished message, or messages that must wait */
  struct send_queue out;  /* owns: bytes that the kernel has not taken */
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
  uint64_t messages;           /* complete ones so far */
  uint64_t active_ns;          /* last byte read or written */
  uint64_t message_start_ns;   /* first byte of the message under way; before it, the accept */
  uint64_t message_elapsed_ns; /* while clock_stopped: how long that message had taken */
  uint32_t sent;               /* bytes given to the kernel, modulo 2^32 */
  uint32_t discarded;          /* bytes read after the end; LINGER_BYTES_MAX at most */
};

/** Most bytes that a connection reads and discards after its end. */
#define LINGER_BYTES_MAX ((uint32_t)1024 * 1024)

/** The connection whose head ${source} is. */
static inline struct xchg_conn *conn_of(struct source *source) {
  return container_of(source, struct xchg_conn, source);
}

/** Address and admission slot of ${conn}; valid until the worker frees its slot. */
static inline struct conn_peer *conn_peer(const struct xchg_conn *conn) {
  return &conn->ctx->peers[conn->source.slot];
}

/* Where the handler's own bytes begin; the slab aligns objects to 16 bytes. */
#define CONN_STATE_OFFSET ((sizeof(struct xchg_conn) + 15) / 16 * 16)

/* One per thread. It is never written: its address identifies the thread. */
extern _Thread_local const char conn_thread_mark;

/** A value that tells the calling thread from all others that live. */
static inline const void *conn_thread(void) { return &conn_thread_mark; }

/* References and memberships at a time for each connection that a worker may have. */
#define CONN_SHARES 64

/* Free bytes before ctx->input, for the beginning of a message that the next read continues. */
#define CONN_INPUT_FRONT ((size_t)4096)

/**
 * The writable cold part of ${conn}, which keeps it until its end.
 * Return: NULL without memory.
 */
struct conn_cold *conn_cold(struct xchg_conn *conn);

/** Free the cold part of ${conn} and leave its groups. */
void conn_release_cold(struct xchg_conn *conn);

/** Is an answer still to come, from the handler, from on_drain or from offloaded work? */
static inline bool conn_paused(const struct xchg_conn *conn) { return conn->hold_reasons != 0; }

/** Does the exchange end after a number of messages (else it is endless)? */
static inline bool conn_counted(const struct xchg_conn *conn) {
  return conn->ctx->handler->messages != 0;
}

/** CONN_OPEN -> CONN_ENDING: only what is queued is sent, then the connection ends as ${reason}. */
static inline void conn_begin_end(struct xchg_conn *conn, enum xchg_reason reason) {
  assert(conn->state == CONN_OPEN);
  conn->state = CONN_ENDING;
  conn->end_reason = (uint8_t)reason;
}

/**
 * Record that ${conn} closes as ${reason} at the end of this turn; what is queued is lost.  Nothing
 * is read, sent or called any more but on_close.
 */
static inline void conn_request_close(struct xchg_conn *conn, enum xchg_reason reason) {
  conn->state = CONN_CLOSED;
  conn->end_reason = (uint8_t)reason;
  conn->readable = READABLE_NO;
}

/** Let the next read find out whether there is something. */
static inline void conn_look_again(struct xchg_conn *conn) {
  if (conn->readable == READABLE_NO) {
    conn->readable = READABLE_MAYBE;
  }
}

/**
 * Add or take away one offloaded work of ${conn}.
 * Return of the former: 0, or -1 without memory.
 */
int conn_offload_begin(struct xchg_conn *conn);
void conn_offload_end(struct xchg_conn *conn);

#endif
