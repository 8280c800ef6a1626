/*
 * conn_internal: what there is of one connection from the hand-off to its end.
 *
 *   conn_open --> OPEN ------------------------------------------> ENDING
 *                  |    last message, too long, truncated,           |  sends what is queued
 *                  |    end of stream, stop, lifetime                |
 *                  |                                                 |  given to the kernel, but
 *                  |  time-out, reset,      acknowledged and         |  not acknowledged, or more
 *                  |  no memory, abort      nothing unread           |  came: half-close
 *                  v                                                 v
 *               closed <------------------------------------------ DRAINING
 *                         end of stream, 1 MiB, XCHG_LINGER        reads and throws away
 *
 * Invariants, at the end of every turn:
 *   out is empty             <=>  no byte waits for the kernel to take it
 *   in == NULL               <=>  no byte of an unfinished message, and no uncut one, is held
 *   pending < max_pending, not held  =>  in holds no complete message, or another turn is asked for
 *   pending                  <=   max_pending + one reply (plus the greeting)
 *   state != OPEN             =>  in == NULL, no callback but on_close comes
 *
 * Everything that happens to a connection is a turn of conn.c's coordinator: events, timers, the
 * stop.  Every end goes through one function and counts under one reason.  Runs on the thread that
 * owns the host, and on no other.
 */
#ifndef NET_CONN_INTERNAL_H
#define NET_CONN_INTERNAL_H

#include "core/buf.h"
#include "core/config.h"
#include "net/accepted_conn.h"
#include "net/reactor.h"
#include "net/send_queue.h"
#include "net/group.h"

#include <stdbool.h>

/* The events that every connection is watched for. */
#define CONN_WATCHED (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)

/* What few connections have: from a slab of its own when it is first needed. */
struct conn_cold {
  uint64_t progress_ns;  /* acknowledgement was last seen to advance, or a stall or drain began */
  uint64_t timer_ns;     /* when on_timer is called; NEVER = not */
  uint64_t lifetime_ns;  /* not leaving: when it will; leaving: since when it is */
  struct member *groups; /* owns: its memberships */
  uint32_t acknowledged; /* of sent, what the peer had when last asked; modulo 2^32 as well */
  uint32_t offloads;     /* works that have not come back */
  uint32_t slot;         /* its own */
};

/* What a worker lends all of its connections. */
struct conn_ctx {
  const struct config *config;        /* borrows for good */
  const struct xchg_handler *handler; /* borrows for good */
  struct reactor *reactor;            /* borrows for good */
  struct stats *stats;                /* borrows; this thread is its writer */
  struct xchg_server *server;         /* borrows; for the handler, opaque here; NULL = none */
  const void *thread;                 /* conn_thread() of the thread that runs the connections */
  struct xchg_conn *current;          /* borrows: whose turn it is; NULL between turns */
  size_t max_message;                 /* the handler's, or else the configuration's */
  atom_u64 *turn_ns;   /* borrows: when the turn began, for a watchdog; NULL = nobody looks */
  uint32_t heartbeats; /* turns of connections, letters: see watchdog_heartbeat */
  uint32_t index;      /* of the worker; part of the connections' ids */
  uint32_t conns_max;
  struct buf_pool bufs;               /* owns */
  struct send_queue_pool send_queues; /* owns; prepared when the first byte is lent */
  struct slab colds;                  /* of struct conn_cold */
  struct conn_cold no_cold;           /* what connections without one have; constant */
  struct groups groups;               /* owns; prepared when the first connection joins one */
  uint8_t *input; /* borrows: where every read goes, behind CONN_INPUT_FRONT free ones */
  size_t input_bytes;
  uint64_t random;  /* state of the generator that spreads lifetimes */
  uint64_t stop_ns; /* when the stop began; NEVER = it has not */
};

enum conn_state { CONN_OPEN, CONN_ENDING, CONN_LINGERING, CONN_CLOSED };

struct xchg_conn {
  struct source source; /* first: the slab's objects begin with it */
  struct conn_ctx *ctx;
  struct conn_cold *cold;    /* owns; or points to the host's, which says that there is nothing */
  struct buf *in;            /* owns: bytes that make no message yet, or must wait */
  struct send_queue out;     /* owns: bytes that the kernel has not taken */
  int fd;                    /* owns */
  uint8_t state;             /* enum conn_state */
  uint8_t reason;            /* enum xchg_reason, once state != CONN_OPEN */
  bool unread : 1;           /* the kernel may hold bytes for us */
  bool to_end : 1;           /* ... and a short read proves nothing: read until EAGAIN */
  bool eof : 1;              /* the peer's end of stream was read */
  bool extra_input : 1;      /* bytes beyond the last message came */
  bool paused : 1;           /* over the mark, or held: nothing is cut or read, the clock stands */
  bool holding : 1;          /* the handler has paused it */
  bool awaiting_drain : 1;   /* its exchange is over but for what on_drain may still send */
  bool queued : 1;           /* something was sent since on_drain was called last */
  bool stalled : 1;          /* output waits for the peer */
  bool lifetime_over : 1;    /* its lifetime is over */
  bool half_close : 1;       /* part by half-close, whatever was acknowledged */
  bool is_unix : 1;          /* AF_UNIX */
  bool aborted : 1;          /* close as soon as the callback has returned */
  bool finishing : 1;        /* xchg_finish was called */
  uint64_t messages;         /* complete ones so far */
  uint64_t active_ns;        /* last byte read or written */
  uint64_t message_start_ns; /* first byte of the message under way, before it the accept; while
                             paused: how long it had taken */
  uint32_t sent;             /* bytes given to the kernel, modulo 2^32 */
  uint32_t discarded;        /* bytes read after the end; LINGER_BYTES_MAX at most */
  uint32_t ip_slot;          /* admission's; given back by the worker */
  struct addr peer;
};

/** Bytes that a drain reads and throws away at most. */
#define LINGER_BYTES_MAX ((uint32_t)1024 * 1024)

/** The connection that ${source} is the head of. */
static inline struct xchg_conn *conn_of(struct source *source) {
  return container_of(source, struct xchg_conn, source);
}

/* Where the handler's own bytes begin; what the slab hands out is aligned as much. */
#define CONN_STATE_OFFSET ((sizeof(struct xchg_conn) + 15) / 16 * 16)

/* Of each thread its own; nobody writes it, its address is what matters. */
extern _Thread_local const char conn_thread_mark;

/** What tells the calling thread from all others that live. */
static inline const void *conn_thread(void) { return &conn_thread_mark; }

/* Loans and memberships at a time for each connection that a worker may have, all in all. */
#define CONN_SHARES 64

/* Bytes in front of host->input for the beginning of a message that a read goes on with. */
#define CONN_INPUT_FRONT ((size_t)4096)

/**
 * What is rarely needed of ${conn}, to be written; a connection keeps it until its end.
 * Return: NULL without memory.
 */
struct conn_cold *conn_cold(struct xchg_conn *conn);

/** Must it wait for an answer that the handler will give later? */
static inline bool conn_paused(const struct xchg_conn *conn) {
  return conn->holding || conn->awaiting_drain || conn->cold->offloads > 0;
}

/** Does the exchange end after a number of messages (else it is endless)? */
static inline bool conn_counted(const struct xchg_conn *conn) {
  return conn->ctx->handler->messages != 0;
}

#endif
