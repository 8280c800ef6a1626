/*
 * exit: in the build that counts lines, a process that ends by _exit writes its counts first.
 *
 * The compiler's runtime does so at exit and around fork and execve, not at _exit, by which the
 * children of XCHG_MODEL=fork end.  The linker leads _exit to here.
 */
#include <unistd.h>

void __gcov_dump(void);
_Noreturn void __real__exit(int code);
_Noreturn void __wrap__exit(int code);

void __wrap__exit(int code) {
  __gcov_dump();
  __real__exit(code);
}
