/* conn_input: see conn_input.h. A bool result says: is the connection still there? */
#include "net/conn_input.h"

#include "net/frame.h"
#include "net/sock.h"
#include "net/conn_output.h"

#include <errno.h>
#include <string.h>

#define READS_MAX 16 /* a turn, where each read must be followed by another */

void conn_check_complete(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->ctx->handler;
  bool counted = conn_counted(conn);
  if ((!counted && !conn->eof) || conn->state != CONN_OPEN) {
    return;
  }
  bool complete = counted && conn->messages >= handler->messages;
  if (conn->holding || conn->cold->offloads > 0 ||
      (!complete && (!conn->eof || conn->in != NULL))) {
    return;
  }
  if (handler->on_drain != NULL && conn->queued) {
    conn->awaiting_drain = true;
    return;
  }
  conn_begin_end(conn, complete || !counted ? XCHG_FINISHED : XCHG_PEER);
}

/* Hand one message up. Return: is the connection still there? */
static bool deliver(struct xchg_conn *conn, const uint8_t *data,
                    const struct frame_parsed *parsed) {
  const struct xchg_handler *handler = conn->ctx->handler;
  const struct xchg_message message = {.data = data + parsed->head,
                                       .size = parsed->size,
                                       .frame = data,
                                       .frame_size = parsed->head + parsed->size + parsed->tail};
  conn->messages++;
  stats_add(&conn->ctx->stats->messages, 1);
  if (handler->on_message != NULL) {
    handler->on_message(conn, &message);
  }
  if (!conn_apply_requests(conn)) {
    return false;
  }
  conn_check_complete(conn);
  return true;
}

/* The first message in ${size} bytes at ${data}, by the handler's own function. */
static enum frame_result parse_custom(struct xchg_conn *conn, const uint8_t *data, size_t size,
                                      struct frame_parsed *parsed) {
  size_t max = conn->ctx->max_message;
  if (size < parsed->scanned) {
    return FRAME_MORE; /* under this framing: so many are needed */
  }
  size_t end = conn->ctx->handler->frame.parse(conn, data, size);
  if (end == XCHG_PARSE_ERROR) {
    return FRAME_BAD;
  }
  if (end > max || (end == 0 && size > max)) {
    return FRAME_TOO_LONG;
  }
  if (end == 0 || end > size) {
    parsed->scanned = end;
    return FRAME_MORE;
  }
  *parsed = (struct frame_parsed){.size = end};
  return FRAME_MESSAGE;
}

static enum frame_result parse_one(struct xchg_conn *conn, const uint8_t *data, size_t size,
                                   struct frame_parsed *parsed) {
  const struct xchg_frame *frame = &conn->ctx->handler->frame;
  if (frame->kind == XCHG_FRAME_CUSTOM) {
    return parse_custom(conn, data, size, parsed);
  }
  return frame_parse(frame, conn->ctx->max_message, data, size, parsed);
}

/*
 * Cut and hand up the messages in ${size} bytes at ${data}; ${*used} says how many of them are
 * dealt with, ${*scanned} (in and out) how many of the rest a search has seen in vain.  What comes
 * behind the end of the exchange is dealt with by being ignored.  Return: is the connection still
 * there?
 */
static bool parse_messages(struct xchg_conn *conn, const uint8_t *data, size_t size, size_t *used,
                           size_t *scanned) {
  struct frame_parsed parsed = {.scanned = *scanned};
  size_t at = 0;
  while (at < size && conn->state == CONN_OPEN && !conn_input_blocked(conn)) {
    enum frame_result result = parse_one(conn, data + at, size - at, &parsed);
    if (result == FRAME_MORE) {
      break;
    }
    if (result != FRAME_MESSAGE) {
      conn_begin_end(conn, result == FRAME_BAD ? XCHG_ERROR : XCHG_TOO_LONG);
      break;
    }
    if (!deliver(conn, data + at, &parsed)) {
      return false;
    }
    at += parsed.head + parsed.size + parsed.tail;
  }
  if (conn->state != CONN_OPEN && at < size) {
    conn->extra_input = true;
    at = size;
  }
  *used = at;
  *scanned = parsed.scanned;
  return true;
}

/*
 * The remaining bytes of a read are kept: the message that they begin began now, unless the clock
 * runs from the accept.
 */
static void note_message_start(struct xchg_conn *conn) {
  if (!(conn_counted(conn) && conn->messages == 0)) {
    conn->message_start_ns = conn->ctx->reactor->now_ns;
  }
}

/* Deal with what conn->in holds. Return: is the connection still there? */
static bool parse_buffered(struct xchg_conn *conn) {
  size_t used, scanned = conn->in->scanned;
  if (!parse_messages(conn, buf_data(conn->in), buf_size(conn->in), &used, &scanned)) {
    return false;
  }
  if (used > 0) {
    buf_consume(&conn->ctx->bufs, &conn->in, used);
    if (conn->in != NULL) {
      note_message_start(conn);
    }
  }
  if (conn->in != NULL) {
    conn->in->scanned = scanned;
  }
  return true;
}

