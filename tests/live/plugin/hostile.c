/*
 * hostile: a plug-in for tests/live/test_hostile.py that tries what the sandbox forbids a handler.
 *
 *   call WHAT      tries WHAT in the callback
 *   thread WHAT    ... on a thread that was born in on_start
 *   offload WHAT   ... in offloaded work
 *
 * WHAT is the name of an attempt in the table below with its argument, or `raw NUMBER ARGUMENT...`:
 * a system call by its number, with numbers as arguments, `""` for an empty string and `*` for a
 * pointer to zeros. The answer is 0, or the errno. An attempt with a child answers 1000 and the
 * signal that ended the child.
 *
 * HOSTILE_START, a list with commas, makes attempts in on_start, which writes the answers to
 * standard error. HOSTILE_BIRTH does the same in a constructor, when the plug-in is loaded.
 */
#include "core/xchg.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_BYTES 256
#define ARGUMENTS 6
#define SIGNAL_BASE 1000

static char *const no_words[] = {NULL};

static int result_of(long result) { return result == -1 ? errno : 0; }

/* Any pointer is one of zeros. */
static long argument_of(const char *word) {
  static char zeros[4096];
  if (strcmp(word, "\"\"") == 0) {
    return (long)(intptr_t) "";
  }
  return strcmp(word, "*") == 0 ? (long)(intptr_t)zeros : strtol(word, NULL, 0);
}

static int try_raw(char *text) {
  long a[1 + ARGUMENTS] = {0};
  char *rest = NULL;
  char *word = strtok_r(text, " ", &rest);
  for (int i = 0; i < 1 + ARGUMENTS && word != NULL; i++) {
    a[i] = argument_of(word);
    word = strtok_r(NULL, " ", &rest);
  }
  long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
  if (a[0] == SYS_clone && result == 0) {
    _exit(0); /* the child that should not have been made */
  }
  return result_of(result);
}

static int try_exec(char *path) { return result_of(execve(path, no_words, no_words)); }

/* How a child ended. */
static int end_of(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) == -1) {
    return errno;
  }
  return WIFSIGNALED(status) ? SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_spawn(char *path) {
  pid_t child = 0;
  int error = posix_spawn(&child, path, NULL, NULL, no_words, no_words);
  return error != 0 ? error : end_of(child);
}

/* A child that executes ${path}, or exits with 0 if there is none. */
static int try_fork(char *path) {
  pid_t child = fork();
  if (child == 0) {
    _exit(*path == '\0' ? 0 : try_exec(path));
  }
  return child == -1 ? errno : end_of(child);
}

static int try_read(char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) {
    return errno;
  }
  int error = result_of(read(fd, &byte, 1));
  close(fd);
  return error;
}

static int try_create(char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd == -1) {
    return errno;
  }
  close(fd);
  return result_of(unlink(path));
}

/* A TCP connection to a port of this machine. */
static int try_connect(char *port) {
  const struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1) {
    return errno;
  }
  int error = result_of(connect(fd, (const struct sockaddr *)&to, sizeof(to)));
  close(fd);
  return error;
}

static int try_load(char *path) {
  void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (object == NULL) {
    fprintf(stderr, "hostile: %s\n", dlerror());
    return -1;
  }
  dlclose(object);
  return 0;
}

static void *nothing(void *argument) { return argument; }

static int try_thread(char *unused) {
  (void)unused;
  pthread_t thread;
  int error = pthread_create(&thread, NULL, nothing, NULL);
  return error != 0 ? error : pthread_join(thread, NULL);
}

static int try_signal(char *pid) { return result_of(kill((pid_t)strtol(pid, NULL, 10), 0)); }

/* Where an executed program would come from, if no file may be executed: memory. */
static int try_memory(char *unused) {
  (void)unused;
  int fd = memfd_create("hostile", MFD_CLOEXEC);
  if (fd == -1) {
    return errno;
  }
  int error = result_of(syscall(SYS_execveat, fd, "", no_words, no_words, AT_EMPTY_PATH));
  close(fd);
  return error;
}

static const struct {
  const char *name;
  int (*attempt)(char *argument);
} attempts[] = {{"raw", try_raw},         {"exec", try_exec},    {"spawn", try_spawn},
                {"fork", try_fork},       {"read", try_read},    {"create", try_create},
                {"connect", try_connect}, {"load", try_load},    {"thread", try_thread},
                {"signal", try_signal},   {"memory", try_memory}};

