/*
 * calls: what can fail, how, and who may notice.
 */
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

/* Failures that are no errno. */
enum { ERROR_EOF = -1, ERROR_NOTHING = -2 };

/* Which clients may notice: their connection ends, and what came by then was right. */
enum effect {
  NOBODY,
  OWNER, /* whose descriptor it is */
  ONE,   /* one at most, whoever that is */
  ALL,   /* anybody */
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

/** The call's word; must a start get over its failure? */
const char *call_name(enum nth_call call);
int call_optional(enum nth_call call);

/** ECONNRESET's word, and the other way round; 0 for what is none. */
const char *error_name(int error);
int error_of(const char *name);

#endif