static bool buffer_rest(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  if (buf_append(&conn->ctx->bufs, &conn->in, data, size) == 0) {
    return true;
  }
  conn_close(conn, XCHG_MEMORY);
  return false;
}

/*
 * Deal with ${size} bytes that have just been read into the worker's buffer.  The unfinished
 * message that they go on with is put in front of them, unless it is the longer of both: so nothing
 * is moved more often than bytes come.
 */
static bool on_bytes(struct xchg_conn *conn, size_t size) {
  struct conn_ctx *ctx = conn->ctx;
  stats_add(&ctx->stats->bytes_in, size);
  conn->active_ns = ctx->reactor->now_ns;
  if (conn->state != CONN_OPEN) {
    conn->extra_input = true;
    conn->discarded += (uint32_t)size; /* no more was asked for than may be */
    return true;
  }
  size_t before = buf_size(conn->in), used, scanned = 0;
  if (before > min_u64(size, CONN_INPUT_FRONT)) {
    return buffer_rest(conn, ctx->input, size) && parse_buffered(conn);
  }
  const uint8_t *data = ctx->input - before;
  if (before > 0) {
    scanned = conn->in->scanned;
    memcpy(ctx->input - before, buf_data(conn->in), before);
    buf_release(&ctx->bufs, &conn->in);
  }
  if (!parse_messages(conn, data, before + size, &used, &scanned)) {
    return false;
  }
  if (used == before + size) {
    return true;
  }
  if (used > 0 || before == 0) {
    note_message_start(conn);
  }
  if (!buffer_rest(conn, data + used, before + size - used)) {
    return false;
  }
  conn->in->scanned = scanned;
  return true;
}

/* The stream has ended within a message: hand it up, or end. */
static bool on_last_bytes(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  struct frame_parsed parsed;
  enum frame_result result = frame_parse_last(&ctx->handler->frame, ctx->max_message,
                                              buf_data(conn->in), buf_size(conn->in), &parsed);
  if (result != FRAME_MESSAGE) {
    conn_begin_end(conn, result == FRAME_TOO_LONG ? XCHG_TOO_LONG : XCHG_TRUNCATED);
  } else if (!deliver(conn, buf_data(conn->in), &parsed)) {
    return false;
  }
  buf_release(&ctx->bufs, &conn->in);
  return true;
}

/* The stream has ended: so does a message that it may end, and the exchange. */
static bool on_eof(struct xchg_conn *conn) {
  conn->eof = true;
  if (conn->state == CONN_LINGERING) {
    conn_close(conn, conn->reason);
    return false;
  }
  if (conn->state == CONN_ENDING) {
    return true;
  }
  if (conn->in != NULL && !on_last_bytes(conn)) {
    return false;
  }
  conn_check_complete(conn);
  return true;
}

/* One read and what follows from it. Return: is the connection still there? */
static bool fill(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  size_t asked = ctx->input_bytes;
  if (conn->state != CONN_OPEN) {
    asked = min_u64(asked, LINGER_BYTES_MAX - conn->discarded);
  } else if (ctx->handler->frame.kind == XCHG_FRAME_RAW) {
    asked = min_u64(asked, ctx->max_message);
  }
  size_t count;
  switch (sock_recv(conn->fd, ctx->input, asked, &count)) {
    case IO_OK:
      conn->unread = conn->to_end || count == asked;
      return on_bytes(conn, count);
    case IO_AGAIN:
      conn->unread = conn->to_end = false;
      return true;
    case IO_EOF:
      conn->unread = conn->to_end = false;
      return on_eof(conn);
    default:
      conn_close(conn, conn->state == CONN_LINGERING ? conn->reason : sock_reason(errno));
      return false;
  }
}

bool conn_input_readable(const struct xchg_conn *conn) {
  if (!conn->unread) {
    return false;
  }
  return conn->state == CONN_OPEN ? !conn_input_blocked(conn) : conn->discarded < LINGER_BYTES_MAX;
}

void conn_input_pause(struct xchg_conn *conn, bool paused) {
  if (conn->paused != paused) {
    conn->paused = paused;
    conn->message_start_ns = conn->ctx->reactor->now_ns - conn->message_start_ns;
  }
}

bool conn_input_work(struct xchg_conn *conn) {
  if (conn->state == CONN_OPEN && conn->paused && !conn_input_blocked(conn)) {
    conn_input_pause(conn, false);
    conn_check_complete(conn); /* the answer was the last one's: what is kept came too late */
    if (conn->in != NULL && !parse_buffered(conn)) {
      return false;
    }
  }
  conn_check_complete(conn); /* an answer that it waited for has come */
  for (int i = 0; i < READS_MAX && conn_input_readable(conn); i++) {
    if (!fill(conn)) {
      return false;
    }
    if (!conn->to_end) {
      break;
    }
  }
  if (conn->state == CONN_OPEN && conn_input_blocked(conn)) {
    conn_input_pause(conn, true); /* now: the flush that follows may let it go on at once */
  }
  return true;
}
