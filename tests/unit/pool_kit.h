/*
 * pool_kit: what the tests of pool share: connections, patience, a log that can be read.
 *
 * Nothing here sleeps to be in step with somebody: AWAIT looks until something is so, and fails
 * after a time that no healthy machine needs.
 */
#ifndef TESTS_POOL_KIT_H
#define TESTS_POOL_KIT_H

#include "core/sys.h"
#include "net/guest.h"
#include "tests/unit/config_load.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/un.h>

#define PATIENCE_NS (60 * NS_PER_S)

/* Look until ${condition} holds. */
#define AWAIT(condition)                                               \
  do {                                                                 \
    uint64_t until_ns_ = sys_now_ns() + PATIENCE_NS;                   \
    while (!(condition)) {                                             \
      ck_assert_msg(sys_now_ns() < until_ns_, "in vain: " #condition); \
      poll(NULL, 0, 1);                                                \
    }                                                                  \
  } while (0)

static inline struct sockaddr_in kit_loopback(uint16_t port) {
  return (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A client's reads and writes wait, but not for ever. */
static inline void kit_set_patience(int fd) {
  const struct timeval patience = {.tv_sec = (time_t)(PATIENCE_NS / NS_PER_S)};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
}

/* Connect to 127.0.0.1:${port}. */
static inline int kit_connect(uint16_t port) {
  struct sockaddr_in to = kit_loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(fd, -1);
  kit_set_patience(fd);
  ck_assert_msg(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0, "connect: %s",
                strerror(errno));
  return fd;
}

/* Is 127.0.0.1:${port} closed? */
static inline bool kit_refused(uint16_t port) {
  struct sockaddr_in to = kit_loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(fd, -1);
  int result = connect(fd, (const struct sockaddr *)&to, sizeof(to));
  bool refused = result == -1 && errno == ECONNREFUSED;
  close(fd);
  return refused;
}

static inline int kit_connect_unix(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(fd, -1);
  kit_set_patience(fd);
  ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
  return fd;
}

/* A TCP connection over the loopback: the client's end is returned, the server's is a guest. */
static inline int kit_guest(struct guest *guest) {
  struct sockaddr_in at = kit_loopback(0);
  socklen_t size = sizeof(at);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(listener, -1);
  ck_assert_int_eq(bind(listener, (const struct sockaddr *)&at, sizeof(at)), 0);
  ck_assert_int_eq(listen(listener, 1), 0);
  ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
  int client = kit_connect(ntohs(at.sin_port));
  *guest = (struct guest){.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
                          .addr.family = ADDR_IPV4,
                          .accepted_ns = sys_now_ns(),
                          .ticket = GUEST_NO_TICKET};
  ck_assert_int_ne(guest->fd, -1);
  close(listener);
  return client;
}

/* The same over a pair of UNIX sockets. */
static inline int kit_guest_unix(struct guest *guest) {
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  kit_set_patience(fds[0]);
  int on = 1;
  ck_assert_int_eq(ioctl(fds[1], FIONBIO, &on), 0);
  *guest = (struct guest){.fd = fds[1],
                          .addr.family = ADDR_UNIX,
                          .accepted_ns = sys_now_ns(),
                          .ticket = GUEST_NO_TICKET};
  return fds[0];
}

static inline void kit_send(int fd, const void *data, size_t size) {
  ck_assert_int_eq(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* recv until ${size} bytes are there or nothing follows; the end of a child interrupts one. */
static inline ssize_t kit_recv(int fd, void *data, size_t size) {
  size_t got = 0;
  while (got < size) {
    ssize_t count = recv(fd, (char *)data + got, size - got, MSG_WAITALL);
    if (count == 0 || (count == -1 && errno != EINTR)) {
      return count == 0 ? (ssize_t)got : -1;
    }
    got += count > 0 ? (size_t)count : 0;
  }
  return (ssize_t)got;
}

/* The next ${size} bytes must be ${data}. */
static inline void kit_expect(int fd, const void *data, size_t size) {
  char got[256];
  ck_assert_uint_le(size, sizeof(got));
  ssize_t count = kit_recv(fd, got, size);
  ck_assert_msg(count == (ssize_t)size, "recv of %zu: %zd (%s)", size, count, strerror(errno));
  ck_assert_mem_eq(got, data, size);
}

/* ... and then the stream must end, in order. */
static inline void kit_expect_end(int fd) {
  char byte;
  ssize_t count = kit_recv(fd, &byte, 1);
  ck_assert_msg(count == 0, "recv at the end: %zd (%s)", count, strerror(errno));
}

/* Speak the default exchange, to its end, and close. */
#define KIT_GREETING "Message from server"
static inline void kit_greet(int fd) {
  kit_expect(fd, KIT_GREETING, sizeof(KIT_GREETING));
  kit_send(fd, "hello", 6);
  kit_expect_end(fd);
  close(fd);
}

/* Does nothing come for ${ms} milliseconds, not even the end? */
static inline bool kit_silent(int fd, int ms) {
  struct pollfd pollfd = {.fd = fd, .events = POLLIN | POLLRDHUP};
  return poll(&pollfd, 1, ms) == 0;
}

/* CPU time of the calling thread. */
static inline uint64_t kit_cpu_ns(void) {
  struct timespec t;
  ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
  return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* A log into memory. */
static inline void kit_log_open(struct log *log) {
  int fd = memfd_create("log", MFD_CLOEXEC);
  ck_assert_int_ne(fd, -1);
  log_init(log, fd, LOG_DEBUG, LOG_LOGFMT);
}

/* log_fini leaves the descriptor to whoever opened it. */
static inline void kit_log_close(struct log *log) {
  int fd = log->fd;
  log_fini(log);
  ck_assert_int_eq(close(fd), 0);
}

/* Its text so far, until the next call. */
static inline const char *kit_log_text(const struct log *log) {
  static char text[65536];
  ssize_t size = pread(log->fd, text, sizeof(text) - 1, 0);
  ck_assert_int_ge(size, 0);
  text[size] = 0;
  return text;
}

/* How often ${what} stands in the log. */
static inline unsigned kit_log_count(const struct log *log, const char *what) {
  unsigned count = 0;
  for (const char *at = kit_log_text(log); (at = strstr(at, what)) != NULL; at++) {
    count++;
  }
  return count;
}

#endif
