/*
 * counters: see counters.h.
 *
 * Memory orders of a slot's state: the thread stores SLOT_FULL with release after it has filled the
 * slot, and the coordinator loads it with acquire.  The coordinator stores SLOT_EMPTY with release
 * after it has read and cleared the slot, and the thread loads it with acquire before it writes.
 */
#include "counters.h"

#include <assert.h>
#include <stdlib.h>

#define LATE_NS NS_PER_MS

/* How long to continue with a slot when the coordinator has not emptied the other. */
#define RETRY_NS (10 * NS_PER_MS)

struct counters *counters_create(bool open_loop, uint64_t budget) {
  struct counters *counters = calloc(1, sizeof(*counters));
  if (counters == NULL) {
    return NULL;
  }
  counters->open_loop = open_loop;
  counters->budget = budget;
  counters->interval_ns = NS_PER_S;
  counters->from_ns = counters->until_ns = counters->slot_end_ns = NEVER;
  counters->connecting = true;
  hdr_reset(&counters->slots[0].latency);
  hdr_reset(&counters->slots[1].latency);
  hdr_reset(&counters->latency);
  hdr_reset(&counters->uncorrected);
  hdr_reset(&counters->connect);
  hdr_reset(&counters->first_byte);
  return counters;
}

void counters_destroy(struct counters *counters) { free(counters); }

void counters_set_window(struct counters *counters, uint64_t from_ns, uint64_t until_ns) {
  counters->from_ns = from_ns;
  counters->until_ns = until_ns;
  counters->slot_end_ns = from_ns + counters->interval_ns;
  counters->connecting = false;
}

/* Does an event at ${now} count? */
static bool within(const struct counters *counters, uint64_t now) {
  return now >= counters->from_ns && now < counters->until_ns && counters->ended < counters->budget;
}

/* Does an exchange count that should have begun at ${intended} and ends at ${now}? */
static bool counts(const struct counters *counters, uint64_t intended, uint64_t now) {
  return within(counters, now) && (!counters->open_loop || intended >= counters->from_ns);
}

static struct counters_slot *slot(struct counters *counters) {
  return &counters->slots[counters->current];
}

bool counters_has_room(const struct counters *counters, uint64_t now) {
  return now < counters->from_ns || counters->ended + counters->begun < counters->budget;
}

void counters_begin(struct counters *counters, uint64_t intended, uint64_t now) {
  counters->begun++;
  const uint64_t late = sub_sat_u64(now, intended);
  if (late > LATE_NS && counts(counters, intended, now)) {
    counters->late++;
    counters->late_max_ns = max_u64(counters->late_max_ns, late);
  }
}

static void record(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now) {
  const uint64_t ns = sub_sat_u64(now, intended);
  hdr_record(&counters->latency, ns);
  hdr_record(&slot(counters)->latency, ns);
  if (counters->open_loop) {
    hdr_record(&counters->uncorrected, sub_sat_u64(now, start));
  }
}

void counters_end(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now) {
  assert(counters->begun > 0);
  counters->begun--;
  if (counts(counters, intended, now)) {
    counters->ended++;
    counters->exchanges++;
    slot(counters)->exchanges++;
    record(counters, intended, start, now);
  }
}

void counters_end_unmeasured(struct counters *counters, uint64_t now) {
  assert(counters->begun > 0);
  counters->begun--;
  if (within(counters, now)) {
    counters->ended++;
    counters->exchanges++;
    slot(counters)->exchanges++;
  }
}

void counters_first_byte(struct counters *counters, uint64_t intended, uint64_t now) {
  if (counts(counters, intended, now)) {
    hdr_record(&counters->first_byte, sub_sat_u64(now, intended));
  }
}

void counters_connect(struct counters *counters, uint64_t ns, uint64_t now) {
  if (counters->connecting || within(counters, now)) {
    hdr_record(&counters->connect, ns);
  }
}

void counters_in(struct counters *counters, uint64_t bytes, uint64_t now) {
  if (within(counters, now)) {
    counters->bytes_in += bytes;
    slot(counters)->bytes_in += bytes;
  }
}

void counters_out(struct counters *counters, uint64_t bytes, uint64_t now) {
  if (within(counters, now)) {
    counters->bytes_out += bytes;
    slot(counters)->bytes_out += bytes;
  }
}

/* Count ${count} errors without looking at the window. */
static void note(struct counters *counters, enum bench_error error, int error_errno,
                 uint64_t count) {
  counters->errors[error] += count;
  slot(counters)->errors += count;
  if (error_errno > 0 && error_errno < BENCH_ERRNO_MAX) {
    counters->errnos[error_errno] += count;
  }
}

void counters_fail(struct counters *counters, enum bench_error error, int error_errno,
                   uint64_t count, uint64_t now) {
  assert(count <= counters->begun);
  counters->begun -= count;
  count = max_u64(count, 1);
  if (counters->connecting) {
    note(counters, error, error_errno, count);
  } else if (within(counters, now)) {
    count = min_u64(count, counters->budget - counters->ended);
    counters->ended += count;
    note(counters, error, error_errno, count);
  }
}

void counters_lost(struct counters *counters, enum bench_error error, int error_errno) {
  note(counters, error, error_errno, 1);
}

void counters_timeout(struct counters *counters, uint64_t intended, uint64_t start, uint64_t now) {
  if (counts(counters, intended, now)) {
    record(counters, intended, start, now);
  }
}

void counters_wait(struct counters *counters, uint64_t waited_ns) {
  slot(counters)->waited_known = waited_ns != NEVER;
  if (waited_ns != NEVER) {
    slot(counters)->waited_ns += sub_sat_u64(waited_ns, counters->waited_ns);
    counters->waited_ns = max_u64(counters->waited_ns, waited_ns);
  }
}

void counters_pending(struct counters *counters, const struct hdr_histogram *pending) {
  slot(counters)->pending = *pending;
  slot(counters)->pending_known = true;
}

bool counters_next_slot(struct counters *counters, uint64_t now) {
  if (now < counters->slot_end_ns) {
    return false;
  }
  struct counters_slot *next = &counters->slots[counters->current ^ 1];
  const uint64_t second = (now - counters->from_ns) / counters->interval_ns;
  if (atom_load_acquire_u32(&next->state) != SLOT_EMPTY) { /* the coordinator's SLOT_EMPTY */
    counters->slot_end_ns = now + RETRY_NS;
    return false;
  }
  next->second = (uint32_t)second;
  atom_store_release_u32(&slot(counters)->state, SLOT_FULL); /* the coordinator's load */
  counters->current ^= 1;
  counters->slot_end_ns = counters->from_ns + (second + 1) * counters->interval_ns;
  return true;
}
