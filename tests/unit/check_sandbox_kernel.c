/*
 * check_sandbox_kernel: what Landlock refuses without a filter, and what older kernels leave out.
 */
#include "tests/fixtures/sandbox_fixture.h"

/* ---- Landlock, without a filter ---- */

static int files_refused(void) {
  char renamed[ADDR_PATH_MAX + 8];
  struct stat st;
  MUST(open_before() == 0);
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  snprintf(renamed, sizeof(renamed), "%s.new", other_path);
  MUST(sandbox.facts.landlock_abi > 0 && !sandbox.seccomp);
  MUST(FAILS(open("/etc/passwd", O_RDONLY), EACCES));
  MUST(FAILS(open("/dev/null", O_WRONLY), EACCES));
  MUST(FAILS(open("/", O_RDONLY | O_DIRECTORY), EACCES));
  MUST(FAILS(open(socket_path, O_RDONLY), EACCES));
  MUST(FAILS(open(other_path, O_WRONLY | O_CREAT, 0600), EACCES));
  MUST(FAILS(mkdir(renamed, 0700), EACCES));
  MUST(FAILS(rename(other_path, renamed), EACCES));
  MUST(FAILS(unlink(other_path), EACCES));
  MUST(stat(other_path, &st) == 0);
  MUST(unlink(socket_path) == 0);
  return 0;
}

START_TEST(landlock_leaves_the_removal_of_socket_files) {
  kind = SANDBOX_MAIN;
  make_files();
  succeeds(files_refused);
  remove_files();
}
END_TEST

/* The admin endpoint's socket files, too. */
static int admin_files_refused(void) {
  config.admin[0] = config.listen[1];
  config.admin_count = 1;
  config.listen_count = 1;
  return files_refused();
}

START_TEST(landlock_leaves_the_removal_of_admin_sockets) {
  kind = SANDBOX_ACCEPTOR;
  make_files();
  succeeds(admin_files_refused);
  remove_files();
}
END_TEST

static int nothing_removable(void) {
  config.listen_count = 1; /* the TCP listener */
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  MUST(FAILS(unlink(socket_path), EACCES));
  return 0;
}

START_TEST(landlock_without_a_socket_file_removes_nothing) {
  kind = SANDBOX_MAIN;
  make_files();
  succeeds(nothing_removable);
  remove_files();
}
END_TEST

/* A folder that is missing, or an abstract name, needs no rule. */
static int odd_listeners(void) {
  strcpy(config.listen[1].path, "/nowhere/check_sandbox/x.sock"); /* rules-ok: it fits */
  MUST(prepare(SANDBOX_AUTO, false) == 0);
  MUST(sandbox.facts.landlock_error == 0 && rules == 0);
  sandbox_fini(&sandbox);
  strcpy(config.listen[1].path, "@abstract"); /* rules-ok: it fits */
  MUST(prepare(SANDBOX_AUTO, false) == 0);
  MUST(sandbox.facts.landlock_error == 0 && rules == 0);
  sandbox_fini(&sandbox);
  strcpy(config.listen[1].path, "/x.sock"); /* rules-ok: it fits */
  MUST(prepare(SANDBOX_AUTO, false) == 0);
  MUST(sandbox.facts.landlock_error == 0 && rules == 1);
  return 0;
}

START_TEST(listeners_without_a_folder_need_no_rule) {
  make_files();
  succeeds(odd_listeners);
  remove_files();
}
END_TEST

static int network_refused(void) {
  struct sockaddr_in any = {.sin_family = AF_INET};
  MUST(open_before() == 0);
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  MUST(FAILS(execute(), EACCES));
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(fd != -1);
  if (sandbox.facts.landlock_abi >= 4) {
    any.sin_port = listener_addr.sin_port;
    MUST(FAILS(connect(fd, (struct sockaddr *)&listener_addr, sizeof(any)), EACCES));
    any.sin_port = 0;
    MUST(FAILS(bind(fd, (struct sockaddr *)&any, sizeof(any)), EACCES));
  }
  return 0;
}

START_TEST(landlock_refuses_programs_and_tcp) {
  kind = SANDBOX_WORKER;
  make_files();
  succeeds(network_refused);
  remove_files();
}
END_TEST

