/* check_sd_notify: datagrams to a service manager, which may be absent. */
#include "tests/fixtures/log_to_fd.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include "core/log.h"
#include "net/sd_notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

static int said[2]; /* a pipe: the log's lines */
static struct log logger;

static void set_up(void) {
  ck_assert_int_eq(pipe2(said, O_CLOEXEC | O_NONBLOCK), 0);
  log_to_fd(&logger, said[1], LOG_INFO, LOG_LOGFMT);
}

static void tear_down(void) {
  close(said[0]);
  close(said[1]);
}

/* The log wrote lines, and the first contains ${text}; NULL: it wrote nothing. */
static void check_said(const char *text) {
  char lines[2 * LOG_LINE_MAX + 1];
  ssize_t got = read(said[0], lines, sizeof(lines) - 1);
  ck_assert_int_eq(got > 0, text != NULL);
  if (text != NULL) {
    lines[got] = 0;
    ck_assert_msg(strstr(lines, text) != NULL, "%s", lines);
  }
}

/* The manager's socket at ${path}, which is abstract if it begins with '@'. */
static int manager(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  memcpy(at.sun_path, path, length);
  if (path[0] == '@') {
    at.sun_path[0] = 0;
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&at,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)),
                   0);
  return fd;
}

START_TEST(test_without_a_manager_nothing_is_sent) {
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, NULL), 0);
  ck_assert_int_eq(notify.fd, -1);
  sd_notify_send(&notify, "READY=1", &logger);
  sd_notify_close(&notify);
}
END_TEST

START_TEST(test_states_arrive) {
  char folder[] = "/tmp/check_sd_notify.XXXXXX", path[64], got[32];
  ck_assert_ptr_nonnull(mkdtemp(folder));
  if (_i == 0) {
    snprintf(path, sizeof(path), "%s/notify", folder);
  } else {
    snprintf(path, sizeof(path), "@%s", folder);
  }
  int fd = manager(path);
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, path), 0);
  ck_assert_int_ne(fcntl(notify.fd, F_GETFD) & FD_CLOEXEC, 0);
  sd_notify_send(&notify, "READY=1", &logger);
  sd_notify_send(&notify, "STOPPING=1", &logger);
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 7);
  ck_assert_mem_eq(got, "READY=1", 7);
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 10);
  ck_assert_mem_eq(got, "STOPPING=1", 10);
  close(fd);
  sd_notify_send(&notify, "STOPPING=1", &logger); /* closed: no signal */
  check_said("cannot send to NOTIFY_SOCKET");
  sd_notify_close(&notify);
  ck_assert_int_eq(notify.fd, -1);
  sd_notify_close(&notify);
  (void)unlink(path);
  ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

/* Fill the queue of the manager's socket at ${path}. */
static void fill(const char *path) {
  struct sd_notify other;
  ck_assert_int_eq(sd_notify_open(&other, path), 0);
  while (send(other.fd, "X=1", 3, MSG_DONTWAIT) == 3) {
  }
  ck_assert_int_eq(errno, EAGAIN);
  sd_notify_close(&other);
}

/* Read all messages. Return: how many there were, without those of fill; ${got} = the last. */
static int drain(int fd, char *got, size_t size) {
  int count = 0;
  char text[32];
  for (ssize_t length; (length = recv(fd, text, sizeof(text) - 1, 0)) > 0;) {
    text[length] = 0;
    if (strcmp(text, "X=1") != 0) {
      count++;
      snprintf(got, size, "%s", text);
    }
  }
  return count;
}

