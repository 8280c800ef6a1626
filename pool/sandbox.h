/*
 * sandbox: restricts the threads of a program with Landlock and seccomp.
 *
 *   built-in exchange   every thread restricts itself as its first act, main last: Landlock (no
 *                       file but the removal of the socket files, no TCP bind or connect), then a
 *                       seccomp filter that allows the calls of its kind (pool/sandbox_calls)
 *   with a handler      main restricts itself before on_start and before it makes a thread, and
 *                       all threads inherit that: Landlock (no execute), then a seccomp filter that
 *                       refuses a list of calls
 *
 * A call that is not allowed returns ENOSYS, as on an older kernel, so that a newer libc falls back
 * to an older call.  The exec family, ptrace and process_vm_* kill the process.  With a handler, a
 * refused call returns EPERM.  Under SANDBOX_TRAP all of these print the call and the thread, and
 * abort.
 *
 * Threads share memory, so the filters do not protect threads from each other.  Only what all kinds
 * forbid is out of reach: to open a file, to start a program, to make or connect a socket.
 *
 * Only the program (pool/daemon) uses this module, an embedded server does not.  Threads borrow a
 * sandbox; NULL = nothing is done.
 */
#ifndef POOL_SANDBOX_H
#define POOL_SANDBOX_H

#include "core/config.h"
#include "pool/sandbox_calls.h"

#include <stdbool.h>

struct sandbox_setup {
  enum sandbox_mode mode;
  bool handler;                /* a handler runs in this process */
  bool main_open;              /* XCHG_UPGRADE: main must be able to execute a program later; see
                                  main_is_open in sandbox.c */
  const struct config *config; /* its UNIX listeners, for the removal of their files */
};

/* What is in force, for the log. */
struct sandbox_facts {
  int landlock_abi;    /* 0 = none */
  int landlock_error;  /* why there is none: an errno; 0 = there is, or it was not asked for */
  const char *seccomp; /* "pool", "handler" or "off" */
  int seccomp_error;   /* why there is none */
  bool main_open;      /* main keeps everything */
  bool incomplete;     /* main could not enter a part; the log has said why */
  bool tried;          /* the sandbox was tried on this kind of machine */
};

struct sandbox {
  enum sandbox_mode mode;
  bool handler, main_open;
  bool seccomp;   /* each thread installs a filter */
  int ruleset_fd; /* owns: the Landlock ruleset, until sandbox_fini; -1 = none */
  struct sandbox_facts facts;
};

/**
 * sandbox_prepare(sandbox, setup):
 * Ask the kernel what it has, set no_new_privs, make the Landlock ruleset; under SANDBOX_TRAP also
 * handle SIGSYS. It opens the folders of the UNIX listeners; a folder that it cannot open is left
 * out. It restricts nothing yet. Under SANDBOX_OFF it does nothing, and neither does sandbox_enter.
 * Return: 0, or -1 if the mode is ON or TRAP and the kernel refuses a part. In both cases
 * sandbox->facts says which part and why, and sandbox_fini is needed.
 * Thread: main, before it makes a thread, and after it has changed its user.
 */
int sandbox_prepare(struct sandbox *sandbox, const struct sandbox_setup *setup);

/**
 * sandbox_enter(sandbox, kind):
 * Restrict the calling thread, and the threads that it makes later, as ${kind} needs. Main calls it
 * with SANDBOX_MAIN as the last step before msg=listening. Where a handler runs, main calls it with
 * SANDBOX_HANDLER before on_start and before it makes a thread; then every other call returns 0 at
 * once, because the thread has inherited the restriction. ${sandbox} may be NULL.
 * Return: 0, or -1 with errno if a part is not in force; the other part is tried all the same. A
 * kernel that passed sandbox_prepare fails only without memory, or with E2BIG where the process
 * has 16 layers of Landlock already. After -1 the thread must not serve, unless the mode is AUTO;
 * see sandbox_required.
 * Thread: any; a thread's first act.
 */
int sandbox_enter(const struct sandbox *sandbox, enum sandbox_kind kind);

/** Must a thread that sandbox_enter could not restrict end the process with exit code 71? */
static inline bool sandbox_required(const struct sandbox *sandbox) {
  return sandbox != NULL && sandbox->mode >= SANDBOX_ON;
}

/** Close the ruleset. Threads stay restricted. */
void sandbox_fini(struct sandbox *sandbox);

#endif
