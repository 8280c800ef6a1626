/*
 * xchg: the engine's contract with whoever answers the messages.
 *
 * A handler declares how bytes become messages and brings callbacks; the engine accepts, reads,
 * cuts, writes, times out and closes.  Conventions, once for all calls:
 *
 *   thread     every callback of a connection, and every call on it, runs on the worker that owns
 *              the connection, one at a time; different connections run on different threads at
 *              once, so what they share is constant or the handler's own affair
 *   lifetime   a struct xchg_conn is valid from on_open to the return of on_close; bytes of a
 *              message until on_message returns
 *   ownership  a handler never writes to a socket and never frees a connection: it leaves wishes
 *              (send, finish, abort), which the engine carries out when the callback has returned
 *   errors     0 or -1; a failed call changed nothing but what it says
 */
#ifndef XCHG_H
#define XCHG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XCHG_VERSION "0.1.0"

struct xchg_conn;

/* How bytes become messages. */
enum xchg_frame_kind {
  XCHG_FRAME_RAW,   /* whatever a read returned; the message limit bounds a read */
  XCHG_FRAME_NUL,   /* a message ends at a 0 byte */
  XCHG_FRAME_LINE,  /* ... at LF; a CR before it belongs to the terminator */
  XCHG_FRAME_U16,   /* a big-endian length of 2 bytes before it */
  XCHG_FRAME_U32,   /* ... of 4 bytes */
  XCHG_FRAME_FIXED, /* every message has xchg_frame.size bytes */
};

struct xchg_frame {
  enum xchg_frame_kind kind;
  size_t size; /* XCHG_FRAME_FIXED: bytes of a message, 1 at least; else 0 */
};

/*
 * Why a connection ended; each has a counter of its own, printed as closed_<name> (XCHG_FINISHED as
 * finished).
 */
enum xchg_reason {
  XCHG_FINISHED,  /* the exchange is complete; endless: the client ended between messages */
  XCHG_PEER,      /* the client ended before the exchange was complete */
  XCHG_RESET,     /* ECONNRESET, EPIPE, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH */
  XCHG_TOO_LONG,  /* a message over the limit */
  XCHG_TRUNCATED, /* the stream ended within a message of declared length */
  XCHG_IDLE,      /* XCHG_IDLE_TIMEOUT */
  XCHG_MESSAGE,   /* XCHG_MESSAGE_TIMEOUT */
  XCHG_WRITE,     /* XCHG_WRITE_TIMEOUT */
  XCHG_LIFETIME,  /* XCHG_MAX_LIFETIME */
  XCHG_DENIED,    /* not admitted by XCHG_ALLOW, XCHG_DENY; never opened */
  XCHG_PER_IP,    /* over XCHG_MAX_PER_IP; never opened */
  XCHG_OVERLOAD,  /* over a limit under XCHG_OVERLOAD=refuse; never opened */
  XCHG_MEMORY,    /* no memory for the connection or its bytes */
  XCHG_DRAIN,     /* the server stopped */
  XCHG_ERROR,     /* any other errno, or xchg_abort */
  XCHG_REASONS
};

/* One message, as on_message gets it. */
struct xchg_message {
  const void *data;  /* what the frame carried */
  size_t size;       /* bytes of it, may be 0 */
  const void *frame; /* the same with its prefix and terminator, as it came */
  size_t frame_size; /* a last message that the end of the stream ended has no terminator */
};

struct xchg_handler {
  size_t size;             /* sizeof(struct xchg_handler) */
  struct xchg_frame frame; /* how bytes become messages */
  size_t max_message;      /* bytes, prefix and terminator apart; a longer one: XCHG_TOO_LONG */
  uint64_t messages; /* a connection, then the engine finishes it; 0 = until the client ends */
  const void *user;  /* see xchg_user; borrowed for as long as the server lives */

  /* The connection was accepted. May send. NULL = nothing to do. */
  void (*on_open)(struct xchg_conn *conn);
  /*
   * A message is complete. May send, finish and abort. Not called after xchg_finish or xchg_abort.
   * NULL = messages are counted and dropped.
   */
  void (*on_message)(struct xchg_conn *conn, const struct xchg_message *message);
  /* The connection ends, once for every on_open; too late to send. NULL = nothing to do. */
  void (*on_close)(struct xchg_conn *conn, enum xchg_reason reason);
};

/**
 * xchg_send(conn, data, size):
 * Queue a copy of ${size} bytes; what is queued in one turn leaves in one system call.
 * Return: 0, or -1 after xchg_finish or xchg_abort (nothing queued), or without memory (the
 * connection then ends as XCHG_MEMORY).
 */
int xchg_send(struct xchg_conn *conn, const void *data, size_t size);

/**
 * Close the connection safely once everything queued has been sent; further messages are thrown
 * away.
 */
void xchg_finish(struct xchg_conn *conn);

/** Close the connection now, queued bytes are lost; counted as XCHG_ERROR. */
void xchg_abort(struct xchg_conn *conn);

/** The handler's ${user}. */
const void *xchg_user(const struct xchg_conn *conn);

/** "finished", "peer", ... : the counter's word; constant. */
const char *xchg_reason_name(enum xchg_reason reason);

#ifdef __cplusplus
}
#endif

#endif
