/*
 * units: numbers as users of wrk write and read them: 1k, 1.5M, 500ms, 2s, 12.34MB.
 *
 * Counts and rates use units of 1000, bytes units of 1024.  A time without a unit is in seconds.
 * Pure functions.
 */
#ifndef BENCH_UNITS_H
#define BENCH_UNITS_H

#include "core/base.h"

#define UNITS_TEXT_MAX 32

/**
 * Each parser returns 0 with the value in ${*value}, or -1 with the value unchanged.  A sign, white
 * space, text after the number and an overflow are errors.
 */
int units_parse_number(const char *text, double *value);   /* 10, 1.5, 1k, 2M, 1G */
int units_parse_count(const char *text, uint64_t *value);  /* the same, but whole: 1.5k is 1500 */
int units_parse_size(const char *text, uint64_t *bytes);   /* 64, 1k, 64KiB, 1MiB */
int units_parse_time(const char *text, uint64_t *time_ns); /* 500us, 250ms, 2, 2s, 1.5m, 1m30s */

/**
 * Each writes a value with two decimals and its unit into ${text}.  NAN, which means that there is
 * no value, becomes "-".  Return: ${text}.
 */
const char *units_format_time(double time_ns, char text[UNITS_TEXT_MAX]); /* 635.91us, 1.20ms */
const char *units_format_count(double value, char text[UNITS_TEXT_MAX]);  /* 56.20k */
const char *units_format_bytes(double bytes, char text[UNITS_TEXT_MAX]);  /* 606.33MB */

/** Write ${value} with ${decimals} digits after the point and no unit; NAN as above. */
const char *units_format_fixed(double value, int decimals, char text[UNITS_TEXT_MAX]);

/** Return: ${value} / ${by}, or NAN if ${by} is 0, because the quotient was not measured. */
double units_divide(double value, double by);

/** Write a duration as a user would type it, without decimals if possible: 10s, 1m, 1.50s. */
const char *units_format_duration(uint64_t time_ns, char text[UNITS_TEXT_MAX]);

#endif
