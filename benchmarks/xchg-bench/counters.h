/*
 * counters: what one load thread has counted.
 *
 * One writer, the thread; nothing is shared while it runs but the intervals: of two slots the
 * thread fills one, and hands it over when its second is full, if the coordinator has emptied the
 * other; else it goes on filling this one, and the next row begins later.  Nothing is allocated.
 *
 *   slot:  EMPTY --thread, at a second's end, release--> FULL --coordinator, release--> EMPTY
 *
 * What counts: of a closed loop the exchanges that end within the window, of an open one those of
 * them that should have started within it.  Every exchange that has begun ends once, as success or
 * as error; an error is counted too where nothing had begun: a connection that could not be opened.
 */
#ifndef BENCH_COUNTERS_H
#define BENCH_COUNTERS_H

#include "core/atom.h"
#include "bench.h"

enum { SLOT_EMPTY, SLOT_FULL };

/* What a thread has counted within one second. */
struct counters_slot {
  atom_u32 state;
  uint32_t second; /* of the window: its first */
  uint64_t exchanges, errors, bytes_in, bytes_out;
  struct hdr_histogram latency;
};

struct counters {
  /* the window; NEVER until it is known */
  uint64_t from_ns, until_ns;
  uint64_t budget; /* exchanges to end within the window; NEVER = as many as fit */
  bool open_loop;
  bool connecting; /* before the run: errors count, and nothing else does */

  uint64_t begun; /* exchanges in flight */
  uint64_t ended; /* within the window, as success or error */
  uint64_t exchanges, bytes_in, bytes_out;
  uint64_t late, late_max_ns, dropped;
  uint64_t errors[BENCH_ERRORS];
  uint64_t errnos[BENCH_ERRNO_MAX];

  uint32_t current;     /* the slot being filled */
  uint64_t slot_end_ns; /* when counters_next_slot is next due; NEVER before the window */
  struct counters_slot slots[2];
  struct hdr_histogram latency, uncorrected, connect, first_byte;
};

/** Return: a counters of nothing, or NULL (ENOMEM). */
struct counters *counters_create(bool open_loop, uint64_t budget);
void counters_destroy(struct counters *counters);

/** The window is ${from_ns} .. ${until_ns}. */
void counters_set_window(struct counters *counters, uint64_t from_ns, uint64_t until_ns);

/** May one more exchange begin without exceeding the budget? */
bool counters_has_room(const struct counters *counters, uint64_t now);

/** An exchange begins, ${now}, that should have at ${intended}. */
void counters_begin(struct counters *counters, uint64_t intended, uint64_t now);

/** An exchange has ended well that should have started at ${intended} and did at ${start}. */
void counters_end(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now);

/** The same without a latency. */
void counters_end_unmeasured(struct counters *counters, uint64_t now);

/** The first byte of its answer has come. */
void counters_first_byte(struct counters *counters, uint64_t intended, uint64_t now);

/** A connection was established after ${ns}. */
void counters_connect(struct counters *counters, uint64_t ns, uint64_t now);

/** Bytes that came or went. */
void counters_in(struct counters *counters, uint64_t bytes, uint64_t now);
void counters_out(struct counters *counters, uint64_t bytes, uint64_t now);

/**
 * counters_fail(counters, error, error_errno, count, now):
 * ${count} exchanges in flight have failed; 0 = a connection did, without one.
 */
void counters_fail(struct counters *counters, enum bench_error error, int error_errno,
                   uint64_t count, uint64_t now);

/** An idle connection was lost: counted whenever it happens. */
void counters_lost(struct counters *counters, enum bench_error error, int error_errno);

/** An exchange that had begun ended as time-out at this latency. */
void counters_timeout(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now);

/**
 * Hand the present slot over if its second has passed by ${now}; return true where the coordinator
 * has something to fetch.
 */
bool counters_next_slot(struct counters *counters, uint64_t now);

#endif