/* The manager's queue is full: nothing blocks, and each state is sent once there is room. */
START_TEST(test_full_queue_delays) {
  char path[64], got[32] = "";
  snprintf(path, sizeof(path), "@check_sd_notify.%d", (int)getpid());
  int fd = manager(path);
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, path), 0);
  fill(path);
  sd_notify_send(&notify, "READY=1", &logger);
  check_said("NOTIFY_SOCKET is full: sending later");
  sd_notify_retry(&notify, &logger);
  check_said(NULL);
  ck_assert(sd_notify_pending(&notify));
  if (_i == 1) {
    sd_notify_send(&notify, "STOPPING=1", &logger);
    check_said(NULL); /* the log knows it */
  }
  ck_assert_int_eq(drain(fd, got, sizeof(got)), 0);
  sd_notify_retry(&notify, &logger);
  check_said("sent to NOTIFY_SOCKET");
  ck_assert(!sd_notify_pending(&notify));
  ck_assert_int_eq(drain(fd, got, sizeof(got)), _i + 1);
  ck_assert_str_eq(got, _i == 0 ? "READY=1" : "STOPPING=1");
  sd_notify_close(&notify);
  close(fd);
}
END_TEST

/* What is tried is left out if there is no room, and it never overtakes a state. */
START_TEST(test_tried_messages) {
  char path[64], got[32] = "";
  snprintf(path, sizeof(path), "@check_sd_notify.%d", (int)getpid());
  int fd = manager(path);
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, path), 0);
  ck_assert(sd_notify_try(&notify, "STATUS=a", &logger));
  ck_assert_int_eq(drain(fd, got, sizeof(got)), 1);
  ck_assert_str_eq(got, "STATUS=a");
  fill(path);
  ck_assert(!sd_notify_try(&notify, "STATUS=b", &logger));
  check_said(NULL);
  sd_notify_send(&notify, "READY=1", &logger);
  check_said("NOTIFY_SOCKET is full");
  ck_assert_int_eq(drain(fd, got, sizeof(got)), 0);
  ck_assert(!sd_notify_try(&notify, "STATUS=c", &logger)); /* READY=1 comes first */
  ck_assert_int_eq(drain(fd, got, sizeof(got)), 0);
  sd_notify_retry(&notify, &logger);
  check_said("sent to NOTIFY_SOCKET");
  ck_assert(sd_notify_try(&notify, "STATUS=d", &logger));
  ck_assert_int_eq(drain(fd, got, sizeof(got)), 2);
  ck_assert_str_eq(got, "STATUS=d");
  close(fd);
  for (int i = 0; i < 2; i++) {
    ck_assert(sd_notify_try(&notify, "STATUS=e", &logger)); /* never again */
    check_said(i == 0 ? "cannot send to NOTIFY_SOCKET" : NULL);
  }
  sd_notify_close(&notify);
  ck_assert(sd_notify_try(&notify, "STATUS=f", &logger)); /* there is no manager */
  check_said(NULL);
}
END_TEST

/* The manager ends while a state waits for it: it is given up, and the log says so. */
START_TEST(test_manager_ends) {
  char path[64];
  snprintf(path, sizeof(path), "@check_sd_notify.%d", (int)getpid());
  int fd = manager(path);
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, path), 0);
  fill(path);
  sd_notify_send(&notify, "READY=1", &logger);
  check_said("NOTIFY_SOCKET is full");
  close(fd);
  sd_notify_retry(&notify, &logger);
  check_said("cannot send to NOTIFY_SOCKET");
  ck_assert(!sd_notify_pending(&notify));
  sd_notify_close(&notify);
}
END_TEST

START_TEST(test_invalid_paths_are_ignored) {
  unsigned before = count_descriptors();
  char lengthy[200];
  memset(lengthy, 'x', sizeof(lengthy) - 1);
  lengthy[0] = '/';
  lengthy[sizeof(lengthy) - 1] = 0;
  const char *const paths[] = {"", "/", "@", "relative", "vsock:2:1", lengthy};
  for (size_t i = 0; i < count_of(paths); i++) {
    struct sd_notify notify;
    errno = 0;
    ck_assert_int_eq(sd_notify_open(&notify, paths[i]), -1);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(notify.fd, -1);
  }
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, "/nowhere/notify"), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(notify.fd, -1);
  ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_without_a_manager_nothing_is_sent, 1},
      {test_states_arrive, 2},
      {test_full_queue_delays, 2},
      {test_tried_messages, 1},
      {test_manager_ends, 1},
      {test_invalid_paths_are_ignored, 1},
  };
  return run_suite_fixture("notify", tests, count_of(tests), set_up, tear_down);
}
