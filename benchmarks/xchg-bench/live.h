/*
 * live: the line about the last interval that a run shows on a terminal.
 *
 * The line never wraps, because a wrapped one could not be replaced by the next: it is cut before
 * the first value for which there is no room.
 */
#ifndef BENCH_LIVE_H
#define BENCH_LIVE_H

#include "bench.h"

#define LIVE_TEXT_MAX 160

/**
 * live_format(interval, errors, length_s, columns, text):
 * Write the line of ${interval} and of ${errors} so far.  The rate of an interval that is shorter
 * than ${length_s} is scaled to a second and marked with "~".  The last column stays free for the
 * cursor.
 * Return: ${text}.
 */
const char *live_format(const struct interval *interval, uint64_t errors, double length_s,
                        unsigned columns, char text[LIVE_TEXT_MAX]);

/**
 * live_open(fd):
 * Open the terminal ${fd} again, because O_NONBLOCK of ${fd} itself is shared with other programs.
 * Return: the descriptor, or -1 if ${fd} is no terminal or cannot be opened.
 */
int live_open(int fd);

/**
 * live_show(fd, text):
 * Replace the line on the terminal ${fd} of live_open by ${text}; it may be empty.  Never waits:
 * what a stopped or full terminal does not take is not shown.  In the background nothing is shown.
 */
void live_show(int fd, const char *text);

/** The width of the terminal ${fd}, which may change at any time; 80 if it is not known. */
unsigned live_columns(int fd);

#endif
