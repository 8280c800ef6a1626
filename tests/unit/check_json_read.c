/*
 * check_json_read: the reader accepts valid RFC 8259 texts with their meaning, and refuses all
 * others at the byte at fault.
 *
 * Truncated texts stand in a block of exactly their size, so that a sanitizer or valgrind reports
 * a read past the end.
 */
#include "xchg-bench/json_read.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct json_fault fault;

static int parse(struct json_document *document, const char *text, size_t size) {
  char *exact = malloc(size == 0 ? 1 : size);
  ck_assert_ptr_nonnull(exact);
  memcpy(exact, text, size);
  int result = json_parse(document, exact, size, &fault);
  free(exact);
  return result;
}

/* Parse ${text}, which must be valid. */
static const struct json *good(struct json_document *document, const char *text) {
  ck_assert_msg(parse(document, text, strlen(text)) == 0, "%s: %s at %zu", text, fault.what,
                fault.offset);
  return document->root;
}

START_TEST(scalars) {
  struct json_document document;
  static const struct {
    const char *text;
    enum json_kind kind;
  } words[] = {{"null", JSON_NULL}, {" true\n", JSON_TRUE}, {"\tfalse\r\n", JSON_FALSE}};
  for (size_t i = 0; i < count_of(words); i++) {
    ck_assert_int_eq(good(&document, words[i].text)->kind, words[i].kind);
    json_document_fini(&document);
  }
}
END_TEST

START_TEST(numbers) {
  static const struct {
    const char *text;
    double number;
    bool integral;
    uint64_t integer;
  } table[] = {
      {"0", 0, true, 0},
      {"-0", 0, false, 0},
      {"7", 7, true, 7},
      {"-12", -12, false, 0},
      {"1.5", 1.5, false, 0},
      {"-0.25e+2", -25, false, 0},
      {"1E-3", 0.001, false, 0},
      {"1e0", 1, false, 0},
      {"9007199254740993", 9007199254740992.0, true, UINT64_C(9007199254740993)},
      {"18446744073709551615", 18446744073709551616.0, true, UINT64_MAX},
      {"18446744073709551616", 18446744073709551616.0, false, 0},
      {"1e308", 1e308, false, 0},
      {"2.2250738585072014e-308", DBL_MIN, false, 0},
      {"1e-400", 0, false, 0},
  };
  for (size_t i = 0; i < count_of(table); i++) {
    struct json_document document;
    const struct json *value = good(&document, table[i].text);
    ck_assert_int_eq(value->kind, JSON_NUMBER);
    ck_assert_double_eq(value->number, table[i].number);
    ck_assert_msg(value->integral == table[i].integral, "%s", table[i].text);
    if (value->integral) {
      ck_assert_uint_eq(value->integer, table[i].integer);
    }
    json_document_fini(&document);
  }
}
END_TEST

