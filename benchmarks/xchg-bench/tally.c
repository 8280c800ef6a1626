/*
 * tally: see tally.h.  The orders: a thread stores FULL with release after it has filled the slot,
 * the coordinator loads it with acquire; it stores EMPTY with release after it has read and cleared
 * the slot, and the thread loads that with acquire before it writes there again.
 */
#include "tally.h"

#include <assert.h>
#include <stdlib.h>

#define LATE_NS NS_PER_MS

/* The coordinator has not emptied the other slot: how long to go on with this one. */
#define RETRY_NS (10 * NS_PER_MS)

struct tally *tally_create(bool open_loop, uint64_t budget) {
  struct tally *tally = calloc(1, sizeof(*tally));
  if (tally == NULL) {
    return NULL;
  }
  tally->open_loop = open_loop;
  tally->budget = budget;
  tally->from_ns = tally->until_ns = tally->turn_ns = NEVER;
  tally->connecting = true;
  hdr_reset(&tally->slots[0].latency);
  hdr_reset(&tally->slots[1].latency);
  hdr_reset(&tally->latency);
  hdr_reset(&tally->uncorrected);
  hdr_reset(&tally->connect);
  hdr_reset(&tally->first_byte);
  return tally;
}

void tally_destroy(struct tally *tally) { free(tally); }

void tally_window(struct tally *tally, uint64_t from_ns, uint64_t until_ns) {
  tally->from_ns = from_ns;
  tally->until_ns = until_ns;
  tally->turn_ns = from_ns + NS_PER_S;
  tally->connecting = false;
}

/* Does what happens ${now} count? */
static bool within(const struct tally *tally, uint64_t now) {
  return now >= tally->from_ns && now < tally->until_ns && tally->ended < tally->budget;
}

/* Does an exchange count that should have started at ${intended} and ends ${now}? */
static bool counts(const struct tally *tally, uint64_t intended, uint64_t now) {
  return within(tally, now) && (!tally->open_loop || intended >= tally->from_ns);
}

static struct tally_slot *slot(struct tally *tally) { return &tally->slots[tally->current]; }

bool tally_has_room(const struct tally *tally, uint64_t now) {
  return now < tally->from_ns || tally->ended + tally->begun < tally->budget;
}

void tally_begin(struct tally *tally, uint64_t intended, uint64_t now) {
  tally->begun++;
  const uint64_t late = sub_sat_u64(now, intended);
  if (late > LATE_NS && counts(tally, intended, now)) {
    tally->late++;
    tally->late_max_ns = max_u64(tally->late_max_ns, late);
  }
}

static void record(struct tally *tally, uint64_t intended, uint64_t start, uint64_t now) {
  const uint64_t ns = sub_sat_u64(now, intended);
  hdr_record(&tally->latency, ns);
  hdr_record(&slot(tally)->latency, ns);
  if (tally->open_loop) {
    hdr_record(&tally->uncorrected, sub_sat_u64(now, start));
  }
}

void tally_end(struct tally *tally, uint64_t intended, uint64_t start, uint64_t now) {
  assert(tally->begun > 0);
  tally->begun--;
  if (counts(tally, intended, now)) {
    tally->ended++;
    tally->exchanges++;
    slot(tally)->exchanges++;
    record(tally, intended, start, now);
  }
}

void tally_end_unmeasured(struct tally *tally, uint64_t now) {
  assert(tally->begun > 0);
  tally->begun--;
  if (within(tally, now)) {
    tally->ended++;
    tally->exchanges++;
    slot(tally)->exchanges++;
  }
}

void tally_first_byte(struct tally *tally, uint64_t intended, uint64_t now) {
  if (counts(tally, intended, now)) {
    hdr_record(&tally->first_byte, sub_sat_u64(now, intended));
  }
}

void tally_connect(struct tally *tally, uint64_t ns, uint64_t now) {
  if (tally->connecting || within(tally, now)) {
    hdr_record(&tally->connect, ns);
  }
}

void tally_in(struct tally *tally, uint64_t bytes, uint64_t now) {
  if (within(tally, now)) {
    tally->bytes_in += bytes;
    slot(tally)->bytes_in += bytes;
  }
}

void tally_out(struct tally *tally, uint64_t bytes, uint64_t now) {
  if (within(tally, now)) {
    tally->bytes_out += bytes;
    slot(tally)->bytes_out += bytes;
  }
}

/* Count ${count} errors, whenever they happen. */
static void note(struct tally *tally, enum bench_error error, int error_errno, uint64_t count) {
  tally->errors[error] += count;
  slot(tally)->errors += count;
  if (error_errno > 0 && error_errno < BENCH_ERRNO_MAX) {
    tally->errnos[error_errno] += count;
  }
}

void tally_fail(struct tally *tally, enum bench_error error, int error_errno, uint64_t count,
                uint64_t now) {
  assert(count <= tally->begun);
  tally->begun -= count;
  count = max_u64(count, 1);
  if (tally->connecting) {
    note(tally, error, error_errno, count);
  } else if (within(tally, now)) {
    count = min_u64(count, tally->budget - tally->ended);
    tally->ended += count;
    note(tally, error, error_errno, count);
  }
}

void tally_lost(struct tally *tally, enum bench_error error, int error_errno) {
  note(tally, error, error_errno, 1);
}

void tally_overdue(struct tally *tally, uint64_t intended, uint64_t start, uint64_t now) {
  if (counts(tally, intended, now)) {
    record(tally, intended, start, now);
  }
}

bool tally_turn(struct tally *tally, uint64_t now) {
  if (now < tally->turn_ns) {
    return false;
  }
  struct tally_slot *next = &tally->slots[tally->current ^ 1];
  const uint64_t second = (now - tally->from_ns) / NS_PER_S;
  if (atom_load_acquire_u32(&next->state) != SLOT_EMPTY) { /* the coordinator's SLOT_EMPTY */
    tally->turn_ns = now + RETRY_NS;
    return false;
  }
  next->second = (uint32_t)second;
  atom_store_release_u32(&slot(tally)->state, SLOT_FULL); /* the coordinator's load */
  tally->current ^= 1;
  tally->turn_ns = tally->from_ns + (second + 1) * NS_PER_S;
  return true;
}
