/*
 * intervals: see intervals.h.  Memory orders are described in counters.c: SLOT_FULL is loaded with
 * acquire, SLOT_EMPTY is stored with release after the slot is cleared.
 */
#include "intervals.h"

#include "schedule.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int intervals_init(struct intervals *intervals) {
  *intervals = (struct intervals){.histogram = malloc(sizeof(*intervals->histogram))};
  if (intervals->histogram == NULL) {
    errno = ENOMEM;
    return -1;
  }
  hdr_reset(intervals->histogram);
  return 0;
}

void intervals_fini(struct intervals *intervals) {
  free(intervals->histogram);
  intervals->histogram = NULL;
}

static bool is_full(const struct counters_slot *slot) {
  return atom_load_acquire_u32(&slot->state) == SLOT_FULL; /* the thread's store */
}

/* Has the thread of ${counters} passed the open interval's second?  Its full slots tell. */
static bool has_passed(const struct intervals *intervals, const struct counters *counters) {
  for (unsigned i = 0; i < 2; i++) {
    const struct counters_slot *slot = &counters->slots[i];
    if (is_full(slot) && slot->second >= intervals->second) {
      return true;
    }
  }
  return false;
}

/* The sum of all kinds of errors is enough for an objective. */
static void add_so_far(struct result *so_far, const struct counters_slot *slot) {
  if (so_far != NULL) {
    so_far->errors[ERROR_CONNECT] += slot->errors;
    hdr_add(so_far->latency, &slot->latency);
  }
  if (so_far != NULL && slot->pending_known) {
    hdr_add(so_far->unfinished_times[TIMES_LATENCY], &slot->pending);
  }
}

/* Move the counts of ${slot} to ${interval}. */
static void empty_slot(struct intervals *intervals, struct counters_slot *slot,
                       struct interval *interval) {
  interval->exchanges += slot->exchanges;
  interval->errors += slot->errors;
  interval->bytes_in += slot->bytes_in;
  interval->bytes_out += slot->bytes_out;
  hdr_add(intervals->histogram, &slot->latency);
  add_so_far(intervals->so_far, slot);
  hdr_reset(&slot->latency);
  slot->exchanges = slot->errors = slot->bytes_in = slot->bytes_out = slot->waited_ns = 0;
  slot->waited_known = slot->pending_known = false;
  atom_store_release_u32(&slot->state, SLOT_EMPTY); /* the thread's load */
}

/* A thread that waits for a CPU ends its slot after the interval. NAN stays. */
static double at_most_all(double share) { return share > 1 ? 1 : share; }

/* Write the open interval, which lasted ${seconds}, to ${interval}, and open the next. */
static void close_interval(struct intervals *intervals, double seconds, struct interval *interval) {
  interval->at_s = intervals->second * intervals->length_s;
  interval->seconds = seconds;
  interval->waiting_max = NAN;
  hdr_reset(intervals->histogram);
  if (intervals->so_far != NULL) {
    hdr_reset(intervals->so_far->unfinished_times[TIMES_LATENCY]);
  }
  for (uint32_t thread = 0; thread < intervals->threads; thread++) {
    double waited_s = NAN;
    for (unsigned i = 0; i < 2; i++) {
      struct counters_slot *slot = &intervals->counters[thread]->slots[i];
      if (is_full(slot) && slot->second <= intervals->second) {
        if (slot->waited_known) {
          waited_s = fmax(waited_s, 0) + (double)slot->waited_ns / 1e9;
        }
        empty_slot(intervals, slot, interval);
      }
    }
    interval->waiting_max = fmax(interval->waiting_max, at_most_all(waited_s / seconds));
  }
  if (intervals->schedule != NULL) {
    const double middle_ns = (interval->at_s + seconds / 2) * 1e9;
    interval->target_rate =
        schedule_rate(intervals->schedule, intervals->lead_ns + (uint64_t)middle_ns);
  }
  interval->p50_ns = hdr_percentile(intervals->histogram, 50);
  interval->p90_ns = hdr_percentile(intervals->histogram, 90);
  interval->p99_ns = hdr_percentile(intervals->histogram, 99);
  interval->max_ns = intervals->histogram->count > 0 ? intervals->histogram->max_ns : 0;
  intervals->errors += interval->errors;
  intervals->second++;
}

/* The length of the open interval if it ends now, ${elapsed_s} after the start of the window. */
static double open_length(const struct intervals *intervals, double elapsed_s) {
  const double at_s = intervals->second * intervals->length_s;
  return elapsed_s > at_s ? fmin(intervals->length_s, elapsed_s - at_s) : intervals->length_s;
}

const struct interval *intervals_gather(struct intervals *intervals, double elapsed_s) {
  struct interval *interval = NULL;
  for (;;) {
    for (uint32_t thread = 0; thread < intervals->threads; thread++) {
      if (!has_passed(intervals, intervals->counters[thread])) {
        return interval;
      }
    }
    interval = result_next_interval(intervals->result);
    if (interval == NULL) {
      return NULL; /* no room: the slots stay full, and the totals include their counts */
    }
    close_interval(intervals, open_length(intervals, elapsed_s), interval);
  }
}

/* Set the length of the last interval, and count what is unfinished in its percentiles. */
static void finish_last(const struct intervals *intervals, struct interval *last, double seconds) {
  const struct hdr_histogram *unfinished = intervals->result->unfinished_times[TIMES_LATENCY];
  const struct hdr_histogram *histogram = intervals->histogram;
  const double closed_s = last->seconds;
  last->seconds = fmin(intervals->length_s, seconds - last->at_s);
  last->waiting_max = at_most_all(last->waiting_max * closed_s / last->seconds);
  last->is_last = true;
  last->unfinished = intervals->result->unfinished;
  last->unfinished_oldest_ns = intervals->result->unfinished_oldest_ns;
  last->p50_ns = hdr_percentile_with(histogram, unfinished, 50);
  last->p90_ns = hdr_percentile_with(histogram, unfinished, 90);
  last->p99_ns = hdr_percentile_with(histogram, unfinished, 99);
  last->max_ns = hdr_percentile_with(histogram, unfinished, 100);
}

void intervals_finish(struct intervals *intervals, double seconds) {
  struct result *result = intervals->result;
  while (intervals->second * intervals->length_s < seconds) {
    struct interval *interval = result_next_interval(result);
    if (interval == NULL) {
      return;
    }
    close_interval(intervals, intervals->length_s, interval);
  }
  if (result->intervals_count > 0) { /* the last one may be incomplete */
    struct interval *last = &result->intervals[result->intervals_count - 1];
    if (last->at_s >= seconds) { /* the threads ended before it began */
      result->intervals_count--;
    } else {
      finish_last(intervals, last, seconds);
    }
  }
}
