/*
 * wraps: the calls of the server under test that do not go through core/sys.h, the allocator's
 * included.  --wrap leads them here; calls inside libc are not seen.
 */
#include "core/base.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* ---- memory ---- */

void *wrap_malloc(size_t size) WRAP(malloc);
void *wrap_calloc(size_t number, size_t size) WRAP(calloc);
void *wrap_aligned_alloc(size_t align, size_t size) WRAP(aligned_alloc);
int wrap_posix_memalign(void **memory, size_t align, size_t size) WRAP(posix_memalign);
char *wrap_strdup(const char *text) WRAP(strdup);
void wrap_free(void *memory) WRAP(free);

void *wrap_malloc(size_t size) {
  if (ledger_fails(CALL_MALLOC, -1)) {
    return NULL;
  }
  void *memory = real_malloc(size);
  ledger_allocated(memory, size);
  return memory;
}

void *wrap_calloc(size_t number, size_t size) {
  if (ledger_fails(CALL_CALLOC, -1)) {
    return NULL;
  }
  void *memory = real_calloc(number, size);
  ledger_allocated(memory, number * size);
  return memory;
}

void *wrap_aligned_alloc(size_t align, size_t size) {
  if (ledger_fails(CALL_ALIGNED_ALLOC, -1)) {
    return NULL;
  }
  void *memory = real_aligned_alloc(align, size);
  ledger_allocated(memory, size);
  return memory;
}

int wrap_posix_memalign(void **memory, size_t align, size_t size) {
  if (ledger_fails(CALL_POSIX_MEMALIGN, -1)) {
    return errno;
  }
  int error = real_posix_memalign(memory, align, size);
  if (error == 0) {
    ledger_allocated(*memory, size);
  }
  return error;
}

char *wrap_strdup(const char *text) {
  char *copy = real_strdup(text);
  ledger_allocated(copy, strlen(text) + 1);
  return copy;
}

void wrap_free(void *memory) {
  /* Memory that is not ours is libc's: a line of getline, the text of a memory stream. */
  if (memory != NULL && ledger_freed(memory) && ledger_sabotage(SABOTAGE_LEAK)) {
    ledger_allocated(memory, 1);
  } else {
    real_free(memory);
  }
}

/* ---- streams ---- */

FILE *wrap_open_memstream(char **text, size_t *size) WRAP(open_memstream);
FILE *wrap_fopen(const char *path, const char *how) WRAP(fopen);
int wrap_fclose(FILE *stream) WRAP(fclose);
char *wrap_fgets(char *line, int size, FILE *stream) WRAP(fgets);
ssize_t wrap_getline(char **line, size_t *size, FILE *stream) WRAP(getline);
ssize_t wrap_getdelim(char **line, size_t *size, int end, FILE *stream) WRAP(__getdelim);
ssize_t real_getdelim(char **line, size_t *size, int end, FILE *stream) REAL(__getdelim);

FILE *wrap_open_memstream(char **text, size_t *size) {
  FILE *stream = ledger_fails(CALL_OPEN_MEMSTREAM, -1) ? NULL : real_open_memstream(text, size);
  ledger_stream(stream != NULL);
  return stream;
}

FILE *wrap_fopen(const char *path, const char *how) {
  FILE *stream = ledger_fails(CALL_FOPEN, -1) ? NULL : real_fopen(path, how);
  ledger_stream(stream != NULL);
  return stream;
}

int wrap_fclose(FILE *stream) {
  ledger_stream(-1);
  return real_fclose(stream);
}

char *wrap_fgets(char *line, int size, FILE *stream) {
  return ledger_fails(CALL_FGETS, -1) ? NULL : real_fgets(line, size, stream);
}

ssize_t wrap_getdelim(char **line, size_t *size, int end, FILE *stream) {
  return ledger_fails(CALL_GETLINE, -1) ? -1 : real_getdelim(line, size, end, stream);
}

ssize_t wrap_getline(char **line, size_t *size, FILE *stream) {
  return wrap_getdelim(line, size, '\n', stream);
}

/* ---- sockets ---- */

int wrap_socket(int family, int type, int protocol) WRAP(socket);
int wrap_bind(int fd, const struct sockaddr *to, socklen_t size) WRAP(bind);
int wrap_listen(int fd, int backlog) WRAP(listen);
int wrap_connect(int fd, const struct sockaddr *to, socklen_t size) WRAP(connect);
int wrap_getsockname(int fd, struct sockaddr *at, socklen_t *size) WRAP(getsockname);
int wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    WRAP(setsockopt);

/* Note what was opened. */
static int opened(int fd, enum kind kind) {
  ledger_opened(fd, kind);
  return fd;
}

int wrap_socket(int family, int type, int protocol) {
  bool datagrams = (type & SOCK_DGRAM) != 0;
  return ledger_fails(CALL_SOCKET, -1)
             ? -1
             : opened(real_socket(family, type, protocol), datagrams ? KIND_NOTIFY : KIND_OTHER);
}

int wrap_bind(int fd, const struct sockaddr *to, socklen_t size) {
  return ledger_fails(CALL_BIND, fd) ? -1 : real_bind(fd, to, size);
}

