/* calls: which calls can fail, with which errors, and which clients may notice. */
#ifndef TESTS_FAIL_NTH_CALLS_H
#define TESTS_FAIL_NTH_CALLS_H

#include <stddef.h>

/* X(CALL_ without its prefix, its name, can the server start although it fails?) */
#define NTH_CALLS(X)                          \
  /* the data path: core/sys.h */             \
  X(ACCEPT4, "accept4", 1)                    \
  X(RECV, "recv", 1)                          \
  X(SEND, "send", 1)                          \
  X(SENDMSG, "sendmsg", 1)                    \
  X(WRITE_WAKE, "write-wake", 1)              \
  X(WRITE_LOG, "write-log", 1)                \
  X(SEND_NOTIFY, "send-notify", 1)            \
  X(SHUTDOWN, "shutdown", 1)                  \
  X(CLOSE, "close", 1)                        \
  X(IOCTL, "ioctl", 1)                        \
  X(SETSOCKOPT, "setsockopt", 1)              \
  X(EPOLL_ADD, "epoll_ctl-add", 0)            \
  X(EPOLL_MOD, "epoll_ctl-mod", 0)            \
  X(EPOLL_WAIT, "epoll_wait", 1)              \
  X(POLL, "poll", 1)                          \
  X(MMAP, "mmap", 0)                          \
  X(MREMAP, "mremap", 0)                      \
  X(MUNMAP, "munmap", 1)                      \
  /* memory */                                \
  X(MALLOC, "malloc", 0)                      \
  X(CALLOC, "calloc", 0)                      \
  X(ALIGNED_ALLOC, "aligned_alloc", 0)        \
  X(POSIX_MEMALIGN, "posix_memalign", 0)      \
  X(OPEN_MEMSTREAM, "open_memstream", 0)      \
  /* the start, and the rest */               \
  X(SOCKET, "socket", 0)                      \
  X(SOCKET_OPTION, "setsockopt-start", 0)     \
  X(BIND, "bind", 0)                          \
  X(LISTEN, "listen", 0)                      \
  X(CONNECT, "connect", 0)                    \
  X(GETSOCKNAME, "getsockname", 1)            \
  X(EVENTFD, "eventfd", 0)                    \
  X(EPOLL_CREATE1, "epoll_create1", 0)        \
  X(SIGNALFD, "signalfd", 0)                  \
  X(OPEN, "open", 1)                          \
  X(FOPEN, "fopen", 1)                        \
  X(FGETS, "fgets", 1)                        \
  X(GETLINE, "getline", 1)                    \
  X(OPENAT, "openat", 0)                      \
  X(FSTAT, "fstat", 1)                        \
  X(FSTATAT, "fstatat", 0)                    \
  X(UNLINKAT, "unlinkat", 0)                  \
  X(FCHMOD, "fchmod", 1)                      \
  X(CHMOD, "chmod", 0)                        \
  X(DUPFD, "fcntl-dupfd", 1)                  \
  X(FLOCK, "flock", 1)                        \
  X(READ, "read", 1)                          \
  X(SETRLIMIT, "setrlimit", 1)                \
  X(GETRANDOM, "getrandom", 1)                \
  X(GETAFFINITY, "sched_getaffinity", 1)      \
  X(SETAFFINITY, "pthread_setaffinity_np", 1) \
  X(SETSCHEDULER, "sched_setscheduler", 1)    \
  X(PTHREAD_CREATE, "pthread_create", 0)      \
  X(PTHREAD_SETNAME, "pthread_setname_np", 1) \
  X(SEM_WAIT, "sem_wait", 1)

#define NTH_CALL_ENUM(call, name, optional) CALL_##call,
enum nth_call { NTH_CALLS(NTH_CALL_ENUM) CALLS };

/* Failures without an errno. */
enum { ERROR_EOF = -1, ERROR_NOTHING = -2 };

/* Which clients may notice: their connection ends, and what they received until then was right. */
enum effect {
  NO_CLIENT,
  OWNER, /* the client whose descriptor it is */
  ONE,   /* at most one client, any of them */
  ALL,   /* every client */
  NOT,   /* this does not happen */
};

#define RULE_ERRORS_MAX 20

struct rule {
  enum nth_call call;
  enum effect once;
  enum effect forever;
  int errors[RULE_ERRORS_MAX];
  size_t count;
};

/** The rules of one call stand together. */
extern const struct rule rules[];
extern const size_t rules_count;

/** The name of the call; can the server start although it fails? */
const char *call_name(enum nth_call call);
int call_optional(enum nth_call call);

/** The name of an errno, for example ECONNRESET, and the errno of a name; 0 for an unknown name. */
const char *injected_name(int error);
int error_of(const char *name);

#endif
