/*
 * tally: what one load thread has counted.
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
#ifndef BENCH_TALLY_H
#define BENCH_TALLY_H

#include "core/atom.h"
#include "bench.h"

enum { SLOT_EMPTY, SLOT_FULL };

/* What a thread has counted within one second. */
struct tally_slot {
  atom_u32 state;
  uint32_t second; /* of the window: its first */
  uint64_t exchanges, errors, bytes_in, bytes_out;
  struct hdr_histogram latency;
};

struct tally {
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

  uint32_t current; /* the slot being filled */
  uint64_t turn_ns; /* when tally_turn is next due; NEVER before the window */
  struct tally_slot slots[2];
  struct hdr_histogram latency, uncorrected, connect, first_byte;
};

/** Return: a tally of nothing, or NULL (ENOMEM). */
struct tally *tally_create(bool open_loop, uint64_t budget);
void tally_destroy(struct tally *tally);

/** The window is ${from_ns} .. ${until_ns}. */
void tally_window(struct tally *tally, uint64_t from_ns, uint64_t until_ns);

/** May one more exchange begin without exceeding the budget? */
bool tally_has_room(const struct tally *tally, uint64_t now);

/** An exchange begins, ${now}, that should have at ${intended}. */
void tally_begin(struct tally *tally, uint64_t intended, uint64_t now);

/** An exchange has ended well that should have started at ${intended} and did at ${start}. */
void tally_end(struct tally *tally, uint64_t intended, uint64_t start, uint64_t now);

/** The same without a latency. */
void tally_end_unmeasured(struct tally *tally, uint64_t now);

/** The first byte of its answer has come. */
void tally_first_byte(struct tally *tally, uint64_t intended, uint64_t now);

/** A connection was established after ${ns}. */
void tally_connect(struct tally *tally, uint64_t ns, uint64_t now);

/** Bytes that came or went. */
void tally_in(struct tally *tally, uint64_t bytes, uint64_t now);
void tally_out(struct tally *tally, uint64_t bytes, uint64_t now);

/**
 * tally_fail(tally, error, error_errno, count, now):
 * ${count} exchanges in flight have failed; 0 = a connection did, without one.
 */
void tally_fail(struct tally *tally, enum bench_error error, int error_errno, uint64_t count,
                uint64_t now);

/** An idle connection was lost: counted whenever it happens. */
void tally_lost(struct tally *tally, enum bench_error error, int error_errno);

/** An exchange that had begun ended as time-out at this latency. */
void tally_overdue(struct tally *tally, uint64_t intended, uint64_t start, uint64_t now);

/**
 * Hand the present slot over if its second has passed by ${now}; return true where the coordinator
 * has something to fetch.
 */
bool tally_turn(struct tally *tally, uint64_t now);

#endif
