/*
 * rows: one interval a second, gathered from the lanes' slots by the coordinator.
 *
 * Row s is closed when every lane has left second s behind; a lane that was late to hand a slot
 * over has its counts in the row of the slot's first second.  Thread: the coordinator's.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "result.h"

struct rows {
  struct result *result;           /* borrows */
  struct tally **tallies;          /* borrows: one a lane */
  const struct schedule *schedule; /* borrows; NULL = closed loop */
  uint32_t lanes;
  uint32_t second;                 /* of the row that is open */
  uint64_t lead_ns;                /* of the schedule, before the window */
  uint64_t errors;                 /* of all rows that are closed */
  struct hdr_histogram *histogram; /* owns: of the row that is open */
};

/** Return: 0, or -1 (ENOMEM).  The caller then fills in what is borrowed. */
int rows_init(struct rows *rows);
void rows_fini(struct rows *rows);

/** Close the rows that are complete; return the last one of them, NULL where there is none. */
const struct interval *rows_gather(struct rows *rows);

/** The lanes have ended: close the remaining rows, the last at ${seconds}. */
void rows_finish(struct rows *rows, double seconds);

#endif
