/*
 * histogram_read: reads one histogram of a JSON report.
 */
#ifndef BENCH_HISTOGRAM_READ_H
#define BENCH_HISTOGRAM_READ_H

#include "hdr_histogram.h"
#include "json_read.h"

/* Sums of merged counts stay below 2^64, and a double holds each count exactly. */
#define HISTOGRAM_COUNT_MAX (UINT64_C(1) << 53)

/**
 * histogram_read(json, histogram, name):
 * Read the object ${json} into ${histogram}.
 * Return: NULL, or what is wrong with the member ${*name}.
 */
const char *histogram_read(const struct json *json, struct hdr_histogram *histogram,
                           const char **name);

#endif
