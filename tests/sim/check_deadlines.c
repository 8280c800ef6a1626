/*
 * check_deadlines: is a deadline missed, is something ready and not handled, do the totals add up?
 *
 * Every connection is checked once in CHECK_INTERVAL_NS of simulated time.  A deadline may be late
 * by the allowance that docs/reference.md states, and by the time that the weather of the run has
 * taken from the threads.
 */
#include "tests/sim/oracle.h"

#include "tests/sim/kernel.h"
#include "tests/sim/plan.h"

#include <inttypes.h>

#define CHECK_INTERVAL_NS (20 * NS_PER_MS)
#define ANSWER_NS \
  (50 * NS_PER_MS) /* the limit for handling what is ready, plus check_patience_ns */
#define STARVED_NS (200 * NS_PER_MS)
#define TIMEOUTS_A_SECOND 150 /* waits of a thread that ended without an event */
#define SLACK_NS (4 * NS_PER_MS)

uint64_t check_patience_ns(void) {
  return world.stalled_ns + 4 * world.weather.late_ns + 2 * oracle.turn_ns;
}

uint64_t check_slack_ns(void) { return sub_sat_u64(oracle.turn_ns, SLACK_NS) + world.stalled_ns; }

/* Is a limit of ${limit_ns} since ${from_ns} exceeded by too much? */
static bool is_late(uint64_t from_ns, uint64_t limit_ns, unsigned times) {
  uint64_t grace_ns = max_u64(limit_ns / 10, 100 * NS_PER_MS);
  return limit_ns > 0 &&
         world.now_ns > from_ns + times * limit_ns + grace_ns + SLACK_NS + check_patience_ns();
}

static bool lies_since(uint64_t since_ns) {
  return world.now_ns > since_ns + ANSWER_NS + check_patience_ns();
}

static uint64_t pending(const struct link *link) {
  return record_of(link)->expect_size - link->down_written;
}

/* ---- what is ready and not handled ---- */

static uint32_t live_connections(void) {
  uint32_t count = 0;
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    count += oracle.records[i].accepted && !oracle.records[i].kernel_closed;
  }
  return count;
}

static void check_queued(const struct link *link) {
  const struct faults *faults = &plan.faults;
  bool starved = oracle.accept_ns > 0 && world.now_ns < oracle.accept_ns + STARVED_NS;
  bool room = live_connections() < plan.config.max_connections;
  if (!starved && faults->control == 0 && room && lies_since(record_of(link)->queued_ns) &&
      lies_since(oracle.accept_ns) && lies_since(oracle.freed_ns)) {
    world_fail("peer %u waits in the backlog although there is room", link->peer->number);
  }
}

static void check_unread(const struct link *link) {
  bool unread = link->up_arrived > link->up_read || (link->fin_up && !link->fin_read);
  bool waits = pending(link) >= plan.config.max_pending_bytes;
  bool enough = link->up_read - record_of(link)->handed_to >= UINT64_C(1) << 20;
  if (unread && !waits && !enough &&
      lies_since(max_u64(link->unread_ns, record_of(link)->opened_ns))) {
    world_fail("peer %u: bytes or an end of stream are unread", link->peer->number);
  }
}

static void check_unsent(struct link *link) {
  struct record *record = record_of(link);
  bool room = 3 * (link->sndbuf - (link->down_written - link->down_acked)) >= link->sndbuf;
  if (pending(link) == 0 || !room) {
    record->idle_out_ns = 0;
  } else if (record->idle_out_ns == 0) {
    record->idle_out_ns = world.now_ns;
  } else if (lies_since(record->idle_out_ns)) {
    world_fail("peer %u: a reply is unsent although there is room", link->peer->number);
  }
}

/*
 * Does the message timeout run, and did its clock never stand?  It does not run for input after
 * the last message, or for a message that is too long.
 */
static bool waits_for_message(const struct link *link, uint64_t *from_ns) {
  const struct record *record = record_of(link);
  const struct piece *piece = &link->peer->pieces[record->handed];
  bool counted = plan.config.messages > 0, there = record->handed < link->peer->pieces_count;
  if (record->was_blocked || link->fin_read ||
      (counted && record->handed >= plan.config.messages) ||
      (there && piece->kind == PIECE_TOO_LONG)) {
    return false;
  }
  if (counted && record->handed == 0) {
    *from_ns = oracle_begin_ns(link);
    return true;
  }
  *from_ns = there ? piece->first_read_ns : 0;
  return *from_ns > 0 && link->up_read > record->handed_to;
}

static void check_limits(const struct link *link) {
  const struct record *record = record_of(link);
  const struct config *config = &plan.config;
  uint32_t number = link->peer->number;
  uint64_t moved_ns = max_u64(record->touched_ns, link->acked_ns), from_ns;
  if (record->shut_ns > 0) {
    if (is_late(max_u64(record->shut_ns, link->acked_ns), config->linger_ns, 2)) {
      world_fail("peer %u: XCHG_LINGER has passed", number);
    }
    return;
  }
  if (is_late(moved_ns, config->idle_timeout_ns, 2)) {
    world_fail("peer %u: XCHG_IDLE_TIMEOUT has passed", number);
  }
  from_ns =
      max_u64(record->waits_ns, link->acked_ns); /* what the server writes does not prolong it */
  if (pending(link) > 0 && is_late(from_ns, config->write_timeout_ns, 2)) {
    world_fail("peer %u: XCHG_WRITE_TIMEOUT has passed", number);
  }
  if (waits_for_message(link, &from_ns) && is_late(from_ns, config->message_timeout_ns, 1)) {
    world_fail("peer %u: XCHG_MESSAGE_TIMEOUT has passed", number);
  }
  if (config->max_lifetime_ns > 0 &&
      is_late(oracle_begin_ns(link) + config->max_lifetime_ns, config->drain_timeout_ns + 1, 1)) {
    world_fail("peer %u: XCHG_MAX_LIFETIME and XCHG_DRAIN_TIMEOUT have passed", number);
  }
}

