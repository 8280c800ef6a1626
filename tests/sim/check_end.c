/*
 * check_end: may this connection end for this reason now?
 *
 * Each reason has a function with its conditions.  This file checks that a timeout is not early,
 * and check_deadlines.c that none is late.  The server measures idle times and messages from the
 * beginning of the turn in which something happened.  check_slack_ns allows for the length of that
 * turn.  Other timeouts have no such allowance.
 */
#include "tests/sim/oracle.h"

#include "tests/sim/plan.h"

#include <errno.h>
#include <inttypes.h>

#define SILENCE_NS NS_PER_S           /* what a connection without a message gets at a stop */
#define DRAIN_MAX (UINT64_C(1) << 20) /* bytes that a lingering connection reads at most */

static uint64_t unsent(const struct link *link) {
  return record_of(link)->expect_size - link->down_written;
}

/* The message that the handler would get next; NULL where the plan of the peer has none. */
static const struct piece *next_piece(const struct link *link) {
  uint32_t handed = record_of(link)->handed;
  return handed < link->peer->pieces_count ? &link->peer->pieces[handed] : NULL;
}

/* Bytes that were read and belong to no message of the handler; without those read in lingering. */
static uint64_t begun(const struct link *link) {
  const struct record *record = record_of(link);
  return record->shut_ns > 0 ? record->shut_begun : link->up_read - record->handed_to;
}

static bool is_counted(void) { return plan.config.messages > 0; }

static bool is_complete(const struct link *link) {
  return is_counted() && record_of(link)->handed >= plan.config.messages;
}

static bool must_leave(const struct link *link) {
  uint64_t life_ns = plan.config.max_lifetime_ns;
  return oracle.stop_ns != NEVER ||
         (life_ns > 0 && world.now_ns >= oracle_begin_ns(link) + life_ns - life_ns / 10);
}

/* Is it between messages, with all input and output handled? */
static bool is_between(const struct link *link) {
  return record_of(link)->handed > 0 && begun(link) == 0 && unsent(link) == 0;
}

/* ---- reasons ---- */

static bool was_reset(const struct link *link);

/* A proxy's own connection without a byte after its header: however the proxy ends it. */
static bool is_check(const struct link *link) {
  return link->peer->is_local && record_of(link)->handed == 0 && begun(link) == 0;
}

static bool finished(const struct link *link) {
  if (is_check(link) && (link->fin_read || was_reset(link))) {
    return true;
  }
  if (unsent(link) > 0) {
    return false;
  }
  if (is_counted()) {
    return is_complete(link);
  }
  return link->fin_read ? begun(link) == 0 : must_leave(link) && is_between(link);
}

static bool ended_by_peer(const struct link *link) {
  return !is_check(link) && is_counted() && !is_complete(link) && link->fin_read &&
         begun(link) == 0 && unsent(link) == 0;
}

static bool is_reset_errno(int error) {
  return error == ECONNRESET || error == EPIPE || error == ECONNABORTED || error == ETIMEDOUT ||
         error == EHOSTUNREACH;
}

static bool was_reset(const struct link *link) {
  return is_reset_errno(link->broken) || is_reset_errno(record_of(link)->injected);
}

static bool failed(const struct link *link) {
  int injected = record_of(link)->injected;
  return (link->broken != 0 && !is_reset_errno(link->broken)) ||
         (injected != 0 && !is_reset_errno(injected));
}

static bool too_long(const struct link *link) {
  const struct piece *piece = next_piece(link);
  bool declared = plan.config.frame.kind == XCHG_FRAME_PREFIX;
  uint64_t least = declared ? plan.config.frame.size : plan.config.max_message_bytes + 1;
  bool by_end = !declared && link->fin_read; /* a CR without LF turned out to be data */
  return piece != NULL && (piece->kind == PIECE_TOO_LONG || by_end) && begun(link) >= least &&
         unsent(link) == 0 && !is_complete(link);
}

static bool truncated(const struct link *link) {
  enum xchg_frame_kind kind = plan.config.frame.kind;
  return (kind == XCHG_FRAME_PREFIX || kind == XCHG_FRAME_FIXED) && link->fin_read &&
         begun(link) > 0 && unsent(link) == 0 && !is_complete(link);
}

static bool is_past(uint64_t from_ns, uint64_t limit_ns) {
  return limit_ns > 0 && world.now_ns + check_slack_ns() >= from_ns + limit_ns;
}

static bool is_strictly_past(uint64_t from_ns, uint64_t limit_ns) {
  return limit_ns > 0 && world.now_ns >= from_ns + limit_ns;
}

/* Has the peer acknowledged something that prolongs a timeout?  Not without memory to note it. */
static bool is_prolonged(const struct link *link) {
  uint64_t turn_ns = oracle.turns[world_self()];
  return link->acked_ns < turn_ns && !(oracle.no_memory && oracle.no_map_ns >= turn_ns);
}

static bool idle(const struct link *link) {
  bool unacked = link->down_acked < link->down_written && !link->done;
  uint64_t from_ns = record_of(link)->touched_ns;
  if (unacked && is_prolonged(link)) {
    from_ns = max_u64(from_ns, link->acked_ns);
  }
  return is_past(from_ns, plan.config.idle_timeout_ns);
}

