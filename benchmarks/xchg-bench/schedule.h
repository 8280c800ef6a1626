/*
 * schedule: when the k-th exchange of an open loop should start.
 *
 * Pure.  The time is computed from k, never accumulated, so that nothing drifts over hours: in a
 * double a week of nanoseconds is exact to a tenth of one.  Exchange k belongs to connection
 * k mod c, which is what spreads the connections' phases evenly.
 *
 *   rate
 *     to |            .--------      then on at the last rate
 *        |         .-'
 *   from |------.-'
 *        +------+------+---------> t
 *        0     lead   lead + ramp
 */
#ifndef BENCH_SCHEDULE_H
#define BENCH_SCHEDULE_H

#include "core/base.h"

struct schedule {
  double from, to;   /* exchanges a second */
  double lead_s;     /* at the rate ${from}, before the ramp */
  double ramp_s;     /* 0 = constant */
  double lead_count; /* exchanges before the ramp */
  double ramp_count; /* exchanges within it */
  double slope;      /* (to - from) / ramp_s */
};

/**
 * schedule_init(schedule, from, to, lead_ns, ramp_ns):
 * ${lead_ns} at the rate ${from}, then linearly to ${to} within ${ramp_ns}, which is then kept.
 * Where the rates are equal or ${ramp_ns} is 0, the rate is ${to} throughout.
 */
void schedule_init(struct schedule *schedule, double from, double to, uint64_t lead_ns,
                   uint64_t ramp_ns);

/**
 * When exchange ${k} (from 0) should start, in ns from the schedule's beginning: where the count of
 * exchanges wanted by then reaches k. NEVER where the rate ends at 0 before.
 */
uint64_t schedule_time_ns(const struct schedule *schedule, uint64_t k);

/** The rate wanted ${at_ns} after the beginning. */
double schedule_rate(const struct schedule *schedule, uint64_t at_ns);

#endif
