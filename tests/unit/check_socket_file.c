/*
 * check_socket_file: the file of a UNIX listener in a folder that another user changes while the
 * server starts and ends.
 *
 * The linker directs bind, connect and chmod to functions of this program, which change the folder
 * between two steps of the server.  A victim is a file that the server must neither change nor
 * remove.
 */
#include "tests/fixtures/listener_fixture.h"

#define VICTIM_MODE 0600

/* ---- what happens between two steps ---- */

static void (*before_bind)(void), (*after_bind)(void), (*after_connect)(void);
static int chmod_error; /* 0 = chmod works */
static unsigned chmod_count;

static void call(void (**hook)(void)) {
  void (*function)(void) = *hook;
  int error = errno;
  *hook = NULL;
  if (function != NULL) {
    function();
  }
  errno = error;
}

int __real_bind(int fd, const struct sockaddr *to, socklen_t size);
int __wrap_bind(int fd, const struct sockaddr *to, socklen_t size);
int __wrap_bind(int fd, const struct sockaddr *to, socklen_t size) {
  call(&before_bind);
  int result = __real_bind(fd, to, size);
  call(&after_bind);
  return result;
}

int __real_connect(int fd, const struct sockaddr *to, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t size) {
  int result = __real_connect(fd, to, size);
  call(&after_connect);
  return result;
}

int __real_chmod(const char *path, mode_t mode);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_chmod(const char *path, mode_t mode) {
  chmod_count++;
  if (chmod_error != 0) {
    errno = chmod_error;
    return -1;
  }
  return __real_chmod(path, mode);
}

/* ---- files ---- */

/* The path of ${name} in the folder, in one of four buffers. */
static const char *in(const char *name) {
  static char paths[4][128];
  static unsigned next;
  char *path = paths[next++ % count_of(paths)];
  snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
  return path;
}

static void make_victim(const char *name) {
  int fd = open(in(name), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, VICTIM_MODE);
  ck_assert_int_ne(fd, -1);
  ck_assert_int_eq(fchmod(fd, VICTIM_MODE), 0);
  close(fd);
}

static void make_socket(const char *name) {
  struct sockaddr_un at = unix_address(name);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
  ck_assert_int_eq(__real_chmod(in(name), VICTIM_MODE), 0);
  close(fd);
}

/* ${name} exists, is no link, and has the mode of a victim. */
static void check_victim(const char *name) {
  struct stat st;
  ck_assert_msg(lstat(in(name), &st) == 0, "%s was removed", name);
  ck_assert_uint_eq(st.st_mode & 07777, VICTIM_MODE);
}

static bool exists(const char *name) {
  struct stat st;
  return lstat(in(name), &st) == 0;
}

/* Remove what the tests make. */
static void clean(void) {
  static const char *const names[] = {"d/s",    "d/v",   "e/s",     "e/v",     "moved/s",
                                      "victim", "other", "moved/v", "d/other", "e/other"};
  for (size_t i = 0; i < count_of(names); i++) {
    (void)unlink(in(names[i])); /* most do not exist */
  }
  (void)unlink(in("d")); /* a link in one test */
  (void)rmdir(in("d"));
  (void)rmdir(in("e"));
  (void)rmdir(in("moved"));
}

static void begin(void) {
  set_up();
  before_bind = after_bind = after_connect = NULL;
  chmod_error = 0;
  chmod_count = 0;
  ck_assert_int_eq(mkdir(in("d"), 0700), 0);
  ck_assert_int_eq(mkdir(in("e"), 0700), 0);
  make_victim("victim");
}

static void end(void) {
  clean();
  tear_down();
}

/* ---- the file is replaced after bind ---- */

static void put_link(void) {
  ck_assert_int_eq(rename(in("d/s"), in("other")), 0);
  ck_assert_int_eq(symlink(in("victim"), in("d/s")), 0);
}

static void put_hard_link(void) {
  ck_assert_int_eq(rename(in("d/s"), in("other")), 0);
  ck_assert_int_eq(link(in("victim"), in("d/s")), 0);
}

static void put_file(void) {
  ck_assert_int_eq(unlink(in("d/s")), 0);
  make_victim("d/s");
}

static void put_link_to_own_socket(void) {
  ck_assert_int_eq(rename(in("d/s"), in("other")), 0);
  ck_assert_int_eq(symlink(in("other"), in("d/s")), 0);
}

