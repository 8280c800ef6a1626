/*
 * check_plugin: which shared objects are loaded, which are refused, and with which message.
 *
 * The shared objects are in plugin/ next to this program, built from tests/unit/plugin. The program
 * exports its own xchg_send, as xchgd exports the real one.
 */
#include "pool/plugin.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <dlfcn.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static struct plugin plugin;
static char why[256];

static struct {
  struct xchg_conn *conn;
  const void *data;
  size_t size;
} sent; /* what the plug-in sent last */

int xchg_send(struct xchg_conn *conn, const void *data, size_t size) {
  sent.conn = conn;
  sent.data = data;
  sent.size = size;
  return 0;
}

/* The path of ${name} in the folder of this program. */
static const char *beside(const char *name) {
  static char path[PATH_MAX + 64];
  ssize_t size = readlink("/proc/self/exe", path, PATH_MAX);
  ck_assert_int_gt(size, 0);
  path[size] = 0;
  char *end = strrchr(path, '/');
  ck_assert_ptr_nonnull(end);
  snprintf(end + 1, sizeof(path) - (size_t)(end + 1 - path), "%s", name);
  return path;
}

static const struct xchg_handler *open_beside(const char *name) {
  return plugin_open(&plugin, beside(name), why, sizeof(why));
}

/* Close twice: the second call does nothing. */
static void close_plugin(void) {
  plugin_close(&plugin);
  ck_assert_ptr_null(plugin.object);
  plugin_close(&plugin);
}

static void expect_refusal(const char *name, const char *sentence) {
  ck_assert_ptr_null(open_beside(name));
  ck_assert_str_eq(why, sentence);
  close_plugin();
}

START_TEST(a_plugin_gives_its_handler) {
  const struct xchg_handler *handler = open_beside("plugin/good.so");
  ck_assert_msg(handler != NULL, "%s", why);
  ck_assert_uint_eq(handler->size, sizeof(*handler));
  ck_assert_int_eq(handler->frame.kind, XCHG_FRAME_LINE);
  ck_assert_uint_eq(handler->max_message, 1000);
  struct xchg_conn *conn = (struct xchg_conn *)&plugin; /* never read */
  static const char line[] = "ping\r\n";
  const struct xchg_message message = {.data = line, .size = 4, .frame = line, .frame_size = 6};
  handler->on_message(conn, &message);
  ck_assert_ptr_eq(sent.conn, conn);
  ck_assert_ptr_eq(sent.data, line);
  ck_assert_uint_eq(sent.size, 6);
  close_plugin();
}
END_TEST

/* Two plug-ins with the same entry can be loaded at the same time. */
START_TEST(names_stay_in_the_object) {
  ck_assert_ptr_nonnull(open_beside("plugin/good.so"));
  ck_assert_ptr_null(dlsym(RTLD_DEFAULT, "xchg_plugin_1"));
  struct plugin second;
  ck_assert_ptr_null(plugin_open(&second, beside("plugin/no_handler.so"), why, sizeof(why)));
  plugin_close(&second);
  close_plugin();
}
END_TEST

START_TEST(another_version_is_refused) {
  expect_refusal("plugin/no_entry.so",
                 "has no entry xchg_plugin_1: no plug-in, or built for another version of xchg");
}
END_TEST

START_TEST(another_size_is_refused) {
  char sentence[128];
  snprintf(sentence, sizeof(sentence),
           "its handler has %zu bytes, not %zu: built against another version of xchg.h",
           sizeof(struct xchg_handler) - 8, sizeof(struct xchg_handler));
  expect_refusal("plugin/other_size.so", sentence);
}
END_TEST

/* A handler of version 0 ends before state_version, and what it lacks is 0. */
START_TEST(version_0_is_loaded) {
  const struct xchg_handler *handler = open_beside("plugin/version_0.so");
  ck_assert_msg(handler != NULL, "%s", why);
  ck_assert_uint_eq(handler->size, sizeof(*handler));
  ck_assert_int_eq(handler->frame.kind, XCHG_FRAME_LINE);
  ck_assert(handler->on_message != NULL && handler->on_close != NULL);
  ck_assert_uint_eq(handler->state_version, 0);
  ck_assert(handler->on_save == NULL && handler->on_restore == NULL && handler->on_gone == NULL);
  ck_assert(!handler->together);
  close_plugin();
}
END_TEST

START_TEST(no_handler_is_refused) {
  expect_refusal("plugin/no_handler.so", "its entry xchg_plugin_0 gives no handler");
}
END_TEST

/* The object's undefined call comes late. Loading must fail first. */
START_TEST(unresolved_calls_are_refused_at_once) {
  expect_refusal("plugin/unresolved.so",
                 "cannot be loaded: undefined symbol: xchg_call_of_another_version");
}
END_TEST

START_TEST(a_file_that_is_no_object_is_refused) {
  expect_refusal("plugin/nobody.so",
                 "cannot be loaded: cannot open shared object file: No such file or directory");
  expect_refusal("plugin", "cannot be loaded: cannot read file data: Is a directory");
  ck_assert_ptr_null(plugin_open(&plugin, "/dev/null", why, sizeof(why)));
  ck_assert_msg(strncmp(why, "cannot be loaded: ", 18) == 0, "%s", why);
  close_plugin();
  ck_assert_ptr_null(open_beside("check_plugin")); /* a program */
  ck_assert_msg(strncmp(why, "cannot be loaded: ", 18) == 0, "%s", why);
  close_plugin();
}
END_TEST

/* A message that does not fit is truncated. */
START_TEST(a_long_message_is_truncated) {
  memset(why, 'x', sizeof(why));
  ck_assert_ptr_null(plugin_open(&plugin, beside("plugin/no_entry.so"), why, 8));
  ck_assert_str_eq(why, "has no ");
  ck_assert_int_eq(why[8], 'x');
  close_plugin();
}
END_TEST

/* A server is opened again in the same process. */
START_TEST(open_again_after_a_close) {
  for (int i = 0; i < 3; i++) {
    ck_assert_ptr_nonnull(open_beside("plugin/good.so"));
    close_plugin();
    expect_refusal("plugin/no_handler.so", "its entry xchg_plugin_0 gives no handler");
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {a_plugin_gives_its_handler, 1},
      {names_stay_in_the_object, 1},
      {another_version_is_refused, 1},
      {another_size_is_refused, 1},
      {version_0_is_loaded, 1},
      {no_handler_is_refused, 1},
      {unresolved_calls_are_refused_at_once, 1},
      {a_file_that_is_no_object_is_refused, 1},
      {a_long_message_is_truncated, 1},
      {open_again_after_a_close, 1},
  };
  return run_suite("plugin", tests, count_of(tests));
}
