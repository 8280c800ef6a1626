/* real: the libc functions that --wrap replaces, by the name of the real ones. */
#ifndef TESTS_FAIL_NTH_REAL_H
#define TESTS_FAIL_NTH_REAL_H

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* The linker's name for the real function of a wrapped name. */
#define REAL(name) __asm__("__real_" #name)
/* The linker's name for the function that callers of a wrapped name reach. */
#define WRAP(name) __asm__("__wrap_" #name)

int real_open(const char *path, int flags, ...) REAL(open);
int real_socket(int family, int type, int protocol) REAL(socket);
int real_bind(int fd, const struct sockaddr *to, socklen_t size) REAL(bind);
int real_listen(int fd, int backlog) REAL(listen);
int real_connect(int fd, const struct sockaddr *to, socklen_t size) REAL(connect);
int real_getsockname(int fd, struct sockaddr *at, socklen_t *size) REAL(getsockname);
int real_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    REAL(setsockopt);
int real_eventfd(unsigned value, int flags) REAL(eventfd);
int real_epoll_create1(int flags) REAL(epoll_create1);
int real_signalfd(int fd, const sigset_t *set, int flags) REAL(signalfd);
int real_fstat(int fd, struct stat *status) REAL(fstat);
int real_fstatat(int folder, const char *name, struct stat *status, int flags) REAL(fstatat);
int real_openat(int folder, const char *name, int flags, ...) REAL(openat);
int real_unlinkat(int folder, const char *name, int flags) REAL(unlinkat);
int real_fchmod(int fd, mode_t mode) REAL(fchmod);
int real_chmod(const char *path, mode_t mode) REAL(chmod);
int real_fcntl(int fd, int command, ...) REAL(fcntl);
int real_flock(int fd, int operation) REAL(flock);
ssize_t real_read(int fd, void *data, size_t size) REAL(read);
int real_setrlimit(int what, const struct rlimit *limit) REAL(setrlimit);
ssize_t real_getrandom(void *data, size_t size, unsigned flags) REAL(getrandom);
int real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) REAL(sched_getaffinity);

void *real_malloc(size_t size) REAL(malloc);
void *real_calloc(size_t number, size_t size) REAL(calloc);
void *real_aligned_alloc(size_t align, size_t size) REAL(aligned_alloc);
int real_posix_memalign(void **memory, size_t align, size_t size) REAL(posix_memalign);
void real_free(void *memory) REAL(free);
char *real_strdup(const char *text) REAL(strdup);
FILE *real_open_memstream(char **text, size_t *size) REAL(open_memstream);
FILE *real_fopen(const char *path, const char *how) REAL(fopen);
char *real_fgets(char *line, int size, FILE *stream) REAL(fgets);
int real_fclose(FILE *stream) REAL(fclose);

#endif
