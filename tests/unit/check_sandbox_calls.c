/*
 * check_sandbox_calls: the filters do what the table says, for every number, argument and machine.
 *
 * An interpreter of classic BPF takes the place of the kernel, so nothing is restricted here.
 */
#include "pool/sandbox_calls.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define NUMBERS 600 /* no kernel has as many calls */

static struct sock_filter program[SANDBOX_PROGRAM_MAX];

/* ---- the interpreter ---- */

/* What seccomp returns for ${data}. */
static uint32_t run(const struct sock_filter *code, unsigned count,
                    const struct seccomp_data *data) {
  uint32_t loaded = 0;
  for (unsigned at = 0; at < count; at++) {
    const struct sock_filter *i = &code[at];
    switch (i->code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i->k + sizeof(loaded) > sizeof(*data) || i->k % sizeof(loaded) != 0) {
          ck_abort_msg("a load from %u", i->k);
        }
        memcpy(&loaded, (const char *)data + i->k, sizeof(loaded));
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += loaded == i->k ? i->jt : i->jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += loaded >= i->k ? i->jt : i->jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        at += (loaded & i->k) != 0 ? i->jt : i->jf;
        break;
      case BPF_RET | BPF_K:
        return i->k;
      default:
        ck_abort_msg("instruction %u has the code %#x", at, i->code);
    }
  }
  ck_abort_msg("the filter has no end");
  return 0;
}

/* A comparison that costs nothing while it holds. */
static void must_be(uint32_t got, uint32_t want) {
  if (got != want) {
    ck_abort_msg("%#x, not %#x", got, want);
  }
}

/* ---- what the table says ---- */

/* The row of ${number} in the column of ${kind}, or NULL. */
static const struct sandbox_row *row_of(enum sandbox_kind kind, long number) {
  unsigned count;
  const struct sandbox_row *rows = sandbox_rows(&count), *found = NULL;
  for (unsigned i = 0; i < count; i++) {
    for (const struct sandbox_spelling *s = rows[i].spellings; s->name != NULL; s++) {
      if (sandbox_number(s) == number && (rows[i].kinds >> kind & 1) != 0) {
        if (found != NULL) {
          ck_abort_msg("%s is in two rows of %s", s->name, sandbox_kind_name(kind));
        }
        found = &rows[i];
      }
    }
  }
  return found;
}

/* Is ${value} one of the values, or does it have one of the bits? */
static bool matches(const struct sandbox_row *row, uint32_t value) {
  for (unsigned i = 0; i < row->argument->count; i++) {
    uint32_t wanted = row->argument->values[i];
    if (row->action == SANDBOX_ALLOW ? value == wanted : (value & wanted) != 0) {
      return true;
    }
  }
  return false;
}

static uint32_t expected(enum sandbox_kind kind, bool trap, long number, uint64_t argument) {
  const struct sandbox_row *row = row_of(kind, number);
  uint32_t trapped = SECCOMP_RET_TRAP | kind;
  uint32_t unlisted = trap ? trapped : SECCOMP_RET_ERRNO | ENOSYS;
  if (row == NULL) {
    return kind == SANDBOX_HANDLER ? SECCOMP_RET_ALLOW : unlisted;
  }
  bool named = row->argument == NULL || matches(row, (uint32_t)argument);
  switch (row->action) {
    case SANDBOX_ALLOW:
      return named ? SECCOMP_RET_ALLOW : unlisted;
    case SANDBOX_REFUSE:
      return !named ? SECCOMP_RET_ALLOW : trap ? trapped : SECCOMP_RET_ERRNO | EPERM;
    case SANDBOX_UNKNOWN:
      return SECCOMP_RET_ERRNO | ENOSYS;
    case SANDBOX_KILL:
      return trap ? trapped : SECCOMP_RET_KILL_PROCESS;
  }
  abort();
}

