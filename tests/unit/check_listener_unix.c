/*
 * check_listener_unix: UNIX listeners: the socket file, which server may remove it, and adoption.
 */
#include "tests/fixtures/listener_fixture.h"

/* ---- bound sockets ---- */

START_TEST(test_unix) {
  struct listener listener;
  struct stat st;
  config.sndbuf_bytes = _i == 1 ? 30000 : 0;
  ck_assert_int_eq(open_at(&listener, unix_text("s", _i == 1 ? ";mode=0612" : "")), 0);
  ck_assert_int_eq(stat(unix_path("s"), &st), 0);
  ck_assert(S_ISSOCK(st.st_mode));
  if (_i == 1) {
    ck_assert_uint_eq(st.st_mode & 07777, 0612);
  }
  int client = dial_unix("s");
  struct accepted_conn accepted = welcome(&listener);
  ck_assert_int_eq(accepted.addr.family, ADDR_UNIX);
  ck_assert_int_eq(option(accepted.fd, SOL_SOCKET, SO_SNDBUF) == 60000, _i == 1);
  accepted_conn_close(&accepted);
  close(client);
  listener_close(&listener);
  ck_assert_int_eq(lstat(unix_path("s"), &st), -1);
}
END_TEST

/* The file of a server that no longer runs is replaced. */
START_TEST(test_unix_stale) {
  struct listener listener;
  struct sockaddr_un at = unix_address("s");
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
  close(fd);
  ck_assert_int_eq(open_at(&listener, unix_text("s", "")), 0);
  int client = dial_unix("s");
  ck_assert_int_ne(client, -1);
  close(client);
  listener_close(&listener);
}
END_TEST

