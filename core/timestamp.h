/*
 * timestamp: what time it is, for people.
 *
 * Only log lines need the time of day; deadlines and durations are counted by sys_now_ns.
 * Thread: any.
 */
#ifndef CORE_TIMESTAMP_H
#define CORE_TIMESTAMP_H

struct timespec;

/* "2026-11-24T05:57:21.123Z" and the 0 behind it. */
#define TIMESTAMP_TEXT_MAX 25

/** Write the present time (UTC, ISO 8601, milliseconds) into ${text}; return ${text}. */
const char *timestamp_format_wall(char text[TIMESTAMP_TEXT_MAX]);

/**
 * timestamp_format(time, text):
 * The same for ${time}; what lies before 1970 or after 9999 is shown as the nearest time between.
 */
const char *timestamp_format(const struct timespec *time, char text[TIMESTAMP_TEXT_MAX]);

#endif
