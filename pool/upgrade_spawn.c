/* upgrade_spawn: see upgrade_spawn.h. */
#include "pool/upgrade_spawn.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/env_vars.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_EXECUTED 127

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
 * In the child, which shares the memory of this process until it executes the program: only system
 * calls.  Its table of descriptors is its own.
 */
static void execute(int binary, int channel, const char *path, const char **list) {
  const char *const argv[] = {path, NULL};
  if (fcntl(channel, F_SETFD, 0) == 0) {
    (void)syscall(SYS_execveat, binary, "", argv, list, AT_EMPTY_PATH); /* it returns on failure */
  }
  _exit(EXIT_NOT_EXECUTED);
}

/* Return: the id of the new process, or -1 with errno. */
static pid_t start(int binary, int channel, const char *path, const char **list) {
  pid_t child = vfork(); /* fork would copy the tables of a large process */
  if (child == 0) {
    execute(binary, channel, path, list);
  }
  return child;
}

int upgrade_spawn(const struct upgrade_spawn_setup *setup, pid_t *child) {
  struct own_texts own;
  const char *path = setup->program->path;
  if (path[0] == 0) {
    return fail(ENOENT);
  }
  int binary = open(path, O_RDONLY | O_CLOEXEC);
  if (binary == -1) {
    return -1;
  }
  const char **list = make_environment(setup, &own);
  *child = list == NULL ? -1 : start(binary, setup->channel, path, list);
  int error = list == NULL ? ENOMEM : errno;
  free(list);
  sys_close(binary);
  return *child == -1 ? fail(error) : 0;
}

bool upgrade_reap(pid_t child, int *status) {
  pid_t ended = waitpid(child, status, WNOHANG);
  if (ended == -1 && errno == ECHILD) {
    *status = 0; /* another has reaped it */
  }
  return ended == child || (ended == -1 && errno == ECHILD);
}
