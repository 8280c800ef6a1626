/*
 * sandbox_calls: see sandbox_calls.h.
 *
 * A filter compares the number with one call after the other, those of the data path first.  A
 * comparison skips at most the few instructions of its own call, so no jump can be too long.
 * Kernels since 5.11 run a filter once for each number when it is installed, and never again for
 * the calls that it allows without regard to their arguments.  For older ones the order matters.
 *
 * A build has the numbers of its kernel headers.  Calls that these may not know have their number
 * here.  The text of a macro without a definition is its name, which is no number.
 */
#include "pool/sandbox_calls.h"

#include "core/parse.h"

#include <assert.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define TEXT(macro) #macro
#define EXPANDED(macro) TEXT(macro)
#define CALL(name) \
  { #name, EXPANDED(__NR_##name) }

#define MAY(kinds, why, ...)                         \
  {                                                  \
    kinds, SANDBOX_ALLOW, NULL, why, { __VA_ARGS__ } \
  }
#define MAY_IF(kinds, argument, why, ...)                 \
  {                                                       \
    kinds, SANDBOX_ALLOW, &argument, why, { __VA_ARGS__ } \
  }
#define REFUSED(why, ...)                               \
  {                                                     \
    HANDLER, SANDBOX_REFUSE, NULL, why, { __VA_ARGS__ } \
  }
#define KILLED(why, ...)                                    \
  {                                                         \
    ALL | HANDLER, SANDBOX_KILL, NULL, why, { __VA_ARGS__ } \
  }

/* The number of a call that only x86-64 has. */
#define X86(number) (MACHINE_AUDIT_ARCH == AUDIT_ARCH_X86_64 ? (number) : "-")

#define BIT(kind) (1U << SANDBOX_##kind)
#define ALL (BIT(MAIN) | BIT(ACCEPTOR) | BIT(WORKER) | BIT(ADMIN) | BIT(LOG))
#define LOOPS (BIT(ACCEPTOR) | BIT(WORKER) | BIT(ADMIN))
#define CONNS (BIT(WORKER) | BIT(ADMIN))
#define FILES (BIT(MAIN) | BIT(ACCEPTOR))
#define HANDLER BIT(HANDLER)

/* The numbers of the x32 ABI have this bit, and mean calls with other arguments. */
#define X32_BIT UINT32_C(0x40000000)

/* PR_SET_VMA of Linux 5.17, which older headers do not have. */
#define SET_VMA UINT32_C(0x53564d41)

#define NAMESPACES                                                                              \
  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
   CLONE_NEWNET)

/*
 * The size of the address is 0.  With MSG_FASTOPEN and an address, a listener that is shut down
 * connects, which neither the filter for connect nor Landlock sees.
 */
static const struct sandbox_argument connected = {5, 1, {0}, "no address"};
static const struct sandbox_argument itself = {0, 1, {0}, "pid 0"};
static const struct sandbox_argument unsent = {1, 1, {TIOCOUTQ}, "SIOCOUTQ"};
static const struct sandbox_argument names = {
    0, 2, {PR_SET_NAME, SET_VMA}, "PR_SET_NAME, PR_SET_VMA"};
static const struct sandbox_argument namespaces = {0, 1, {NAMESPACES}, "CLONE_NEW*"};

