/* conn_in: see conn_in.h. A bool result says: is the connection still there? */
#include "net/conn_in.h"

#include "net/frame.h"
#include "net/sock.h"
#include "net/conn_out.h"

#include <errno.h>
#include <string.h>

#define READS_MAX 16 /* a turn, where each read must be followed by another */

void conn_in_conclude(struct xchg_conn *conn) {
  const struct xchg_handler *handler = conn->host->handler;
  bool counted = conn_counted(conn);
  if ((!counted && !conn->ended) || conn->state != CONN_OPEN) {
    return;
  }
  bool complete = counted && conn->messages >= handler->messages;
  if (conn->holding || conn->more->offloads > 0 ||
      (!complete && (!conn->ended || conn->in != NULL))) {
    return;
  }
  if (handler->on_drain != NULL && conn->queued) {
    conn->winding = true;
    return;
  }
  conn_out_end(conn, complete || !counted ? XCHG_FINISHED : XCHG_PEER);
}

/* Hand one message up. Return: is the connection still there? */
static bool hand_up(struct xchg_conn *conn, const uint8_t *data, const struct frame_cut *cut) {
  const struct xchg_handler *handler = conn->host->handler;
  const struct xchg_message message = {.data = data + cut->head,
                                       .size = cut->size,
                                       .frame = data,
                                       .frame_size = cut->head + cut->size + cut->tail};
  conn->messages++;
  stats_add(&conn->host->stats->messages, 1);
  if (handler->on_message != NULL) {
    handler->on_message(conn, &message);
  }
  if (!conn_in_heed(conn)) {
    return false;
  }
  conn_in_conclude(conn);
  return true;
}

/* The first message in ${size} bytes at ${data}, by the handler's own function. */
static enum frame_result cut_custom(struct xchg_conn *conn, const uint8_t *data, size_t size,
                                    struct frame_cut *cut) {
  size_t max = conn->host->max_message;
  if (size < cut->scanned) {
    return FRAME_MORE; /* under this framing: so many are needed */
  }
  size_t end = conn->host->handler->frame.parse(conn, data, size);
  if (end == XCHG_PARSE_ERROR) {
    return FRAME_BAD;
  }
  if (end > max || (end == 0 && size > max)) {
    return FRAME_TOO_LONG;
  }
  if (end == 0 || end > size) {
    cut->scanned = end;
    return FRAME_MORE;
  }
  *cut = (struct frame_cut){.size = end};
  return FRAME_MESSAGE;
}

static enum frame_result cut_one(struct xchg_conn *conn, const uint8_t *data, size_t size,
                                 struct frame_cut *cut) {
  const struct xchg_frame *frame = &conn->host->handler->frame;
  if (frame->kind == XCHG_FRAME_CUSTOM) {
    return cut_custom(conn, data, size, cut);
  }
  return frame_cut(frame, conn->host->max_message, data, size, cut);
}

/*
 * Cut and hand up the messages in ${size} bytes at ${data}; ${*used} says how many of them are
 * dealt with, ${*scanned} (in and out) how many of the rest a search has seen in vain.  What comes
 * behind the end of the exchange is dealt with by being ignored.  Return: is the connection still
 * there?
 */
static bool cut_messages(struct xchg_conn *conn, const uint8_t *data, size_t size, size_t *used,
                         size_t *scanned) {
  struct frame_cut cut = {.scanned = *scanned};
  size_t at = 0;
  while (at < size && conn->state == CONN_OPEN && !conn_in_stands(conn)) {
    enum frame_result result = cut_one(conn, data + at, size - at, &cut);
    if (result == FRAME_MORE) {
      break;
    }
    if (result != FRAME_MESSAGE) {
      conn_out_end(conn, result == FRAME_BAD ? XCHG_ERROR : XCHG_TOO_LONG);
      break;
    }
    if (!hand_up(conn, data + at, &cut)) {
      return false;
    }
    at += cut.head + cut.size + cut.tail;
  }
  if (conn->state != CONN_OPEN && at < size) {
    conn->excess = true;
    at = size;
  }
  *used = at;
  *scanned = cut.scanned;
  return true;
}

/*
 * The remaining bytes of a read are kept: the message that they begin began now, unless the clock
 * runs from the accept.
 */
static void note_begun(struct xchg_conn *conn) {
  if (!(conn_counted(conn) && conn->messages == 0)) {
    conn->begun_ns = conn->host->reactor->now_ns;
  }
}

/* Deal with what conn->in holds. Return: is the connection still there? */
static bool cut_kept(struct xchg_conn *conn) {
  size_t used, scanned = conn->in->scanned;
  if (!cut_messages(conn, buf_data(conn->in), buf_size(conn->in), &used, &scanned)) {
    return false;
  }
  if (used > 0) {
    buf_consume(&conn->host->bufs, &conn->in, used);
    if (conn->in != NULL) {
      note_begun(conn);
    }
  }
  if (conn->in != NULL) {
    conn->in->scanned = scanned;
  }
  return true;
}