/* A socket that also has a name elsewhere: perhaps it belongs to another server. */
static void put_socket_with_two_names(void) {
  ck_assert_int_eq(unlink(in("d/s")), 0);
  make_socket("other");
  ck_assert_int_eq(link(in("other"), in("d/s")), 0);
}

static void put_socket_of_another_user(void) {
  ck_assert_int_eq(unlink(in("d/s")), 0);
  make_socket("d/s");
  ck_assert_int_eq(chown(in("d/s"), 12345, 12345), 0);
}

static void put_folder(void) {
  ck_assert_int_eq(unlink(in("d/s")), 0);
  ck_assert_int_eq(mkdir(in("d/s"), VICTIM_MODE), 0);
}

static void put_nothing(void) { ck_assert_int_eq(unlink(in("d/s")), 0); }

static const struct {
  void (*put)(void);
  int error;
  bool needs_root;
} replacements[] = {
    {put_link, EEXIST, false},
    {put_hard_link, EEXIST, false},
    {put_file, EEXIST, false},
    {put_link_to_own_socket, EEXIST, false},
    {put_socket_with_two_names, EEXIST, false},
    {put_folder, EEXIST, false},
    {put_nothing, ENOENT, false},
    {put_socket_of_another_user, EEXIST, true},
};

/* The start fails, and neither mode nor existence of anything else changes. */
START_TEST(test_file_is_replaced_after_bind) {
  struct listener listener;
  if (replacements[_i].needs_root && geteuid() != 0) {
    return;
  }
  unsigned before = count_descriptors();
  after_bind = replacements[_i].put;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), -1);
  ck_assert_int_eq(errno, replacements[_i].error);
  check_said(replacements[_i].error == EEXIST ? "another file has replaced a socket file"
                                              : "cannot find a socket file");
  check_victim("victim");
  if (replacements[_i].put != put_nothing && replacements[_i].put != put_link &&
      replacements[_i].put != put_link_to_own_socket) {
    check_victim("d/s");
  }
  ck_assert_uint_eq(exists("d/s"), replacements[_i].put != put_nothing);
  ck_assert_uint_eq(chmod_count, 0);
  ck_assert_uint_eq(count_descriptors(), before);
  (void)rmdir(in("d/s"));
}
END_TEST

/* ---- the folder is replaced ---- */

/* The path leads to folder e from now on. */
static void swap_folder(void) {
  ck_assert_int_eq(rename(in("d"), in("moved")), 0);
  ck_assert_int_eq(symlink(in("e"), in("d")), 0);
}

/* Mode and removal concern the file that bind has made, wherever its folder is now. */
START_TEST(test_folder_is_replaced_after_bind) {
  struct listener listener;
  struct stat st;
  make_victim("e/s");
  after_bind = swap_folder;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), 0);
  check_victim("e/s");
  ck_assert_int_eq(lstat(in("moved/s"), &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0666);
  if (_i == 1) {
    listener_stop(&listener);
  }
  listener_close(&listener);
  ck_assert(!exists("moved/s"));
  check_victim("e/s");
}
END_TEST

/* bind follows the new path; the start does not take what it finds there for its own. */
START_TEST(test_folder_is_replaced_before_bind) {
  struct listener listener;
  before_bind = swap_folder;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), -1);
  ck_assert_int_eq(errno, ENOENT);
  check_said("cannot find a socket file");
  ck_assert_uint_eq(chmod_count, 0);
}
END_TEST

START_TEST(test_folder_is_replaced_while_serving) {
  struct listener listener;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", "")), 0);
  swap_folder();
  make_victim("e/s");
  listener_close(&listener);
  check_victim("e/s");
  ck_assert(!exists("moved/s"));
}
END_TEST

/* ---- a stale file is replaced during the check ---- */

static void put_file_for_stale(void) {
  ck_assert_int_eq(rename(in("d/s"), in("other")), 0); /* keeps its inode in use */
  make_victim("d/s");
}

static void put_socket_for_stale(void) {
  ck_assert_int_eq(rename(in("d/s"), in("other")), 0);
  make_socket("d/s");
}

static void swap_folder_for_stale(void) {
  swap_folder();
  make_socket("e/s");
}

/* Only the file that was found dead is removed. */
START_TEST(test_stale_file_is_replaced) {
  static void (*const puts[])(void) = {put_file_for_stale, put_socket_for_stale,
                                       swap_folder_for_stale};
  struct listener listener;
  unsigned before = count_descriptors();
  make_socket("d/s");
  after_connect = puts[_i];
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), -1);
  ck_assert_int_eq(errno, EADDRINUSE);
  check_said("cannot bind");
  check_victim(puts[_i] == swap_folder_for_stale ? "e/s" : "d/s");
  ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