static const struct sandbox_row rows[] = {
    /* The data path. */
    MAY(CONNS, "receive from a client", CALL(recvfrom)),
    MAY_IF(ALL, connected, "send to a client, to a log that is a socket, to the service manager",
           CALL(sendto)),
    MAY(LOOPS, "wait for events", CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2)),
    MAY(LOOPS, "choose events", CALL(epoll_ctl)),
    MAY(BIT(ACCEPTOR), "accept a connection", CALL(accept4), CALL(accept)),
    MAY(ALL, "close a connection", CALL(close)),
    MAY(ALL, "wake another thread, write a line of the log", CALL(write), CALL(writev)),
    MAY(ALL, "read an eventfd or a signal", CALL(read)),
    MAY(ALL, "locks", CALL(futex), {"futex_waitv", "449"}, {"futex_wake", "454"},
        {"futex_wait", "455"}, {"futex_requeue", "456"}),
    MAY_IF(CONNS, unsent, "see how much a client has acknowledged", CALL(ioctl)),
    MAY(LOOPS, "end output to a client, end accepting", CALL(shutdown)),
    MAY(LOOPS, "reset a connection, refuse handshakes at a stop", CALL(setsockopt)),
    MAY(ALL, "CPU time of a thread; the time, where the vDSO has no clock", CALL(clock_gettime)),
    /* Memory. */
    MAY(ALL, "give memory back", CALL(madvise)),
    MAY(ALL, "take memory", CALL(mmap), CALL(brk)),
    MAY(ALL, "give memory back", CALL(munmap)),
    MAY(ALL, "grow a table", CALL(mremap)),
    MAY(ALL, "malloc of glibc and of musl", CALL(mprotect)),
    MAY(ALL, "malloc of glibc, at a thread's first allocation", CALL(sched_getaffinity)),
    MAY(ALL, "malloc of some libcs", CALL(getrandom)),
    /* Threads and signals. */
    MAY(ALL, "block signals while a line of the log is written", CALL(rt_sigprocmask)),
    MAY(ALL, "discard a SIGPIPE that a line of the log has raised", CALL(rt_sigtimedwait)),
    MAY(ALL, "return from a signal handler", CALL(rt_sigreturn)),
    MAY(ALL, "the kernel makes it after SIGSTOP or a debugger", CALL(restart_syscall)),
    MAY(ALL, "locks of jemalloc", CALL(sched_yield)),
    MAY(ALL, "id of a thread, whose CPU time others read", CALL(gettid)),
    MAY(ALL, "abort after a failed assertion", CALL(getpid)),
    MAY(ALL, "abort after a failed assertion", CALL(tgkill), CALL(tkill)),
    MAY_IF(ALL, names, "name a thread, or memory of malloc", CALL(prctl)),
    MAY(ALL, "end a thread", CALL(exit)),
    MAY(ALL, "end the process", CALL(exit_group)),
    MAY(ALL, "probes of bpftrace and perf (x86-64)", {"uretprobe", X86("335")},
        {"uprobe", X86("336")}),
    /* One kind. */
    MAY(FILES, "check that a socket file is its own", CALL(newfstatat), CALL(statx), CALL(fstat),
        CALL(stat), CALL(lstat)),
    MAY(FILES, "remove a socket file", CALL(unlinkat), CALL(unlink)),
    MAY_IF(BIT(ACCEPTOR), itself, "choose its scheduling class", CALL(sched_setscheduler)),
    MAY(BIT(MAIN), "wait for signals and threads", CALL(poll), CALL(ppoll)),
    MAY(BIT(ADMIN), "uid and pid of who sent a command", CALL(getsockopt)),
    MAY(BIT(ADMIN), "CPU time of the process", CALL(getrusage)),
    MAY(BIT(ADMIN), "read `/proc/self/stat`, which is open", CALL(pread64)),
    /* No thread makes these by mistake. */
    KILLED("start a program", CALL(execve), CALL(execveat)),
    KILLED("read or change another process", CALL(ptrace), CALL(process_vm_readv),
           CALL(process_vm_writev)),
    /* With a handler. */
    {HANDLER, SANDBOX_REFUSE, &namespaces, "make a namespace", {CALL(clone)}},
    {HANDLER,
     SANDBOX_UNKNOWN,
     NULL,
     "a filter cannot see its flags; libc uses `clone`",
     {CALL(clone3)}},
    REFUSED("change namespaces", CALL(unshare), CALL(setns)),
    REFUSED("change mounts", CALL(mount), CALL(umount2), CALL(move_mount), CALL(open_tree),
            CALL(fsopen), CALL(fsconfig), CALL(fsmount), CALL(fspick), {"mount_setattr", "442"},
            {"open_tree_attr", "467"}),
    REFUSED("change the root folder", CALL(chroot), CALL(pivot_root)),
    REFUSED("io_uring: it bypasses the filter", CALL(io_uring_setup), CALL(io_uring_enter),
            CALL(io_uring_register)),
    REFUSED("run programs in the kernel, watch it", CALL(bpf), CALL(perf_event_open),
            CALL(userfaultfd)),
    REFUSED("use keys of the kernel", CALL(keyctl), CALL(add_key), CALL(request_key)),
    REFUSED("it bypasses the permissions of folders", CALL(open_by_handle_at)),
    REFUSED("become another user", CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid),
            CALL(setresuid), CALL(setresgid), CALL(setfsuid), CALL(setfsgid), CALL(setgroups)),
    REFUSED("change or restart the kernel", CALL(init_module), CALL(finit_module),
            CALL(delete_module), CALL(kexec_load), CALL(kexec_file_load), CALL(reboot)),
    REFUSED("change swap, quotas, accounting, ports", CALL(swapon), CALL(swapoff), CALL(quotactl),
            {"quotactl_fd", "443"}, CALL(acct), CALL(iopl), CALL(ioperm)),
    REFUSED("change the memory layout", CALL(personality)),
};

const struct sandbox_row *sandbox_rows(unsigned *count) {
  *count = count_of(rows);
  return rows;
}

