/*
 * exit: in the coverage build, a process that ends by _exit writes its counts first.
 *
 * The compiler's runtime writes them at exit, and around fork and execve, but not at _exit.  The
 * children of XCHG_MODEL=fork end by _exit, which --wrap leads here.
 */
#include <unistd.h>

void __gcov_dump(void);
_Noreturn void __real__exit(int code);
_Noreturn void __wrap__exit(int code);

void __wrap__exit(int code) {
  __gcov_dump();
  __real__exit(code);
}
