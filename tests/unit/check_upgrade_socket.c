/* check_upgrade_socket: the socket of XCHG_UPGRADE as a listener, and who connects to it. */
#include "net/upgrade_socket.h"

#include "net/fd_socket.h"
#include "tests/fixtures/listener_fixture.h"

static struct listener listener;
static struct addr_listen at;

static void begin(void) {
  set_up();
  config.use = USE_REQUESTS;
  ck_assert_int_eq(addr_parse_listen(unix_text("u", ";mode=0600"), &at), 0);
}

static void receive(int fd, const char *wanted) {
  static char bytes[FD_PACKET_BYTES_MAX];
  int fds[FD_PACKET_FDS_MAX];
  unsigned count;
  size_t size;
  ck_assert_int_eq(fd_socket_recv(fd, bytes, &size, fds, &count), FD_IO_OK);
  ck_assert(size == strlen(wanted) && memcmp(bytes, wanted, size) == 0 && count == 0);
}

/* A packet goes each way, and the listener knows who has connected. */
START_TEST(test_both_ways) {
  struct stat file;
  uid_t uid = geteuid() + 1;
  ck_assert_int_eq(listener_open(&listener, &at, &config, &logger), 0);
  ck_assert_int_eq(stat(unix_path("u"), &file), 0);
  ck_assert_uint_eq(file.st_mode & 07777, 0600);
  ck_assert_int_eq(upgrade_socket_accept(&listener, &uid), -1); /* it does not wait */
  ck_assert_int_eq(errno, EAGAIN);
  int asker = upgrade_socket_connect(&at);
  ck_assert_int_ne(asker, -1);
  int server = upgrade_socket_accept(&listener, &uid);
  ck_assert_int_ne(server, -1);
  ck_assert_uint_eq(uid, geteuid());
  ck_assert_int_eq(fd_socket_send(asker, "a request", 9, NULL, 0), FD_IO_OK);
  receive(server, "a request");
  ck_assert_int_eq(fd_socket_send(server, "an answer", 9, NULL, 0), FD_IO_OK);
  receive(asker, "an answer");
  close(asker);
  close(server);
  listener_close(&listener);
  ck_assert_int_eq(stat(unix_path("u"), &file), -1);
}
END_TEST

/* With XCHG_USER, which is this user here, the file gets that owner. */
START_TEST(test_owner) {
  struct stat file;
  config.user = (struct config_user){.set = true, .uid = geteuid(), .gid = getegid()};
  if (geteuid() == 0) {
    config.user.uid = config.user.gid = 65534;
  }
  ck_assert_int_eq(listener_open(&listener, &at, &config, &logger), 0);
  ck_assert_int_eq(stat(unix_path("u"), &file), 0);
  ck_assert(file.st_uid == config.user.uid && file.st_gid == config.user.gid);
  listener_close(&listener);
}
END_TEST

/* A stream does not fit; a live socket keeps its path, and a dead one is replaced. */
START_TEST(test_other_sockets) {
  struct listener other;
  ck_assert_int_eq(upgrade_socket_connect(&at), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(listener_open(&listener, &at, &config, &logger), 0);
  ck_assert_int_eq(listener_open(&other, &at, &config, &logger), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("XCHG_UPGRADE");
  listener.file.inode = 0; /* as if this process were killed */
  listener_close(&listener);
  ck_assert_int_eq(upgrade_socket_connect(&at), -1);
  ck_assert_int_eq(errno, ECONNREFUSED);
  config.use = USE_CLIENTS;
  ck_assert_int_eq(listener_open(&other, &at, &config, &logger), 0);
  ck_assert_int_eq(upgrade_socket_connect(&at), -1);
  ck_assert_int_eq(errno, EPROTOTYPE);
  listener_close(&other);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_both_ways, 1},
      {test_owner, 1},
      {test_other_sockets, 1},
  };
  return run_suite_fixture("upgrade_socket", tests, count_of(tests), begin, tear_down);
}
