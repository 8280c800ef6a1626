/*
 * check_wake: an eventfd that is edge-triggered and never read.
 *
 * The tests wait in epoll as its owners do. Only the tests read it, to learn the counter.
 */
#include "net/wake.h"

#include "core/sys.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/resource.h>

/* Long enough that only a lost edge times out. */
#define EDGE_TIMEOUT_MS 60000

static int watch(const struct wake *wake) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  ck_assert_int_ne(epoll_fd, -1);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = wake->fd};
  ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake->fd, &event), 0);
  return epoll_fd;
}

static int edges(int epoll_fd, int timeout_ms) {
  struct epoll_event event;
  return epoll_wait(epoll_fd, &event, 1, timeout_ms);
}

START_TEST(test_open_and_close) {
  struct wake wake = {.fd = -1};
  ck_assert_int_eq(wake_open(&wake), 0);
  const int fd = wake.fd;
  ck_assert_int_ne(fd, -1);
  ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  wake_close(&wake);
  ck_assert_int_eq(wake.fd, -1);
  ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
  ck_assert_int_eq(errno, EBADF);
  wake_close(&wake); /* a second call does nothing */
}
END_TEST

START_TEST(test_open_without_descriptors) {
  struct rlimit old;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
  struct rlimit none = {.rlim_cur = 0, .rlim_max = old.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
  struct wake wake = {.fd = -1};
  errno = 0;
  const int result = wake_open(&wake);
  const int error = errno;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(error, EMFILE);
  ck_assert_int_eq(wake.fd, -1);
  wake_close(&wake);
}
END_TEST

START_TEST(test_every_signal_is_an_edge) {
  struct wake wake;
  ck_assert_int_eq(wake_open(&wake), 0);
  const int epoll_fd = watch(&wake);
  ck_assert_int_eq(edges(epoll_fd, 0), 0);
  for (int i = 0; i < 100; i++) {
    wake_signal(&wake);
    ck_assert_int_eq(edges(epoll_fd, EDGE_TIMEOUT_MS), 1);
    ck_assert_int_eq(edges(epoll_fd, 0), 0); /* unread, but silent until the next signal */
  }
  sys_close(epoll_fd);
  wake_close(&wake);
}
END_TEST

START_TEST(test_signals_before_a_wait_end_it_once) {
  struct wake wake;
  ck_assert_int_eq(wake_open(&wake), 0);
  const int epoll_fd = watch(&wake);
  for (int i = 0; i < 3; i++) {
    wake_signal(&wake);
  }
  ck_assert_int_eq(edges(epoll_fd, EDGE_TIMEOUT_MS), 1);
  ck_assert_int_eq(edges(epoll_fd, 0), 0);
  uint64_t counter = 0;
  ck_assert_int_eq(read(wake.fd, &counter, sizeof(counter)), sizeof(counter));
  ck_assert_uint_eq(counter, 3);
  sys_close(epoll_fd);
  wake_close(&wake);
}
END_TEST

/* A signal before the registration is reported after it. */
START_TEST(test_signal_before_registration_is_seen) {
  struct wake wake;
  ck_assert_int_eq(wake_open(&wake), 0);
  wake_signal(&wake);
  const int epoll_fd = watch(&wake);
  ck_assert_int_eq(edges(epoll_fd, EDGE_TIMEOUT_MS), 1);
  sys_close(epoll_fd);
  wake_close(&wake);
}
END_TEST

/*
 * The last signal that the counter can hold is an edge. The next one returns at once, changes
 * nothing and is no edge. At a million signals a second that takes 584,000 years.
 */
START_TEST(test_counter_at_its_end) {
  struct wake wake;
  ck_assert_int_eq(wake_open(&wake), 0);
  const uint64_t most = UINT64_MAX - 1;
  const uint64_t nearly = most - 1;
  ck_assert_int_eq(write(wake.fd, &nearly, sizeof(nearly)), sizeof(nearly));
  const int epoll_fd = watch(&wake);
  ck_assert_int_eq(edges(epoll_fd, EDGE_TIMEOUT_MS), 1);
  wake_signal(&wake);
  ck_assert_int_eq(edges(epoll_fd, EDGE_TIMEOUT_MS), 1);
  wake_signal(&wake); /* the write fails with EAGAIN */
  ck_assert_int_eq(edges(epoll_fd, 0), 0);
  uint64_t counter = 0;
  ck_assert_int_eq(read(wake.fd, &counter, sizeof(counter)), sizeof(counter));
  ck_assert_uint_eq(counter, most);
  sys_close(epoll_fd);
  wake_close(&wake);
}
END_TEST

static void *wait_for_edge(void *epoll_fd) {
  static int edge = 1;
  return edges(*(int *)epoll_fd, EDGE_TIMEOUT_MS) == 1 ? &edge : NULL;
}

START_TEST(test_ends_the_wait_of_another_thread) {
  struct wake wake;
  ck_assert_int_eq(wake_open(&wake), 0);
  int epoll_fd = watch(&wake);
  for (int i = 0; i < 10; i++) {
    pthread_t thread;
    void *seen = NULL;
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_edge, &epoll_fd), 0);
    wake_signal(&wake); /* a signal before the wait or during it must end it */
    ck_assert_int_eq(pthread_join(thread, &seen), 0);
    ck_assert_ptr_nonnull(seen);
  }
  sys_close(epoll_fd);
  wake_close(&wake);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_open_and_close, 1},
      {test_open_without_descriptors, 1},
      {test_every_signal_is_an_edge, 1},
      {test_signals_before_a_wait_end_it_once, 1},
      {test_signal_before_registration_is_seen, 1},
      {test_counter_at_its_end, 1},
      {test_ends_the_wait_of_another_thread, 1},
  };
  return run_suite("wake", tests, count_of(tests));
}
