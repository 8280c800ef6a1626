/*
 * check_http: requests, each prefix of them, each rule that refuses one, and the heads of answers.
 */
#include "net/http.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES ((size_t)64 * 1024)

static char *guarded_end; /* the byte behind it cannot be read */

static void set_up(void) {
  char *memory =
      mmap(NULL, PAGES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(memory, MAP_FAILED);
  ck_assert_int_eq(mprotect(memory + PAGES, 4096, PROT_NONE), 0);
  guarded_end = memory + PAGES;
}

/* Parse ${size} bytes that end at the guard page. */
static size_t parse_bytes(const char *text, size_t size, struct http_request *request) {
  ck_assert_uint_le(size, PAGES);
  memcpy(guarded_end - size, text, size);
  return http_parse(guarded_end - size, size, request);
}

static size_t parse(const char *text, struct http_request *request) {
  return parse_bytes(text, strlen(text), request);
}

static struct http_text text_of(const char *text) {
  return (struct http_text){text, text == NULL ? 0 : strlen(text)};
}

static bool equals(struct http_text text, const char *wanted) {
  return wanted == NULL ? text.at == NULL
                        : text.size == strlen(wanted) && memcmp(text.at, wanted, text.size) == 0;
}

#define REST "Host: localhost\r\n\r\n"

/* ---- what is accepted ---- */

struct good_case {
  const char *text;
  enum http_method method;
  const char *path, *query, *host;
  bool is_1_0, keep_alive;
};

static const struct good_case good[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, "/", NULL, "a", false, true},
    {"GET /readyz HTTP/1.0\r\n\r\n", HTTP_GET, "/readyz", NULL, NULL, true, false},
    {"GET /readyz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", HTTP_GET, "/readyz", NULL, NULL,
     true, true},
    {"HEAD /metrics HTTP/1.1\r\nhOST:\t a:1 \t\r\n\r\n", HTTP_HEAD, "/metrics", NULL, "a:1", false,
     true},
    {"POST /close?id=1f&how=abort HTTP/1.1\r\n" REST, HTTP_POST, "/close", "id=1f&how=abort",
     "localhost", false, true},
    {"GET /a?b?c HTTP/1.1\r\n" REST, HTTP_GET, "/a", "b?c", "localhost", false, true},
    {"GET /a? HTTP/1.1\r\n" REST, HTTP_GET, "/a", "", "localhost", false, true},
    {"GET /%41/../x HTTP/1.1\r\n" REST, HTTP_GET, "/%41/../x", NULL, "localhost", false, true},
    {"PUT / HTTP/1.1\r\n" REST, HTTP_OTHER, "/", NULL, "localhost", false, true},
    {"get / HTTP/1.1\r\n" REST, HTTP_OTHER, "/", NULL, "localhost", false, true},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", HTTP_GET, "/", NULL, "", false, true},
    {"GET / HTTP/1.1\r\nConnection: close\r\n" REST, HTTP_GET, "/", NULL, "localhost", false,
     false},
    {"GET / HTTP/1.1\r\nConnection: x , CLOSE,y\r\n" REST, HTTP_GET, "/", NULL, "localhost", false,
     false},
    {"GET / HTTP/1.1\r\nConnection: closed\r\n" REST, HTTP_GET, "/", NULL, "localhost", false,
     true},
    {"GET / HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n" REST, HTTP_GET, "/", NULL,
     "localhost", false, false},
    {"GET / HTTP/1.1\r\nContent-Length: 0\r\n" REST, HTTP_GET, "/", NULL, "localhost", false, true},
    {"GET / HTTP/1.1\r\nContent-Length: 000\r\n" REST, HTTP_GET, "/", NULL, "localhost", false,
     true},
    {"GET / HTTP/1.1\r\nX: \xc3\xbc\ty\r\nY:\r\n" REST, HTTP_GET, "/", NULL, "localhost", false,
     true},
};

/* The whole request is parsed, every prefix of it needs more, and what follows is left. */
START_TEST(good_request) {
  const struct good_case *c = &good[_i];
  struct http_request request;
  size_t size = strlen(c->text);
  for (size_t i = 0; i < size; i++) {
    ck_assert_msg(parse_bytes(c->text, i, &request) == 0 && request.status == 0,
                  "%zu bytes of %s: %u", i, c->text, request.status);
  }
  char twice[1024];
  snprintf(twice, sizeof(twice), "%s%s", c->text, c->text);
  for (size_t i = size; i <= 2 * size; i++) {
    ck_assert_uint_eq(parse_bytes(twice, i, &request), size);
    ck_assert_uint_eq(request.status, 0);
    ck_assert_int_eq(request.method, c->method);
    ck_assert(equals(request.path, c->path));
    ck_assert(equals(request.query, c->query));
    ck_assert(equals(request.fields[HTTP_HOST], c->host));
    ck_assert_int_eq(request.is_1_0, c->is_1_0);
    ck_assert_int_eq(request.keep_alive, c->keep_alive);
  }
}
END_TEST

