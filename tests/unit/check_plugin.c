/*
 * check_plugin: what is loaded, what is refused, and in which words.
 *
 * The shared objects lie in plugin/ beside this program, built from tests/unit/plugin.  The program
 * exports an xchg_send of its own, as xchgd exports the real one.
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
} sent; /* what the plug-in's last xchg_send said */

int xchg_send(struct xchg_conn *conn, const void *data, size_t size) {
  sent.conn = conn;
  sent.data = data;
  sent.size = size;
  return 0;
}

/* The path of this program, cut behind its last '/', then ${name}. */
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

/* Close twice: the second time nothing happens. */
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
  struct xchg_conn *conn = (struct xchg_conn *)&plugin; /* never looked into */
  static const char line[] = "ping\r\n";
  const struct xchg_message message = {.data = line, .size = 4, .frame = line, .frame_size = 6};
  handler->on_message(conn, &message);
  ck_assert_ptr_eq(sent.conn, conn);
  ck_assert_ptr_eq(sent.data, line);
  ck_assert_uint_eq(sent.size, 6);
  close_plugin();
}
END_TEST

/* Another one's names are its own affair: two plug-ins have the same entry. */
START_TEST(names_stay_in_the_object) {
  ck_assert_ptr_nonnull(open_beside("plugin/good.so"));
  ck_assert_ptr_null(dlsym(RTLD_DEFAULT, "xchg_plugin_0"));
  struct plugin second;
  ck_assert_ptr_null(plugin_open(&second, beside("plugin/no_handler.so"), why, sizeof(why)));
  plugin_close(&second);
  close_plugin();
}
END_TEST

START_TEST(another_version_is_refused) {
  expect_refusal("plugin/no_entry.so",
                 "has no entry xchg_plugin_0: no plug-in, or built for another version of xchg");
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

START_TEST(no_handler_is_refused) {
  expect_refusal("plugin/no_handler.so", "its entry xchg_plugin_0 gives no handler");
}
END_TEST

/* The call is made late; the object must not get so far. */
START_TEST(unresolved_calls_are_refused_at_once) {
  expect_refusal("plugin/unresolved.so",
                 "cannot be loaded: undefined symbol: xchg_call_of_another_version");
}
END_TEST

START_TEST(what_is_no_object_is_refused) {
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

/* A sentence that does not fit is cut. */
START_TEST(little_room_for_the_sentence) {
  memset(why, 'x', sizeof(why));
  ck_assert_ptr_null(plugin_open(&plugin, beside("plugin/no_entry.so"), why, 8));
  ck_assert_str_eq(why, "has no ");
  ck_assert_int_eq(why[8], 'x');
  close_plugin();
}
END_TEST

/* A server that is set up again in the same process. */
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
      {a_plugin_gives_its_handler, 1},   {names_stay_in_the_object, 1},
      {another_version_is_refused, 1},   {another_size_is_refused, 1},
      {no_handler_is_refused, 1},        {unresolved_calls_are_refused_at_once, 1},
      {what_is_no_object_is_refused, 1}, {little_room_for_the_sentence, 1},
      {open_again_after_a_close, 1},
  };
  return run_suite("plugin", tests, count_of(tests));
}
