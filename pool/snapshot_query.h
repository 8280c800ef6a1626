/*
 * snapshot_query: which connections /connections lists, and in which order.
 *
 * The query has the form name=value&name=value.  Nothing is decoded, as in net/http.
 *
 *   n=100        number of rows, 1..1000
 *   worker=0     only connections of this worker
 *   state=open   only connections in this state: open, draining, ending, header
 *   sort=age     the oldest first; idle: the longest idle; in, out, pending: those with most bytes
 *   min_age=10s  only connections open for at least this time
 *   peer=CIDR    only addresses in this block; a UNIX socket client matches no block
 */
#ifndef POOL_SNAPSHOT_QUERY_H
#define POOL_SNAPSHOT_QUERY_H

#include "core/addr.h"
#include "net/http.h"

#define SNAPSHOT_ROWS_MAX 1000
#define SNAPSHOT_ROWS 100
#define SNAPSHOT_ALL_WORKERS UINT32_MAX

enum snapshot_sort { SORT_AGE, SORT_IDLE, SORT_IN, SORT_OUT, SORT_PENDING };

/* States as the response shows them. */
enum snapshot_state {
  SHOWS_OPEN,     /* serves */
  SHOWS_DRAINING, /* ends after its message: because of a stop or its lifetime */
  SHOWS_ENDING,   /* the exchange is over; waits for output, acknowledgements or the peer's end */
  SHOWS_HEADER,   /* its PROXY header is not complete; no callback was called */
  SHOWS_ALL,
};

struct snapshot_query {
  uint32_t rows;
  uint32_t worker; /* or SNAPSHOT_ALL_WORKERS */
  enum snapshot_sort sort;
  enum snapshot_state state; /* or SHOWS_ALL */
  uint64_t min_age_ns;
  struct addr_block peer; /* family ADDR_NONE = every peer */
};

/**
 * snapshot_query_parse(text, query, why, why_size):
 * Parse ${text} into ${query}. Parameters that it does not name get their defaults.
 * Return: 0, or -1 with the reason, one line of printable ASCII, in ${why}.
 */
int snapshot_query_parse(struct http_text text, struct snapshot_query *query, char *why,
                         size_t why_size);

/** The words of the query. */
const char *snapshot_sort_name(enum snapshot_sort sort);
const char *snapshot_state_name(enum snapshot_state state);

#endif
