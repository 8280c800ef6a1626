/* snapshot_query: see snapshot_query.h. */
#include "pool/snapshot_query.h"

#include "core/parse.h"

#include <stdio.h>
#include <string.h>

/* The longest value with its 0: an IPv6 block is shorter. */
#define VALUE_MAX 64

static const char *const sorts[] = {"age", "idle", "in", "out", "pending", NULL};
static const char *const states[] = {"open", "draining", "ending", "header", NULL};

const char *snapshot_sort_name(enum snapshot_sort sort) { return sorts[sort]; }

const char *snapshot_state_name(enum snapshot_state state) { return states[state]; }

/* The place of ${text} in ${words}, or -1. */
static int place_of(const char *text, const char *const *words) {
  for (int i = 0; words[i] != NULL; i++) {
    if (strcmp(text, words[i]) == 0) {
      return i;
    }
  }
  return -1;
}

/* Each of these stores the value, or returns -1. */

static int take_rows(const char *text, struct snapshot_query *query) {
  uint64_t rows;
  if (parse_u64(text, &rows) == -1 || rows == 0 || rows > SNAPSHOT_ROWS_MAX) {
    return -1;
  }
  query->rows = (uint32_t)rows;
  return 0;
}

static int take_worker(const char *text, struct snapshot_query *query) {
  uint64_t worker;
  if (parse_u64(text, &worker) == -1 || worker >= SNAPSHOT_ALL_WORKERS) {
    return -1;
  }
  query->worker = (uint32_t)worker;
  return 0;
}

static int take_state(const char *text, struct snapshot_query *query) {
  int place = place_of(text, states);
  query->state = place == -1 ? SHOWS_ALL : (enum snapshot_state)place;
  return place == -1 ? -1 : 0;
}

static int take_sort(const char *text, struct snapshot_query *query) {
  int place = place_of(text, sorts);
  query->sort = place == -1 ? SORT_AGE : (enum snapshot_sort)place;
  return place == -1 ? -1 : 0;
}

static int take_min_age(const char *text, struct snapshot_query *query) {
  return parse_time(text, &query->min_age_ns);
}

static int take_peer(const char *text, struct snapshot_query *query) {
  return addr_parse_block(text, &query->peer);
}

static const struct parameter {
  const char *name;
  const char *wants;
  int (*take)(const char *text, struct snapshot_query *query);
} parameters[] = {
    {"n", "1 to 1000", take_rows},
    {"worker", "the number of a worker", take_worker},
    {"state", "open, draining, ending or header", take_state},
    {"sort", "age, idle, in, out or pending", take_sort},
    {"min_age", "a time such as 10s", take_min_age},
    {"peer", "an address or a block such as 10.0.0.0/8", take_peer},
};

static const struct parameter *find(struct http_text name) {
  for (size_t i = 0; i < count_of(parameters); i++) {
    if (name.size == strlen(parameters[i].name) &&
        memcmp(name.at, parameters[i].name, name.size) == 0) {
      return &parameters[i];
    }
  }
  return NULL;
}

int snapshot_query_parse(struct http_text text, struct snapshot_query *query, char *why,
                         size_t why_size) {
  struct http_text name, value;
  unsigned seen = 0;
  *query = (struct snapshot_query){
      .rows = SNAPSHOT_ROWS, .worker = SNAPSHOT_ALL_WORKERS, .state = SHOWS_ALL};
  while (http_next_parameter(&text, &name, &value)) {
    const struct parameter *found = find(name);
    char copy[VALUE_MAX];
    if (found == NULL) { /* the name is the client's, and not repeated */
      snprintf(why, why_size, "unknown parameter; known are n, worker, state, sort, min_age, peer");
      return -1;
    }
    unsigned bit = 1u << (found - parameters);
    if ((seen & bit) != 0) {
      snprintf(why, why_size, "%s is given twice", found->name);
      return -1;
    }
    seen |= bit;
    if (http_copy(value, copy, sizeof(copy)) == -1 || strlen(copy) != value.size ||
        found->take(copy, query) == -1) {
      snprintf(why, why_size, "%s takes %s", found->name, found->wants);
      return -1;
    }
  }
  return 0;
}