START_TEST(fields_are_kept) {
  struct http_request request;
  ck_assert_uint_gt(parse("POST /x HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\nXCHG-command: yes\r\n"
                          "Accept: a\r\nAccept: b\r\nOther: c\r\n\r\n",
                          &request),
                    0);
  ck_assert_uint_eq(request.status, 0);
  ck_assert(equals(request.fields[HTTP_ORIGIN], "http://h"));
  ck_assert(equals(request.fields[HTTP_COMMAND], "yes"));
  ck_assert(equals(request.fields[HTTP_ACCEPT], "a"));
}
END_TEST

/* ---- what is refused ---- */

struct bad_case {
  const char *text;
  unsigned status;
};

static const struct bad_case bad[] = {
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin: b\r\n" REST, 400},
    {"GET / HTTP/1.1\r\nXchg-Command: yes\r\nXchg-Command: yes\r\n" REST, 400},
    {"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n" REST, 400},
    {"GET / HTTP/1.1\n", 400},
    {"\n", 400},
    {"\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
    {"GET / HTTP/1.1\r\nHost : a\r\n", 400},
    {"GET / HTTP/1.1\r\n Host: a\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n", 400},
    {"GET / HTTP/1.1\r\n: a\r\n", 400},
    {"GET / HTTP/1.1\r\nHost\r\n", 400},
    {"GET / HTTP/1.1\r\nHo(st: a\r\n", 400},
    {"GET / HTTP/1.1\r\nX: a\rb", 400},
    {"GET / HTTP/1.1\r\nX: a\x01", 400},
    {"GET / HTTP/1.1\r\nX: a\x7f", 400},
    {"\x16\x03\x01\x02", 400},
    {"GET  / HTTP/1.1\r\n", 400},
    {"GET / HTTP/1.1 \r\n", 400},
    {"GET /  HTTP/1.1\r\n", 400},
    {" GET / HTTP/1.1\r\n", 400},
    {"GET /\r\n", 400},
    {"GET\r\n", 400},
    {"G@T / HTTP/1.1\r\n", 400},
    {"GET a HTTP/1.1\r\n", 400},
    {"GET http://a/ HTTP/1.1\r\n", 400},
    {"OPTIONS * HTTP/1.1\r\n", 400},
    {"GET /\xc3\xbc HTTP/1.1\r\n", 400},
    {"GET /\ta HTTP/1.1\r\n", 400},
    {"GET / http/1.1\r\n", 400},
    {"GET / HTTP/11\r\n", 400},
    {"GET / HTTP/1.1x\r\n", 400},
    {"GET / HTTP/1.2\r\n", 505},
    {"GET / HTTP/0.9\r\n", 505},
    {"PRI * HTTP/2.0\r\n", 505},
    {"POST / HTTP/1.1\r\nContent-Length: 1\r\n" REST, 413},
    {"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" REST, 413},
    {"POST / HTTP/1.1\r\nContent-Length: -0\r\n" REST, 400},
    {"POST / HTTP/1.1\r\nContent-Length: 0, 0\r\n" REST, 400},
    {"POST / HTTP/1.1\r\nContent-Length:\r\n" REST, 400},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" REST, 501},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n" REST, 501},
};

/* A fault is final: it is found at its byte at the latest, and more bytes change nothing. */
START_TEST(bad_request) {
  const struct bad_case *c = &bad[_i];
  struct http_request request;
  char more[256];
  size_t size = strlen(c->text);
  ck_assert_msg(parse(c->text, &request) > 0 && request.status == c->status, "%s: %u", c->text,
                request.status);
  snprintf(more, sizeof(more), "%sGET", c->text);
  ck_assert(parse(more, &request) > 0);
  ck_assert_uint_eq(request.status, c->status);
  unsigned before = 0;
  for (size_t i = 0; i <= size; i++) {
    ck_assert_int_eq(parse_bytes(c->text, i, &request) > 0, request.status != 0);
    ck_assert(before == 0 || request.status == before);
    before = request.status;
  }
}
END_TEST

