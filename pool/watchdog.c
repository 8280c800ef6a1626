/*
 * watchdog: see watchdog.h.
 *
 *            progress: OK
 *              +-----+
 *              v     |              no progress for the limit: BLOCKED
 *   waits <-> [ in a turn ] -----------------------------------------> [ blocked ]
 *     ^        ^                                                            |
 *     |        +------------------- progress: OVER -------------------------+
 *     +----------------------------- it waits: OVER ------------------------+
 *
 * The time when it began identifies a turn: no two turns of a worker begin in the same nanosecond.
 * A callback counts before it begins.  If no more than one step with one message was counted since
 * the last look, in another turn, the callback that runs is the first of its turn, and has run
 * since its beginning.  Otherwise it may have begun just before this look.
 *
 * A sight must be seen twice, because every turn looks old at first after a SIGSTOP, or if the
 * acceptor had no CPU.  It then has SLACK_NS to end.
 *
 * now_ns and turn_ns are read by different threads, so a turn may begin later than now.
 */
#include "pool/watchdog.h"

#include "core/base.h"

/* How long after a limit to look: waits have a resolution of a millisecond. */
#define SLACK_NS NS_PER_MS

static bool same_sight(const struct watchdog_sight *a, const struct watchdog_sight *b) {
  return a->turn_ns == b->turn_ns && a->steps == b->steps && a->messages == b->messages;
}

/* The time since which a worker with a new ${sight} may have made no progress. */
static uint64_t since(const struct watchdog_sight *before, const struct watchdog_sight *sight,
                      uint64_t now_ns) {
  bool first = sight->turn_ns != before->turn_ns && sight->steps - before->steps <= 1 &&
               sight->messages - before->messages <= 1;
  return first ? sight->turn_ns : max_u64(now_ns, sight->turn_ns);
}

enum watchdog_result watchdog_look(struct watchdog_state *watchdog,
                                   const struct watchdog_sight *sight, uint64_t now_ns,
                                   uint64_t limit_ns, struct watchdog_state *before) {
  *before = *watchdog;
  if (sight->turn_ns == 0 || !same_sight(sight, &before->sight)) {
    *watchdog = (struct watchdog_state){
        .sight = *sight, .since_ns = since(&before->sight, sight, now_ns), .seen_ns = now_ns};
    return before->blocked ? WATCHDOG_OVER : WATCHDOG_OK;
  }
  watchdog->seen_ns = max_u64(before->seen_ns, now_ns);
  if (before->blocked || sub_sat_u64(now_ns, before->since_ns) <= limit_ns) {
    return WATCHDOG_OK;
  }
  watchdog->blocked = true;
  return WATCHDOG_BLOCKED;
}

uint64_t watchdog_next_ns(const struct watchdog_state *watchdog, uint64_t now_ns,
                          uint64_t limit_ns) {
  if (watchdog->sight.turn_ns == 0 || watchdog->blocked) {
    /* a limit below the slack must not make the caller spin */
    return add_sat_u64(now_ns, max_u64(limit_ns, SLACK_NS));
  }
  uint64_t over_ns = add_sat_u64(watchdog->since_ns, add_sat_u64(limit_ns, SLACK_NS));
  uint64_t soon_ns = add_sat_u64(now_ns, max_u64(limit_ns / 4, SLACK_NS));
  return over_ns > now_ns ? min_u64(over_ns, soon_ns) : add_sat_u64(now_ns, SLACK_NS);
}