static bool message_late(const struct link *link) {
  const struct record *record = record_of(link);
  const struct piece *piece = next_piece(link);
  bool first = is_counted() && record->handed == 0;
  uint64_t from_ns = first ? oracle_begin_ns(link) : piece != NULL ? piece->first_read_ns : 0;
  return from_ns > 0 && (first || begun(link) > 0) &&
         is_past(from_ns, plan.config.message_timeout_ns);
}

static bool write_late(const struct link *link) {
  uint64_t from_ns = record_of(link)->sent_ns;
  if (is_prolonged(link)) {
    from_ns = max_u64(from_ns, link->acked_ns);
  }
  return unsent(link) > 0 && is_strictly_past(from_ns, plan.config.write_timeout_ns);
}

static bool lived_long(const struct link *link) {
  uint64_t life_ns = plan.config.max_lifetime_ns;
  return life_ns > 0 && is_past(oracle_begin_ns(link), life_ns - life_ns / 10);
}

static bool stopped(const struct link *link) {
  const struct record *record = record_of(link);
  if (oracle.stop_ns == NEVER) {
    return false;
  }
  if (world.now_ns >= oracle.stop_now_ns) {
    return true;
  }
  bool silent = !is_counted() && record->handed == 0 && begun(link) == 0 &&
                is_past(max_u64(oracle.stop_ns, oracle_begin_ns(link)), SILENCE_NS);
  return silent || (is_counted() && is_between(link));
}

bool check_end_header(const struct link *link) {
  const struct record *record = record_of(link);
  bool stopped = oracle.stop_ns != NEVER && link->up_read == 0 &&
                 is_past(max_u64(oracle.stop_ns, record->accepted_ns), SILENCE_NS);
  bool ended = link->fin_read || link->broken != 0 || record->injected != 0;
  return stopped || (link->peer->bad_head && link->up_read > 0) ||
         (ended && link->up_read < link->peer->head) ||
         is_past(record->accepted_ns, plan.config.proxy_timeout_ns);
}

static bool is_right(const struct link *link, enum xchg_reason reason) {
  switch (reason) {
    case XCHG_FINISHED:
      return finished(link);
    case XCHG_PEER:
      return ended_by_peer(link);
    case XCHG_RESET:
      return was_reset(link) && !is_check(link);
    case XCHG_TOO_LONG:
      return too_long(link);
    case XCHG_TRUNCATED:
      return truncated(link);
    case XCHG_IDLE:
      return idle(link);
    case XCHG_MESSAGE:
      return message_late(link);
    case XCHG_WRITE:
      return write_late(link);
    case XCHG_LIFETIME:
      return lived_long(link);
    case XCHG_MEMORY:
      return oracle.no_memory;
    case XCHG_DRAIN:
      return stopped(link);
    case XCHG_ERROR:
      return failed(link);
    default:
      return false; /* a connection that is DENIED, PER_IP or OVERLOAD is never opened */
  }
}

void check_end_reason(const struct link *link, enum xchg_reason reason) {
  const struct record *record = record_of(link);
  if (!is_right(link, reason)) {
    world_fail("peer %u is closed as %s: %u messages, %" PRIu64 " bytes begun, %" PRIu64
               " unsent, end of stream%s seen",
               link->peer->number, xchg_reason_name(reason), record->handed, begun(link),
               unsent(link), link->fin_read ? "" : " not");
  }
}

/* ---- the close ---- */

/* Does this end promise that the last bytes arrive? */
static bool is_safe(const struct link *link) {
  switch (record_of(link)->reason) {
    case XCHG_FINISHED:
    case XCHG_TOO_LONG:
    case XCHG_TRUNCATED:
      return true;
    case XCHG_DRAIN:
      return world.now_ns < oracle.stop_now_ns;
    default:
      return false;
  }
}

void check_end_close(const struct link *link) {
  const struct record *record = record_of(link);
  uint64_t linger_ns = plan.config.linger_ns;
  if (!is_safe(link) || linger_ns == 0 || link->broken != 0 || link->fin_read ||
      record->injected != 0) {
    return;
  }
  uint64_t from_ns = link->acked_ns;
  if (record->shut_ns > 0) {
    from_ns = max_u64(from_ns, record->shut_ns);
    bool enough = link->up_read - record->handed_to >= DRAIN_MAX;
    if (!enough && link->acked_ns < oracle.turns[world_self()] &&
        !is_strictly_past(from_ns, linger_ns)) {
      world_fail("peer %u: closed too early while lingering", link->peer->number);
    }
  } else if (link->down_acked < link->down_written) {
    world_fail("peer %u: closed before the reply was acknowledged", link->peer->number);
  } else if (link->up_arrived > link->up_read &&
             link_oldest_ns(link) < oracle.turns[world_self()]) {
    world_fail("peer %u: closed with bytes unread", link->peer->number);
  } else if (begun(link) > 0) {
    world_fail("peer %u: closed at once although more had come", link->peer->number);
  }
}
