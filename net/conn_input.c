/* conn_input: see conn_input.h. */
#include "net/conn_input.h"

#include "net/frame.h"
#include "net/sock.h"
#include "net/conn_log.h"
#include "net/conn_timeout.h"
#include "net/conn_proxy.h"

#include <errno.h>
#include <string.h>

#define READS_MAX 16 /* per turn, if a short read proves nothing; the bytes have their own bound */

/* Begin the end as ${reason}, unless an end has begun. In HEADER there is nothing to wait for. */
static void end_as(struct xchg_conn *conn, enum xchg_reason reason) {
  if (conn->state == CONN_OPEN) {
    conn_begin_end(conn, reason);
  } else if (conn->state == CONN_HEADER) {
    conn_request_close(conn, reason);
  }
}

/* Close as ${reason}; a connection that lingers keeps the reason of its end. */
static void close_as(struct xchg_conn *conn, enum xchg_reason reason) {
  conn_request_close(conn, conn->state == CONN_LINGERING ? conn->end_reason : reason);
}

/* The peer has ended the connection with ${error}. */
static void close_failed(struct xchg_conn *conn, int error) {
  if (conn->state == CONN_HEADER) {
    conn_proxy_reject(conn, PROXY_CAUSE_TRUNCATED);
  } else {
    close_as(conn, conn_proxy_reason(conn, sock_reason(error)));
  }
}

void conn_input_apply(struct xchg_conn *conn) {
  if (conn->request == REQUEST_ABORT) {
    close_as(conn, conn->end_reason);
  } else if (conn->request == REQUEST_FINISH) {
    end_as(conn, XCHG_FINISHED);
  }
}

void conn_input_check(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->ctx->handler;
  bool counted = conn_counted(conn);
  if (conn->state != CONN_OPEN) {
    return;
  }
  bool complete = counted && conn->messages >= handler->messages;
  if ((conn->hold_reasons & (HOLD_HANDLER | HOLD_OFFLOADS)) != 0 ||
      (!complete && (!conn->eof || conn->in != NULL))) {
    return;
  }
  if (handler->on_drain != NULL && (conn->drain_due || !send_queue_empty(&conn->out))) {
    conn->hold_reasons |= HOLD_DRAIN;
    return;
  }
  if (complete || !counted) {
    end_as(conn, XCHG_FINISHED);
  } else {
    conn_proxy_end_by_peer(conn);
  }
}

/* Deliver one message to the handler. */
static inline void deliver(struct xchg_conn *conn, const uint8_t *data,
                           const struct frame_parsed *parsed) {
  const struct xchg_handler *handler = conn->ctx->handler;
  const struct xchg_message message = {.data = data + parsed->head,
                                       .size = parsed->size,
                                       .frame = data,
                                       .frame_size = parsed->head + parsed->size + parsed->tail};
  conn->messages++;
  stats_add(&conn->ctx->stats->messages, 1);
  probe_message(conn->ctx->index, conn_id(conn), parsed->size, conn->messages);
  if (handler->on_message != NULL) {
    handler->on_message(conn, &message);
  }
  conn_apply_requests(conn);
  conn_check_complete(conn);
}

