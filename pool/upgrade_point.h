/*
 * upgrade_point: the points of an upgrade at which a test stops one side.
 *
 * The function does nothing.  tests/live/xchgd_paused.c is xchgd with another body of it, which the
 * linker takes in place of this one.
 */
#ifndef POOL_UPGRADE_POINT_H
#define POOL_UPGRADE_POINT_H

enum upgrade_point {
  POINT_SPAWNED = 1, /* in the return: the program has been executed in place */
  POINT_HELLO,
  POINT_LISTENERS,
  POINT_READY,
  POINT_CANARY_SENT,
  POINT_CANARY_TAKEN,
  POINT_BATCH_SENT,
  POINT_BATCH_TAKEN,
  POINT_TOTALS,
  POINT_EXECUTE, /* the old process is about to execute the program in its place */
  POINT_EXIT,    /* the child is about to end, after the return */
};

enum upgrade_side {
  SIDE_OLD,
  SIDE_NEW,
  SIDE_CHILD,  /* of the return: the child gives connections */
  SIDE_PARENT, /* of the return: its parent takes them */
};

/** ${side} has reached ${point}. Thread: main. */
void upgrade_point(enum upgrade_point point, enum upgrade_side side);

#endif
