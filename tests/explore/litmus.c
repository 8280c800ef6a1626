/*
 * litmus: see litmus.h.
 *
 * An outcome is one digit for each load, in program order.
 */
#include "tests/explore/litmus.h"

#include "core/base.h"
#include "tests/explore/atom.h"
#include "tests/explore/memory.h"

#include <stdlib.h>

#define READS_MAX 4
#define OUTCOMES_MAX 16

struct litmus {
  const char *name;
  void (*bodies[EXPLORE_THREADS_MAX])(void);
  const char *allowed; /* all outcomes, in rising order */
};

static struct {
  atom_u32 x, y;
  uint32_t plain;
} shared;

static struct {
  char read[READS_MAX + 1];
  char outcomes[OUTCOMES_MAX][READS_MAX + 1];
  unsigned outcomes_count;
} seen;

static void note(unsigned i, uint32_t value) { seen.read[i] = (char)('0' + value); }

/* Message passing: y says that x was written. */
static void pass_release(void) {
  atom_store_relaxed_u32(&shared.x, 1);
  atom_store_release_u32(&shared.y, 1);
}
static void pass_relaxed(void) {
  atom_store_relaxed_u32(&shared.x, 1);
  atom_store_relaxed_u32(&shared.y, 1);
}
static void receive_acquire(void) {
  note(0, atom_load_acquire_u32(&shared.y));
  note(1, atom_load_relaxed_u32(&shared.x));
}
static void receive_relaxed(void) {
  note(0, atom_load_relaxed_u32(&shared.y));
  note(1, atom_load_relaxed_u32(&shared.x));
}
/* Passes on what it reads. */
static void swap_y(void) { note(2, atom_exchange_acq_rel_u32(&shared.y, 2)); }

/* Store buffering. */
static void buffer_x(void) {
  atom_store_release_u32(&shared.x, 1);
  note(0, atom_load_acquire_u32(&shared.y));
}
static void buffer_y(void) {
  atom_store_release_u32(&shared.y, 1);
  note(1, atom_load_acquire_u32(&shared.x));
}
/* The same by exchanges of one place, which form a chain. */
static void chain_x(void) {
  atom_store_relaxed_u32(&shared.x, 1);
  note(0, atom_exchange_acq_rel_u32(&shared.y, 1));
}
static void chain_y(void) {
  note(1, atom_exchange_acq_rel_u32(&shared.y, 2));
  note(2, atom_load_relaxed_u32(&shared.x));
}

/* Coherence: no thread sees x go back. */
static void rise(void) {
  atom_store_relaxed_u32(&shared.x, 1);
  atom_store_relaxed_u32(&shared.x, 2);
}
static void read_twice(void) {
  note(0, atom_load_relaxed_u32(&shared.x));
  note(1, atom_load_relaxed_u32(&shared.x));
}

/* Two writes each, in opposite order: what can each thread read then? */
static void write_xy(void) {
  atom_store_release_u32(&shared.x, 1);
  atom_store_release_u32(&shared.y, 2);
  note(0, atom_load_relaxed_u32(&shared.y));
}
static void write_yx(void) {
  atom_store_release_u32(&shared.y, 1);
  atom_store_release_u32(&shared.x, 2);
  note(1, atom_load_relaxed_u32(&shared.x));
}

/* Independent reads of independent writes. */
static void set_x(void) { atom_store_release_u32(&shared.x, 1); }
static void set_y(void) { atom_store_release_u32(&shared.y, 1); }
static void look_xy(void) {
  note(0, atom_load_acquire_u32(&shared.x));
  note(1, atom_load_acquire_u32(&shared.y));
}
static void look_yx(void) {
  note(2, atom_load_acquire_u32(&shared.y));
  note(3, atom_load_acquire_u32(&shared.x));
}

/* Load buffering: the one behaviour of C11 that memory.h leaves out. */
static void load_y_store_x(void) {
  note(0, atom_load_relaxed_u32(&shared.y));
  atom_store_relaxed_u32(&shared.x, 1);
}
static void load_x_store_y(void) {
  note(1, atom_load_relaxed_u32(&shared.x));
  atom_store_relaxed_u32(&shared.y, 1);
}

static const struct litmus programs[] = {
    {"message passing", {pass_release, receive_acquire}, "00 01 11"},
    {"message passing, relaxed store", {pass_relaxed, receive_acquire}, "00 01 10 11"},
    {"message passing, relaxed load", {pass_release, receive_relaxed}, "00 01 10 11"},
    {"message passing through an exchange",
     {pass_release, swap_y, receive_acquire},
     "000 001 010 011 110 111 200 210 211"},
    {"store buffering", {buffer_x, buffer_y}, "00 01 10 11"},
    {"a chain of exchanges", {chain_x, chain_y}, "011 200 201"},
    {"coherence", {rise, read_twice}, "00 01 02 11 12 22"},
    {"two writes each", {write_xy, write_yx}, "11 12 21 22"},
    {"independent reads",
     {set_x, set_y, look_xy, look_yx},
     "0000 0001 0010 0011 0100 0101 0110 0111 1000 1001 1010 1011 1100 1101 1110 1111"},
    {"load buffering", {load_y_store_x, load_x_store_y}, "00 01 10"},
};

static void begin(void) {
  shared.x.value = shared.y.value = 0;
  memset(seen.read, 0, sizeof(seen.read));
}

static void rest(void) {
  for (unsigned i = 0; i < seen.outcomes_count; i++) {
    if (strcmp(seen.outcomes[i], seen.read) == 0) {
      return;
    }
  }
  if (seen.outcomes_count == OUTCOMES_MAX) {
    explore_fault("more outcomes than can be");
  }
  memcpy(seen.outcomes[seen.outcomes_count++], seen.read, sizeof(seen.read));
}

static int compare(const void *a, const void *b) { return strcmp(a, b); }

unsigned litmus_count(void) { return count_of(programs); }

const char *litmus_name(unsigned n) { return programs[n].name; }

void litmus_explore(unsigned n, struct explore_result *result) {
  const struct litmus *litmus = &programs[n];
  static const char *const names[] = {"1", "2", "3", "4"};
  struct explore_job job = {
      .name = litmus->name, .begin = begin, .rest = rest, .preemptions_max = EXPLORE_UNBOUNDED};
  for (; job.count < EXPLORE_THREADS_MAX && litmus->bodies[job.count] != NULL; job.count++) {
    job.threads[job.count] = (struct explore_thread){names[job.count], litmus->bodies[job.count]};
  }
  seen.outcomes_count = 0;
  memory_init(&shared, sizeof(shared));
  memory_place(&shared.x, sizeof(shared.x), "x", MEMORY_ANY_THREAD);
  memory_place(&shared.y, sizeof(shared.y), "y", MEMORY_ANY_THREAD);
  explore(&job, result, NULL);
  qsort(seen.outcomes, seen.outcomes_count, sizeof(seen.outcomes[0]), compare);
  char found[OUTCOMES_MAX * (READS_MAX + 1) + 1] = "";
  for (unsigned i = 0; i < seen.outcomes_count; i++) {
    strcat(strcat(found, i == 0 ? "" : " "), seen.outcomes[i]);
  }
  if (result->fault[0] == 0 && strcmp(found, litmus->allowed) != 0) {
    snprintf(result->fault, sizeof(result->fault), "outcomes %s instead of %s", found,
             litmus->allowed);
  }
}
