/*
 * histogram_read: see histogram_read.h.  A report may come from anywhere, so each number is checked
 * against the others.
 */
#include "histogram_read.h"

#include <assert.h>

/* Read the member ${name} as a number, or as an integer. Return: NULL, or what is wrong with it. */
static const char *read_number(const struct json *json, const char *name, double *number) {
  const struct json *member = json_member(json, name);
  if (member == NULL) {
    return "is missing";
  }
  if (member->kind != JSON_NUMBER) {
    return "is not a number";
  }
  assert(number != NULL);
  *number = member->number;
  return member->number < 0 ? "is negative" : NULL;
}

static const char *read_integer(const struct json *json, const char *name, uint64_t *integer) {
  double number;
  const char *wrong = read_number(json, name, &number);
  const struct json *member = json_member(json, name);
  *integer = 0;
  if (wrong != NULL || member == NULL) {
    return wrong;
  }
  *integer = member->integer;
  return member->integral ? NULL : "is not an integer";
}

/* Read one [low, count]. Return: whether it is a valid bucket at or after ${*next}. */
static bool read_bucket(const struct json *pair, struct hdr_histogram *histogram, uint32_t *next) {
  if (pair->kind != JSON_ARRAY || pair->size != 2) {
    return false;
  }
  const struct json *low = pair->first, *count = low->next;
  if (low->kind != JSON_NUMBER || !low->integral || count->kind != JSON_NUMBER ||
      !count->integral) {
    return false;
  }
  uint32_t bucket = hdr_bucket(low->integer);
  if (hdr_bucket_low(bucket) != low->integer || bucket < *next) {
    return false;
  }
  histogram->buckets[bucket] = count->integer;
  *next = bucket + 1;
  return !__builtin_add_overflow(histogram->count, count->integer, &histogram->count);
}

static const char *read_buckets(const struct json *json, struct hdr_histogram *histogram,
                                const char **name, uint32_t *end) {
  const struct json *buckets = json_member(json, "buckets");
  if (buckets == NULL || buckets->kind != JSON_ARRAY) {
    *name = "buckets";
    return buckets == NULL ? "is missing" : "is not an array";
  }
  for (const struct json *pair = buckets->first; pair != NULL; pair = pair->next) {
    if (!read_bucket(pair, histogram, end)) {
      *name = json->name;
      return "in the histogram has an invalid bucket";
    }
  }
  return NULL;
}

/* Read the numbers beside the buckets. Return: NULL, or what is wrong with ${*name}. */
static const char *read_numbers(const struct json *json, struct hdr_histogram *histogram,
                                uint64_t *count, const char **name) {
  const struct {
    const char *name;
    uint64_t *integer;
    double *number;
  } members[] = {{"count", count, NULL},
                 {"clamped", &histogram->clamped, NULL},
                 {"min_ns", &histogram->min_ns, NULL},
                 {"max_ns", &histogram->max_ns, NULL},
                 {"sum_ns", NULL, &histogram->sum_ns},
                 {"sum_squares_ns2", NULL, &histogram->sum_squares}};
  for (size_t i = 0; i < count_of(members); i++) {
    *name = members[i].name;
    const char *wrong = members[i].integer != NULL
                            ? read_integer(json, members[i].name, members[i].integer)
                            : read_number(json, members[i].name, members[i].number);
    if (wrong != NULL) {
      return wrong;
    }
  }
  return NULL;
}

const char *histogram_read(const struct json *json, struct hdr_histogram *histogram,
                           const char **name) {
  uint32_t end = 0; /* one above the highest bucket that is not empty */
  uint64_t count = 0;
  hdr_reset(histogram);
  const char *wrong = read_buckets(json, histogram, name, &end);
  if (wrong == NULL) {
    wrong = read_numbers(json, histogram, &count, name);
  }
  if (wrong != NULL) {
    return wrong;
  }
  *name = json->name;
  if (count != histogram->count) {
    return "in the histogram: the sum of the counts is not 'count'";
  }
  if (count > HISTOGRAM_COUNT_MAX) {
    return "in the histogram: 'count' is out of range";
  }
  if (histogram->clamped > count) {
    return "in the histogram: 'clamped' is above 'count'";
  }
  if (count == 0) {
    histogram->min_ns = UINT64_MAX;
    return histogram->max_ns == 0 ? NULL : "in the histogram: max_ns is in no bucket";
  }
  if (histogram->buckets[hdr_bucket(histogram->min_ns)] == 0 ||
      hdr_bucket(histogram->max_ns) != end - 1 || histogram->min_ns > histogram->max_ns) {
    return "in the histogram: min_ns or max_ns is in no bucket";
  }
  return NULL;
}