START_TEST(zero_byte) {
  static const char text[] = "GET /\0 HTTP/1.1\r\n";
  struct http_request request;
  ck_assert_uint_eq(parse_bytes(text, sizeof(text) - 1, &request), sizeof(text) - 1);
  ck_assert_uint_eq(request.status, 400);
}
END_TEST

/* A target of exactly the limit, and one more byte. */
START_TEST(long_target) {
  char text[4096];
  struct http_request request;
  for (int over = 0; over < 2; over++) {
    int size =
        snprintf(text, sizeof(text), "GET /%0*d HTTP/1.0\r\n\r\n", HTTP_TARGET_MAX - 1 + over, 0);
    ck_assert_uint_eq(parse(text, &request), (size_t)size);
    ck_assert_uint_eq(request.status, over == 0 ? 0 : 414);
  }
}
END_TEST

START_TEST(many_lines) {
  struct http_request request;
  for (int over = 0; over < 2; over++) {
    char text[4096] = "GET / HTTP/1.0\r\n";
    for (int i = 1; i < HTTP_LINES_MAX + over; i++) {
      strcat(text, "A: b\r\n");
    }
    strcat(text, "\r\n");
    ck_assert_uint_eq(parse(text, &request), strlen(text));
    ck_assert_uint_eq(request.status, over == 0 ? 0 : 431);
  }
}
END_TEST

/* Heads of 8191, 8192 and 8193 bytes. */
START_TEST(long_head) {
  static char text[HTTP_HEAD_MAX * 4];
  struct http_request request;
  for (size_t size = HTTP_HEAD_MAX - 1; size <= HTTP_HEAD_MAX + 1; size++) {
    int begun = snprintf(text, sizeof(text), "GET / HTTP/1.0\r\nA: ");
    memset(text + begun, 'x', size);
    memcpy(text + size - 4, "\r\n\r\n", 5);
    ck_assert_uint_eq(parse(text, &request), min_u64(size, HTTP_HEAD_MAX));
    ck_assert_uint_eq(request.status, size <= HTTP_HEAD_MAX ? 0 : 431);
  }
  memset(text, 'x', sizeof(text));
  ck_assert_uint_eq(parse_bytes(text, HTTP_HEAD_MAX - 1, &request), 0);
  ck_assert_uint_eq(parse_bytes(text, sizeof(text), &request), HTTP_HEAD_MAX);
  ck_assert_uint_eq(request.status, 414);
}
END_TEST

/* ---- what fields mean ---- */

START_TEST(near_hosts) {
  static const char *const near[] = {"",      "localhost",  "localhost:8080",  "LOCALHOST",
                                     "x",     "x:1",        "127.0.0.1",       "10.1.2.3:7001",
                                     "[::1]", "[::1]:7001", "255.255.255.255", "[::ffff:1.2.3.4]:1",
                                     "x:"};
  static const char *const far[] = {"a.b",
                                    "example.com",
                                    "example.com:80",
                                    "localhost.",
                                    "1.2.3.4.5",
                                    "1.2.3",
                                    "1.2.3.256",
                                    "1.2.3.4.nip.io",
                                    "a:b",
                                    "[::1",
                                    "[]",
                                    "[::1]x",
                                    "1.2.3.4x",
                                    "0x7f.0.0.1",
                                    "a:1:2",
                                    "[x]",
                                    "1..3.4",
                                    ".",
                                    "a:80:"};
  for (size_t i = 0; i < count_of(near); i++) {
    ck_assert_msg(http_host_is_near(text_of(near[i])), "%s", near[i]);
  }
  ck_assert(http_host_is_near((struct http_text){NULL, 0}));
  for (size_t i = 0; i < count_of(far); i++) {
    ck_assert_msg(!http_host_is_near(text_of(far[i])), "%s", far[i]);
  }
}
END_TEST

START_TEST(origins) {
  ck_assert(http_origin_is(text_of("http://localhost:8080"), text_of("localhost:8080")));
  ck_assert(http_origin_is(text_of("HTTPS://Localhost"), text_of("localhost")));
  ck_assert(!http_origin_is(text_of("http://localhost:8081"), text_of("localhost:8080")));
  ck_assert(!http_origin_is(text_of("http://evil"), text_of("localhost")));
  ck_assert(!http_origin_is(text_of("null"), text_of("null")));
  ck_assert(!http_origin_is(text_of("http://"), text_of("")));
  ck_assert(!http_origin_is(text_of("ftp://a"), text_of("a")));
}
END_TEST

