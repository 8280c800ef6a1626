/* forked: see forked.h. libc calls count_fork in each child, on its only thread. */
#include "pool/forked.h"

#include "core/atom.h"

#include <errno.h>
#include <pthread.h>

static atom_u64 forks;
static int watch_error; /* the errno with which forks cannot be counted; 0 = they are counted */
static _Thread_local struct {
  void (*call)(void *argument);
  void *argument;
} own;

static void count_fork(void) {
  atom_add_relaxed_u64(&forks, 1);
  if (own.call != NULL) {
    own.call(own.argument);
  }
}

static void watch(void) { watch_error = pthread_atfork(NULL, NULL, count_fork); }

int forked_watch(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  int result = pthread_once(&once, watch);
  if (result == 0) {
    result = watch_error;
  }
  return result == 0 ? 0 : fail(result);
}

uint64_t forked_number(void) { return atom_load_relaxed_u64(&forks); }

void forked_call(void (*call)(void *argument), void *argument) {
  own.call = call;
  own.argument = argument;
}
