/*
 * watchdog: see watchdog.h.
 *
 *            another turn: QUIET
 *              +-----+
 *              v     |                the same, over the limit: BLOCKED
 *   waits <-> [ in a turn ] -----------------------------------------> [ blocked ]
 *     ^        ^                                                            |
 *     |        +------------------- another turn: OVER ---------------------+
 *     +----------------------------- it waits: OVER ------------------------+
 *
 * A turn is known by when it began: two turns never began in the same nanosecond, and a worker that
 * goes from one into the next without waiting is not blocked.  That a turn must have been seen
 * before has a reason: after a SIGSTOP, or when the looker itself had no CPU, every turn looks old
 * at first sight.  Such a one gets SLACK_NS to end.
 *
 * Looked at when watchdog_next_ns says, no turn of limit + 2 * SLACK_NS escapes: it begins after a
 * look that is followed by the next within limit + SLACK_NS; that one sees it, and sets the second
 * to SLACK_NS behind its limit.
 *
 * now_ns and turn_ns are read by different threads, so a turn may begin later than now.
 */
#include "pool/watchdog.h"

#include "core/base.h"

/* How far behind a limit one looks: what a wait in whole milliseconds can tell from the limit. */
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
    /* a limit of less than the slack is no reason to spin */
    return add_sat_u64(now_ns, max_u64(limit_ns, SLACK_NS));
  }
  uint64_t behind_ns = add_sat_u64(watchdog->turn_ns, add_sat_u64(limit_ns, SLACK_NS));
  return behind_ns > now_ns ? behind_ns : add_sat_u64(now_ns, SLACK_NS);
}