/* Arguments that decide, those next to them, and any others. */
static const uint64_t arguments[] = {0,
                                     1,
                                     TIOCOUTQ,
                                     TIOCOUTQ - 1,
                                     TIOCSTI,
                                     TCGETS,
                                     TCSETS,
                                     TIOCGWINSZ,
                                     0x802c542a,
                                     PR_SET_NAME,
                                     PR_GET_NAME,
                                     UINT32_C(0x53564d41), /* PR_SET_VMA of Linux 5.17 */
                                     PR_SET_DUMPABLE,
                                     PR_SET_SECCOMP,
                                     CLONE_VM | CLONE_THREAD | CLONE_SIGHAND,
                                     CLONE_NEWUSER,
                                     CLONE_NEWNET | CLONE_VM,
                                     CLONE_NEWPID | SIGCHLD,
                                     UINT64_C(0x100000000) | TIOCOUTQ,
                                     UINT64_C(0x100000000) | CLONE_NEWNS,
                                     UINT64_C(0x100000000),
                                     UINT32_MAX,
                                     UINT64_MAX};

/* _i: a kind, and whether calls are trapped. */
START_TEST(filter_does_what_the_table_says) {
  enum sandbox_kind kind = _i / 2;
  bool trap = _i % 2 == 1;
  unsigned count = sandbox_program(kind, trap, program), allowed = 0;
  for (int number = 0; number < NUMBERS; number++) {
    for (size_t a = 0; a < count_of(arguments); a++) {
      for (unsigned index = 0; index < 6; index++) {
        struct seccomp_data data = {.nr = number, .arch = MACHINE_AUDIT_ARCH};
        const struct sandbox_row *row = row_of(kind, number);
        data.args[index] = arguments[a];
        bool decides = row != NULL && row->argument != NULL && row->argument->index == index;
        uint32_t want = expected(kind, trap, number, decides ? arguments[a] : 0);
        uint32_t got = run(program, count, &data);
        if (got != want) {
          ck_abort_msg("%s: call %d with %#lx as argument %u: %#x, not %#x",
                       sandbox_kind_name(kind), number, (unsigned long)arguments[a], index, got,
                       want);
        }
        allowed += got == SECCOMP_RET_ALLOW;
      }
    }
  }
  ck_assert_uint_gt(allowed, 0);
}
END_TEST