/* -1 if there is no such attempt. ${what} is cut into words. */
static int attempt(char *what) {
  char *argument = what + strcspn(what, " ");
  if (*argument != '\0') {
    *argument++ = '\0';
  }
  for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
    if (strcmp(what, attempts[i].name) == 0) {
      return attempts[i].attempt(argument);
    }
  }
  return -1;
}

/* ---- the thread of on_start ---- */

static struct {
  pthread_t id;
  pthread_mutex_t mutex;
  pthread_cond_t news;
  char *what; /* to try; NULL when it was tried */
  int result;
  bool over;
} born = {.mutex = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};

static void *live(void *unused) {
  pthread_mutex_lock(&born.mutex);
  while (!born.over) {
    if (born.what == NULL) {
      pthread_cond_wait(&born.news, &born.mutex);
      continue;
    }
    born.result = attempt(born.what);
    born.what = NULL;
    pthread_cond_broadcast(&born.news);
  }
  pthread_mutex_unlock(&born.mutex);
  return unused;
}

static int attempt_there(char *what) {
  pthread_mutex_lock(&born.mutex);
  born.what = what;
  pthread_cond_broadcast(&born.news);
  while (born.what != NULL) {
    pthread_cond_wait(&born.news, &born.mutex);
  }
  int result = born.result;
  pthread_mutex_unlock(&born.mutex);
  return result;
}

/* ---- the handler ---- */

static void answer(struct xchg_conn *conn, int result) {
  char line[LINE_BYTES];
  int size = snprintf(line, sizeof(line), "%d\n", result);
  (void)xchg_send(conn, line, (size_t)size);
}

struct job {
  int result;
  char what[LINE_BYTES];
};

static void work(void *argument) {
  struct job *job = argument;
  job->result = attempt(job->what);
}

static void worked(struct xchg_conn *conn, void *argument) {
  struct job *job = argument;
  if (conn != NULL) {
    answer(conn, job->result);
  }
  free(job);
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char line[LINE_BYTES] = "";
  memcpy(line, message->data, message->size < sizeof(line) ? message->size : sizeof(line) - 1);
  if (strncmp(line, "call ", 5) == 0) {
    answer(conn, attempt(line + 5));
  } else if (strncmp(line, "thread ", 7) == 0) {
    answer(conn, attempt_there(line + 7));
  } else if (strncmp(line, "offload ", 8) == 0) {
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
      abort();
    }
    memcpy(job->what, line + 8, sizeof(line) - 8);
    if (xchg_offload(conn, work, worked, job) == -1) {
      abort();
    }
  } else {
    (void)xchg_send(conn, "?\n", 2);
  }
}

/* The attempts that ${variable} lists. */
static void attempt_all(const char *variable) {
  const char *list = getenv(variable);
  char *copy = strdup(list == NULL ? "" : list);
  char *rest = NULL;
  if (copy == NULL) {
    abort();
  }
  for (char *what = strtok_r(copy, ",", &rest); what != NULL; what = strtok_r(NULL, ",", &rest)) {
    fprintf(stderr, "hostile tries: %s\n", what);
    fprintf(stderr, "hostile result: %d\n", attempt(what));
  }
  free(copy);
}

__attribute__((constructor)) static void on_load(void) { attempt_all("HOSTILE_BIRTH"); }

static int on_start(struct xchg_server *server) {
  (void)server;
  attempt_all("HOSTILE_START");
  if (pthread_create(&born.id, NULL, live, NULL) != 0) {
    return -1;
  }
  pthread_setname_np(born.id, "hostile");
  return 0;
}

static void on_stop(struct xchg_server *server) {
  (void)server;
  pthread_mutex_lock(&born.mutex);
  born.over = true;
  pthread_cond_broadcast(&born.news);
  pthread_mutex_unlock(&born.mutex);
  pthread_join(born.id, NULL);
}

static const struct xchg_handler handler = {.size = sizeof(handler),
                                            .frame = {.kind = XCHG_FRAME_LINE},
                                            .on_start = on_start,
                                            .on_stop = on_stop,
                                            .on_message = on_message};

XCHG_PLUGIN(handler)