static bool keep(struct xchg_conn *conn, const uint8_t *data, size_t size) {
  if (buf_append(&conn->host->bufs, &conn->in, data, size) == 0) {
    return true;
  }
  conn_out_close(conn, XCHG_MEMORY);
  return false;
}

/*
 * Deal with ${size} bytes that have just been read into the worker's buffer.  The unfinished
 * message that they go on with is put in front of them, unless it is the longer of both: so nothing
 * is moved more often than bytes come.
 */
static bool received(struct xchg_conn *conn, size_t size) {
  struct conn_host *host = conn->host;
  stats_add(&host->stats->bytes_in, size);
  conn->active_ns = host->reactor->now_ns;
  if (conn->state != CONN_OPEN) {
    conn->excess = true;
    conn->thrown_away += (uint32_t)size; /* no more was asked for than may be */
    return true;
  }
  size_t before = buf_size(conn->in), used, scanned = 0;
  if (before > min_u64(size, CONN_INPUT_FRONT)) {
    return keep(conn, host->input, size) && cut_kept(conn);
  }
  const uint8_t *data = host->input - before;
  if (before > 0) {
    scanned = conn->in->scanned;
    memcpy(host->input - before, buf_data(conn->in), before);
    buf_release(&host->bufs, &conn->in);
  }
  if (!cut_messages(conn, data, before + size, &used, &scanned)) {
    return false;
  }
  if (used == before + size) {
    return true;
  }
  if (used > 0 || before == 0) {
    note_begun(conn);
  }
  if (!keep(conn, data + used, before + size - used)) {
    return false;
  }
  conn->in->scanned = scanned;
  return true;
}

/* The stream has ended within a message: hand it up, or end. */
static bool received_last(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  struct frame_cut cut;
  enum frame_result result = frame_cut_last(&host->handler->frame, host->max_message,
                                            buf_data(conn->in), buf_size(conn->in), &cut);
  if (result != FRAME_MESSAGE) {
    conn_out_end(conn, result == FRAME_TOO_LONG ? XCHG_TOO_LONG : XCHG_TRUNCATED);
  } else if (!hand_up(conn, buf_data(conn->in), &cut)) {
    return false;
  }
  buf_release(&host->bufs, &conn->in);
  return true;
}

/* The stream has ended: so does a message that it may end, and the exchange. */
static bool received_end(struct xchg_conn *conn) {
  conn->ended = true;
  if (conn->state == CONN_DRAINING) {
    conn_out_close(conn, conn->reason);
    return false;
  }
  if (conn->state == CONN_ENDING) {
    return true;
  }
  if (conn->in != NULL && !received_last(conn)) {
    return false;
  }
  conn_in_conclude(conn);
  return true;
}

/* One read and what follows from it. Return: is the connection still there? */
static bool fill(struct xchg_conn *conn) {
  struct conn_host *host = conn->host;
  size_t asked = host->input_bytes;
  if (conn->state != CONN_OPEN) {
    asked = min_u64(asked, DRAIN_BYTES_MAX - conn->thrown_away);
  } else if (host->handler->frame.kind == XCHG_FRAME_RAW) {
    asked = min_u64(asked, host->max_message);
  }
  size_t count;
  switch (sock_recv(conn->fd, host->input, asked, &count)) {
    case IO_OK:
      conn->unread = conn->to_end || count == asked;
      return received(conn, count);
    case IO_AGAIN:
      conn->unread = conn->to_end = false;
      return true;
    case IO_EOF:
      conn->unread = conn->to_end = false;
      return received_end(conn);
    default:
      conn_out_close(conn, conn->state == CONN_DRAINING ? conn->reason : sock_reason(errno));
      return false;
  }
}

bool conn_in_readable(const struct xchg_conn *conn) {
  if (!conn->unread) {
    return false;
  }
  return conn->state == CONN_OPEN ? !conn_in_stands(conn) : conn->thrown_away < DRAIN_BYTES_MAX;
}

void conn_in_pause(struct xchg_conn *conn, bool paused) {
  if (conn->paused != paused) {
    conn->paused = paused;
    conn->begun_ns = conn->host->reactor->now_ns - conn->begun_ns;
  }
}

bool conn_in_work(struct xchg_conn *conn) {
  if (conn->state == CONN_OPEN && conn->paused && !conn_in_stands(conn)) {
    conn_in_pause(conn, false);
    conn_in_conclude(conn); /* the answer was the last one's: what is kept came too late */
    if (conn->in != NULL && !cut_kept(conn)) {
      return false;
    }
  }
  conn_in_conclude(conn); /* an answer that it waited for has come */
  for (int i = 0; i < READS_MAX && conn_in_readable(conn); i++) {
    if (!fill(conn)) {
      return false;
    }
    if (!conn->to_end) {
      break;
    }
  }
  if (conn->state == CONN_OPEN && conn_in_stands(conn)) {
    conn_in_pause(conn, true); /* now: the flush that follows may let it go on at once */
  }
  return true;
}
