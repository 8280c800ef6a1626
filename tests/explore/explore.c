/*
 * explore: see explore.h.
 *
 * Threads are coroutines.  Each has a permanent stack, made by makecontext; setjmp and longjmp
 * change stacks without a system call.  A thread that gives up its turn chooses the next thread on
 * its own stack, so that a thread that continues costs no change of stacks.  A new execution jumps
 * to the foot of each stack again.
 */
#include "tests/explore/explore.h"

#include "tests/explore/memory.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES ((size_t)128 * 1024)
#define DECISIONS_MAX 4096
#define TABLE_MIN ((size_t)1 << 16)

enum outcome { STARTED, FINISHED, KNOWN, FAULTY };

struct thread {
  jmp_buf foot;  /* where an execution begins */
  jmp_buf going; /* where it gave up its turn */
  ucontext_t context;
  bool begun, done;
  bool reading;            /* it has written nothing since others could have a turn */
  bool (*ready)(unsigned); /* NULL, or its condition to continue */
  unsigned argument;
  struct hash history; /* what it has read since its last mark */
};

struct decision {
  unsigned chosen, count;
};

/* The states seen so far: open addressing, at most half full; all zero = free. */
struct table {
  struct hash *states;
  size_t size, used;
};

static struct {
  const struct explore_job *job;
  struct explore_result *result;
  struct thread threads[EXPLORE_THREADS_MAX];
  unsigned stacks; /* number of stacks made */
  unsigned current;
  jmp_buf home;
  struct decision path[DECISIONS_MAX];
  unsigned depth;  /* decisions of this execution so far */
  unsigned length; /* decisions prescribed for it */
  uint32_t preemptions;
  struct table table;
  FILE *trace;
} explorer = {.current = EXPLORE_NO_THREAD};

/* ---- states ---- */

static struct hash *table_find(const struct table *table, const struct hash *state) {
  size_t i = state->a & (table->size - 1);
  while ((table->states[i].a | table->states[i].b) != 0 &&
         memcmp(&table->states[i], state, sizeof(*state)) != 0) {
    i = (i + 1) & (table->size - 1);
  }
  return &table->states[i];
}

static void table_resize(struct table *table, size_t size) {
  struct table grown = {.states = calloc(size, sizeof(struct hash)), .size = size};
  assert(grown.states != NULL);
  for (size_t i = 0; i < table->size; i++) {
    if ((table->states[i].a | table->states[i].b) != 0) {
      *table_find(&grown, &table->states[i]) = table->states[i];
    }
  }
  grown.used = table->used;
  free(table->states);
  *table = grown;
}

/* Return: was ${state} there already? */
static bool table_add(struct table *table, const struct hash *state) {
  struct hash *at = table_find(table, state);
  if ((at->a | at->b) != 0) {
    return true;
  }
  *at = *state;
  if (++table->used > table->size / 2) {
    table_resize(table, table->size * 2);
  }
  return false;
}

static void end(enum outcome outcome) { _longjmp(explorer.home, outcome); }

/* Count a new state, or end the execution at a known one. */
static void look_up(void) {
  struct hash state = {.a = 1, .b = 1};
  for (unsigned i = 0; i < explorer.job->count; i++) {
    const struct thread *thread = &explorer.threads[i];
    hash_add(&state, thread->history.a);
    hash_add(&state, thread->history.b);
    hash_add(&state, thread->done);
  }
  if (explorer.job->preemptions_max != EXPLORE_UNBOUNDED) {
    hash_add(&state, (uint64_t)explorer.current << 32 | explorer.preemptions);
  }
  unsigned self = explorer.current;
  explorer.current = EXPLORE_NO_THREAD; /* hashing is no access of a thread */
  memory_hash(&state);
  explorer.current = self;
  if (table_add(&explorer.table, &state)) {
    end(KNOWN);
  }
  explorer.result->states++;
}

/* ---- turns ---- */

static bool can_go(unsigned i) {
  const struct thread *thread = &explorer.threads[i];
  return !thread->done && (thread->ready == NULL || thread->ready(thread->argument));
}

static void change_to(unsigned i) {
  struct thread *next = &explorer.threads[i];
  explorer.current = i;
  if (!next->begun) {
    next->begun = true;
    _longjmp(next->foot, 1);
  }
  _longjmp(next->going, 1);
}

/*
 * The threads that can continue; the current one comes first, so that choice 0 does not preempt it.
 */
static unsigned candidates(unsigned who[EXPLORE_THREADS_MAX]) {
  unsigned count = 0, current = explorer.current;
  bool goes_on = current != EXPLORE_NO_THREAD && can_go(current);
  if (goes_on) {
    who[count++] = current;
    if (explorer.preemptions == explorer.job->preemptions_max) {
      return count;
    }
  }
  for (unsigned i = 0; i < explorer.job->count; i++) {
    if (i != current && can_go(i)) {
      who[count++] = i;
    }
  }
  return count;
}

/* Return: the thread that has the next turn. */
static unsigned schedule(void) {
  unsigned who[EXPLORE_THREADS_MAX];
  unsigned count = candidates(who);
  if (count == 0) {
    explorer.current = EXPLORE_NO_THREAD;
    explorer.job->rest();
    end(FINISHED);
  }
  if (explorer.depth == explorer.length) {
    look_up();
  }
  unsigned chosen = explore_choose(count);
  if (chosen > 0 && who[0] == explorer.current && explorer.preemptions != EXPLORE_UNBOUNDED) {
    explorer.preemptions++;
  }
  return who[chosen];
}

