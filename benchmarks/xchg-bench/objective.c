/*
 * objective: see objective.h.  A latency comes from the corrected histogram and counts what is
 * unfinished.  If nothing was recorded it is infinite and meets no objective.  So a server that
 * never answers meets neither 'p99<60s' nor 'p99>1ms'.
 */
#include "objective.h"

#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int parse_subject(const char *text, size_t size, double *percent);
static int parse_value(struct objective *objective, const char *text);
static uint64_t count_above(const struct hdr_histogram *histogram, double value);

int objective_parse(const char *text, struct objective *objective) {
  struct objective c = {.percent = 0};
  size_t size = strcspn(text, "<>=");
  if (strlen(text) >= sizeof(c.text) || text[size] == 0) {
    return -1;
  }
  memcpy(c.text, text, strlen(text) + 1);
  c.op = text[size];
  c.or_equal = c.op != '=' && text[size + 1] == '=';
  if (parse_subject(text, size, &c.percent) == -1 ||
      parse_value(&c, text + size + (c.or_equal ? 2 : 1)) == -1) {
    return -1;
  }
  *objective = c;
  return 0;
}

int objective_parse_list(const char *text, struct objective *objectives, uint32_t *count) {
  uint32_t filled = 0;
  for (const char *rest = text; rest != NULL;) {
    char item[sizeof(objectives->text)];
    size_t size = strcspn(rest, ",");
    if (filled == BENCH_SLO_MAX || size >= sizeof(item)) {
      return -1;
    }
    memcpy(item, rest, size);
    item[size] = 0;
    if (objective_parse(item, &objectives[filled]) == -1) {
      return -1;
    }
    filled++;
    rest = rest[size] == 0 ? NULL : rest + size + 1;
  }
  *count = filled;
  return 0;
}

bool objective_is_latency(const struct objective *objective) { return objective->percent >= 0; }

double objective_value(const struct objective *objective, const struct result *result) {
  if (objective_is_latency(objective)) {
    if (!result->has_latency || result_count(result, TIMES_LATENCY) == 0) {
      return INFINITY;
    }
    const double value = (double)result_percentile(result, TIMES_LATENCY, objective->percent);
    const bool is_age = result->latency->count == 0; /* the end may come at any time after it */
    return is_age && objective_is_met(objective, value) ? INFINITY : value;
  }
  if (objective->percent == OBJECTIVE_RATE) {
    return bench_rate(result->exchanges, result->seconds);
  }
  uint64_t all = result->exchanges + result_errors(result), count = result_errors(result);
  if (objective->percent != OBJECTIVE_ERRORS) {
    all += result->unfinished;
    count = objective->percent == OBJECTIVE_DROPPED ? result->dropped : result->unfinished;
  }
  if (!objective->is_share) {
    return (double)count;
  }
  return all == 0 ? INFINITY : 100 * (double)count / (double)all;
}

bool objective_is_lost(const struct objective *objective, const struct result *result,
                       uint64_t total) {
  const double value = objective->value;
  double so_far = (double)result_errors(result);
  if (objective->op == '>') {
    return false; /* what comes may raise it */
  }
  if (objective_is_latency(objective)) {
    const uint64_t above = count_above(result->latency, value) +
                           count_above(result->unfinished_times[TIMES_LATENCY], value);
    const double may = total == NEVER ? INFINITY : (100 - objective->percent) / 100 * (double)total;
    return objective->percent >= 100 ? above > 0 : (double)above > may;
  }
  if (objective->percent != OBJECTIVE_ERRORS) {
    return false; /* what is due may still be done */
  }
  if (objective->is_share) {
    so_far = total == NEVER || total == 0 ? 0 : 100 * so_far / (double)total;
  }
  return so_far > value || (so_far == value && objective->op == '<' && !objective->or_equal);
}

bool objective_is_met(const struct objective *objective, double value) {
  if (isinf(value)) {
    return false; /* nothing recorded */
  }
  if (objective->or_equal && value == objective->value) {
    return true;
  }
  switch (objective->op) {
    case '<':
      return value < objective->value;
    case '>':
      return value > objective->value;
    default:
      return value == objective->value;
  }
}

bool objective_is_met_by(const struct objective *objective, const struct result *result) {
  return objective_is_met(objective, objective_value(objective, result));
}

const char *objective_format(const struct objective *objective, double value, char *text,
                             size_t size) {
  char unit[UNITS_TEXT_MAX];
  if (isinf(value)) {
    snprintf(text, size, "nothing recorded");
  } else if (objective->is_share) {
    snprintf(text, size, "%.4g%%", value);
  } else if (objective->percent == OBJECTIVE_RATE) {
    snprintf(text, size, "%.2f/s", value);
  } else if (!objective_is_latency(objective)) {
    snprintf(text, size, "%.0f", value);
  } else {
    snprintf(text, size, "%s", units_format_time(value, unit));
  }
  return text;
}

/* Parse "p99.9", "max", "errors" and so on, the first ${size} bytes of ${text}. */
static int parse_subject(const char *text, size_t size, double *percent) {
  static const struct {
    const char *name;
    double percent;
  } names[] = {{"max", 100},
               {"errors", OBJECTIVE_ERRORS},
               {"rate", OBJECTIVE_RATE},
               {"dropped", OBJECTIVE_DROPPED},
               {"unfinished", OBJECTIVE_UNFINISHED}};
  char word[16];
  if (size >= sizeof(word)) {
    return -1;
  }
  memcpy(word, text, size);
  word[size] = 0;
  for (size_t i = 0; i < count_of(names); i++) {
    if (strcmp(word, names[i].name) == 0) {
      *percent = names[i].percent;
      return 0;
    }
  }
  if (word[0] != 'p' || strpbrk(word + 1, "kKMG") != NULL ||
      units_parse_number(word + 1, percent) == -1) {
    return -1;
  }
  return *percent > 0 && *percent <= 100 ? 0 : -1;
}

/* A time must have a unit: with 'p99<2', 2 ms is more likely meant than 2 s. */
static int parse_value(struct objective *objective, const char *text) {
  uint64_t time_ns;
  char number[sizeof(objective->text)];
  const size_t size = strlen(text);
  if (objective->percent < 0) {
    objective->is_share = objective->percent != OBJECTIVE_RATE && size > 0 && text[size - 1] == '%';
    memcpy(number, text, size + 1);
    number[size - (objective->is_share ? 1 : 0)] = 0;
    const int parsed = units_parse_number(number, &objective->value);
    return objective->is_share && objective->value > 100 ? -1 : parsed;
  }
  if (strpbrk(text, "smh") == NULL || units_parse_time(text, &time_ns) == -1) {
    return -1;
  }
  objective->value = (double)time_ns;
  return 0;
}

/* How many values of ${histogram} are surely above ${value}?  Those of its bucket are not. */
static uint64_t count_above(const struct hdr_histogram *histogram, double value) {
  if (value >= (double)HDR_MAX_NS) {
    return (double)histogram->max_ns > value ? 1 : 0;
  }
  uint64_t count = 0;
  for (uint32_t i = hdr_bucket((uint64_t)value) + 1; i < HDR_BUCKETS; i++) {
    count += histogram->buckets[i];
  }
  return count;
}