int wrap_listen(int fd, int backlog) {
  if (ledger_fails(CALL_LISTEN, fd)) {
    return -1;
  }
  int result = real_listen(fd, backlog);
  if (result == 0) {
    ledger_listens(fd);
  }
  return result;
}

int wrap_connect(int fd, const struct sockaddr *to, socklen_t size) {
  return ledger_fails(CALL_CONNECT, fd) ? -1 : real_connect(fd, to, size);
}

int wrap_getsockname(int fd, struct sockaddr *at, socklen_t *size) {
  return ledger_fails(CALL_GETSOCKNAME, fd) ? -1 : real_getsockname(fd, at, size);
}

int wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
  return ledger_fails(CALL_SOCKET_OPTION, fd) ? -1 : real_setsockopt(fd, level, name, value, size);
}

/* ---- descriptors and files ---- */

int wrap_eventfd(unsigned value, int flags) WRAP(eventfd);
int wrap_epoll_create1(int flags) WRAP(epoll_create1);
int wrap_signalfd(int fd, const sigset_t *set, int flags) WRAP(signalfd);
int wrap_open(const char *path, int flags, ...) WRAP(open);
int wrap_open_2(const char *path, int flags) WRAP(__open_2);
int wrap_fstat(int fd, struct stat *status) WRAP(fstat);
int wrap_openat(int folder, const char *name, int flags, ...) WRAP(openat);
int wrap_fstatat(int folder, const char *name, struct stat *status, int flags) WRAP(fstatat);
int wrap_unlinkat(int folder, const char *name, int flags) WRAP(unlinkat);
int wrap_fchmod(int fd, mode_t mode) WRAP(fchmod);
int wrap_chmod(const char *path, mode_t mode) WRAP(chmod);
int wrap_fcntl(int fd, int command, ...) WRAP(fcntl);
int wrap_flock(int fd, int operation) WRAP(flock);
ssize_t wrap_read(int fd, void *data, size_t size) WRAP(read);

int wrap_eventfd(unsigned value, int flags) {
  return ledger_fails(CALL_EVENTFD, -1) ? -1 : opened(real_eventfd(value, flags), KIND_WAKE);
}

int wrap_epoll_create1(int flags) {
  return ledger_fails(CALL_EPOLL_CREATE1, -1) ? -1 : opened(real_epoll_create1(flags), KIND_EPOLL);
}

int wrap_signalfd(int fd, const sigset_t *set, int flags) {
  return ledger_fails(CALL_SIGNALFD, -1) ? -1 : opened(real_signalfd(fd, set, flags), KIND_OTHER);
}

/* No file is created, so there is no mode.  The log's own descriptor is never written to. */
int wrap_open(const char *path, int flags, ...) {
  if (ledger_fails(CALL_OPEN, -1)) {
    return -1;
  }
  bool log = strncmp(path, "/proc/self/fd/", strlen("/proc/self/fd/")) == 0;
  return opened(real_open(log ? "/dev/null" : path, flags), log ? KIND_LOG : KIND_OTHER);
}

int wrap_open_2(const char *path, int flags) { return wrap_open(path, flags); }

/* Standard error appears as a pipe, whatever it is. */
int wrap_fstat(int fd, struct stat *status) {
  if (ledger_fails(CALL_FSTAT, fd)) {
    return -1;
  }
  int result = real_fstat(fd, status);
  if (fd == STDERR_FILENO && result == 0) {
    status->st_mode = S_IFIFO;
  }
  return result;
}

int wrap_openat(int folder, const char *name, int flags, ...) {
  return ledger_fails(CALL_OPENAT, -1) ? -1 : opened(real_openat(folder, name, flags), KIND_OTHER);
}

int wrap_fstatat(int folder, const char *name, struct stat *status, int flags) {
  return ledger_fails(CALL_FSTATAT, -1) ? -1 : real_fstatat(folder, name, status, flags);
}

int wrap_unlinkat(int folder, const char *name, int flags) {
  return ledger_fails(CALL_UNLINKAT, -1) ? -1 : real_unlinkat(folder, name, flags);
}

int wrap_fchmod(int fd, mode_t mode) {
  return ledger_fails(CALL_FCHMOD, fd) ? -1 : real_fchmod(fd, mode);
}

int wrap_chmod(const char *path, mode_t mode) {
  return ledger_fails(CALL_CHMOD, -1) ? -1 : real_chmod(path, mode);
}

/*
 * F_DUPFD_CLOEXEC opens a descriptor, here always the lowest free one, as the ledger expects.  The
 * other commands do not fail.
 */
int wrap_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  int argument = va_arg(arguments, int); /* commands without one ignore it */
  va_end(arguments);
  if (command != F_DUPFD_CLOEXEC) {
    return real_fcntl(fd, command, argument);
  }
  enum kind kind = fd == STDERR_FILENO ? KIND_LOG : KIND_OTHER;
  return ledger_fails(CALL_DUPFD, fd) ? -1 : opened(real_fcntl(fd, command, 0), kind);
}

int wrap_flock(int fd, int operation) {
  return ledger_fails(CALL_FLOCK, fd) ? -1 : real_flock(fd, operation);
}

ssize_t wrap_read(int fd, void *data, size_t size) {
  return ledger_fails(CALL_READ, fd) ? -1 : real_read(fd, data, size);
}
