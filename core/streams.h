/*
 * streams: the standard streams of a program, which may be closed, full or without a reader.
 *
 * A closed descriptor 0, 1 or 2 would become a file or a socket that the program opens later, and
 * its text would land there.
 */
#ifndef CORE_STREAMS_H
#define CORE_STREAMS_H

#include <stdio.h>

/**
 * streams_reserve():
 * Open /dev/null for each closed descriptor among 0, 1 and 2, in the opposite mode: 0 write-only,
 * 1 and 2 read-only.  So a later read or write fails, as on a closed descriptor, and is not lost
 * silently.  A program calls it before it opens anything.
 * Return: -1; or the closed descriptor that could not be filled, with errno.
 */
int streams_reserve(void);

/**
 * streams_flush(out):
 * Write what ${out} holds, and tell whether everything since it was opened has been written.
 * Return: 0, or -1 with errno; it is EIO if the reason of an earlier failure is no longer known.
 */
int streams_flush(FILE *out);

#endif
