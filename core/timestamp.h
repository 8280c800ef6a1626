/*
 * timestamp: the time of day as text.
 *
 * Only log lines need it.  Deadlines and durations use sys_now_ns.  Thread: any.
 */
#ifndef CORE_TIMESTAMP_H
#define CORE_TIMESTAMP_H

struct timespec;

/* "2026-11-24T05:57:21.123Z" and its 0. */
#define TIMESTAMP_TEXT_MAX 25

/** Write the current time (UTC, ISO 8601, milliseconds) to ${text}. Return: ${text}. */
const char *timestamp_format_wall(char text[TIMESTAMP_TEXT_MAX]);

/**
 * timestamp_format(time, text):
 * The same for ${time}. A time before 1970 or after 9999 is replaced by the nearest time between.
 */
const char *timestamp_format(const struct timespec *time, char text[TIMESTAMP_TEXT_MAX]);

#endif
