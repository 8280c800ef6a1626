/*
 * work: whether two reports measured the same work, which their figures alone do not tell.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include "bench.h"

enum work_of {
  WORK_OF_LOAD,  /* all of the load: what makes two reports comparable */
  WORK_OF_PARTS, /* without what load generators that work together divide among them */
};

/**
 * work_difference(a, b, of, text, size):
 * Write the options in which ${b} differs from ${a}, with both values, to ${text} of ${size} bytes,
 * such as "size 64 and 1024, pipeline 1 and 4".  The list is cut if there is no room.
 * Return: whether they differ; false also if there is no memory to tell.
 */
bool work_difference(const struct options *a, const struct options *b, enum work_of of, char *text,
                     size_t size);

#endif