START_TEST(parameters) {
  struct http_text query = text_of("a=1&b=&c&=d&e=f=g"), name, value;
  static const char *const wanted[][2] = {
      {"a", "1"}, {"b", ""}, {"c", NULL}, {"", "d"}, {"e", "f=g"}};
  for (size_t i = 0; i < count_of(wanted); i++) {
    ck_assert(http_next_parameter(&query, &name, &value));
    ck_assert(equals(name, wanted[i][0]));
    ck_assert(equals(value, wanted[i][1]));
  }
  ck_assert(!http_next_parameter(&query, &name, &value));
  query = text_of("");
  ck_assert(!http_next_parameter(&query, &name, &value));
}
END_TEST

START_TEST(copies) {
  char copy[4];
  ck_assert_int_eq(http_copy(text_of("abc"), copy, sizeof(copy)), 0);
  ck_assert_str_eq(copy, "abc");
  ck_assert_int_eq(http_copy(text_of("abcd"), copy, sizeof(copy)), -1);
  ck_assert_int_eq(http_copy((struct http_text){NULL, 0}, copy, sizeof(copy)), 0);
  ck_assert_str_eq(copy, "");
}
END_TEST

START_TEST(openmetrics) {
  static const struct {
    const char *accept;
    bool wanted;
  } cases[] = {
      {NULL, false},
      {"*/*", false},
      {"text/plain", false},
      {"application/openmetrics-text", true},
      {"application/openmetrics-text;version=1.0.0,application/"
       "openmetrics-text;version=0.0.1;q=0.75,"
       "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
       true},
      {"application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
       true},
      {"application/openmetrics-text;q=0.5, text/plain;q=0.6", false},
      {"application/openmetrics-text;q=0.5, text/plain;q=0.5", true},
      {"application/openmetrics-text;q=0.123, text/*;Q=0.122", true},
      {"application/openmetrics-text;q=0", false},
      {"application/openmetrics-textual", false},
      {"application/openmetrics-text;q=, text/plain", true},
      {",,;,", false},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    ck_assert_msg(http_wants_openmetrics(text_of(cases[i].accept)) == cases[i].wanted, "%s",
                  cases[i].accept);
  }
}
END_TEST

/* ---- the answer ---- */

START_TEST(answer_head) {
  char text[HTTP_ANSWER_HEAD_MAX];
  struct http_answer answer = {.status = 405,
                               .type = "text/plain",
                               .lines = "Allow: POST\r\n",
                               .size = 12,
                               .keep_alive = true};
  size_t size = http_write_head(text, sizeof(text), &answer);
  text[size] = 0;
  ck_assert_str_eq(
      text,
      "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
      "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nAllow: POST\r\n\r\n");
  answer.is_1_0 = true;
  size = http_write_head(text, sizeof(text), &answer);
  text[size] = 0;
  ck_assert_ptr_nonnull(strstr(text, "\r\nConnection: keep-alive\r\n"));
  answer.keep_alive = false;
  size = http_write_head(text, sizeof(text), &answer);
  text[size] = 0;
  ck_assert_ptr_nonnull(strstr(text, "\r\nConnection: close\r\n"));
}
END_TEST

/* Each status that a request or a route can have has its phrase, and every head fits. */
START_TEST(phrases) {
  static const unsigned all[] = {200, 202, 400, 403, 404, 405, 413, 414, 431, 500, 501, 503, 505};
  for (size_t i = 0; i < count_of(all); i++) {
    char text[HTTP_ANSWER_HEAD_MAX];
    const struct http_answer answer = {
        .status = all[i],
        .type = "application/openmetrics-text; version=1.0.0; charset=utf-8",
        .lines = "",
        .size = SIZE_MAX};
    size_t size = http_write_head(text, sizeof(text), &answer);
    ck_assert_uint_lt(size, HTTP_ANSWER_HEAD_MAX);
    text[size] = 0;
    ck_assert_ptr_null(strstr(text, "Unknown"));
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {good_request, count_of(good)},
      {fields_are_kept, 1},
      {bad_request, count_of(bad)},
      {zero_byte, 1},
      {long_target, 1},
      {many_lines, 1},
      {long_head, 1},
      {near_hosts, 1},
      {origins, 1},
      {parameters, 1},
      {copies, 1},
      {openmetrics, 1},
      {answer_head, 1},
      {phrases, 1},
  };
  return run_suite_fixture("http", tests, count_of(tests), set_up, NULL);
}
