/*
 * sandbox: see sandbox.h.
 *
 * The constants of Landlock are here because the kernel headers of a build may be older than the
 * kernel that it runs on.  A ruleset handles what its kernel knows: the version of the ABI says
 * what that is.  All threads use one ruleset, and each makes a domain of its own of it.
 *
 * Before Linux 5.16 a filter turned the mitigation of speculative store bypass on for its thread,
 * which costs more than the filter.  It protects a process from untrusted code that it runs, such
 * as a script, and a server runs none.  So the filter has the flag that leaves it as it is.
 */
#include "pool/sandbox.h"

#include "core/sys.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ABI 1: thirteen rights on files, from EXECUTE on.  Then one bit more in some versions. */
#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_ABI_1 ((UINT64_C(1) << 13) - 1)
#define FS_REFER (UINT64_C(1) << 13)     /* ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define NET_BIND_CONNECT UINT64_C(3)     /* ABI 4: TCP */
#define SCOPE_ABSTRACT_SIGNAL \
  UINT64_C(3) /* ABI 6: abstract UNIX sockets and signals to other processes */

#define RULESET_VERSION 1 /* a flag: return the version */
#define RULE_PATH_BENEATH 1

struct ruleset {
  uint64_t fs, net, scoped;
};

/* The kernel's struct is packed; it reads these 12 bytes. */
struct path_rule {
  uint64_t allowed;
  int32_t folder_fd;
};

/* ---- Landlock ---- */

/*
 * What a ruleset forbids.  A handler may open files and connect sockets.  A kernel refuses every
 * move of a file to another folder unless FS_REFER is handled and a rule allows it.
 */
static struct ruleset forbidden(const struct sandbox *sandbox, int abi) {
  if (sandbox->handler) {
    return (struct ruleset){.fs = FS_EXECUTE | (abi >= 2 ? FS_REFER : 0)};
  }
  return (struct ruleset){.fs = FS_ABI_1 | (abi >= 2 ? FS_REFER : 0) |
                                (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0),
                          .net = abi >= 4 ? NET_BIND_CONNECT : 0,
                          .scoped = abi >= 6 ? SCOPE_ABSTRACT_SIGNAL : 0};
}

/* Allow ${right} below ${folder}, if it can be opened. Return: 0, or -1 with errno. */
static int allow_below(const struct sandbox *sandbox, const char *folder, uint64_t right) {
  struct path_rule rule = {right, open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (rule.folder_fd == -1) {
    return 0;
  }
  long result = syscall(SYS_landlock_add_rule, sandbox->ruleset_fd, RULE_PATH_BENEATH, &rule, 0);
  int error = errno;
  sys_close(rule.folder_fd);
  return result == -1 ? fail(error) : 0;
}

/* The socket files of ${listen} may be removed. Return: 0, or -1 with errno. */
static int allow_removal(const struct sandbox *sandbox, const struct addr_listen *listen,
                         uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    char folder[sizeof(listen->path)];
    if (listen[i].addr.family != ADDR_UNIX || listen[i].path[0] != '/') {
      continue;
    }
    size_t size = (size_t)(strrchr(listen[i].path, '/') + 1 - listen[i].path);
    memcpy(folder, listen[i].path, size); /* with its last slash */
    folder[size] = 0;
    if (allow_below(sandbox, folder, FS_REMOVE_FILE) == -1) {
      return -1;
    }
  }
  return 0;
}

static int add_rules(const struct sandbox *sandbox, const struct config *config, int abi) {
  if (sandbox->handler) {
    return abi >= 2 ? allow_below(sandbox, "/", FS_REFER) : 0;
  }
  return allow_removal(sandbox, config->listen, config->listen_count) == -1
             ? -1
             : allow_removal(sandbox, config->admin, config->admin_count);
}

/* Return: 0, or -1 with errno; ENOSYS and EOPNOTSUPP: the kernel has no Landlock. */
static int prepare_landlock(struct sandbox *sandbox, const struct config *config) {
  long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, RULESET_VERSION);
  if (abi < 1) {
    return abi == 0 ? fail(ENOSYS) : -1;
  }
  const struct ruleset ruleset = forbidden(sandbox, (int)abi);
  sandbox->ruleset_fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
  if (sandbox->ruleset_fd == -1 || add_rules(sandbox, config, (int)abi) == -1) {
    int error = errno;
    sandbox_fini(sandbox);
    return fail(error);
  }
  sandbox->facts.landlock_abi = (int)abi;
  return 0;
}

/* ---- seccomp ---- */

/* Return: 0, or -1 with errno. */
static int prepare_seccomp(struct sandbox *sandbox) {
  const uint32_t action = SECCOMP_RET_KILL_PROCESS;
  if (MACHINE_AUDIT_ARCH == 0) {
    return fail(ENOSYS);
  }
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == -1) {
    return -1;
  }
  sandbox->seccomp = true;
  sandbox->facts.seccomp = sandbox->handler ? "handler" : "pool";
  return 0;
}

