/*
 * counters: the counts of one load thread.
 *
 * Only the thread writes.  While it runs it shares only the two slots.  It fills one, and hands it
 * over after a second if the coordinator has emptied the other.  Otherwise it continues with the
 * same slot, and the next interval begins later.  Nothing is allocated.
 *
 *   slot:  EMPTY --thread, at a second's end, release--> FULL --coordinator, release--> EMPTY
 *
 * In a closed loop, exchanges that end within the window count.  In an open loop, their intended
 * start must also be within it.  Every exchange that begins ends once, as a success or an error.  A
 * connection that cannot be opened counts as an error although no exchange had begun.
 */
#ifndef BENCH_COUNTERS_H
#define BENCH_COUNTERS_H

#include "core/atom.h"
#include "bench.h"

enum { SLOT_EMPTY, SLOT_FULL };

/* The counts of one interval. */
struct counters_slot {
  atom_u32 state;
  uint32_t second; /* number of its first interval within the window */
  uint64_t exchanges, errors, bytes_in, bytes_out;
  uint64_t waited_ns; /* for a CPU */
  bool waited_known;
  bool pending_known;
  struct hdr_histogram latency;
  struct hdr_histogram pending; /* --fail-fast: ages of what was unfinished at its end */
};

struct counters {
  /* the window; NEVER until the start is announced */
  uint64_t from_ns, until_ns;
  uint64_t budget;      /* exchanges that end within the window; NEVER = unlimited */
  uint64_t interval_ns; /* of a slot; a second unless the owner sets it before the window */
  bool open_loop;
  bool connecting; /* before the run: only errors and connect times count */

  uint64_t begun; /* exchanges in flight */
  uint64_t ended; /* within the window, as a success or an error */
  uint64_t exchanges, bytes_in, bytes_out;
  uint64_t late, late_max_ns;
  uint64_t waited_ns; /* for a CPU; see counters_wait */
  struct wrong_example wrong;
  uint64_t errors[BENCH_ERRORS];
  uint64_t errnos[BENCH_ERRNO_MAX];

  uint32_t current;     /* index of the slot that is being filled */
  uint64_t slot_end_ns; /* when counters_next_slot is next due; NEVER before the window */
  struct counters_slot slots[2];
  struct hdr_histogram latency, uncorrected, connect, first_byte;
};

/** Return: empty counters, or NULL (ENOMEM). */
struct counters *counters_create(bool open_loop, uint64_t budget);
void counters_destroy(struct counters *counters);

/** Set the window to ${from_ns} .. ${until_ns}. */
void counters_set_window(struct counters *counters, uint64_t from_ns, uint64_t until_ns);

/** Has the window ended at ${now}?  What ends later was unfinished, so nothing may end it. */
static inline bool counters_is_over(const struct counters *counters, uint64_t now) {
  return now >= counters->until_ns;
}

/** May one more exchange begin without exceeding the budget? */
bool counters_has_room(const struct counters *counters, uint64_t now);

/** An exchange begins at ${now} that should have begun at ${intended}. */
void counters_begin(struct counters *counters, uint64_t intended, uint64_t now);

/** An exchange that should have begun at ${intended} and began at ${start} has succeeded. */
void counters_end(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now);

/** An exchange without a latency has succeeded. */
void counters_end_unmeasured(struct counters *counters, uint64_t now);

/** The first byte of an answer has arrived. */
void counters_first_byte(struct counters *counters, uint64_t intended, uint64_t now);

/** A connection was established after ${ns}. */
void counters_connect(struct counters *counters, uint64_t ns, uint64_t now);

/** Bytes were received or sent. */
void counters_in(struct counters *counters, uint64_t bytes, uint64_t now);
void counters_out(struct counters *counters, uint64_t bytes, uint64_t now);

/**
 * counters_fail(counters, error, error_errno, count, now):
 * ${count} exchanges in flight have failed; 0 means that a connection without any has failed.
 */
void counters_fail(struct counters *counters, enum bench_error error, int error_errno,
                   uint64_t count, uint64_t now);

/** An idle connection was lost. It counts at any time. */
void counters_lost(struct counters *counters, enum bench_error error, int error_errno);

/** Record the latency of an exchange that has timed out. */
void counters_timeout(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now);

/**
 * counters_wait(counters, waited_ns):
 * Since the start of the window the thread has waited ${waited_ns} for a CPU; NEVER = unknown.
 */
void counters_wait(struct counters *counters, uint64_t waited_ns);

/** The ages of what is unfinished at the end of the current slot. */
void counters_pending(struct counters *counters, const struct hdr_histogram *pending);

/**
 * If the second of the current slot has passed at ${now}, hand the slot over.
 * Return: true if the coordinator has something to fetch.
 */
bool counters_next_slot(struct counters *counters, uint64_t now);

#endif
