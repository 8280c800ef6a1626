/*
 * calls: see calls.h.
 *
 * The errnos are those of the manual pages that can occur for such a descriptor.  An errno that
 * reports a wrong argument (EBADF, EFAULT, EINVAL, ENOTSOCK) stands here only where the server
 * defines what follows.  Failures that would be a bug of the kernel are left out: EPOLL_CTL_DEL
 * allocates nothing, and writes of 1 do not overflow the counter of an eventfd (EAGAIN).
 *
 * NOT after `once` means that this kind of failure never persists: a call is not interrupted for
 * ever, and a descriptor that epoll reports is not empty for ever.  ENOMEM of poll stands for a
 * passing shortage, because poll of a few descriptors takes no memory.
 */
#include "tests/fail_nth/calls.h"

#include <errno.h>
#include <string.h>

#define ERRORS(...) \
  .errors = {__VA_ARGS__}, .count = sizeof((const int[]){__VA_ARGS__}) / sizeof(int)

const struct rule rules[] = {
    /* accept(2) */
    {CALL_ACCEPT4, NOBODY, NOT, ERRORS(EAGAIN, EINTR)},
    {CALL_ACCEPT4, NOBODY, ALL,
     ERRORS(ECONNABORTED, EPROTO, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, ENETDOWN, ENOPROTOOPT,
            EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ETIMEDOUT)},
    {CALL_ACCEPT4, ALL, ALL, ERRORS(EINVAL)}, /* the listener broke */
    /* recv(2), tcp(7), ip(7) */
    {CALL_RECV, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_RECV, NOBODY, OWNER, ERRORS(EAGAIN)},
    {CALL_RECV, OWNER, OWNER,
     ERRORS(ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNREFUSED, EPIPE, ENOMEM, EPROTO,
            ERROR_EOF)},
    /* send(2) */
    {CALL_SEND, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_SEND, NOBODY, OWNER, ERRORS(EAGAIN)},
    {CALL_SEND, OWNER, OWNER,
     ERRORS(ECONNRESET, EPIPE, ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EPERM)},
    {CALL_SENDMSG, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_SENDMSG, NOBODY, OWNER, ERRORS(EAGAIN)},
    {CALL_SENDMSG, OWNER, OWNER,
     ERRORS(ECONNRESET, EPIPE, ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EPERM)},
    {CALL_WRITE_WAKE, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_WRITE_LOG, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_WRITE_LOG, NOBODY, NOBODY, ERRORS(EAGAIN, EPIPE, EIO, ENOSPC, EDQUOT, EFBIG)},
    {CALL_SEND_NOTIFY, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_SEND_NOTIFY, NOBODY, NOBODY,
     ERRORS(EAGAIN, ECONNREFUSED, ENOBUFS, ENOMEM, EPERM, ECONNRESET, ENOTCONN)},
    {CALL_SHUTDOWN, OWNER, OWNER, ERRORS(ENOTCONN)},
    {CALL_CLOSE, NOBODY, NOBODY, ERRORS(EINTR, EIO, ENOSPC, EDQUOT)}, /* closed all the same */
    {CALL_IOCTL, OWNER, OWNER, ERRORS(EINVAL, ENOTTY, ENODEV)},
    {CALL_SETSOCKOPT, NOBODY, NOBODY,
     ERRORS(ENOMEM, ENOBUFS, ENOPROTOOPT, EPERM, EINVAL, EOPNOTSUPP)},
    /* epoll */
    {CALL_EPOLL_ADD, OWNER, ALL, ERRORS(ENOMEM, ENOSPC)},
    {CALL_EPOLL_MOD, OWNER, OWNER, ERRORS(ENOMEM)},
    {CALL_EPOLL_WAIT, NOBODY, NOT, ERRORS(EINTR, ERROR_NOTHING)},
    {CALL_POLL, NOBODY, NOT, ERRORS(EINTR, ENOMEM, ERROR_NOTHING)},
    /* memory */
    {CALL_MMAP, ONE, ALL, ERRORS(ENOMEM, EAGAIN)},
    {CALL_MREMAP, ONE, ALL, ERRORS(ENOMEM, EAGAIN)},
    {CALL_MUNMAP, NOBODY, NOBODY, ERRORS(ENOMEM)},
    {CALL_MALLOC, ONE, ALL, ERRORS(ENOMEM)},
    {CALL_CALLOC, ONE, ALL, ERRORS(ENOMEM)},
    {CALL_ALIGNED_ALLOC, ONE, ALL, ERRORS(ENOMEM)},
    {CALL_POSIX_MEMALIGN, NOBODY, NOBODY, ERRORS(ENOMEM)},
    {CALL_OPEN_MEMSTREAM, NOBODY, NOBODY, ERRORS(ENOMEM)},
    /* listeners */
    {CALL_SOCKET, NOBODY, NOBODY,
     ERRORS(EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EAFNOSUPPORT, EPROTONOSUPPORT)},
    {CALL_SOCKET_OPTION, NOBODY, NOBODY, ERRORS(ENOMEM, ENOBUFS, ENOPROTOOPT, EPERM)},
    {CALL_BIND, NOBODY, NOBODY,
     ERRORS(EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOMEM, ENOBUFS, ENOENT, ENOTDIR, EROFS, ELOOP,
            EPERM)},
    {CALL_LISTEN, NOBODY, NOBODY, ERRORS(EADDRINUSE, EOPNOTSUPP, ENOBUFS)},
    {CALL_CONNECT, NOBODY, NOBODY,
     ERRORS(EACCES, EPERM, EAGAIN, ENOENT, ECONNREFUSED, EPROTOTYPE, EINTR)},
    {CALL_GETSOCKNAME, NOBODY, NOBODY, ERRORS(ENOBUFS)},
    /* descriptors */
    {CALL_EVENTFD, NOBODY, NOBODY, ERRORS(EMFILE, ENFILE, ENODEV, ENOMEM)},
    {CALL_EPOLL_CREATE1, NOBODY, NOBODY, ERRORS(EMFILE, ENFILE, ENOMEM)},
    {CALL_SIGNALFD, NOBODY, NOBODY, ERRORS(EMFILE, ENFILE, ENODEV, ENOMEM)},
    {CALL_OPEN, NOBODY, NOBODY,
     ERRORS(EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, EPERM, EINTR, ENXIO)},
    {CALL_FOPEN, NOBODY, NOBODY, ERRORS(EMFILE, ENFILE, ENOMEM, EACCES, ENOENT)},
    {CALL_FGETS, NOBODY, NOBODY, ERRORS(EIO, EINTR, ENOMEM)},
    {CALL_GETLINE, NOBODY, NOBODY, ERRORS(ENOMEM, EIO)},
    {CALL_FSTAT, NOBODY, NOBODY, ERRORS(EBADF, ENOMEM, EIO)},
    {CALL_LSTAT, NOBODY, NOBODY, ERRORS(EACCES, ENOENT, ENOMEM, EIO)},
    {CALL_UNLINK, NOBODY, NOBODY, ERRORS(EACCES, EBUSY, EPERM, EROFS, ENOENT)},
    {CALL_CHMOD, NOBODY, NOBODY, ERRORS(EACCES, EPERM, EROFS, EIO, ENOENT)},
    {CALL_FLOCK, NOBODY, NOBODY, ERRORS(EWOULDBLOCK, ENOLCK)},
    {CALL_FLOCK, NOBODY, NOT, ERRORS(EINTR)},
    {CALL_READ, NOBODY, NOT, ERRORS(EINTR, EAGAIN, EIO)},
    /* the process */
    {CALL_SETRLIMIT, NOBODY, NOBODY, ERRORS(EPERM)},
    {CALL_GETRANDOM, NOBODY, NOBODY, ERRORS(EAGAIN, EINTR, ENOSYS)},
    {CALL_GETAFFINITY, NOBODY, NOBODY, ERRORS(EINVAL, ESRCH)},
    {CALL_SETAFFINITY, NOBODY, NOBODY, ERRORS(EINVAL, EPERM)},
    {CALL_SETSCHEDULER, NOBODY, NOBODY, ERRORS(EPERM, EINVAL)},
    {CALL_PTHREAD_CREATE, ONE, ALL, ERRORS(EAGAIN, EPERM, ENOMEM)},
    {CALL_PTHREAD_SETNAME, NOBODY, NOBODY, ERRORS(ENOENT, EMFILE)},
    {CALL_SEM_WAIT, NOBODY, NOT, ERRORS(EINTR)},
};
const size_t rules_count = sizeof(rules) / sizeof(rules[0]);

#define CALL_WORDS(call, name, optional) {name, optional},
static const struct {
  const char *name;
  int optional;
} words[CALLS] = {NTH_CALLS(CALL_WORDS)};

const char *call_name(enum nth_call call) { return words[call].name; }

int call_optional(enum nth_call call) { return words[call].optional; }

const char *error_name(int error) {
  if (error == ERROR_EOF) {
    return "EOF";
  }
  return error == ERROR_NOTHING ? "NOTHING" : strerrorname_np(error);
}

int error_of(const char *name) {
  for (size_t i = 0; i < rules_count; i++) {
    for (size_t j = 0; j < rules[i].count; j++) {
      if (strcmp(error_name(rules[i].errors[j]), name) == 0) {
        return rules[i].errors[j];
      }
    }
  }
  return 0;
}