/* The file of a live server, or one that is no socket, is not replaced. */
START_TEST(test_unix_live_or_foreign) {
  struct listener live, second;
  struct stat before, after;
  ck_assert_int_eq(open_at(&live, unix_text("s", "")), 0);
  ck_assert_int_eq(stat(unix_path("s"), &before), 0);
  ck_assert_int_eq(open_at(&second, unix_text("s", "")), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("cannot bind");
  ck_assert_int_eq(stat(unix_path("s"), &after), 0);
  ck_assert_uint_eq(before.st_ino, after.st_ino);
  struct accepted_conn probe;
  ck_assert_int_eq(listener_accept(&live, &probe),
                   ACCEPTED); /* the connection that tested for a server */
  accepted_conn_close(&probe);
  listener_close(&live);

  int fd = open(unix_path("f"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(write(fd, "mine", 4), 4);
  close(fd);
  ck_assert_int_eq(open_at(&second, unix_text("f", "")), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("cannot bind");
  ck_assert_int_eq(stat(unix_path("f"), &after), 0);
  ck_assert_int_eq(after.st_size, 4);
  ck_assert_int_eq(unlink(unix_path("f")), 0);
}
END_TEST

/* Another server has replaced the file: it stays. */
START_TEST(test_unix_file_of_a_successor_stays) {
  struct listener one, two;
  struct stat st;
  ck_assert_int_eq(open_at(&one, unix_text("s", "")), 0);
  ck_assert_int_eq(unlink(unix_path("s")), 0);
  ck_assert_int_eq(open_at(&two, unix_text("s", "")), 0);
  if (_i == 1) {
    listener_stop(&one);
  }
  listener_close(&one);
  ck_assert_int_eq(stat(unix_path("s"), &st), 0);
  int client = dial_unix("s");
  ck_assert_int_ne(client, -1);
  close(client);
  listener_close(&two);
  ck_assert_int_eq(stat(unix_path("s"), &st), -1);
}
END_TEST

START_TEST(test_retire_unix) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, unix_text("s", "")), 0);
  int early[3];
  for (int i = 0; i < 3; i++) {
    early[i] = dial_unix("s");
    ck_assert_int_ne(early[i], -1);
  }
  int late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un at = unix_address("s");
  listener_stop(&listener);
  ck_assert_int_eq(connect(late, (struct sockaddr *)&at, sizeof(at)), -1);
  ck_assert_int_eq(errno, ENOENT);
  close(late);
  for (int i = 0; i < 3; i++) {
    struct accepted_conn accepted = welcome(&listener);
    accepted_conn_close(&accepted);
    close(early[i]);
  }
  struct accepted_conn accepted;
  ck_assert_int_eq(listener_accept(&listener, &accepted), ACCEPT_NONE);
  listener_close(&listener);
}
END_TEST

/* The folder's permissions have changed: the file stays, and the log says so. */
START_TEST(test_file_that_cannot_be_removed) {
  struct listener listener;
  if (geteuid() == 0) {
    return; /* permissions do not hold for root */
  }
  ck_assert_int_eq(open_at(&listener, unix_text("s", "")), 0);
  ck_assert_int_eq(chmod(folder, 0500), 0);
  listener_close(&listener);
  check_said("cannot remove the socket file");
  ck_assert_int_eq(chmod(folder, 0700), 0);
  ck_assert_int_eq(unlink(unix_path("s")), 0);
}
END_TEST

START_TEST(test_adopt_unix) {
  struct listener own, adopted;
  ck_assert_int_eq(open_at(&own, unix_text("s", "")), 0);
  ck_assert_int_eq(listener_adopt(&adopted, dup(own.fd), &config, &logger), 0);
  ck_assert_int_eq(adopted.addr.addr.family, ADDR_UNIX);
  ck_assert_str_eq(adopted.addr.path, unix_path("s"));
  if (_i == 1) {
    listener_stop(&adopted);
  }
  listener_close(&adopted);
  int client = dial_unix("s"); /* the file stays, and the socket still listens */
  ck_assert_int_ne(client, -1);
  struct accepted_conn accepted = welcome(&own);
  accepted_conn_close(&accepted);
  close(client);
  listener_close(&own);
}
END_TEST

/* An inherited socket has an abstract name, or a path without a 0 at its end. */
START_TEST(test_adopt_names) {
  static const struct {
    const char *name; /* after the folder */
    size_t size;
    const char *text;
    bool abstract;
  } names[] = {
      {"/a", 2, "/a", true},
      {"/a\0b", 4, "/a@b", true},
      {"/a\0", 3, "/a@", true},
      {"/s", 2, "/s", false},
  };
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  char text[160], want[160];
  struct listener adopted;
  size_t start = names[_i].abstract ? 1 : 0, length = strlen(folder);
  memcpy(at.sun_path + start, folder, length);
  memcpy(at.sun_path + start + length, names[_i].name, names[_i].size);
  size_t size = start + length + names[_i].size;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(
      bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
      0);
  ck_assert_int_eq(listen(fd, 1), 0);
  ck_assert_int_eq(listener_adopt(&adopted, fd, &config, &logger), 0);
  snprintf(want, sizeof(want), "unix:%s%s%s", start == 1 ? "@" : "", folder, names[_i].text);
  ck_assert_str_eq(addr_format_listen(&adopted.addr, text, sizeof(text)), want);
  listener_close(&adopted);
  (void)unlink(unix_path("s")); /* an abstract name has no file */
}
END_TEST

/* The longest names that the kernel knows: 108 bytes of a path, 107 of an abstract name. */
START_TEST(test_adopt_longest_names) {
  /* Valgrind looks for the end of the path after the structure. */
  struct {
    struct sockaddr_un at;
    char end;
  } name = {.at.sun_family = AF_UNIX};
  char text[160], want[160], path[sizeof(name.at.sun_path) + 1] = "";
  struct listener adopted;
  memset(path, 'n', sizeof(path) - 1);
  memcpy(path, folder, strlen(folder));
  path[strlen(folder)] = '/';
  memcpy(name.at.sun_path, path, sizeof(name.at.sun_path));
  if (_i == 1) {
    name.at.sun_path[0] = 0;
    path[0] = '@';
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof(name.at)), 0);
  ck_assert_int_eq(listen(fd, 1), 0);
  ck_assert_int_eq(listener_adopt(&adopted, fd, &config, &logger), 0);
  snprintf(want, sizeof(want), "unix:%s", path);
  ck_assert_str_eq(addr_format_listen(&adopted.addr, text, sizeof(text)), want);
  listener_close(&adopted);
  (void)unlink(path); /* an abstract name has no file */
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_unix, 2},
      {test_unix_stale, 1},
      {test_unix_live_or_foreign, 1},
      {test_unix_file_of_a_successor_stays, 2},
      {test_retire_unix, 1},
      {test_adopt_unix, 2},
      {test_file_that_cannot_be_removed, 1},
      {test_adopt_names, 4},
      {test_adopt_longest_names, 2},
  };
  return run_suite_fixture("listener_unix", tests, count_of(tests), set_up, tear_down);
}
