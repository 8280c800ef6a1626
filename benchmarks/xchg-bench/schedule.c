/*
 * schedule: see schedule.h.  Within the ramp, the number of exchanges wanted by t is
 *
 *   n(t) = from t + slope t^2 / 2    hence    t(n) = 2 n / (from + sqrt(from^2 + 2 slope n))
 *
 * This form subtracts nothing, so a gentle slope loses no digits.
 */
#include "schedule.h"

#include <assert.h>
#include <math.h>

void schedule_init(struct schedule *schedule, double from, double to, uint64_t lead_ns,
                   uint64_t ramp_ns) {
  assert(from >= 0 && to >= 0);
  *schedule = (struct schedule){.from = to, .to = to};
  if (from == to || ramp_ns == 0) {
    return;
  }
  schedule->from = from;
  schedule->lead_s = (double)lead_ns / 1e9;
  schedule->ramp_s = (double)ramp_ns / 1e9;
  schedule->lead_count = from * schedule->lead_s;
  schedule->ramp_count = (from + to) / 2 * schedule->ramp_s;
  schedule->slope = (to - from) / schedule->ramp_s;
}

/* ${ns} as an integer; NEVER if it is infinite or too large. */
static uint64_t whole_ns(double ns) { return ns < 9e18 ? (uint64_t)ns : NEVER; }

/* When exchange ${n} is due at a constant ${rate}. */
static double constant_ns(double n, double rate) { return n == 0 ? 0 : n * 1e9 / rate; }

/* When exchange ${n} of the ramp is due, from the start of the ramp. */
static double ramp_ns(const struct schedule *schedule, double n) {
  if (n >= schedule->ramp_count) {
    return schedule->ramp_s * 1e9 + constant_ns(n - schedule->ramp_count, schedule->to);
  }
  const double square = schedule->from * schedule->from + 2 * schedule->slope * n;
  const double root = square > 0 ? sqrt(square) : 0;
  return n == 0 ? 0 : 2e9 * n / (schedule->from + root);
}

uint64_t schedule_time_ns(const struct schedule *schedule, uint64_t k) {
  const double n = (double)k;
  if (schedule->ramp_s == 0) {
    return whole_ns(constant_ns(n, schedule->to));
  }
  if (n < schedule->lead_count) {
    return whole_ns(constant_ns(n, schedule->from));
  }
  return whole_ns(schedule->lead_s * 1e9 + ramp_ns(schedule, n - schedule->lead_count));
}

/* n(t) at ${at_ns}, which may be wrong by the rounding of a double. */
static double wanted_until(const struct schedule *schedule, uint64_t at_ns) {
  const double seconds = (double)at_ns / 1e9;
  if (schedule->ramp_s == 0) {
    return schedule->to * seconds;
  }
  const double t = seconds - schedule->lead_s;
  if (t <= 0) {
    return schedule->from * seconds;
  }
  if (t >= schedule->ramp_s) {
    return schedule->lead_count + schedule->ramp_count + schedule->to * (t - schedule->ramp_s);
  }
  return schedule->lead_count + schedule->from * t + schedule->slope * t * t / 2;
}

uint64_t schedule_count(const struct schedule *schedule, uint64_t at_ns) {
  uint64_t count = (uint64_t)wanted_until(schedule, at_ns);
  while (schedule_time_ns(schedule, count) < at_ns) {
    count++;
  }
  while (count > 0 && schedule_time_ns(schedule, count - 1) >= at_ns) {
    count--;
  }
  return count;
}

double schedule_rate(const struct schedule *schedule, uint64_t at_ns) {
  const double t = (double)at_ns / 1e9 - schedule->lead_s;
  if (t <= 0) {
    return schedule->from;
  }
  return t >= schedule->ramp_s ? schedule->to : schedule->from + schedule->slope * t;
}
