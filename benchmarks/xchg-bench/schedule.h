/*
 * schedule: when exchange k of an open loop should start.
 *
 * Pure functions.  A time is computed from k and never accumulated, so it does not drift over
 * hours.  A double holds a week of nanoseconds to a tenth of one.  Exchange k belongs to connection
 * k mod c, which spreads the phases of the connections evenly.
 *
 *   rate
 *     to |            .--------      continues at the last rate
 *        |         .-'
 *   from |------.-'
 *        +------+------+---------> t
 *        0     lead   lead + ramp
 */
#ifndef BENCH_SCHEDULE_H
#define BENCH_SCHEDULE_H

#include "core/base.h"

struct schedule {
  double from, to;   /* exchanges per second */
  double lead_s;     /* time at the rate from, before the ramp */
  double ramp_s;     /* 0 = constant */
  double lead_count; /* exchanges before the ramp */
  double ramp_count; /* exchanges within it */
  double slope;      /* (to - from) / ramp_s */
};

/**
 * schedule_init(schedule, from, to, lead_ns, ramp_ns):
 * The rate is ${from} for ${lead_ns}, then changes linearly to ${to} within ${ramp_ns}, and stays.
 * If the rates are equal or ${ramp_ns} is 0, the rate is always ${to}.
 */
void schedule_init(struct schedule *schedule, double from, double to, uint64_t lead_ns,
                   uint64_t ramp_ns);

/**
 * schedule_time_ns(schedule, k):
 * Return: when exchange ${k} (from 0) should start, in ns from the start of the schedule; NEVER if
 * the rate reaches 0 before.
 */
uint64_t schedule_time_ns(const struct schedule *schedule, uint64_t k);

/** How many exchanges should start before ${at_ns} from the start of the schedule? */
uint64_t schedule_count(const struct schedule *schedule, uint64_t at_ns);

/** The wanted rate at ${at_ns} from the start of the schedule. */
double schedule_rate(const struct schedule *schedule, uint64_t at_ns);

#endif
