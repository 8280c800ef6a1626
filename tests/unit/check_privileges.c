/*
 * check_privileges: whom the process may become, and what it has afterwards. Each change happens in
 * a child. What needs root is left out for an ordinary user.
 */
#include "pool/privileges.h"

#include "tests/fixtures/run_suite.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER 65533
#define GROUP 65531

/* In a child: end it with the number of the line if ${condition} is false. */
#define WANT(condition)                       \
  do {                                        \
    if (!(condition)) {                       \
      fprintf(stderr, "line %d\n", __LINE__); \
      _exit(1);                               \
    }                                         \
  } while (0)

static void in_child(void (*run)(void)) {
  int status;
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    run();
    _exit(0);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

static struct config_user numbers(uint32_t uid, uint32_t gid) {
  return (struct config_user){.set = true, .uid = uid, .gid = gid};
}

static struct config_user named(const char *name) {
  struct config_user user = {.set = true};
  snprintf(user.name, sizeof(user.name), "%s", name);
  return user;
}

/* The line ${key} of /proc/self/status as a hexadecimal number. */
static uint64_t status_of(const char *key) {
  char line[256];
  uint64_t value = UINT64_MAX;
  FILE *stream = fopen("/proc/self/status", "re");
  WANT(stream != NULL);
  while (fgets(line, sizeof(line), stream) != NULL) {
    if (strncmp(line, key, strlen(key)) == 0) {
      WANT(sscanf(line + strlen(key), " %" SCNx64, &value) == 1);
    }
  }
  fclose(stream);
  return value;
}

/* ---- whom it may become ---- */

START_TEST(its_own_user_is_right) {
  struct config_user own = numbers(getuid(), getgid());
  ck_assert_ptr_null(privileges_find_user(&own));
  ck_assert_ptr_null(privileges_become(&own));
}
END_TEST

START_TEST(a_name_has_the_ids_of_passwd) {
  struct config_user user = named("root");
  const char *wrong = privileges_find_user(&user);
  ck_assert_uint_eq(user.uid, 0);
  ck_assert_uint_eq(user.gid, 0);
  if (getuid() == 0) {
    ck_assert_ptr_null(wrong);
  } else {
    ck_assert_str_eq(wrong, "only root can become another user");
  }
}
END_TEST

START_TEST(an_unknown_name_is_a_fault) {
  struct config_user user = named("no-such-user-of-xchg");
  ck_assert_str_eq(privileges_find_user(&user), "/etc/passwd has no such user; use its number");
}
END_TEST

/* Another group of the same user is a change, too. */
START_TEST(only_root_changes_and_never_to_root) {
  struct config_user user = numbers(getuid(), getgid() + 1);
  ck_assert_str_eq(privileges_find_user(&user), getuid() == 0
                                                    ? "want another user than root"
                                                    : "only root can become another user");
  user = numbers(OTHER, GROUP);
  if (getuid() == 0) {
    ck_assert_ptr_null(privileges_find_user(&user));
  } else {
    ck_assert_ptr_nonnull(privileges_find_user(&user));
    ck_assert_ptr_nonnull(privileges_become(&user));
    ck_assert_int_eq(errno, EPERM);
  }
}
END_TEST

/* ---- what it has afterwards ---- */

static void become_other(void) {
  const gid_t more[] = {4, 5};
  const struct config_user user = numbers(OTHER, GROUP);
  WANT(setgroups(2, more) == 0);
  WANT(privileges_bound() == 0);
  WANT(privileges_become(&user) == NULL);
  uid_t uid, effective_uid, saved_uid;
  gid_t gid, effective_gid, saved_gid;
  WANT(getresuid(&uid, &effective_uid, &saved_uid) == 0);
  WANT(getresgid(&gid, &effective_gid, &saved_gid) == 0);
  WANT(uid == OTHER && effective_uid == OTHER && saved_uid == OTHER);
  WANT(gid == GROUP && effective_gid == GROUP && saved_gid == GROUP);
  WANT(getgroups(0, NULL) == 0);
  WANT(setuid(0) == -1 && errno == EPERM);
  WANT(setgid(0) == -1 && errno == EPERM);
  WANT(privileges_held() == 0);
  WANT(status_of("CapEff:") == 0);
  WANT(status_of("CapBnd:") == 0);
  WANT(privileges_become(&user) == NULL); /* it is */
}

static void choose_core(void) {
  const struct config_user user = numbers(OTHER, GROUP);
  WANT(privileges_become(&user) == NULL);
  WANT(privileges_set_core(false) == 0);
  WANT(prctl(PR_GET_DUMPABLE) == 0);
  WANT(privileges_set_core(true) == 0);
  WANT(prctl(PR_GET_DUMPABLE) == 1);
}

START_TEST(nothing_of_root_is_left) {
  if (getuid() == 0) {
    in_child(become_other);
    in_child(choose_core);
  }
}
END_TEST

/* Without CAP_SETPCAP the bounding set stays, and that is no failure. */
static void drop_all(void) {
  uint64_t bounding = status_of("CapBnd:");
  WANT(privileges_drop() == 0);
  WANT(privileges_held() == 0);
  WANT(status_of("CapEff:") == 0);
  WANT(status_of("CapInh:") == 0);
  WANT(status_of("CapAmb:") == 0);
  WANT(privileges_bound() == 0);
  WANT(status_of("CapBnd:") == bounding);
}

/* The answer ${action} to system call ${number}. */
static void answer(uint32_t number, uint32_t action) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {.len = count_of(code), .filter = code};
  WANT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  WANT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* A service manager may forbid capset: who holds nothing does not call it. */
static void drop_nothing(void) {
  WANT(privileges_drop() == 0);
  answer(SYS_capset, SECCOMP_RET_KILL_PROCESS);
  WANT(privileges_drop() == 0);
}

static void drop_forbidden(void) {
  bool holds = privileges_held() != 0;
  answer(SYS_capset, SECCOMP_RET_ERRNO | EPERM);
  WANT(privileges_drop() == (holds ? -1 : 0));
}

static void ask_forbidden(void) {
  answer(SYS_capget, SECCOMP_RET_ERRNO | EPERM);
  WANT(privileges_drop() == -1 && errno == EPERM);
  WANT(privileges_bound() == -1 && errno == EPERM);
  WANT(privileges_held() == UINT64_MAX);
}

/* A filter that answers 0 without doing anything is noticed. */
static void pretended(void) {
  const struct config_user user = numbers(OTHER, GROUP);
  answer(SYS_setresuid, SECCOMP_RET_ERRNO);
  WANT(strcmp(privileges_become(&user), "the change to XCHG_USER has no effect") == 0);
}

START_TEST(capabilities_are_given_up) {
  in_child(drop_all);
  in_child(drop_nothing);
  in_child(drop_forbidden);
  in_child(ask_forbidden);
  if (getuid() == 0) {
    in_child(pretended);
  }
}
END_TEST

/* ---- socket files ---- */

static char folder[64], path[80];

static void write_bits(void) {
  const struct config_user user = numbers(OTHER, GROUP);
  if (getuid() == 0) {
    WANT(privileges_become(&user) == NULL);
    WANT(!privileges_may_remove(path));
  } else {
    WANT(chmod(folder, 0500) == 0);
    WANT(!privileges_may_remove(path));
  }
}

/* Root's file in root's folder with the sticky bit, as in /tmp. */
static void sticky(void) {
  const struct config_user user = numbers(OTHER, GROUP);
  WANT(chmod(folder, 01777) == 0);
  WANT(privileges_may_remove(path));
  if (getuid() == 0) {
    WANT(privileges_become(&user) == NULL);
    WANT(!privileges_may_remove(path));
  }
}

START_TEST(a_file_can_be_removed_where_its_folder_permits) {
  snprintf(folder, sizeof(folder), "/tmp/check_privileges.XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(path, sizeof(path), "%s/file", folder);
  FILE *file = fopen(path, "we");
  ck_assert_ptr_nonnull(file);
  fclose(file);
  ck_assert(privileges_may_remove(path));
  in_child(sticky);
  in_child(write_bits);
  ck_assert_int_eq(chmod(folder, 0700), 0);
  ck_assert(!privileges_may_remove("/no/such/folder/file"));
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {its_own_user_is_right, 1},
      {a_name_has_the_ids_of_passwd, 1},
      {an_unknown_name_is_a_fault, 1},
      {only_root_changes_and_never_to_root, 1},
      {nothing_of_root_is_left, 1},
      {capabilities_are_given_up, 1},
      {a_file_can_be_removed_where_its_folder_permits, 1},
  };
  return run_suite("privileges", tests, count_of(tests));
}
