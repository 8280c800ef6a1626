/*
 * plan: what a seed decides before anything runs: configuration, weather, faults, the stop.
 */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include "tests/sim/world.h"

#include "core/config.h"

#define PLAN_LINES 48
#define PLAN_LINE 96

/* How often the simulated kernel refuses, in thousandths of the calls. */
struct faults {
  unsigned start;   /* anything that the start asks for */
  unsigned accept;  /* accept4, on a connection's account */
  unsigned eintr;   /* recv, send, write, epoll_wait, accept4 */
  unsigned recv;    /* ENOMEM, ... */
  unsigned send;    /* ENOBUFS, ... */
  unsigned shorten; /* send takes less than there is room for, or nothing */
  unsigned control; /* epoll_ctl ADD and MOD */
  unsigned option;  /* setsockopt */
  unsigned map;     /* mmap, mremap */
  unsigned unmap;
  unsigned breaks;    /* connections that the network ends */
  uint64_t starve_ns; /* when accept4 begins to fail for want of something; NEVER = not */
  uint64_t starved_ns;
  int starve_errno;
};

struct plan {
  char lines[PLAN_LINES][PLAN_LINE];
  const char *environment[PLAN_LINES + 1];
  uint32_t lines_count;
  struct config config;
  struct faults faults;
  uint32_t peers;
  uint64_t begin_ns; /* peers come from then on */
  uint64_t stop_ns;
  uint64_t stop_now_ns; /* when a second word ends it at once; NEVER = not */
};

/** The plan of the run. */
extern struct plan plan;

/** Make it. Return: 0, or -1 where the configuration is a fault (the simulator's). */
int plan_make(void);

#endif