/* Numbers of another machine mean other calls, and those of x32 take other arguments. */
START_TEST(other_machines_are_killed) {
  const uint32_t others[] = {
      AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_X86_64 ^ 1, 0, MACHINE_AUDIT_ARCH ^ 0x80000000,
      UINT32_MAX};
  for (unsigned kind = 0; kind < SANDBOX_KINDS; kind++) {
    unsigned count = sandbox_program(kind, false, program);
    for (int number = -1; number < NUMBERS; number++) {
      for (size_t i = 0; i < count_of(others); i++) {
        struct seccomp_data data = {.nr = number, .arch = others[i]};
        must_be(run(program, count, &data), SECCOMP_RET_KILL_PROCESS);
      }
      struct seccomp_data x32 = {.nr = number | 0x40000000, .arch = MACHINE_AUDIT_ARCH};
      must_be(run(program, count, &x32),
              number == -1 ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
    }
    struct seccomp_data negative = {.nr = -2, .arch = MACHINE_AUDIT_ARCH};
    must_be(run(program, count, &negative), SECCOMP_RET_KILL_PROCESS);
  }
}
END_TEST

/* A tracer that has cancelled a call leaves -1 in its place. */
START_TEST(cancelled_call_is_allowed) {
  for (unsigned i = 0; i < 2 * SANDBOX_KINDS; i++) {
    unsigned count = sandbox_program(i / 2, i % 2 == 1, program);
    struct seccomp_data data = {.nr = -1, .arch = MACHINE_AUDIT_ARCH};
    ck_assert_uint_eq(run(program, count, &data), SECCOMP_RET_ALLOW);
  }
}
END_TEST

/* The kernel refuses a filter with a jump over its end or without a return there. */
START_TEST(filter_is_well_formed) {
  for (unsigned i = 0; i < 2 * SANDBOX_KINDS; i++) {
    unsigned count = sandbox_program(i / 2, i % 2 == 1, program);
    ck_assert_uint_le(count, SANDBOX_PROGRAM_MAX);
    ck_assert_uint_eq(program[count - 1].code, BPF_RET | BPF_K);
    for (unsigned at = 0; at < count; at++) {
      if (BPF_CLASS(program[at].code) == BPF_JMP) {
        ck_assert_uint_lt(at + 1 + program[at].jt, count);
        ck_assert_uint_lt(at + 1 + program[at].jf, count);
      }
    }
  }
}
END_TEST

/* ---- the table ---- */

/* What all columns forbid together is the wall: these calls are in none of them. */
START_TEST(no_column_opens_or_connects) {
  const long forbidden[] = {SYS_openat,   SYS_socket,      SYS_connect,
                            SYS_bind,     SYS_listen,      SYS_clone,
                            SYS_clone3,   SYS_kill,        SYS_renameat2,
                            SYS_mkdirat,  SYS_fchmodat,    SYS_setuid,
                            SYS_mount,    SYS_bpf,         SYS_io_uring_setup,
                            SYS_openat2,  SYS_fcntl,       SYS_dup,
                            SYS_sendmmsg, SYS_pidfd_getfd, SYS_socketpair,
                            SYS_seccomp,  SYS_tee,         SYS_landlock_restrict_self};
  for (unsigned kind = 0; kind < SANDBOX_HANDLER; kind++) {
    for (size_t i = 0; i < count_of(forbidden); i++) {
      ck_assert_uint_eq(expected(kind, false, forbidden[i], 0), SECCOMP_RET_ERRNO | ENOSYS);
    }
    ck_assert_uint_eq(expected(kind, false, SYS_execve, 0), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(expected(kind, false, SYS_execveat, 0), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(expected(kind, false, SYS_ptrace, 0), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(expected(kind, false, SYS_process_vm_readv, 0), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(expected(kind, false, SYS_process_vm_writev, 0), SECCOMP_RET_KILL_PROCESS);
  }
}
END_TEST

/* bpftrace's probes of a function make these calls in the server, on x86-64. */
START_TEST(probes_are_allowed_everywhere) {
  bool x86 = MACHINE_AUDIT_ARCH == AUDIT_ARCH_X86_64;
  for (unsigned kind = 0; kind < SANDBOX_HANDLER; kind++) {
    uint32_t want = x86 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | ENOSYS;
    ck_assert_uint_eq(expected(kind, false, 335, 0), want);
    ck_assert_uint_eq(expected(kind, false, 336, 0), want);
  }
}
END_TEST

START_TEST(rows_are_complete) {
  unsigned count;
  const struct sandbox_row *rows = sandbox_rows(&count);
  for (unsigned i = 0; i < count; i++) {
    ck_assert_uint_ne(rows[i].kinds, 0);
    ck_assert_ptr_nonnull(rows[i].why);
    ck_assert_ptr_nonnull(rows[i].spellings[0].name);
    ck_assert_ptr_null(rows[i].spellings[SANDBOX_SPELLINGS - 1].name);
    for (const struct sandbox_spelling *s = rows[i].spellings; s->name != NULL; s++) {
      long number = sandbox_number(s);
      ck_assert_int_lt(number, NUMBERS);
      bool absent = strncmp(s->number, "__NR_", 5) == 0 || strcmp(s->number, "-") == 0;
      ck_assert_msg(number >= 0 || absent, "%s is %s", s->name, s->number);
      if (number >= 0) {
        ck_assert_str_eq(sandbox_call_name(number), s->name);
      }
    }
  }
  ck_assert_str_eq(sandbox_call_name(SYS_execve), "execve");
  ck_assert_str_eq(sandbox_call_name(NUMBERS), "?");
  ck_assert_str_eq(sandbox_call_name(-1), "?");
  ck_assert_str_eq(sandbox_kind_name(SANDBOX_WORKER), "worker");
  ck_assert_str_eq(sandbox_kind_name(SANDBOX_KINDS), "?");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {filter_does_what_the_table_says, 2 * SANDBOX_KINDS},
      {other_machines_are_killed, 1},
      {cancelled_call_is_allowed, 1},
      {filter_is_well_formed, 1},
      {no_column_opens_or_connects, 1},
      {probes_are_allowed_everywhere, 1},
      {rows_are_complete, 1},
  };
  return run_suite("sandbox_calls", tests, count_of(tests));
}
