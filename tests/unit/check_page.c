/*
 * check_page: the constants of the page are its files, byte by byte, and small enough to send.
 *
 * The test runs in the top folder, where the files are.
 */
#include "pool/page.h"

#include "core/base.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static const struct page_file {
  const char *path;
  const char *text;
  const size_t *size;
} files[] = {
    {"docs/page/index.html", page_html, &page_html_size},
    {"docs/page/page.js", page_js, &page_js_size},
    {"docs/page/page.css", page_css, &page_css_size},
};

START_TEST(is_the_file) {
  const struct page_file *page = &files[_i];
  static char bytes[PAGE_MAX + 1];
  FILE *file = fopen(page->path, "rb");
  ck_assert_msg(file != NULL, "%s", page->path);
  size_t size = fread(bytes, 1, sizeof(bytes), file);
  ck_assert_int_eq(fclose(file), 0);
  ck_assert_uint_gt(size, 0);
  ck_assert_uint_eq(*page->size, size);
  ck_assert_mem_eq(page->text, bytes, size);
  ck_assert_int_eq(page->text[size], '\0'); /* it is a string too */
}
END_TEST

START_TEST(is_small) {
  size_t sum = 0;
  for (size_t i = 0; i < count_of(files); i++) {
    sum += *files[i].size;
  }
  ck_assert_uint_le(sum, PAGE_MAX);
}
END_TEST

START_TEST(policy_allows_no_other_origin_and_no_inline_code) {
  ck_assert_ptr_nonnull(strstr(PAGE_SECURITY_POLICY, "default-src 'none'"));
  ck_assert_ptr_null(strstr(PAGE_SECURITY_POLICY, "unsafe"));
  ck_assert_ptr_null(strstr(PAGE_SECURITY_POLICY, "http"));
  ck_assert_ptr_null(strchr(PAGE_SECURITY_POLICY, '*'));
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {is_the_file, count_of(files)},
      {is_small, 1},
      {policy_allows_no_other_origin_and_no_inline_code, 1},
  };
  return run_suite("page", tests, count_of(tests));
}