/* ---- modes ---- */

/* The mode is in force under every umask; /proc is needed only for what the umask has taken. */
START_TEST(test_mode_and_umask) {
  static const mode_t umasks[] = {0, 022, 077, 0177, 0777};
  static const mode_t modes[] = {0600, 0660, 0666, 0, 0777};
  for (size_t i = 0; i < count_of(umasks); i++) {
    for (size_t j = 0; j < count_of(modes); j++) {
      struct listener listener;
      struct stat st;
      char option[16];
      mode_t before = umask(umasks[i]);
      snprintf(option, sizeof(option), ";mode=%o", (unsigned)modes[j]);
      chmod_count = 0;
      ck_assert_int_eq(open_at(&listener, unix_text("d/s", option)), 0);
      umask(before);
      ck_assert_int_eq(lstat(in("d/s"), &st), 0);
      ck_assert_uint_eq(st.st_mode & 07777, modes[j]);
      ck_assert_uint_eq(chmod_count, (modes[j] & umasks[i]) != 0);
      listener_close(&listener);
      ck_assert(!exists("d/s"));
    }
  }
}
END_TEST

START_TEST(test_mode_without_proc) {
  struct listener listener;
  mode_t before = umask(022);
  chmod_error = _i == 0 ? ENOENT : EPERM;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), -1);
  ck_assert_int_eq(errno, _i == 0 ? EOPNOTSUPP : EPERM);
  check_said(_i == 0 ? "fix=\"mount /proc, or start with a umask that leaves the mode\""
                     : "cannot set the mode of a socket file");
  ck_assert(!exists("d/s"));
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0644")), 0);
  listener_close(&listener);
  umask(before);
}
END_TEST

/* ---- folders ---- */

START_TEST(test_folder_that_cannot_be_opened) {
  static const struct {
    const char *name;
    int error;
  } folders[] = {{"none/s", ENOENT}, {"victim/s", ENOTDIR}};
  struct listener listener;
  unsigned before = count_descriptors();
  ck_assert_int_eq(open_at(&listener, unix_text(folders[_i].name, "")), -1);
  ck_assert_int_eq(errno, folders[_i].error);
  check_said("cannot bind");
  ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

/* A folder that the server may search and write to, but not read, is not locked. */
START_TEST(test_unreadable_folder) {
  struct listener listener;
  ck_assert_int_eq(__real_chmod(in("d"), 0300), 0);
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0666")), 0);
  listener_close(&listener);
  ck_assert(!exists("d/s"));
  ck_assert_int_eq(__real_chmod(in("d"), 0700), 0);
}
END_TEST

/* The file gets another owner, unless another file has replaced it. */
START_TEST(test_give) {
  struct listener listener;
  struct stat file;
  ck_assert_int_eq(open_at(&listener, unix_text("d/s", ";mode=0600")), 0);
  uint32_t uid = geteuid() == 0 ? 65534 : geteuid(), gid = geteuid() == 0 ? 65534 : getegid();
  ck_assert_int_eq(socket_file_give(&listener.file, &listener.addr, uid, gid), 0);
  ck_assert_int_eq(stat(in("d/s"), &file), 0);
  ck_assert(file.st_uid == uid && file.st_gid == gid);
  ck_assert_int_eq(rename(in("d/s"), in("d/other")), 0);
  ck_assert_int_eq(socket_file_give(&listener.file, &listener.addr, uid, gid), -1);
  make_victim("d/s");
  ck_assert_int_eq(socket_file_give(&listener.file, &listener.addr, uid, gid), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(unlink(in("d/other")), 0);
  listener_close(&listener);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_file_is_replaced_after_bind, count_of(replacements)},
      {test_folder_is_replaced_after_bind, 2},
      {test_folder_is_replaced_before_bind, 1},
      {test_folder_is_replaced_while_serving, 1},
      {test_stale_file_is_replaced, 3},
      {test_mode_and_umask, 1},
      {test_mode_without_proc, 2},
      {test_folder_that_cannot_be_opened, 2},
      {test_unreadable_folder, 1},
      {test_give, 1},
  };
  return run_suite_fixture("socket_file", tests, count_of(tests), begin, end);
}