/* A service manager's socket may have an abstract name. It is connected before. */
static int strangers_refused(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t size = sizeof(sa_family_t); /* the kernel chooses the name */
  char byte;
  int manager = socket(AF_UNIX, SOCK_DGRAM, 0), notify = socket(AF_UNIX, SOCK_DGRAM, 0);
  MUST(bind(manager, (struct sockaddr *)&name, size) == 0);
  size = sizeof(name);
  MUST(getsockname(manager, (struct sockaddr *)&name, &size) == 0);
  MUST(connect(notify, (struct sockaddr *)&name, size) == 0);
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  MUST(send(notify, "x", 1, MSG_NOSIGNAL) == 1 && recv(manager, &byte, 1, 0) == 1);
  if (sandbox.facts.landlock_abi >= 6) {
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(FAILS(connect(fd, (struct sockaddr *)&name, size), EPERM));
    MUST(FAILS(sendto(fd, "x", 1, 0, (struct sockaddr *)&name, size), EPERM));
    MUST(FAILS(kill(getppid(), 0), EPERM));
  }
  MUST(kill(getpid(), 0) == 0);
  return 0;
}

START_TEST(landlock_refuses_abstract_sockets_and_signals) {
  kind = SANDBOX_MAIN;
  succeeds(strangers_refused);
}
END_TEST

/* ---- old kernels ---- */

/* _i: a version of Landlock's ABI; 0 = the kernel has no Landlock. */
START_TEST(ruleset_asks_for_what_the_abi_has) {
  const struct attributes all[] = {{0, 0, 0},      {0x1fff, 0, 0}, {0x3fff, 0, 0}, {0x7fff, 0, 0},
                                   {0x7fff, 3, 0}, {0xffff, 3, 0}, {0xffff, 3, 3}, {0xffff, 3, 3}};
  make_files();
  abi_simulated = _i;
  ck_assert_int_eq(prepare(SANDBOX_ON, false), _i == 0 ? -1 : 0);
  ck_assert_int_eq(sandbox.facts.landlock_abi, _i);
  ck_assert_int_eq(sandbox.facts.landlock_error, _i == 0 ? ENOSYS : 0);
  ck_assert_int_eq(sandbox.facts.seccomp_error, 0);
  ck_assert_str_eq(sandbox.facts.seccomp, "pool");
  ck_assert_uint_eq(wanted.fs, all[_i].fs);
  ck_assert_uint_eq(wanted.net, all[_i].net);
  ck_assert_uint_eq(wanted.scoped, all[_i].scoped);
  ck_assert_uint_eq(rules, _i == 0 ? 0 : 1);
  ck_assert_uint_eq(rule_right, _i == 0 ? 0 : 1 << 5);
  ck_assert_int_eq(sandbox.ruleset_fd == -1, _i == 0);
  sandbox_fini(&sandbox);
  ck_assert_int_eq(sandbox.ruleset_fd, -1);
  rules = 0;
  ck_assert_int_eq(prepare(SANDBOX_AUTO, true), 0);
  ck_assert_uint_eq(wanted.fs, _i == 0 ? 0 : _i == 1 ? 1 : 0x2001);
  ck_assert_uint_eq(wanted.net | wanted.scoped, 0);
  ck_assert_uint_eq(rules, _i < 2 ? 0 : 1);
  sandbox_fini(&sandbox);
  remove_files();
}
END_TEST

static int without_anything(void) {
  abi_simulated = 0;
  seccomp_refused = ENOSYS;
  ENTER(SANDBOX_AUTO);
  MUST(sandbox.facts.landlock_error == ENOSYS && sandbox.facts.seccomp_error == ENOSYS);
  MUST(sandbox.facts.landlock_abi == 0 && strcmp(sandbox.facts.seccomp, "off") == 0);
  MUST(open("/etc/passwd", O_RDONLY) != -1);
  return 0;
}

START_TEST(auto_goes_on_without_anything) {
  kind = SANDBOX_WORKER;
  succeeds(without_anything);
}
END_TEST

