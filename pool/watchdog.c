/*
 * watchdog: see watchdog.h.
 *
 *            another turn: OK
 *              +-----+
 *              v     |                the same, over the limit: BLOCKED
 *   waits <-> [ in a turn ] -----------------------------------------> [ blocked ]
 *     ^        ^                                                            |
 *     |        +------------------- another turn: OVER ---------------------+
 *     +----------------------------- it waits: OVER ------------------------+
 *
 * The time when it began identifies a turn: no two turns of a worker begin in the same nanosecond.
 * A worker that goes from one turn into the next without waiting is not blocked.  A turn must be
 * seen twice, because every turn looks old at first after a SIGSTOP, or if the acceptor had no CPU.
 * It then has SLACK_NS to end.
 *
 * With looks at the times of watchdog_next_ns, no turn of limit + 2 * SLACK_NS escapes.  The next
 * look after its begin comes within limit + SLACK_NS and sees it.  The look after that comes
 * SLACK_NS after its limit.
 *
 * now_ns and turn_ns are read by different threads, so a turn may begin later than now.
 */
#include "pool/watchdog.h"

#include "core/base.h"

/* How long after a limit to look: waits have a resolution of a millisecond. */
#define SLACK_NS NS_PER_MS

enum watchdog_result watchdog_look(struct watchdog_state *watchdog, uint64_t turn_ns,
                                   uint64_t now_ns, uint64_t limit_ns,
                                   struct watchdog_state *before) {
  *before = *watchdog;
  if (turn_ns == 0 || turn_ns != before->turn_ns) {
    *watchdog = (struct watchdog_state){.turn_ns = turn_ns, .seen_ns = now_ns};
    return before->blocked ? WATCHDOG_OVER : WATCHDOG_OK;
  }
  watchdog->seen_ns = max_u64(before->seen_ns, now_ns);
  if (before->blocked || sub_sat_u64(now_ns, turn_ns) <= limit_ns) {
    return WATCHDOG_OK;
  }
  watchdog->blocked = true;
  return WATCHDOG_BLOCKED;
}

uint64_t watchdog_next_ns(const struct watchdog_state *watchdog, uint64_t now_ns,
                          uint64_t limit_ns) {
  if (watchdog->turn_ns == 0 || watchdog->blocked) {
    /* a limit below the slack must not make the caller spin */
    return add_sat_u64(now_ns, max_u64(limit_ns, SLACK_NS));
  }
  uint64_t behind_ns = add_sat_u64(watchdog->turn_ns, add_sat_u64(limit_ns, SLACK_NS));
  return behind_ns > now_ns ? behind_ns : add_sat_u64(now_ns, SLACK_NS);
}