/* A connection that waits for its header. */
static void check_header(const struct link *link) {
  const struct record *record = record_of(link);
  uint32_t number = link->peer->number;
  if (record->shut_ns > 0) {
    return;
  }
  if (is_late(record->accepted_ns, plan.config.proxy_timeout_ns, 1)) {
    world_fail("peer %u: XCHG_PROXY_TIMEOUT has passed", number);
  }
  bool unread = link->up_arrived > link->up_read || (link->fin_up && !link->fin_read);
  if ((unread && lies_since(max_u64(link->unread_ns, record->accepted_ns))) ||
      (link->broken != 0 && lies_since(max_u64(link->broken_ns, record->accepted_ns)))) {
    world_fail("peer %u: a header, an end or an error is unread", number);
  }
  if (oracle.stop_ns != NEVER && link->up_read == 0 &&
      is_late(max_u64(oracle.stop_ns, record->accepted_ns), NS_PER_S, 1)) {
    world_fail("peer %u: a stop waits for a header that has not begun", number);
  }
}

static void check_link(struct link *link) {
  const struct record *record = record_of(link);
  if (link->state == LINK_QUEUED) {
    check_queued(link);
  }
  if (!record->accepted || record->kernel_closed) {
    return;
  }
  if (!record->opened && link->peer->head > 0) {
    check_header(link);
    return;
  }
  if (!record->opened) {
    if (lies_since(record->accepted_ns)) {
      world_fail("peer %u was accepted and is not served", link->peer->number);
    }
    return;
  }
  if (link->broken != 0 && lies_since(max_u64(link->broken_ns, record->opened_ns))) {
    world_fail("peer %u: its broken connection is not closed", link->peer->number);
  }
  check_unread(link);
  check_unsent(link);
  check_limits(link);
}

static void check_all(void *object, uint64_t began_ns) {
  (void)object;
  if (oracle.over) {
    return;
  }
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    check_link(peer_at(i)->link);
  }
  for (int i = 0; i < THREADS_MAX; i++) {
    uint64_t seconds = 1 + (world.now_ns - began_ns) / NS_PER_S;
    if (oracle.timeouts[i] > TIMEOUTS_A_SECOND * seconds + 64 * (uint64_t)LINKS_MAX) {
      world_fail("a thread wakes up repeatedly without an event");
    }
  }
  world_at(world.now_ns + CHECK_INTERVAL_NS, check_all, NULL, began_ns);
}

void check_deadlines_start(void) { world_at(world.now_ns, check_all, NULL, world.now_ns); }

/* ---- totals ---- */

static void equal(const char *what, uint64_t counted, uint64_t seen) {
  if (counted != seen) {
    world_fail("%s: %" PRIu64 " counted, %" PRIu64 " seen", what, counted, seen);
  }
}

void check_totals(struct stats *stats) {
  uint64_t refused = 0;
  equal("accepted", stats->accepted, oracle.accepted);
  equal("accepted, and ended", stats->accepted, stats_ended(stats));
  equal("messages", stats->messages, oracle.messages);
  equal("bytes in", stats->bytes_in, oracle.bytes_in);
  equal("bytes out", stats->bytes_out, oracle.bytes_out);
  for (enum xchg_reason i = 0; i < XCHG_REASONS; i++) {
    uint64_t more = stats->ended[i] - oracle.ended[i];
    bool silent = i == XCHG_PROXY || i == XCHG_DENIED || i == XCHG_PER_IP || i == XCHG_OVERLOAD ||
                  i == XCHG_MEMORY || i == XCHG_DRAIN;
    if (!silent) {
      equal(xchg_reason_name(i), stats->ended[i], oracle.ended[i]);
    }
    refused += silent ? more : 0;
  }
  equal("refused", refused, oracle.refused);
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    const struct record *record = &oracle.records[i];
    if (record->accepted && !record->kernel_closed) {
      world_fail("peer %u was accepted and never closed", i);
    }
  }
}

/* ---- what has reached the peers ---- */

static void check_peer(const struct peer *peer) {
  const struct link *link = peer->link;
  const struct record *record = &oracle.records[peer->number];
  bool patient =
      peer->reads && peer->end != END_CLOSE && peer->end != END_RESET && peer->end != END_VANISH;
  bool complete = record->reason == XCHG_FINISHED || record->reason == XCHG_TOO_LONG ||
                  record->reason == XCHG_TRUNCATED;
  bool lingered = plan.config.linger_ns > 0 && record->all_acked;
  if (link->down_taken > link->down_arrived || link->down_arrived > link->down_written) {
    world_fail("the simulator counts the bytes of peer %u wrongly", peer->number);
  }
  if (!record->closed || !patient || !complete || !lingered || link->broken != 0) {
    return;
  }
  if (link->down_written != record->expect_size || link->down_arrived != link->down_written) {
    world_fail("peer %u behaved but received %" PRIu64 " of %" PRIu64 " bytes", peer->number,
               link->down_arrived, record->expect_size);
  }
  if (!peer->was_reset && (!peer->saw_fin || link->down_taken != link->down_written)) {
    world_fail("peer %u behaved but did not see the end", peer->number);
  }
}

void check_peers(void) {
  for (uint32_t i = 0; peer_at(i) != NULL; i++) {
    check_peer(peer_at(i));
  }
}
