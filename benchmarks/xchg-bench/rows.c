/*
 * rows: see rows.h.  The orders are those of tally.c: SLOT_FULL is loaded with acquire, SLOT_EMPTY
 * stored with release once the slot is cleared.
 */
#include "rows.h"

#include "schedule.h"

#include <errno.h>
#include <stdlib.h>

int rows_init(struct rows *rows) {
  *rows = (struct rows){.histogram = malloc(sizeof(*rows->histogram))};
  if (rows->histogram == NULL) {
    errno = ENOMEM;
    return -1;
  }
  hdr_reset(rows->histogram);
  return 0;
}

void rows_fini(struct rows *rows) {
  free(rows->histogram);
  rows->histogram = NULL;
}

static bool is_full(const struct tally_slot *slot) {
  return atom_load_acquire_u32(&slot->state) == SLOT_FULL; /* the lane's store */
}

/* Has the lane of ${tally} left the open row's second behind? Its full slots say. */
static bool has_passed(const struct rows *rows, const struct tally *tally) {
  for (unsigned i = 0; i < 2; i++) {
    const struct tally_slot *slot = &tally->slots[i];
    if (is_full(slot) && slot->second >= rows->second) {
      return true;
    }
  }
  return false;
}

/* Move what ${slot} holds to ${row}. */
static void empty_slot(struct rows *rows, struct tally_slot *slot, struct interval *row) {
  row->exchanges += slot->exchanges;
  row->errors += slot->errors;
  row->bytes_in += slot->bytes_in;
  row->bytes_out += slot->bytes_out;
  hdr_add(rows->histogram, &slot->latency);
  hdr_reset(&slot->latency);
  slot->exchanges = slot->errors = slot->bytes_in = slot->bytes_out = 0;
  atom_store_release_u32(&slot->state, SLOT_EMPTY); /* the lane's load */
}

/* Close the open row, which lasted ${seconds}, into ${row}. */
static void close_row(struct rows *rows, double seconds, struct interval *row) {
  row->at_s = rows->second;
  row->seconds = seconds;
  for (uint32_t lane = 0; lane < rows->lanes; lane++) {
    for (unsigned i = 0; i < 2; i++) {
      struct tally_slot *slot = &rows->tallies[lane]->slots[i];
      if (is_full(slot) && slot->second <= rows->second) {
        empty_slot(rows, slot, row);
      }
    }
  }
  if (rows->schedule != NULL) {
    const double middle_ns = (rows->second + seconds / 2) * 1e9;
    row->target_rate = schedule_rate(rows->schedule, rows->lead_ns + (uint64_t)middle_ns);
  }
  row->p50_ns = hdr_percentile(rows->histogram, 50);
  row->p90_ns = hdr_percentile(rows->histogram, 90);
  row->p99_ns = hdr_percentile(rows->histogram, 99);
  row->max_ns = rows->histogram->count > 0 ? rows->histogram->max_ns : 0;
  hdr_reset(rows->histogram);
  rows->errors += row->errors;
  rows->second++;
}

const struct interval *rows_gather(struct rows *rows) {
  struct interval *row = NULL;
  for (;;) {
    for (uint32_t lane = 0; lane < rows->lanes; lane++) {
      if (!has_passed(rows, rows->tallies[lane])) {
        return row;
      }
    }
    row = result_next_interval(rows->result);
    if (row == NULL) {
      return NULL; /* no room: the slots stay full, and the totals have what is in them */
    }
    close_row(rows, 1, row);
  }
}

void rows_finish(struct rows *rows, double seconds) {
  struct result *result = rows->result;
  while (rows->second < seconds) {
    struct interval *row = result_next_interval(result);
    if (row == NULL) {
      return;
    }
    close_row(rows, 1, row);
  }
  if (result->intervals_count > 0) { /* the last second may not have been a whole one */
    struct interval *last = &result->intervals[result->intervals_count - 1];
    last->seconds = last->at_s + 1 > seconds ? seconds - last->at_s : 1;
    if (last->seconds <= 0) { /* the lanes ended before it began */
      result->intervals_count--;
    }
  }
}
