/*
 * snapshot_query: which connections /connections shows, and in which order.
 *
 * The query has the form name=value&name=value.  Nothing is decoded, as in net/http.
 *
 *   n=100        rows, 1..1000
 *   worker=0     of this worker only
 *   state=open   in this state only: open, draining, ending, header
 *   sort=age     first: the oldest; idle: those silent for longest; in, out, pending: most bytes
 *   min_age=10s  open for at least this long
 *   peer=CIDR    whose address is in this block; no UNIX socket is in any
 */
#ifndef POOL_SNAPSHOT_QUERY_H
#define POOL_SNAPSHOT_QUERY_H

#include "core/addr.h"
#include "net/http.h"

#define SNAPSHOT_ROWS_MAX 1000
#define SNAPSHOT_ROWS 100
#define SNAPSHOT_ALL_WORKERS UINT32_MAX

enum snapshot_sort { SORT_AGE, SORT_IDLE, SORT_IN, SORT_OUT, SORT_PENDING };

/* States as the administrator sees them. */
enum snapshot_state {
  SHOWS_OPEN,     /* serves */
  SHOWS_DRAINING, /* serves, and must end after its message: a stop, or its lifetime is over */
  SHOWS_ENDING,   /* the exchange is over: output, acknowledgements or the peer's end are awaited */
  SHOWS_HEADER,   /* waits for its PROXY header, and the handler does not know it yet */
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
 * Parse ${text} into ${query}; what it does not name has its default.
 * Return: 0, or -1 with the reason, one line of printable ASCII, in ${why}.
 */
int snapshot_query_parse(struct http_text text, struct snapshot_query *query, char *why,
                         size_t why_size);

/** The words of the query. */
const char *snapshot_sort_name(enum snapshot_sort sort);
const char *snapshot_state_name(enum snapshot_state state);

#endif
