/*
 * clock: what time it is, for people.
 *
 * Only log lines need the time of day; deadlines and durations are counted by sys_now_ns.
 * Thread: any.
 */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

struct timespec;

/* "2026-11-24T05:57:21.123Z" and the 0 behind it. */
#define CLOCK_TEXT_MAX 25

/** Write the present time (UTC, ISO 8601, milliseconds) into ${text}; return ${text}. */
const char *clock_wall_format(char text[CLOCK_TEXT_MAX]);

/**
 * clock_format(time, text):
 * The same for ${time}; what lies before 1970 or after 9999 is shown as the nearest time between.
 */
const char *clock_format(const struct timespec *time, char text[CLOCK_TEXT_MAX]);

#endif
