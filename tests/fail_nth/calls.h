/* calls: which calls can fail, with which errors, and which clients may notice. */
#ifndef TESTS_FAIL_NTH_CALLS_H
#define TESTS_FAIL_NTH_CALLS_H

#include <stddef.h>

enum nth_call {
  /* the data path: core/sys.h */
  CALL_ACCEPT4,
  CALL_RECV,
  CALL_SEND,
  CALL_SENDMSG,
  CALL_WRITE_WAKE, /* of an eventfd */
  CALL_WRITE_LOG,
  CALL_SEND_NOTIFY,
  CALL_SHUTDOWN,
  CALL_CLOSE,
  CALL_IOCTL,
  CALL_SETSOCKOPT,
  CALL_EPOLL_ADD,
  CALL_EPOLL_MOD,
  CALL_EPOLL_WAIT,
  CALL_POLL,
  CALL_MMAP,
  CALL_MREMAP,
  CALL_MUNMAP,
  /* memory */
  CALL_MALLOC,
  CALL_CALLOC,
  CALL_ALIGNED_ALLOC,
  CALL_POSIX_MEMALIGN,
  CALL_OPEN_MEMSTREAM,
  /* the start, and what is left */
  CALL_SOCKET,
  CALL_SOCKET_OPTION,
  CALL_BIND,
  CALL_LISTEN,
  CALL_CONNECT,
  CALL_GETSOCKNAME,
  CALL_EVENTFD,
  CALL_EPOLL_CREATE1,
  CALL_SIGNALFD,
  CALL_OPEN,
  CALL_FOPEN,
  CALL_FGETS,
  CALL_GETLINE,
  CALL_FSTAT,
  CALL_LSTAT,
  CALL_UNLINK,
  CALL_CHMOD,
  CALL_FLOCK,
  CALL_READ,
  CALL_SETRLIMIT,
  CALL_GETRANDOM,
  CALL_GETAFFINITY,
  CALL_SETAFFINITY,
  CALL_SETSCHEDULER,
  CALL_PTHREAD_CREATE,
  CALL_PTHREAD_SETNAME,
  CALL_SEM_WAIT,
  CALLS
};

/* Failures without an errno. */
enum { ERROR_EOF = -1, ERROR_NOTHING = -2 };

/* Which clients may notice: their connection ends, and what they received until then was right. */
enum effect {
  NOBODY,
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
const char *error_name(int error);
int error_of(const char *name);

#endif
