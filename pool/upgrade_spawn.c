/* upgrade_spawn: see upgrade_spawn.h. */
#include "pool/upgrade_spawn.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/env_vars.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_EXECUTED 127

/* P_PIDFD, which older headers do not have. */
#define WAIT_PIDFD ((idtype_t)3)

void upgrade_program_find(struct upgrade_program *program) {
  ssize_t size = readlink("/proc/self/exe", program->path, sizeof(program->path) - 1);
  program->path[size > 0 ? size : 0] = 0;
}

/* ---- the environment ---- */

static bool is_named(const char *entry, const char *name) {
  size_t size = strlen(name);
  return strncmp(entry, name, size) == 0 && entry[size] == '=';
}

static size_t count_entries(const char *const *environment) {
  size_t count = 0;
  while (environment[count] != NULL) {
    count++;
  }
  return count;
}

/* Texts that are not in another environment. */
struct own_texts {
  char channel[sizeof(UPGRADE_CHANNEL_NAME) + 16];
  char pid[32];
};

/* Does the new process get ${entry} of this one's environment? */
static bool keeps(const struct upgrade_spawn_setup *setup, const char *entry) {
  if (is_named(entry, "WATCHDOG_PID") || is_named(entry, UPGRADE_CHANNEL_NAME) ||
      (setup->passed && is_named(entry, "LISTEN_PID"))) {
    return false;
  }
  return setup->request == NULL || strncmp(entry, "XCHG_", 5) != 0;
}

/* Return: to be freed; NULL without memory. */
static const char **make_environment(const struct upgrade_spawn_setup *setup,
                                     struct own_texts *own) {
  size_t requested = setup->request == NULL ? 0 : count_entries(setup->request), size = 0;
  const char **list =
      calloc(count_entries(setup->environment) + requested + 3, sizeof(*list)); /* 2 own and NULL */
  if (list == NULL) {
    return NULL;
  }
  for (const char *const *entry = setup->environment; *entry != NULL; entry++) {
    if (keeps(setup, *entry)) {
      list[size++] = *entry;
    }
  }
  for (size_t i = 0; i < requested; i++) {
    list[size++] = setup->request[i];
  }
  if (setup->passed) {
    snprintf(own->pid, sizeof(own->pid), "LISTEN_PID=%d", (int)getpid());
    list[size++] = own->pid;
  }
  snprintf(own->channel, sizeof(own->channel), UPGRADE_CHANNEL_NAME "=%d", setup->channel);
  list[size++] = own->channel;
  return list;
}

int upgrade_spawned(const char *const *environment, const char ***list) {
  const char *text = env_vars_find(environment, UPGRADE_CHANNEL_NAME);
  uint64_t number;
  *list = NULL;
  if (text == NULL || parse_u64(text, &number) == -1 || number > INT_MAX) {
    errno = EINVAL;
    return -1;
  }
  *list = calloc(count_entries(environment) + 1, sizeof(**list));
  if (*list == NULL) {
    return -1;
  }
  size_t size = 0;
  for (const char *const *entry = environment; *entry != NULL; entry++) {
    if (!is_named(*entry, UPGRADE_CHANNEL_NAME)) {
      (*list)[size++] = *entry;
    }
  }
  return (int)number;
}

/* ---- the process ---- */

/*
 * The arguments of this process, or only ${path} where they are unknown.  ${*text} has their bytes,
 * to be freed, too.  Return: to be freed; NULL without memory.
 */
static const char **read_arguments(const char *path, char **text) {
  size_t size = 0, count = 0;
  *text = NULL;
  FILE *from = fopen("/proc/self/cmdline", "re");
  FILE *to = open_memstream(text, &size);
  for (int c; from != NULL && to != NULL && (c = fgetc(from)) != EOF;) {
    fputc(c, to);
  }
  if (from != NULL) {
    (void)fclose(from); /* it was only read */
  }
  if (to == NULL || fclose(to) == EOF) {
    return NULL;
  }
  for (size_t i = 0; i < size; i++) {
    count += (*text)[i] == 0;
  }
  const char **list = calloc(count + 2, sizeof(*list)); /* ${path} and NULL */
  if (list != NULL) {
    list[0] = path;
  }
  for (size_t i = 0, at = 0; list != NULL && i < count; i++, at += strlen(*text + at) + 1) {
    list[i] = *text + at;
  }
  return list;
}

/*
 * In the child, which shares the memory of this process until it executes the program: only system
 * calls.  Its table of descriptors is its own.
 */
static void execute(int binary, int channel, const char *const *arguments, const char **list) {
  if (fcntl(channel, F_SETFD, 0) == 0) {
    /* it returns on failure */
    (void)syscall(SYS_execveat, binary, "", arguments, list, AT_EMPTY_PATH);
  }
  _exit(EXIT_NOT_EXECUTED);
}

/* Return: the descriptor of the new process ${*child}, or -1 with errno and no process. */
static int start(int binary, int channel, const char *const *arguments, const char **list,
                 pid_t *child) {
  /* Fork would copy the tables of a large process.  execute makes system calls only. */
  /* NOLINTBEGIN(clang-analyzer-*) */
  pid_t pid = vfork();
  if (pid == 0) {
    execute(binary, channel, arguments, list);
  }
  /* NOLINTEND(clang-analyzer-*) */
  if (pid == -1) {
    return -1;
  }
  *child = pid;
  int fd = (int)syscall(SYS_pidfd_open, *child, 0);
  if (fd == -1) {
    int error = errno;
    (void)kill(*child, SIGKILL);    /* ESRCH: the program has waited for it */
    (void)waitpid(*child, NULL, 0); /* a failure has the same reason */
    errno = error;
  }
  return fd;
}

int upgrade_spawn(const struct upgrade_spawn_setup *setup, pid_t *child) {
  struct own_texts own;
  char *text;
  const char *path = setup->program->path;
  if (path[0] == 0) {
    return fail(ENOENT);
  }
  int binary = open(path, O_PATH | O_CLOEXEC); /* it needs no right to read, and never waits */
  if (binary == -1) {
    return -1;
  }
  const char **list = make_environment(setup, &own);
  const char **arguments = read_arguments(path, &text);
  int fd = -1, error = ENOMEM;
  if (list != NULL && arguments != NULL) {
    fd = start(binary, setup->channel, arguments, list, child);
    error = errno;
  }
  free(list);
  free(arguments);
  free(text);
  sys_close(binary);
  return fd == -1 ? fail(error) : fd;
}

void upgrade_kill(int fd) {
  (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0); /* ESRCH: it has ended */
}

void upgrade_forget(int *fd) {
  if (*fd != -1) {
    sys_close(*fd);
    *fd = -1;
  }
}

bool upgrade_reap(int fd, int *status) {
  siginfo_t info = {.si_pid = 0};
  if (waitid(WAIT_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) == -1) {
    *status = UPGRADE_UNKNOWN;
    return errno == ECHILD; /* another part of the program has waited for it */
  }
  *status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
  return info.si_pid != 0;
}
