/*
 * fiber: see fiber.h.
 *
 * Round robin: each round gives every fiber a turn.  A round in which nobody called fiber_progress
 * was in vain, and only time can help.
 *
 * A fiber is begun by setcontext, which costs a system call for the mask of signals; from then on
 * setjmp and longjmp change the stacks, which cost none.  Where AddressSanitizer is linked it wants
 * to be told of each change, and contexts alone are used, since it has a longjmp of its own.
 */
#include "tests/fail_nth/fiber.h"

#include "core/base.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

#define FIBERS_MAX 48
#define STACK_BYTES ((size_t)512 * 1024)
#define PAGE_BYTES ((size_t)4096)
#define ROUNDS_MAX 200000u
#define LOOK_NS 50                 /* what a look at the clock costs */
#define LATEST_NS (600 * NS_PER_S) /* no run lasts so long */

/* Of AddressSanitizer's interface; NULL where it is not linked. */
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size)
    __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size)
    __attribute__((weak));

/* libc's, whatever it is called where it checks that a jump leads up the same stack. */
void fiber_longjmp(jmp_buf to, int value) __asm__("_longjmp") __attribute__((noreturn));

/* Where a stack goes on. */
struct place {
  ucontext_t context; /* of one that has not begun */
  jmp_buf jump;
  bool begun;
};

struct fiber {
  struct place place;
  void *(*main)(void *argument);
  void *argument;
  uint64_t until_ns; /* what it waits for at most */
  bool over;
  uint8_t *stack; /* owns, for good: the next fiber of this place has it */
  void *fake;     /* AddressSanitizer's */
};

static struct {
  struct fiber fibers[FIBERS_MAX];
  unsigned count;
  struct fiber *self;
  struct place scheduler;
  void *fake; /* the scheduler's, while a fiber runs */
  const void *bottom;
  size_t size;
  uint64_t now_ns, begun_ns;
  uint64_t progress;
  void (*settle)(void);
} all = {.now_ns = NS_PER_S, .scheduler = {.begun = true}};

void fiber_reset(void) {
  all.count = 0;
  all.self = NULL;
  all.begun_ns = all.now_ns;
}

struct fiber *fiber_self(void) {
  return all.self;
}

bool fiber_over(const struct fiber *fiber) { return fiber->over; }

void fiber_progress(void) { all.progress++; }

void fiber_set_settle(void (*settle)(void)) { all.settle = settle; }

uint64_t fiber_now_ns(void) { return all.now_ns += LOOK_NS; }

unsigned fiber_alive(void) {
  unsigned alive = 0;
  for (unsigned i = 0; i < all.count; i++) {
    alive += !all.fibers[i].over;
  }
  return alive;
}

/* ---- changing stacks ---- */

static void switch_begin(void **fake, const void *bottom, size_t size) {
  if (__sanitizer_start_switch_fiber != NULL) {
    __sanitizer_start_switch_fiber(fake, bottom, size);
  }
}

static void switch_end(void *fake, const void **bottom, size_t *size) {
  if (__sanitizer_finish_switch_fiber != NULL) {
    __sanitizer_finish_switch_fiber(fake, bottom, size);
  }
}

/* Leave this stack, which is ${from}, for that of ${to}. */
static void change(struct place *from, struct place *to) {
  if (__sanitizer_start_switch_fiber != NULL) {
    (void)swapcontext(&from->context, &to->context);
  } else if (_setjmp(from->jump) == 0) {
    if (to->begun) {
      fiber_longjmp(to->jump, 1);
    }
    to->begun = true;
    (void)setcontext(&to->context);
  }
}

static void fiber_main(void) {
  struct fiber *self = all.self;
  switch_end(NULL, &all.bottom, &all.size);
  (void)self->main(self->argument);
  self->over = true;
  fiber_progress();
  switch_begin(NULL, all.bottom, all.size);
  change(&self->place, &all.scheduler);
}

/* Memory for its stack, with a page below it that nobody may touch. */
static void give_stack(struct fiber *fiber) {
  if (fiber->stack != NULL) {
    return;
  }
  fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  assert((void *)fiber->stack != MAP_FAILED);
  int guarded = mprotect(fiber->stack, PAGE_BYTES, PROT_NONE);
  assert(guarded == 0);
}

static void make_context(struct fiber *fiber) {
  ucontext_t *context = &fiber->place.context;
  int got = getcontext(context);
  assert(got == 0);
  context->uc_stack.ss_sp = fiber->stack;
  context->uc_stack.ss_size = STACK_BYTES;
  context->uc_link = NULL;
  makecontext(context, fiber_main, 0);
  fiber->place.begun = false;
}

struct fiber *fiber_start(void *(*main)(void *argument), void *argument) {
  if (all.count == FIBERS_MAX) {
    return NULL;
  }
  struct fiber *fiber = &all.fibers[all.count++];
  give_stack(fiber);
  fiber->main = main;
  fiber->argument = argument;
  fiber->until_ns = 0;
  fiber->over = false;
  fiber->fake = NULL;
  make_context(fiber);
  fiber_progress();
  return fiber;
}

static void resume(struct fiber *fiber) {
  all.self = fiber;
  switch_begin(&all.fake, fiber->stack, STACK_BYTES);
  change(&all.scheduler, &fiber->place);
  switch_end(all.fake, NULL, NULL);
  all.self = NULL;
}

void fiber_pause(uint64_t until_ns) {
  struct fiber *self = all.self;
  int error = errno;
  self->until_ns = until_ns;
  switch_begin(&self->fake, all.bottom, all.size);
  change(&self->place, &all.scheduler);
  switch_end(self->fake, &all.bottom, &all.size);
  errno = error;
}

/* ---- turns ---- */

/* Nobody gets on: to the next time that somebody waits for. Return: false if there is none. */
static bool jump(void) {
  uint64_t next_ns = NEVER;
  for (unsigned i = 0; i < all.count; i++) {
    if (!all.fibers[i].over) {
      next_ns = min_u64(next_ns, all.fibers[i].until_ns);
    }
  }
  all.now_ns = next_ns == NEVER ? all.now_ns : max_u64(all.now_ns, next_ns);
  return next_ns != NEVER;
}

/* One round. Return: did anybody get on? */
static bool run_round(void) {
  uint64_t before = all.progress;
  for (unsigned i = 0; i < all.count; i++) {
    if (!all.fibers[i].over) {
      resume(&all.fibers[i]);
    }
  }
  return all.progress != before;
}

enum fiber_end fiber_run(void) {
  for (unsigned round = 0; round < ROUNDS_MAX; round++) {
    bool progress = run_round();
    if (all.fibers[0].over) {
      return FIBER_DONE;
    }
    if (all.now_ns - all.begun_ns > LATEST_NS) {
      return FIBER_TOO_LATE;
    }
    if (!progress && all.settle != NULL) {
      all.settle();
      progress = run_round();
    }
    if (!progress && !jump()) {
      return FIBER_STUCK;
    }
  }
  return FIBER_SPINS;
}
