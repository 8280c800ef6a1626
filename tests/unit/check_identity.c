/*
 * check_identity: the command reads back in a shell, an identity survives JSON, a merged report
 * knows its parts, and a moment is its text.
 */
#include "xchg-bench/identity.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct identity identity, more;

static char *const words[] = {(char[]){"xchg-bench"},
                              (char[]){"--slo=p99<5ms"},
                              (char[]){"it's"},
                              (char[]){""},
                              (char[]){"a\nb\\'\x1b"},
                              (char[]){"127.0.0.1:7"},
                              NULL};

START_TEST(the_command_is_quoted) {
  identity_make(&identity, words);
  ck_assert_str_eq(identity.command,
                   "xchg-bench '--slo=p99<5ms' 'it'\\''s' '' "
                   "$'a\\x0ab\\\\\\'\\x1b' 127.0.0.1:7");
  ck_assert_uint_eq(strlen(identity.run_id), IDENTITY_ID_MAX - 1);
  ck_assert_uint_gt(strlen(identity.host), 0);
  ck_assert_ptr_nonnull(strstr(identity.machine, " CPUs"));
}
END_TEST

START_TEST(a_long_command_is_cut) {
  static char word[4096];
  memset(word, 'x', sizeof(word) - 1);
  identity_make(&identity, (char *const[]){word, words[0], NULL});
  ck_assert_uint_eq(strlen(identity.command), sizeof(identity.command) - 1);
}
END_TEST

START_TEST(two_runs_differ) {
  identity_make(&identity, words);
  identity_make(&more, words);
  ck_assert_str_ne(identity.run_id, more.run_id);
}
END_TEST

/* Write the identity into an object, and parse it. */
static void write_json(struct json_document *document) {
  char *text = NULL;
  size_t size;
  struct json_fault fault;
  FILE *out = open_memstream(&text, &size);
  struct json_writer writer = {.out = out};
  json_open(&writer, NULL, '{');
  identity_write(&writer, &identity);
  json_close(&writer, '}');
  fclose(out);
  ck_assert_int_eq(json_parse(document, text, size, &fault), 0);
  free(text);
}

START_TEST(what_is_written_is_read) {
  struct json_document document;
  identity_make(&identity, words);
  if (_i == 1) {
    identity.host[0] = identity.command[0] = identity.machine[0] = 0; /* unknown */
  }
  write_json(&document);
  ck_assert_ptr_null(identity_read(&more, document.root));
  ck_assert_str_eq(more.run_id, identity.run_id);
  ck_assert_str_eq(more.host, identity.host);
  ck_assert_str_eq(more.machine, identity.machine);
  ck_assert_str_eq(more.command, identity.command);
  ck_assert_str_eq(more.address, "");
  ck_assert_uint_eq(more.merged_count, 0);
  json_document_fini(&document);
}
END_TEST

START_TEST(a_merged_one_knows_its_parts) {
  struct json_document document;
  struct identity merged = {.merged = NULL}, other, back;
  identity_make(&identity, words);
  identity_make(&other, (char *const[]){words[0], NULL});
  snprintf(other.host, sizeof(other.host), "another");
  ck_assert_int_eq(identity_merge(&merged, &identity), 0);
  ck_assert_int_eq(identity_merge(&merged, &other), 0);
  ck_assert_uint_eq(merged.merged_count, 2);
  ck_assert_str_ne(merged.run_id, identity.run_id);
  ck_assert_ptr_nonnull(strstr(merged.host, ",another"));
  ck_assert_ptr_nonnull(strstr(merged.command, "; xchg-bench"));
  ck_assert_int_eq(identity_merge(&merged, &other), -1);
  ck_assert_int_eq(errno, EEXIST);
  more = merged;
  struct identity again = {.merged = NULL}; /* a merged one and one of its parts */
  ck_assert_int_eq(identity_merge(&again, &identity), 0);
  ck_assert_int_eq(identity_merge(&again, &more), -1);
  ck_assert_int_eq(errno, EEXIST);
  identity_fini(&again);
  identity = merged;
  write_json(&document);
  ck_assert_ptr_null(identity_read(&back, document.root));
  ck_assert_uint_eq(back.merged_count, 2);
  ck_assert_mem_eq(back.merged, merged.merged, 2 * sizeof(*merged.merged));
  json_document_fini(&document);
  identity_fini(&back);
  identity_fini(&merged);
}
END_TEST

static const struct {
  uint64_t ms;
  const char *text;
} moments[] = {{0, "1970-01-01T00:00:00.000Z"},
               {UINT64_C(1764433329123), "2025-11-29T16:22:09.123Z"},
               {UINT64_C(253402300799999), "9999-12-31T23:59:59.999Z"}};

START_TEST(a_moment_is_its_text) {
  char text[IDENTITY_MOMENT_MAX];
  uint64_t ms = 1;
  ck_assert_str_eq(identity_format(moments[_i].ms, text), moments[_i].text);
  ck_assert_int_eq(identity_parse(moments[_i].text, &ms), 0);
  ck_assert_uint_eq(ms, moments[_i].ms);
}
END_TEST

START_TEST(other_texts_are_no_moments) {
  static const char *const texts[] = {"",
                                      "2025-11-29",
                                      "2025-02-30T16:22:09.123Z",
                                      "2025-11-29T16:22:09.123",
                                      "2025-11-29T16:22:09.123Zx",
                                      "2025-11-29 16:22:09.123Z",
                                      "1969-11-29T16:22:09.123Z",
                                      "2025-11-29T25:22:09.123Z"};
  uint64_t ms = 1;
  for (size_t i = 0; i < count_of(texts); i++) {
    ck_assert_msg(identity_parse(texts[i], &ms) == -1, "%s", texts[i]);
  }
  ck_assert_uint_eq(ms, 1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {the_command_is_quoted, 1},
      {a_long_command_is_cut, 1},
      {two_runs_differ, 1},
      {what_is_written_is_read, 2},
      {a_merged_one_knows_its_parts, 1},
      {a_moment_is_its_text, count_of(moments)},
      {other_texts_are_no_moments, 1},
  };
  return run_suite("identity", tests, count_of(tests));
}
