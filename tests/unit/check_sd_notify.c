/* check_sd_notify: datagrams to a service manager, which may be absent. */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include "net/sd_notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

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
  sd_notify_send(&notify, "READY=1");
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
  sd_notify_send(&notify, "READY=1");
  sd_notify_send(&notify, "STOPPING=1");
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 7);
  ck_assert_mem_eq(got, "READY=1", 7);
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 10);
  ck_assert_mem_eq(got, "STOPPING=1", 10);
  close(fd);
  sd_notify_send(&notify, "STOPPING=1"); /* closed: no error, no signal */
  sd_notify_close(&notify);
  ck_assert_int_eq(notify.fd, -1);
  sd_notify_close(&notify);
  (void)unlink(path);
  ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

/* A manager that does not read must not block the sender. */
START_TEST(test_full_queue_does_not_block) {
  char path[64];
  snprintf(path, sizeof(path), "@check_sd_notify.%d", (int)getpid());
  int fd = manager(path);
  struct sd_notify notify;
  ck_assert_int_eq(sd_notify_open(&notify, path), 0);
  for (int i = 0; i < 10000; i++) {
    sd_notify_send(&notify, "READY=1");
  }
  char got[32];
  ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 7);
  sd_notify_close(&notify);
  close(fd);
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
      {test_full_queue_does_not_block, 1},
      {test_invalid_paths_are_ignored, 1},
  };
  return run_suite("notify", tests, count_of(tests));
}