/* Give up the turn; return when it is this thread's turn again. */
static void give_turn(void) {
  unsigned self = explorer.current;
  explore_note(1); /* the thread has advanced, even if nothing else shows it */
  unsigned next = schedule();
  if (next != self && _setjmp(explorer.threads[self].going) == 0) {
    change_to(next);
  }
}

void explore_step_read(void) {
  struct thread *self = &explorer.threads[explorer.current];
  if (!self->reading) {
    give_turn();
  }
  self->reading = true;
}

void explore_step_write(bool alone) {
  struct thread *self = &explorer.threads[explorer.current];
  if (!self->reading && !alone) {
    give_turn();
  }
  self->reading = false;
  explore_note(2);
}

void explore_wait(bool (*ready)(unsigned), unsigned argument) {
  struct thread *self = &explorer.threads[explorer.current];
  struct hash before = self->history;
  if (!self->reading || !ready(argument)) {
    self->ready = ready;
    self->argument = argument;
    give_turn();
    self->history = before; /* whether it had to wait makes no difference to it */
  }
  self->ready = NULL;
  self->reading = false;
  explore_note(2);
}

unsigned explore_choose(unsigned count) {
  assert(count > 0);
  if (count == 1) {
    return 0;
  }
  struct decision *decision = &explorer.path[explorer.depth];
  if (explorer.depth == explorer.length) {
    assert(explorer.length < DECISIONS_MAX);
    *decision = (struct decision){.chosen = 0, .count = count};
    explorer.length++;
  }
  assert(decision->count == count);
  explorer.depth++;
  return decision->chosen;
}

/* ---- calls of threads ---- */

unsigned explore_current(void) { return explorer.current; }

const char *explore_name(unsigned thread) {
  return thread < explorer.job->count ? explorer.job->threads[thread].name : "none";
}

bool explore_done(unsigned thread) { return explorer.threads[thread].done; }

FILE *explore_trace(void) { return explorer.trace; }

void explore_note(uint64_t value) {
  if (explorer.current != EXPLORE_NO_THREAD) {
    hash_add(&explorer.threads[explorer.current].history, value);
  }
}

void explore_mark(uint64_t state) {
  struct hash *history = &explorer.threads[explorer.current].history;
  *history = (struct hash){.a = 1, .b = 2};
  hash_add(history, state);
}

void explore_fault(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(explorer.result->fault, sizeof(explorer.result->fault), format, arguments);
  va_end(arguments);
  _longjmp(explorer.home, FAULTY);
}

/* ---- executions ---- */

/* The foot of a stack: an execution begins here at the first turn of its thread. */
static void foot(void) {
  if (_setjmp(explorer.threads[explorer.current].foot) == 0) {
    _longjmp(explorer.home, FINISHED);
  }
  explorer.job->threads[explorer.current].body();
  explorer.threads[explorer.current].done = true;
  change_to(schedule());
}

static void make_stack(struct thread *thread) {
  getcontext(&thread->context);
  thread->context.uc_stack.ss_sp = malloc(STACK_BYTES);
  thread->context.uc_stack.ss_size = STACK_BYTES;
  assert(thread->context.uc_stack.ss_sp != NULL);
  makecontext(&thread->context, foot, 0);
  if (_setjmp(explorer.home) == STARTED) {
    setcontext(&thread->context);
  }
}

static void make_stacks(unsigned count) {
  for (; explorer.stacks < count; explorer.stacks++) {
    explorer.current = explorer.stacks;
    make_stack(&explorer.threads[explorer.stacks]);
  }
  explorer.current = EXPLORE_NO_THREAD;
}

static enum outcome execute(void) {
  for (unsigned i = 0; i < EXPLORE_THREADS_MAX; i++) {
    struct thread *thread = &explorer.threads[i];
    thread->begun = false;
    thread->reading = true; /* its beginning is a turn of its own */
    thread->done = i >= explorer.job->count;
    thread->ready = NULL;
    thread->history = (struct hash){.a = i, .b = i};
  }
  explorer.depth = 0;
  explorer.preemptions = 0;
  explorer.current = EXPLORE_NO_THREAD;
  explorer.job->begin();
  memory_reset();
  enum outcome outcome = (enum outcome)_setjmp(explorer.home);
  if (outcome == STARTED) {
    change_to(schedule());
  }
  explorer.current = EXPLORE_NO_THREAD;
  return outcome;
}

/* Prescribe the next path. Return: is there one? */
static bool next_path(void) {
  while (explorer.length > 0) {
    struct decision *last = &explorer.path[explorer.length - 1];
    if (++last->chosen < last->count) {
      return true;
    }
    explorer.length--;
  }
  return false;
}

void explore(const struct explore_job *job, struct explore_result *result, FILE *trace) {
  assert(job->count <= EXPLORE_THREADS_MAX);
  *result = (struct explore_result){.fault = ""};
  explorer.job = job;
  explorer.result = result;
  explorer.length = 0;
  explorer.table = (struct table){.states = NULL};
  table_resize(&explorer.table, TABLE_MIN);
  make_stacks(job->count);
  enum outcome outcome;
  do {
    result->executions++;
    outcome = execute();
  } while (outcome != FAULTY && next_path());
  if (outcome == FAULTY && trace != NULL) {
    explorer.trace = trace;
    (void)execute();
    explorer.trace = NULL;
  }
  free(explorer.table.states);
}