static char *append(char *to, const char *end, const char *text) {
  while (*text != 0 && to < end) {
    *to++ = *text++;
  }
  return to;
}

/* Say which call the kind of thread must not make. Only calls that a signal handler may make. */
static void on_sigsys(int number, siginfo_t *info, void *context) {
  char digits[12], text[128];
  const char *end = text + sizeof(text);
  char *digit = digits + sizeof(digits) - 1, *to = text;
  unsigned call = (unsigned)info->si_syscall;
  (void)number;  /* it handles this signal only */
  (void)context; /* the thread does not go on */
  *digit = 0;
  do {
    *--digit = (char)('0' + call % 10);
    call /= 10;
  } while (call > 0);
  to = append(to, end, "sandbox: call ");
  to = append(to, end, digit);
  to = append(to, end, " (");
  to = append(to, end, sandbox_call_name(info->si_syscall));
  to = append(to, end, ") is not allowed in thread ");
  to = append(to, end, sandbox_kind_name((unsigned)info->si_errno));
  to = append(to, end, "\n");
  (void)sys_write(STDERR_FILENO, text, (size_t)(to - text)); /* the process aborts in any case */
  abort();
}

static int handle_sigsys(void) {
  struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
  return sigaction(SIGSYS, &action, NULL);
}

static int install(enum sandbox_kind kind, bool trap) {
  struct sock_filter filter[SANDBOX_PROGRAM_MAX];
  const struct sock_fprog program = {(unsigned short)sandbox_program(kind, trap, filter), filter};
  long result =
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
  if (result == -1 && errno == EINVAL) { /* before Linux 4.17 */
    result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
  }
  return result == -1 ? -1 : 0;
}

/* ---- what main keeps ---- */

/*
 * What main may keep: this function alone decides.  Neither Landlock nor a filter can be removed,
 * and a program that main executes inherits both.  So a main that must execute one later keeps
 * everything, and only the other threads are restricted.
 */
static bool main_is_open(const struct sandbox *sandbox) { return sandbox->main_open; }

/* Which column the thread gets; SANDBOX_KINDS = none, or it has inherited its own. */
static enum sandbox_kind column(const struct sandbox *sandbox, enum sandbox_kind kind) {
  if (sandbox->mode == SANDBOX_OFF || (kind == SANDBOX_MAIN && main_is_open(sandbox))) {
    return SANDBOX_KINDS;
  }
  if (!sandbox->handler) {
    return kind;
  }
  return kind == SANDBOX_HANDLER || main_is_open(sandbox) ? SANDBOX_HANDLER : SANDBOX_KINDS;
}

/* ---- life ---- */

int sandbox_prepare(struct sandbox *sandbox, const struct sandbox_setup *setup) {
  *sandbox = (struct sandbox){.mode = setup->mode,
                              .handler = setup->handler,
                              .main_open = setup->main_open,
                              .ruleset_fd = -1,
                              .facts = {.seccomp = "off",
                                        .main_open = setup->main_open,
                                        .tried = MACHINE_AUDIT_ARCH == AUDIT_ARCH_X86_64}};
  struct sandbox_facts *facts = &sandbox->facts;
  if (setup->mode == SANDBOX_OFF) {
    return 0;
  }
  bool privileged = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1;
  if (privileged || prepare_landlock(sandbox, setup->config) == -1) {
    facts->landlock_error = errno;
  }
  if (privileged || prepare_seccomp(sandbox) == -1 ||
      (setup->mode == SANDBOX_TRAP && handle_sigsys() == -1)) {
    facts->seccomp_error = errno;
  }
  bool complete = facts->landlock_error == 0 && facts->seccomp_error == 0;
  return complete || setup->mode == SANDBOX_AUTO ? 0 : -1;
}

int sandbox_enter(const struct sandbox *sandbox, enum sandbox_kind kind) {
  enum sandbox_kind own = sandbox == NULL ? SANDBOX_KINDS : column(sandbox, kind);
  if (own == SANDBOX_KINDS) {
    return 0;
  }
  bool ruled =
      sandbox->ruleset_fd == -1 || syscall(SYS_landlock_restrict_self, sandbox->ruleset_fd, 0) == 0;
  int error = errno;
  if (sandbox->seccomp && install(own, sandbox->mode == SANDBOX_TRAP) == -1) {
    return -1;
  }
  return ruled ? 0 : fail(error);
}

void sandbox_fini(struct sandbox *sandbox) {
  if (sandbox->ruleset_fd != -1) {
    sys_close(sandbox->ruleset_fd);
    sandbox->ruleset_fd = -1;
  }
}
