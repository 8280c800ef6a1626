/* plan: what a seed decides before a run: configuration, weather, faults, the stop. */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include "tests/sim/world.h"

#include "core/config.h"

#define PLAN_LINES 48
#define PLAN_LINE 96

/* How often the simulated kernel refuses, in thousandths of the calls. */
struct faults {
  unsigned start;   /* any request of the start */
  unsigned accept;  /* accept4, because of one connection */
  unsigned eintr;   /* recv, send, write, epoll_wait, accept4 */
  unsigned recv;    /* ENOMEM, ... */
  unsigned send;    /* ENOBUFS, ... */
  unsigned shorten; /* send takes less than there is room for, or nothing */
  unsigned control; /* epoll_ctl ADD and MOD */
  unsigned option;  /* setsockopt */
  unsigned map;     /* mmap, mremap */
  unsigned unmap;
  unsigned breaks;    /* connections that the network ends */
  uint64_t starve_ns; /* when accept4 begins to lack a resource; NEVER = it does not */
  uint64_t starved_ns;
  int starve_errno;
};

struct plan {
  char lines[PLAN_LINES][PLAN_LINE];
  const char *environment[PLAN_LINES + 1];
  uint32_t lines_count;
  bool proxied; /* every connection begins with a PROXY header */
  struct config config;
  struct faults faults;
  uint32_t peers;
  uint64_t begin_ns; /* when peers begin to connect */
  uint64_t stop_ns;
  uint64_t stop_now_ns; /* when a second signal ends it at once; NEVER = none comes */
};

/** The plan of the run. */
extern struct plan plan;

/** Make it. Return: 0, or -1 if the configuration is invalid, which is a fault of the simulator. */
int plan_make(void);

#endif