START_TEST(strings) {
  static const struct {
    const char *text, *meaning;
    size_t size;
  } table[] = {
      {"\"\"", "", 0},
      {"\"a b\"", "a b", 3},
      {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
      {"\"\\u0041\\u00e9\\u20AC\\ud83D\\uDE00\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10},
      {"\"a\\u0000b\"", "a\0b", 3},
      {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f",
       10},
      {"\"\\ud7ff\\ue000\\uffff\"", "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 9},
  };
  for (size_t i = 0; i < count_of(table); i++) {
    struct json_document document;
    const struct json *value = good(&document, table[i].text);
    ck_assert_int_eq(value->kind, JSON_STRING);
    ck_assert_uint_eq(value->size, table[i].size);
    ck_assert_mem_eq(value->text, table[i].meaning, table[i].size + 1);
    json_document_fini(&document);
  }
}
END_TEST

START_TEST(nested) {
  struct json_document document;
  const struct json *root = good(
      &document,
      " { \"a\" : [ 1 , [ ] , { } ] , \"b\\n\" : { \"c\" : \"d\" } , \"a\" : 2 , \"\" : null } ");
  ck_assert_int_eq(root->kind, JSON_OBJECT);
  ck_assert_uint_eq(root->size, 4);
  const struct json *a = json_member(root, "a");
  ck_assert_int_eq(a->kind, JSON_ARRAY); /* the first of two */
  ck_assert_uint_eq(a->size, 3);
  ck_assert_uint_eq(a->first->integer, 1);
  ck_assert_ptr_null(a->first->name);
  ck_assert_int_eq(a->first->next->kind, JSON_ARRAY);
  ck_assert_uint_eq(a->first->next->size, 0);
  ck_assert_int_eq(a->first->next->next->kind, JSON_OBJECT);
  ck_assert_ptr_null(a->first->next->next->next);
  ck_assert_str_eq(json_member(json_member(root, "b\n"), "c")->text, "d");
  ck_assert_int_eq(json_member(root, "")->kind, JSON_NULL);
  ck_assert_ptr_null(json_member(root, "c"));
  ck_assert_ptr_null(json_member(a, "c"));
  ck_assert_ptr_null(json_member(NULL, "c"));
  json_document_fini(&document);
}
END_TEST

#define TEXT(text) \
  { text, sizeof(text) - 1 }
static const struct {
  const char *text;
  size_t size;
} invalid[] = {
    TEXT(""),
    TEXT(" "),
    TEXT("nul"),
    TEXT("nulll"),
    TEXT("True"),
    TEXT("1 2"),
    TEXT("[1,]"),
    TEXT("[,1]"),
    TEXT("[1 2]"),
    TEXT("[1"),
    TEXT("]"),
    TEXT("[}"),
    TEXT("{]"),
    TEXT("{\"a\":1,}"),
    TEXT("{\"a\"}"),
    TEXT("{\"a\" 1}"),
    TEXT("{a:1}"),
    TEXT("{1:1}"),
    TEXT("{,}"),
    TEXT("{\"a\":}"),
    TEXT("{\"a\":1 \"b\":2}"),
    TEXT("[\"a\":1]"),
    TEXT("// x\n1"),
    TEXT("/**/1"),
    TEXT("'a'"),
    TEXT("01"),
    TEXT("+1"),
    TEXT("-"),
    TEXT("--1"),
    TEXT(".5"),
    TEXT("1."),
    TEXT("1.e1"),
    TEXT("1e"),
    TEXT("1e+"),
    TEXT("0x10"),
    TEXT("1_000"),
    TEXT("NaN"),
    TEXT("Infinity"),
    TEXT("-Infinity"),
    TEXT("1e999"),
    TEXT("-1e999"),
    TEXT("\"a"),
    TEXT("\"\\"),
    TEXT("\"\\x\""),
    TEXT("\"\\u12\""),
    TEXT("\"\\u12g4\""),
    TEXT("\"\\ud800\""),
    TEXT("\"\\ud800\\n\""),
    TEXT("\"\\ud800\\ud800\""),
    TEXT("\"\\udc00\""),
    TEXT("\"\\u\""),
    TEXT("\"a\nb\""),
    TEXT("\"\t\""),
    TEXT("\"\x1f\""),
    TEXT("\"a\0b\""),
    TEXT("1\0"),
    TEXT("\0"),
    TEXT("[1\0]"),
    TEXT("\"\x80\""),
    TEXT("\"\xc3\""),
    TEXT("\"\xc0\xaf\""),
    TEXT("\"\xe0\x9f\xbf\""),
    TEXT("\"\xed\xa0\x80\""),
    TEXT("\"\xf0\x8f\xbf\xbf\""),
    TEXT("\"\xf4\x90\x80\x80\""),
    TEXT("\"\xf5\x80\x80\x80\""),
    TEXT("\"\xff\""),
    TEXT("\xef\xbb\xbf"
         "1"),
    TEXT("\"\xe2\x82\""),
    TEXT("\v1"),
    TEXT("\xc2\xa0"
         "1"),
};

START_TEST(invalid_is_refused) {
  struct json_document document;
  int result = parse(&document, invalid[_i].text, invalid[_i].size);
  ck_assert_msg(result == -1, "'%s' was taken", invalid[_i].text);
  ck_assert_ptr_nonnull(fault.what);
  ck_assert_uint_le(fault.offset, invalid[_i].size);
  ck_assert_ptr_null(document.text);
  ck_assert_ptr_null(document.chunks);
}
END_TEST

/* Where it breaks. */
START_TEST(faults_say_where) {
  struct json_document document;
  ck_assert_int_eq(parse(&document, "[1, x]", 6), -1);
  ck_assert_uint_eq(fault.offset, 4);
  ck_assert_str_eq(fault.what, "expected a value");
  ck_assert_int_eq(parse(&document, "{\"a\": [1, 2", 11), -1);
  ck_assert_uint_eq(fault.offset, 11);
  ck_assert_str_eq(fault.what, "the text ends too early");
  ck_assert_int_eq(parse(&document, "[1e999]", 7), -1);
  ck_assert_uint_eq(fault.offset, 1);
  ck_assert_str_eq(fault.what, "a number out of range");
}
END_TEST

START_TEST(every_truncation_is_refused) {
  static const char text[] =
      "{\"a\": [1.5e-3, -20, true, false, null, \"x\\u00e9\\ud83d\\ude00\\n\xe2\x82\xac\"], \"b\": "
      "{}}";
  struct json_document document;
  good(&document, text);
  json_document_fini(&document);
  for (size_t size = 0; size < sizeof(text) - 1; size++) {
    ck_assert_int_eq(parse(&document, text, size), -1);
    ck_assert_uint_le(fault.offset, size);
  }
}
END_TEST

/* ${depth} brackets open and close. */
static int parse_deep(struct json_document *document, size_t depth, const char *open,
                      const char *close) {
  size_t size = depth * (strlen(open) + strlen(close)) + 1;
  char *text = malloc(size + 1), *at = text;
  ck_assert_ptr_nonnull(text);
  for (size_t i = 0; i < depth; i++) {
    at = stpcpy(at, open);
  }
  at = stpcpy(at, "1");
  for (size_t i = 0; i < depth; i++) {
    at = stpcpy(at, close);
  }
  int result = parse(document, text, size);
  free(text);
  return result;
}

START_TEST(depth_has_a_ceiling) {
  static const char *const brackets[][2] = {{"[", "]"}, {"{\"a\":", "}"}, {"[{\"a\":", "}]"}};
  for (size_t i = 0; i < count_of(brackets); i++) {
    struct json_document document;
    size_t most = i == 2 ? JSON_DEPTH_MAX / 2 : JSON_DEPTH_MAX;
    ck_assert_int_eq(parse_deep(&document, most, brackets[i][0], brackets[i][1]), 0);
    json_document_fini(&document);
    ck_assert_int_eq(parse_deep(&document, most + 1, brackets[i][0], brackets[i][1]), -1);
    ck_assert_str_eq(fault.what, "nested too deeply");
    ck_assert_int_eq(parse_deep(&document, 300000, brackets[i][0], brackets[i][1]), -1);
  }
}
END_TEST

START_TEST(long_numbers_have_a_ceiling) {
  struct json_document document;
  char text[JSON_NUMBER_MAX + 2];
  memset(text, '0', sizeof(text));
  memcpy(text, "0.", 2);
  text[JSON_NUMBER_MAX - 1] = '7';
  ck_assert_int_eq(parse(&document, text, JSON_NUMBER_MAX), 0);
  json_document_fini(&document);
  ck_assert_int_eq(parse(&document, text, JSON_NUMBER_MAX + 1), -1);
  ck_assert_str_eq(fault.what, "a number out of range");
  memset(text, '9', sizeof(text));
  ck_assert_int_eq(parse(&document, text, 308), 0);
  ck_assert(!document.root->integral);
  json_document_fini(&document);
  ck_assert_int_eq(parse(&document, text, 310), -1);
}
END_TEST

START_TEST(size_has_a_ceiling) {
  struct json_document document;
  ck_assert_int_eq(json_parse(&document, "", JSON_SIZE_MAX + 1, &fault), -1);
  ck_assert_str_eq(fault.what, "too large");
}
END_TEST

START_TEST(many_values) {
  enum { VALUES = 5000 };
  char *text = malloc(VALUES * 6 + 2), *at = text;
  ck_assert_ptr_nonnull(text);
  for (int i = 0; i < VALUES; i++) {
    at += snprintf(at, 7, "%c%d", i == 0 ? '[' : ',', i);
  }
  at = stpcpy(at, "]");
  struct json_document document;
  ck_assert_int_eq(parse(&document, text, (size_t)(at - text)), 0);
  ck_assert_uint_eq(document.root->size, VALUES);
  uint64_t expected = 0, wrong = 0;
  for (const struct json *v = document.root->first; v != NULL; v = v->next) {
    wrong += v->integer != expected++;
  }
  ck_assert_uint_eq(wrong, 0);
  ck_assert_uint_eq(expected, VALUES);
  json_document_fini(&document);
  free(text);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {scalars, 1},
      {numbers, 1},
      {strings, 1},
      {nested, 1},
      {invalid_is_refused, count_of(invalid)},
      {faults_say_where, 1},
      {every_truncation_is_refused, 1},
      {depth_has_a_ceiling, 1},
      {long_numbers_have_a_ceiling, 1},
      {size_has_a_ceiling, 1},
      {many_values, 1},
  };
  return run_suite("json_read", tests, count_of(tests));
}
