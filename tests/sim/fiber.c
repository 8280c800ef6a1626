/*
 * fiber: see fiber.h.
 *
 * The sanitizers' functions are weak: without a sanitizer they are no functions, and nobody calls
 * them.
 */
#include "tests/sim/fiber.h"

#include <assert.h>
#include <stddef.h>
#include <sys/mman.h>

#define STACK_BYTES ((size_t)256 * 1024)
#define GUARD_BYTES ((size_t)4096)

/* sanitizer/common_interface_defs.h, asan_interface.h and tsan_interface.h have these. */
extern void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size)
    __attribute__((weak));
extern void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size)
    __attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *at, size_t size)
    __attribute__((weak));
extern void *__tsan_get_current_fiber(void) __attribute__((weak));
extern void *__tsan_create_fiber(unsigned flags) __attribute__((weak));
extern void __tsan_destroy_fiber(void *track) __attribute__((weak));
extern void __tsan_switch_to_fiber(void *track, unsigned flags) __attribute__((weak));

static struct {
  ucontext_t context;
  void *fake, *track;
  const void *bottom;
  size_t bytes;
  struct fiber *entered;
} host;

static void begin(void) {
  struct fiber *fiber = host.entered;
  if (__sanitizer_finish_switch_fiber != NULL) {
    __sanitizer_finish_switch_fiber(NULL, &host.bottom, &host.bytes);
  }
  fiber->run(fiber->argument);
  fiber->over = true;
  fiber_leave();
}

void fiber_init(struct fiber *fiber, void (*run)(void *argument), void *argument) {
  if (fiber->stack == NULL) {
    fiber->stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(fiber->stack != MAP_FAILED);
    int result = mprotect(fiber->stack, GUARD_BYTES, PROT_NONE);
    assert(result == 0);
  }
  if (__asan_unpoison_memory_region != NULL) {
    __asan_unpoison_memory_region(fiber->stack, STACK_BYTES);
  }
  if (__tsan_create_fiber != NULL) {
    if (fiber->track != NULL) {
      __tsan_destroy_fiber(fiber->track);
    }
    fiber->track = __tsan_create_fiber(0);
  }
  fiber->run = run;
  fiber->argument = argument;
  fiber->over = false;
  fiber->fake = NULL;
  int result = getcontext(&fiber->context);
  assert(result == 0);
  fiber->context.uc_stack.ss_sp = (char *)fiber->stack + GUARD_BYTES;
  fiber->context.uc_stack.ss_size = STACK_BYTES - GUARD_BYTES;
  fiber->context.uc_link = NULL;
  makecontext(&fiber->context, begin, 0);
}

void fiber_enter(struct fiber *fiber) {
  assert(!fiber->over);
  host.entered = fiber;
  if (__sanitizer_start_switch_fiber != NULL) {
    __sanitizer_start_switch_fiber(&host.fake, fiber->context.uc_stack.ss_sp,
                                   fiber->context.uc_stack.ss_size);
  }
  if (__tsan_switch_to_fiber != NULL) {
    host.track = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->track, 0);
  }
  swapcontext(&host.context, &fiber->context);
  if (__sanitizer_finish_switch_fiber != NULL) {
    __sanitizer_finish_switch_fiber(host.fake, NULL, NULL);
  }
  host.entered = NULL;
}

void fiber_leave(void) {
  struct fiber *fiber = host.entered;
  if (__sanitizer_start_switch_fiber != NULL) {
    __sanitizer_start_switch_fiber(fiber->over ? NULL : &fiber->fake, host.bottom, host.bytes);
  }
  if (__tsan_switch_to_fiber != NULL) {
    __tsan_switch_to_fiber(host.track, 0);
  }
  swapcontext(&fiber->context, &host.context);
  if (__sanitizer_finish_switch_fiber != NULL) {
    __sanitizer_finish_switch_fiber(fiber->fake, &host.bottom, &host.bytes);
  }
}
