/*
 * units: numbers as wrk's users write and read them: 1k, 1.5M, 500ms, 2s, 12.34MB.
 *
 * Counts and rates go by thousands, bytes by 1024, a bare time is seconds. Pure.
 */
#ifndef BENCH_UNITS_H
#define BENCH_UNITS_H

#include "core/base.h"

#define UNITS_TEXT_MAX 32

/**
 * Each parser: 0 and the value in ${*value}, or -1 with the value untouched. No sign, no white
 * space, nothing behind; an overflow is a failure.
 */
int units_parse_number(const char *text, double *value);   /* 10, 1.5, 1k, 2M, 1G */
int units_parse_count(const char *text, uint64_t *value);  /* the same, but whole: 1.5k is 1500 */
int units_parse_size(const char *text, uint64_t *bytes);   /* 64, 1k, 64KiB, 1MiB */
int units_parse_time(const char *text, uint64_t *time_ns); /* 500us, 250ms, 2, 2s, 1.5m, 1h */

/** Each writes ${value} with two decimals and its unit into ${text}; return ${text}. */
const char *units_format_time(double time_ns, char text[UNITS_TEXT_MAX]); /* 635.91us, 1.20ms */
const char *units_format_count(double value, char text[UNITS_TEXT_MAX]);  /* 56.20k */
const char *units_format_bytes(double bytes, char text[UNITS_TEXT_MAX]);  /* 606.33MB */

/** A duration as it would be typed, without decimals where it has none: 10s, 1m, 1.50s. */
const char *units_format_duration(uint64_t time_ns, char text[UNITS_TEXT_MAX]);

#endif
