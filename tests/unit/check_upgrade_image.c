/* check_upgrade_image: the program, the arguments and the environment of an upgrade. */
#include "pool/upgrade_image.h"

#include "tests/fixtures/run_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENT "an argument of two\nlines"

static const char *const environment[] = {
    "PATH=/bin",    "XCHG_LISTEN=:1", "WATCHDOG_PID=7", "LISTEN_PID=8",
    "LISTEN_FDS=2", "XCHG_WORKERS=2", "XCHG_IGNORED=1", NULL};

static struct upgrade_program program;
static struct upgrade_image image;

static void open_image(const char *const *request, bool passed) {
  const struct upgrade_image_setup setup = {
      .program = &program, .environment = environment, .request = request, .passed = passed};
  upgrade_program_find(&program, "/proc/self/exe");
  ck_assert_int_eq(upgrade_image_open(&image, &setup), 0);
}

/* Is ${text} in the new environment? */
static bool has(const char *text) {
  for (char **entry = image.environment.list; *entry != NULL; entry++) {
    if (strcmp(*entry, text) == 0) {
      return true;
    }
  }
  return false;
}

START_TEST(the_environment_stays) {
  open_image(NULL, false);
  ck_assert(has("PATH=/bin") && has("XCHG_LISTEN=:1") && has("XCHG_WORKERS=2"));
  ck_assert(has("LISTEN_PID=8") && has("LISTEN_FDS=2") && has("XCHG_IGNORED=1"));
  ck_assert(!has("WATCHDOG_PID=7"));
  upgrade_image_close(&image);
}
END_TEST

START_TEST(a_request_replaces_all_variables_of_xchgd) {
  static const char *const request[] = {"XCHG_LISTEN=:2", "XCHG_QUEUE=4", NULL};
  char line[64];
  open_image(request, true);
  snprintf(line, sizeof(line), "LISTEN_PID=%d", (int)getpid());
  ck_assert(has(line) && !has("LISTEN_PID=8"));
  ck_assert(has("PATH=/bin") && has("XCHG_LISTEN=:2") && has("XCHG_QUEUE=4"));
  ck_assert(!has("XCHG_WORKERS=2") && !has("XCHG_IGNORED=1") && !has("XCHG_LISTEN=:1"));
  upgrade_image_close(&image);
}
END_TEST

/* The texts of a request may be freed: the parent executes the image much later. */
START_TEST(an_image_has_its_own_texts) {
  char *text = strdup("XCHG_QUEUE=4");
  const char *const request[] = {text, NULL};
  open_image(request, false);
  memset(text, 'x', strlen(text));
  free(text);
  ck_assert(has("XCHG_QUEUE=4"));
  upgrade_image_close(&image);
  upgrade_image_close(&image);
}
END_TEST

START_TEST(the_arguments_stay) {
  open_image(NULL, false);
  char **list = image.arguments.list;
  ck_assert_str_eq(list[0], program_invocation_name);
  ck_assert_str_eq(list[1], ARGUMENT);
  ck_assert_str_eq(list[2], "");
  ck_assert_ptr_null(list[3]);
  upgrade_image_close(&image);
}
END_TEST

START_TEST(a_program_that_is_gone) {
  static struct upgrade_program gone = {.path = "/no/such/program"}, unknown;
  struct upgrade_image_setup setup = {.environment = environment, .program = &gone};
  ck_assert_int_eq(upgrade_image_open(&image, &setup), -1);
  ck_assert_int_eq(errno, ENOENT);
  setup.program = &unknown;
  ck_assert_int_eq(upgrade_image_open(&image, &setup), -1);
  ck_assert_int_eq(image.binary, -1);
  upgrade_program_find(&unknown, NULL);
  ck_assert_ptr_nonnull(strstr(unknown.path, "check_upgrade_image"));
}
END_TEST

/* execveat fails: this process goes on, and no program that it starts gets the channel. */
START_TEST(a_program_that_cannot_be_executed) {
  char path[] = "/tmp/check_upgrade_image.XXXXXX";
  int fd = mkstemp(path);
  ck_assert_int_ne(fd, -1);
  snprintf(program.path, sizeof(program.path), "%s", path);
  const struct upgrade_image_setup setup = {.environment = environment, .program = &program};
  ck_assert_int_eq(upgrade_image_open(&image, &setup), 0);
  upgrade_image_set_channel(&image, fd, 0);
  upgrade_image_execute(&image, fd);
  ck_assert_int_eq(errno, EACCES);
  ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
  upgrade_image_close(&image);
  close(fd);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(the_variable_of_the_channel) {
  const char **list;
  struct upgrade_inherited inherited;
  open_image(NULL, false);
  upgrade_image_set_channel(&image, 17, _i == 0 ? 0 : 1234);
  ck_assert(has(_i == 0 ? UPGRADE_CHANNEL_NAME "=17,0,/proc/self/exe"
                        : UPGRADE_CHANNEL_NAME "=17,1234,/proc/self/exe"));
  const char *const *all = (const char *const *)image.environment.list;
  ck_assert_int_eq(upgrade_inherited_find(&inherited, all, &list), 0);
  ck_assert_int_eq(inherited.channel, 17);
  ck_assert_int_eq(inherited.child, _i == 0 ? 0 : 1234);
  ck_assert_str_eq(inherited.path, "/proc/self/exe");
  ck_assert_str_eq(list[0], "PATH=/bin");
  for (const char **entry = list; *entry != NULL; entry++) {
    ck_assert_ptr_null(strstr(*entry, UPGRADE_CHANNEL_NAME));
  }
  free(list);
  upgrade_image_close(&image);
}
END_TEST

static const char *const invalid[] = {"",
                                      "x",
                                      "-1",
                                      "7",
                                      "7,0",
                                      "7,0,",
                                      "7,0,x",
                                      "7,/x",
                                      "7,,/x",
                                      "7,x,/x",
                                      ",7,/x",
                                      "7 8,0,/x",
                                      "7,-1,/x",
                                      "99999999999,0,/x",
                                      "7,99999999999,/x",
                                      "1234567890123456789012345,0,/x"};

START_TEST(an_invalid_variable_of_the_channel) {
  char text[64];
  const char *const list[] = {text, NULL};
  const char **rest;
  struct upgrade_inherited inherited;
  snprintf(text, sizeof(text), UPGRADE_CHANNEL_NAME "=%s", invalid[_i]);
  ck_assert_int_eq(upgrade_inherited_find(&inherited, list, &rest), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_ptr_null(rest);
}
END_TEST

START_TEST(no_variable_of_the_channel) {
  const char **list;
  struct upgrade_inherited inherited;
  ck_assert_int_eq(upgrade_inherited_find(&inherited, environment, &list), -1);
  ck_assert_ptr_null(list);
}
END_TEST

int main(int argc, char **argv) {
  const struct suite_test tests[] = {
      {the_environment_stays, 1},       {a_request_replaces_all_variables_of_xchgd, 1},
      {an_image_has_its_own_texts, 1},  {the_arguments_stay, 1},
      {a_program_that_is_gone, 1},      {a_program_that_cannot_be_executed, 1},
      {the_variable_of_the_channel, 2}, {an_invalid_variable_of_the_channel, count_of(invalid)},
      {no_variable_of_the_channel, 1},
  };
  if (argc == 1) {
    execv(argv[0], (char *[]){argv[0], (char *)(uintptr_t)ARGUMENT, (char *)(uintptr_t) "", NULL});
  }
  return run_suite("upgrade_image", tests, count_of(tests));
}