long sandbox_number(const struct sandbox_spelling *spelling) {
  uint64_t number;
  return parse_u64(spelling->number, &number) == -1 ? -1 : (long)number;
}

const char *sandbox_call_name(long number) {
  for (size_t i = 0; i < count_of(rows); i++) {
    for (const struct sandbox_spelling *s = rows[i].spellings; s->name != NULL; s++) {
      if (number != -1 && sandbox_number(s) == number) {
        return s->name;
      }
    }
  }
  return "?";
}

const char *sandbox_kind_name(unsigned kind) {
  static const char *const kinds[] = {"main", "acceptor", "worker", "admin", "log", "handler"};
  static_assert(count_of(kinds) == SANDBOX_KINDS, "each kind has a name");
  return kind < SANDBOX_KINDS ? kinds[kind] : "?";
}

/* ---- the filter ---- */

struct writer {
  struct sock_filter *program;
  unsigned count;
  uint32_t unlisted; /* what the filter returns for a call that it has no row for */
  uint32_t results[SANDBOX_KILL + 1]; /* and for each action */
};

static void put(struct writer *w, uint32_t code, uint32_t value, uint8_t yes, uint8_t no) {
  assert(w->count < SANDBOX_PROGRAM_MAX);
  w->program[w->count++] = (struct sock_filter){(uint16_t)code, yes, no, value};
}

static void load(struct writer *w, size_t offset) {
  put(w, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void end(struct writer *w, uint32_t result) { put(w, BPF_RET | BPF_K, result, 0, 0); }

/* End with ${result} if the comparison ${code} with ${value} is true. */
static void end_if(struct writer *w, uint32_t code, uint32_t value, uint32_t result) {
  put(w, BPF_JMP | BPF_K | code, value, 0, 1);
  end(w, result);
}

/* What follows in the filter looks at the number, so one that has loaded an argument ends here. */
static void put_call(struct writer *w, const struct sandbox_row *row, uint32_t number) {
  const struct sandbox_argument *argument = row->argument;
  uint32_t result = w->results[row->action];
  if (argument == NULL) {
    end_if(w, BPF_JEQ, number, result);
    return;
  }
  bool allows = row->action == SANDBOX_ALLOW;
  put(w, BPF_JMP | BPF_K | BPF_JEQ, number, 0, (uint8_t)(2 * argument->count + 2));
  load(w, offsetof(struct seccomp_data, args) + argument->index * sizeof(uint64_t));
  for (unsigned i = 0; i < argument->count; i++) {
    end_if(w, allows ? BPF_JEQ : BPF_JSET, argument->values[i], result);
  }
  end(w, allows ? w->unlisted : SECCOMP_RET_ALLOW);
}

unsigned sandbox_program(enum sandbox_kind kind, bool trap, struct sock_filter *program) {
  const uint32_t trapped = SECCOMP_RET_TRAP | kind;
  const struct writer start = {
      .program = program,
      .unlisted = trap ? trapped : SECCOMP_RET_ERRNO | ENOSYS,
      .results = {[SANDBOX_ALLOW] = SECCOMP_RET_ALLOW,
                  [SANDBOX_REFUSE] = trap ? trapped : SECCOMP_RET_ERRNO | EPERM,
                  [SANDBOX_UNKNOWN] = SECCOMP_RET_ERRNO | ENOSYS,
                  [SANDBOX_KILL] = trap ? trapped : SECCOMP_RET_KILL_PROCESS}};
  struct writer w = start;
  load(&w, offsetof(struct seccomp_data, arch));
  put(&w, BPF_JMP | BPF_K | BPF_JEQ, MACHINE_AUDIT_ARCH, 1, 0);
  end(&w, SECCOMP_RET_KILL_PROCESS); /* the numbers of another machine mean other calls */
  load(&w, offsetof(struct seccomp_data, nr));
  end_if(&w, BPF_JEQ, UINT32_MAX, SECCOMP_RET_ALLOW); /* a tracer has cancelled the call */
  end_if(&w, BPF_JGE, X32_BIT, SECCOMP_RET_KILL_PROCESS);
  for (size_t i = 0; i < count_of(rows); i++) {
    for (const struct sandbox_spelling *s = rows[i].spellings; s->name != NULL; s++) {
      long number = sandbox_number(s);
      if ((rows[i].kinds & 1U << kind) != 0 && number != -1) {
        put_call(&w, &rows[i], (uint32_t)number);
      }
    }
  }
  end(&w, kind == SANDBOX_HANDLER ? SECCOMP_RET_ALLOW : w.unlisted);
  return w.count;
}
