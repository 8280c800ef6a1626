/*
 * sys: the seam to the kernel for the data path.
 *
 * Every system call that runs after `listening` goes through a function here, and so does the
 * clock.  In a release build each function is only the call.  A test build defines XCHG_SYS_SEAM to
 * a header that declares the same functions, and links bodies that inject errors, shorten reads and
 * writes or simulate a network.  So the same .c files run in both.  Each function returns what the
 * system call returns, with errno as the call leaves it.
 */
#ifndef CORE_SYS_H
#define CORE_SYS_H

#include <stdint.h>
#include <sys/types.h>

struct epoll_event;
struct msghdr;
struct pollfd;
struct sockaddr;

#ifdef XCHG_SYS_SEAM
#include XCHG_SYS_SEAM
#else

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SYS_SANITIZED
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SYS_SANITIZED
#endif
#endif

/**
 * sys_call(number, a, b, c, d):
 * Make a system call of up to four arguments as syscall(2) does: -1 with errno if it fails.
 * sys_call_6 passes two more, which are 0.
 */
#if defined(__x86_64__) && defined(__LP64__)
static inline long sys_result(long result) {
  if ((unsigned long)result > -4096UL) {
    errno = (int)-result;
    return -1;
  }
  return result;
}
static inline long sys_call(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall" /* rules-ok: a call whose result is not used is made, too */
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return sys_result(result);
}
static inline long sys_call_6(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = 0;
  register long r9 __asm__("r9") = 0;
  long result;
  __asm__ volatile("syscall" /* rules-ok: as above */
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return sys_result(result);
}
#else
static inline long sys_call(long number, long a, long b, long c, long d) {
  return syscall(number, a, b, c, d);
}
static inline long sys_call_6(long number, long a, long b, long c, long d) {
  return syscall(number, a, b, c, d, 0L, 0L);
}
#endif

/** Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t sys_now_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail: every Linux has this clock */
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}
/*
 * The calls of every exchange bypass libc.  It makes some a cancellation point, which in a program
 * with threads costs two atomic operations a call, and xchg cancels no thread.  The sanitizers
 * intercept only libc's calls, so their builds use libc.
 *
 * No caller asks for the result of sys_close: Linux has released the descriptor even if close
 * fails, and its errors concern files that were written.
 */
#ifdef SYS_SANITIZED
static inline int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  return accept4(fd, addr, size, flags);
}
static inline ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  return recv(fd, data, size, flags);
}
static inline ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  return send(fd, data, size, flags);
}
static inline ssize_t sys_write(int fd, const void *data, size_t size) {
  return write(fd, data, size);
}
static inline int sys_close(int fd) { return close(fd); }
static inline int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max,
                                 int timeout_ms) {
  return epoll_wait(epoll_fd, events, max, timeout_ms);
}
/* The number of a request has 32 bits.  It is an int for musl and an unsigned long for glibc. */
static inline int sys_ioctl(int fd, unsigned long request, int *value) {
  return ioctl(fd, (int)request, value);
}
static inline int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  return epoll_ctl(epoll_fd, op, fd, event);
}
#else
static inline int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  return (int)sys_call(SYS_accept4, fd, (long)addr, (long)size, flags);
}
static inline ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  return sys_call_6(SYS_recvfrom, fd, (long)data, (long)size, flags);
}
static inline ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  return sys_call_6(SYS_sendto, fd, (long)data, (long)size, flags);
}
static inline ssize_t sys_write(int fd, const void *data, size_t size) {
  return sys_call(SYS_write, fd, (long)data, (long)size, 0);
}
static inline int sys_close(int fd) { return (int)sys_call(SYS_close, fd, 0, 0, 0); }
static inline int sys_ioctl(int fd, unsigned long request, int *value) {
  return (int)sys_call(SYS_ioctl, fd, (long)request, (long)value, 0);
}
static inline int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  return (int)sys_call(SYS_epoll_ctl, epoll_fd, op, fd, (long)event);
}
static inline int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max,
                                 int timeout_ms) {
#ifdef SYS_epoll_wait
  return (int)sys_call(SYS_epoll_wait, epoll_fd, (long)events, max, timeout_ms);
#else /* aarch64 has only this call, which is the same without a signal mask */
  return (int)sys_call_6(SYS_epoll_pwait, epoll_fd, (long)events, max, timeout_ms);
#endif
}
#endif
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  return sendmsg(fd, message, flags);
}
static inline int sys_shutdown(int fd, int how) { return shutdown(fd, how); }
static inline int sys_setsockopt(int fd, int level, int name, const void *value, unsigned size) {
  return setsockopt(fd, level, name, value, size);
}
static inline int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  return poll(fds, count, timeout_ms);
}
/**
 * Map ${size} bytes of zeroed private memory; MAP_FAILED as mmap(2).  Pages that are never touched
 * are not accounted (MAP_NORESERVE), so metadata may be mapped for the largest number of objects.
 */
static inline void *sys_map(size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
              0);
}
/**
 * Grow the mapping ${old} from ${old_size} to ${new_size} bytes, and move it if necessary;
 * MAP_FAILED as mremap(2).
 */
static inline void *sys_remap(void *old, size_t old_size, size_t new_size) {
  /* TSan does not follow mremap and would report the next user of the old address as a race. */
#ifdef __SANITIZE_THREAD__
  void *moved = sys_map(new_size);
  if (moved != MAP_FAILED) {
    memcpy(moved, old, old_size < new_size ? old_size : new_size);
    (void)munmap(old, old_size); /* a failure leaks it */
  }
  return moved;
#else
  return mremap(old, old_size, new_size, MREMAP_MAYMOVE);
#endif
}
static inline int sys_unmap(void *memory, size_t size) { return munmap(memory, size); }

/**
 * Give the pages of ${memory}, which begins a page, back to the kernel, the last page as a whole.
 * They read as zero then.  Return: 0, or -1 as madvise(2).
 */
static inline int sys_discard(void *memory, size_t size) {
  return madvise(memory, size, MADV_DONTNEED);
}

/**
 * Let no page of ${memory}, which begins a page, be a huge one.  For memory of which little is
 * used: a huge page would make 2 MiB resident for one object.  Return: 0, or -1 as madvise(2),
 * EINVAL where the kernel has no huge pages.
 */
static inline int sys_no_huge_pages(void *memory, size_t size) {
  return madvise(memory, size, MADV_NOHUGEPAGE);
}

#endif
#endif