/* _i: ON or TRAP. Each part that is missing is a failure. */
START_TEST(on_wants_everything) {
  enum sandbox_mode mode = SANDBOX_ON + _i;
  seccomp_refused = EINVAL;
  ck_assert_int_eq(prepare(mode, false), -1);
  ck_assert_int_eq(sandbox.facts.seccomp_error, EINVAL);
  ck_assert_str_eq(sandbox.facts.seccomp, "off");
  ck_assert_int_eq(sandbox.facts.landlock_error, 0);
  sandbox_fini(&sandbox);
  seccomp_refused = 0;
  privileges_refused = EINVAL;
  ck_assert_int_eq(prepare(mode, false), -1);
  ck_assert_int_eq(sandbox.facts.landlock_error, EINVAL);
  ck_assert_int_eq(sandbox.facts.seccomp_error, EINVAL);
  ck_assert_int_eq(sandbox.ruleset_fd, -1);
  sandbox_fini(&sandbox);
  privileges_refused = 0;
  ck_assert_int_eq(prepare(mode, false), 0);
  ck_assert(sandbox_required(&sandbox));
  sandbox_fini(&sandbox);
}
END_TEST

/* _i: a kind. First Landlock, which needs a call that the filter forbids; then the filter. */
START_TEST(thread_enters_in_this_order) {
  struct sock_filter own[SANDBOX_PROGRAM_MAX];
  unsigned count = sandbox_program(_i, false, own);
  kind = _i;
  pretends = true;
  ck_assert_int_eq(enter(SANDBOX_ON), 0);
  ck_assert_uint_eq(asked, 2);
  ck_assert_int_eq(asked_for[0], SYS_landlock_restrict_self);
  ck_assert_int_eq(asked_for[1], SYS_seccomp);
  ck_assert_int_eq(filter_flags, 4); /* SECCOMP_FILTER_FLAG_SPEC_ALLOW */
  ck_assert_uint_eq(filter_count, count);
  ck_assert_int_eq(memcmp(filter, own, count * sizeof(*own)), 0);
  sandbox_fini(&sandbox);
}
END_TEST

static int filter_refused(void) {
  MUST(prepare(SANDBOX_ON, false) == 0);
  seccomp_refused = ENOMEM;
  MUST(FAILS(sandbox_enter(&sandbox, SANDBOX_WORKER), ENOMEM));
  seccomp_refused = 0;
  sandbox_fini(&sandbox);
  sandbox.ruleset_fd = 99; /* no ruleset */
  MUST(FAILS(sandbox_enter(&sandbox, SANDBOX_WORKER), EBADF));
  return 0;
}

START_TEST(thread_that_cannot_enter_says_so) { succeeds(filter_refused); }
END_TEST

/* A process may have 16 layers of Landlock: then there is no room for one more. */
static int layer_refused(void) {
  MUST(prepare(SANDBOX_AUTO, kind == SANDBOX_HANDLER) == 0);
  sandbox_fini(&sandbox);
  sandbox.ruleset_fd = 99; /* no ruleset */
  MUST(FAILS(sandbox_enter(&sandbox, kind), EBADF));
  MUST(FAILS(unshare(0), kind == SANDBOX_HANDLER ? EPERM : ENOSYS));
  return 0;
}

/* _i: a kind. */
START_TEST(filter_comes_without_landlock) {
  kind = _i;
  succeeds(layer_refused);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {landlock_leaves_the_removal_of_socket_files, 1},
      {landlock_leaves_the_removal_of_admin_sockets, 1},
      {landlock_without_a_socket_file_removes_nothing, 1},
      {listeners_without_a_folder_need_no_rule, 1},
      {landlock_refuses_programs_and_tcp, 1},
      {landlock_refuses_abstract_sockets_and_signals, 1},
      {ruleset_asks_for_what_the_abi_has, 8},
      {auto_goes_on_without_anything, 1},
      {on_wants_everything, 2},
      {thread_enters_in_this_order, SANDBOX_KINDS},
      {thread_that_cannot_enter_says_so, 1},
      {filter_comes_without_landlock, SANDBOX_KINDS},
  };
  return run_suite("sandbox_kernel", tests, count_of(tests));
}
