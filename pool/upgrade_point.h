/*
 * upgrade_point: the points of an upgrade at which a test stops one side.
 *
 * The function does nothing.  tests/live/xchgd_paused.c is xchgd with another body of it, which the
 * linker takes in place of this one.
 */
#ifndef POOL_UPGRADE_POINT_H
#define POOL_UPGRADE_POINT_H

enum upgrade_point {
  POINT_SPAWNED = 1,
  POINT_HELLO,
  POINT_LISTENERS,
  POINT_READY,
  POINT_CANARY_SENT,
  POINT_CANARY_TAKEN,
  POINT_BATCH_SENT,
  POINT_BATCH_TAKEN,
  POINT_TOTALS,
};

/** ${point} is reached, by the new process if ${successor}, else by the old one. Thread: main. */
void upgrade_point(enum upgrade_point point, int successor);

#endif