/* Parse the first message of ${size} bytes at ${data} with the handler's own function. */
static enum frame_result parse_custom(struct xchg_conn *conn, const uint8_t *data, size_t size,
                                      struct frame_parsed *parsed) {
  size_t max = conn->ctx->max_message;
  if (size < parsed->scanned) {
    return FRAME_MORE; /* for a custom frame, scanned is the size that the handler asked for */
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

/* What parse_messages has done. */
struct parse_progress {
  size_t used;    /* bytes that need no further work, all after the end of the exchange included */
  size_t scanned; /* of the bytes after them: those that a search has already covered */
};

/*
 * Parse and deliver the messages in ${size} bytes at ${data}: those that end within the first
 * ${limit} bytes, and the first one of a turn however long it is.  A search has already covered
 * ${scanned} of the bytes.
 */
static struct parse_progress parse_messages(struct xchg_conn *conn, const uint8_t *data,
                                            size_t size, size_t limit, size_t scanned) {
  struct frame_parsed parsed = {.scanned = scanned};
  size_t at = 0;
  while (at < size && conn->state == CONN_OPEN && !conn_input_blocked(conn)) {
    enum frame_result result = parse_one(conn, data + at, size - at, &parsed);
    if (result == FRAME_MORE) {
      break;
    }
    if (result != FRAME_MESSAGE) {
      end_as(conn, result == FRAME_BAD ? XCHG_ERROR : XCHG_TOO_LONG);
      break;
    }
    size_t end = at + parsed.head + parsed.size + parsed.tail;
    if (end > limit && (at > 0 || limit < CONN_TURN_BYTES)) {
      break;
    }
    deliver(conn, data + at, &parsed);
    at = end;
  }
  if (conn->state != CONN_OPEN && at < size) {
    conn->extra_input = true;
    at = size;
  }
  return (struct parse_progress){.used = at, .scanned = parsed.scanned};
}

/*
 * The buffered bytes begin a new message, whose clock starts now.  Exception: the clock of a
 * counted exchange's first message has run since the accept.
 */
static void note_message_start(struct xchg_conn *conn) {
  if (!(conn_counted(conn) && conn->messages == 0)) {
    conn->message_clock_ns = conn->ctx->reactor->now_ns;
  }
}

/*
 * Parse what conn->in holds, up to ${limit} bytes.  If messages may be left, the clock stops, and
 * so does the turn: the next one continues here.  Return: the bytes that were delivered.
 */
static size_t parse_buffered(struct xchg_conn *conn, size_t limit) {
  size_t size = buf_size(conn->in);
  if (conn->ctx->paces != NULL) {
    conn_log_begun(conn);
  }
  struct parse_progress progress =
      parse_messages(conn, buf_data(conn->in), size, limit, conn->in->scanned);
  size_t used = progress.used;
  if (used > 0 && conn->ctx->paces != NULL) {
    conn_log_delivered(conn);
  }
  if (used > 0) {
    buf_consume(&conn->ctx->bufs, &conn->in, used);
    if (conn->in != NULL) {
      note_message_start(conn);
    }
  }
  if (conn->in != NULL) {
    conn->in->scanned = progress.scanned;
    if (size > limit && (used > 0 || limit < CONN_TURN_BYTES)) {
      conn_stop_clock(conn, true);
    }
  }
  return used;
}

/* Copy bytes that must wait into conn->in. Return: was there memory? */
static bool buffer_rest(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  if (buf_append(&conn->ctx->bufs, &conn->in, data, size) == 0) {
    return true;
  }
  close_as(conn, XCHG_MEMORY);
  return false;
}

/*
 * Parse ${size} bytes just read, which continue what conn->in holds.  The shorter part is copied to
 * the longer one: conn->in before the bytes in the worker's buffer, or the bytes to conn->in.  So
 * joining both never copies more bytes than the read brought.  ${limit} is as in parse_messages; in
 * the worker's buffer there are never more bytes.
 * Return: the bytes that were delivered.
 */
static size_t parse_continued(struct xchg_conn *conn, size_t size, size_t limit) {
  struct conn_ctx *ctx = conn->ctx;
  size_t before = buf_size(conn->in), scanned = 0;
  if (before > min_u64(size, CONN_INPUT_FRONT)) {
    return buffer_rest(conn, ctx->input, size) ? parse_buffered(conn, limit) : 0;
  }
  const uint8_t *data = ctx->input - before;
  if (before > 0) {
    scanned = conn->in->scanned;
    memcpy(ctx->input - before, buf_data(conn->in), before);
    buf_release(&ctx->bufs, &conn->in);
    if (ctx->paces != NULL) {
      conn_log_begun(conn);
    }
  }
  struct parse_progress progress =
      parse_messages(conn, data, before + size, before + size, scanned);
  size_t used = progress.used;
  if (before > 0 && used > 0 && ctx->paces != NULL) {
    conn_log_delivered(conn);
  }
  if (used < before + size) {
    if (used > 0 || before == 0) {
      note_message_start(conn);
    }
    if (buffer_rest(conn, data + used, before + size - used)) {
      conn->in->scanned = progress.scanned;
    }
  }
  return used;
}

/*
 * ${size} bytes have been read into the worker's buffer, and all that came before is the beginning
 * of a PROXY header.  Return: the bytes after the header, which stand at the beginning of the
 * buffer then; 0 also if the connection is not open.
 */
static size_t on_header_bytes(struct xchg_conn *conn, size_t size) {
  struct conn_ctx *ctx = conn->ctx;
  size_t before = buf_size(conn->in);
  uint8_t *data = ctx->input - before;
  if (before > 0) {
    memcpy(data, buf_data(conn->in), before);
    buf_release(&ctx->bufs, &conn->in);
  }
  size_t header = conn_proxy_take(conn, data, before + size);
  if (conn->state == CONN_HEADER) {
    (void)buffer_rest(conn, data, before + size); /* without memory, it has requested the close */
    return 0;
  }
  if (conn->state == CONN_CLOSED) {
    return 0;
  }
  conn_apply_requests(conn);
  size_t left = before + size - header;
  if (conn->state != CONN_OPEN) {
    conn->extra_input = conn->extra_input || left > 0;
    return 0;
  }
  memmove(ctx->input, data + header, left);
  return left;
}

/* ${size} bytes were read that are no message's. Return: the bytes left, the first of messages. */
static size_t on_other_bytes(struct xchg_conn *conn, size_t size) {
  if (conn->state == CONN_HEADER) {
    return on_header_bytes(conn, size);
  }
  conn->extra_input = true;
  conn->discarded += size; /* fill has limited the read to LINGER_BYTES_MAX */
  return 0;
}

/*
 * ${size} bytes, at most ${limit}, have just been read into the worker's buffer.  Return: how many
 * bytes of the turn that took: those read, or those delivered if that is more.
 */
static size_t on_bytes(struct xchg_conn *conn, size_t size, size_t limit) {
  stats_add(&conn->ctx->stats->bytes_in, size);
  conn->bytes_in += size;
  conn->active_ns = conn->ctx->reactor->now_ns;
  size_t left = conn->state == CONN_OPEN ? size : on_other_bytes(conn, size);
  return left == 0 ? size : max_u64(size, parse_continued(conn, left, limit));
}

/* The stream has ended within a message: deliver it if its frame allows that, else end. */
static void on_last_bytes(struct xchg_conn *conn) {
  struct conn_ctx *ctx = conn->ctx;
  struct frame_parsed parsed;
  enum frame_result result = frame_parse_last(&ctx->handler->frame, ctx->max_message,
                                              buf_data(conn->in), buf_size(conn->in), &parsed);
  if (result == FRAME_MESSAGE) {
    deliver(conn, buf_data(conn->in), &parsed);
  } else {
    end_as(conn, result == FRAME_TOO_LONG ? XCHG_TOO_LONG : XCHG_TRUNCATED);
  }
  buf_release(&ctx->bufs, &conn->in);
}

/* The stream has ended: this may complete a message, and ends the exchange. */
static void on_eof(struct xchg_conn *conn) {
  conn->eof = true;
  if (conn->state == CONN_HEADER) {
    conn_proxy_reject(conn, PROXY_CAUSE_TRUNCATED);
    return;
  }
  if (conn->state == CONN_LINGERING) {
    close_as(conn, XCHG_PEER);
    return;
  }
  if (conn->state == CONN_OPEN && conn->in != NULL) {
    on_last_bytes(conn);
  }
  conn_check_complete(conn);
}

/*
 * Read once and handle the result.  The bytes read, together with a short beginning that they
 * continue, are at most ${limit}.  Return: how many bytes of the turn that took.
 */
static size_t fill(struct xchg_conn *conn, size_t limit) {
  struct conn_ctx *ctx = conn->ctx;
  size_t before = buf_size(conn->in);
  size_t asked = min_u64(ctx->input_bytes, before > CONN_INPUT_FRONT ? limit : limit - before);
  if (conn->state != CONN_OPEN) {
    asked = min_u64(asked, LINGER_BYTES_MAX - conn->discarded);
  } else if (ctx->handler->frame.kind == XCHG_FRAME_RAW) {
    asked = min_u64(asked, ctx->max_message);
  }
  size_t count;
  switch (sock_recv(conn->fd, ctx->input, asked, &count)) {
    case IO_OK:
      if (conn->readable == READABLE_MAYBE && count < asked) {
        conn->readable = READABLE_NO;
      }
      return on_bytes(conn, count, limit);
    case IO_AGAIN:
      conn->readable = READABLE_NO;
      return 0;
    case IO_EOF:
      conn->readable = READABLE_NO;
      on_eof(conn);
      return 0;
    default:
      close_failed(conn, errno);
      return 0;
  }
}

bool conn_input_readable(const struct xchg_conn *conn) {
  if (conn->readable == READABLE_NO) {
    return false;
  }
  return conn->state == CONN_OPEN ? !conn_input_blocked(conn) : conn->discarded < LINGER_BYTES_MAX;
}

void conn_stop_clock(struct xchg_conn *conn, bool stop) {
  if (stop == conn->clock_stopped) {
    return;
  }
  uint64_t now_ns = conn->ctx->reactor->now_ns;
  conn->message_clock_ns = now_ns - conn->message_clock_ns; /* start <-> time taken */
  conn->clock_stopped = stop;
  if (!stop) { /* the message has a deadline again; the turn may end with nothing pending */
    reactor_arm(conn->ctx->reactor, &conn->source, conn_timeout_next(conn));
  }
  if (conn->ctx->paces != NULL) {
    conn_log_clock(conn, stop);
  }
}

/*
 * Read and deliver at most ${left} bytes.  Less than CONN_INPUT_FRONT is not worth a read if it may
 * have to wait for the beginning of its message.
 */
static void read_input(struct xchg_conn *conn, size_t left) {
  for (int i = 0; i < READS_MAX && left > CONN_INPUT_FRONT && conn_input_readable(conn); i++) {
    left = sub_sat_u64(left, fill(conn, left));
    bool held = conn->state == CONN_OPEN && conn->clock_stopped;
    if (conn->readable != READABLE_UNTIL_EAGAIN || held) {
      return;
    }
  }
}

void conn_input_work(struct xchg_conn *conn) {
  size_t left = CONN_TURN_BYTES;
  if (conn->state == CONN_OPEN && conn->clock_stopped && !conn_input_blocked(conn)) {
    conn_stop_clock(conn, false);
    conn_check_complete(conn); /* after the last message, buffered bytes are extra input */
    if (conn->in != NULL) {
      left = sub_sat_u64(left, parse_buffered(conn, left));
    }
  }
  conn_check_complete(conn); /* what the end waited for may have come */
  if (conn->state != CONN_OPEN || !conn->clock_stopped) {
    read_input(conn, left);
  }
  if (conn->state == CONN_OPEN && conn_input_blocked(conn)) {
    conn_stop_clock(conn, true); /* now, because the next flush may unblock the input */
  }
}
