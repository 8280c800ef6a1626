/*
 * check_proxy_header: the values of --proxy, and what xchg-bench sends, as core/proxy reads it.
 */
#include "xchg-bench/proxy_header.h"

#include "core/proxy.h"
#include "tests/fixtures/reference_proxy.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUN_ID "0123456789abcdef0123456789abcdef"

static struct addr v4_server, v6_server, unix_server = {.family = ADDR_UNIX};

static void setup(void) {
  addr_from_ipv4(&v4_server, (const uint8_t *)"\xc6\x33\x64\1", 7000);
  addr_from_ipv6(&v6_server, (const uint8_t *)"\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 7000);
}

/* Write the header of a connection and let both parsers read it. */
static struct proxy_header written(const char *option, const struct addr *server, uint32_t number,
                                   uint8_t bytes[PROXY_HEADER_SIZE_MAX]) {
  struct bench_proxy proxy;
  ck_assert_int_eq(proxy_header_parse(option, &proxy), 0);
  struct proxy_sender sender = {.proxy = &proxy, .run_id = RUN_ID, .server = *server};
  size_t size = proxy_header_write(&sender, number, UINT64_MAX, bytes);
  enum proxy_accepts accepts = proxy.version == 1 ? PROXY_V1 : PROXY_V2;
  struct proxy_header header;
  enum proxy_result result;
  const char *what = reference_proxy_differs(accepts, bytes, size, &result, &header);
  ck_assert_msg(what == NULL, "the parsers differ: %s", what);
  ck_assert_int_eq(result, PROXY_DONE);
  ck_assert_uint_eq(header.size, size);
  ck_assert_uint_eq(header.version, proxy.version);
  ck_assert_int_eq(header.command, PROXY_COMMAND_PROXY);
  return header;
}

static void expect_addresses(const struct proxy_header *header, const char *source,
                             const char *destination) {
  char text[ADDR_TEXT_MAX];
  ck_assert_str_eq(addr_format(&header->source, text), source);
  ck_assert_str_eq(addr_format(&header->destination, text), destination);
}

START_TEST(addresses_follow_from_the_connection) {
  static const char *const options[] = {"v1", "v2", "v2,crc32c"};
  uint8_t bytes[PROXY_HEADER_SIZE_MAX];
  for (size_t i = 0; i < count_of(options); i++) {
    struct proxy_header header = written(options[i], &v4_server, 0, bytes);
    expect_addresses(&header, "198.18.0.1:1024", "198.51.100.1:7000");
    header = written(options[i], &v4_server, 0x1fffe, bytes);
    expect_addresses(&header, "198.19.255.255:3070", "198.51.100.1:7000");
    header = written(options[i], &v4_server, 0x1ffff, bytes);
    expect_addresses(&header, "198.18.0.0:3071", "198.51.100.1:7000");
    header = written(options[i], &v6_server, 64511, bytes);
    expect_addresses(&header, "[2001:2::fc00]:65535", "[2001:db8::7]:7000");
    header = written(options[i], &v6_server, 999999, bytes);
    expect_addresses(&header, "[2001:2::f:4240]:33343", "[2001:db8::7]:7000");
    header = written(options[i], &unix_server, 1, bytes);
    expect_addresses(&header, "198.18.0.2:1025", "198.18.0.0:0");
  }
}
END_TEST

static void expect_span(const uint8_t *bytes, struct proxy_span span, const char *text) {
  ck_assert_uint_eq(span.size, strlen(text));
  ck_assert_mem_eq(bytes + span.offset, text, span.size);
}

START_TEST(tlvs_are_those_of_the_option) {
  uint8_t bytes[PROXY_HEADER_SIZE_MAX];
  struct proxy_header header = written("v2", &v6_server, 5, bytes);
  ck_assert_uint_eq(header.tlvs.size, 0);
  header = written("v2,authority=www.example.org,unique-id", &v4_server, 5, bytes);
  expect_span(bytes, header.authority, "www.example.org");
  expect_span(bytes, header.unique_id, RUN_ID "-5-18446744073709551615");
  ck_assert_uint_eq(proxy_find_tlv(bytes, &header, PROXY_TLV_CRC32C).offset, 0);
  header = written("v2,unique-id,crc32c", &v4_server, UINT32_MAX, bytes);
  expect_span(bytes, header.unique_id, RUN_ID "-4294967295-18446744073709551615");
  ck_assert_uint_eq(proxy_find_tlv(bytes, &header, PROXY_TLV_CRC32C).size, 4);
  bytes[header.unique_id.offset] ^= 1;
  ck_assert_int_eq(proxy_parse(PROXY_V2, bytes, header.size, &header), PROXY_BAD);
  ck_assert_int_eq(header.cause, PROXY_CAUSE_CHECKSUM);
}
END_TEST

/* An option of the longest header, with a name of ${size} bytes. */
static void longest(char option[PROXY_HEADER_TEXT_MAX + 8], size_t size) {
  strcpy(option, "v2,crc32c,unique-id,authority=");
  size_t head = strlen(option);
  memset(option + head, 'a', size);
  option[head + size] = 0;
}

START_TEST(the_longest_header_fits) {
  uint8_t bytes[PROXY_HEADER_SIZE_MAX];
  char option[PROXY_HEADER_TEXT_MAX + 8], text[PROXY_HEADER_TEXT_MAX];
  struct bench_proxy proxy;
  longest(option, BENCH_AUTHORITY_MAX);
  struct proxy_header header = written(option, &v6_server, UINT32_MAX, bytes);
  ck_assert_uint_eq(header.authority.size, BENCH_AUTHORITY_MAX);
  ck_assert_int_eq(proxy_header_parse(option, &proxy), 0);
  ck_assert_str_eq(proxy_header_format(&proxy, text), option);
  longest(option, BENCH_AUTHORITY_MAX + 1);
  ck_assert_int_eq(proxy_header_parse(option, &proxy), -1);
}
END_TEST

START_TEST(values_come_back) {
  static const struct {
    const char *text, *again;
  } values[] = {
      {"none", "none"},
      {"v1", "v1"},
      {"v2", "v2"},
      {"v2,crc32c", "v2,crc32c"},
      {"v2,unique-id,crc32c", "v2,crc32c,unique-id"},
      {"v2,authority=a=b,unique-id", "v2,unique-id,authority=a=b"},
      {"v2,authority=a,authority=b", "v2,authority=b"},
  };
  struct bench_proxy proxy;
  char text[PROXY_HEADER_TEXT_MAX];
  for (size_t i = 0; i < count_of(values); i++) {
    ck_assert_int_eq(proxy_header_parse(values[i].text, &proxy), 0);
    ck_assert_str_eq(proxy_header_format(&proxy, text), values[i].again);
  }
}
END_TEST

START_TEST(other_values_are_refused) {
  static const char *const values[] = {"",
                                       "v",
                                       "v3",
                                       "V1",
                                       "v1,crc32c",
                                       "none,crc32c",
                                       "v1,",
                                       "v2,",
                                       "v2,,crc32c",
                                       "v2,crc32c,",
                                       "v2crc32c",
                                       "v2,crc",
                                       "v2,unique-id=1",
                                       "v2,authority",
                                       "v2,authority=",
                                       "v2,authority=,crc32c",
                                       "v2,authority=a b",
                                       "v2,authority=a\x1b",
                                       "v2,authority=\x7f",
                                       "v2,authority=\xc3\xa4"};
  struct bench_proxy proxy;
  for (size_t i = 0; i < count_of(values); i++) {
    ck_assert_msg(proxy_header_parse(values[i], &proxy) == -1, "'%s' is taken", values[i]);
  }
}
END_TEST

START_TEST(the_header_is_sent_if_there_is_one) {
  uint8_t bytes[PROXY_HEADER_SIZE_MAX], received[PROXY_HEADER_SIZE_MAX];
  int pair[2];
  struct bench_proxy proxy;
  ck_assert_int_eq(proxy_header_parse("v2,unique-id", &proxy), 0);
  struct proxy_sender sender = {.proxy = NULL, .run_id = RUN_ID, .server = v4_server};
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  ck_assert_int_eq(proxy_header_send(&sender, pair[0], 3, 4), 0);
  ck_assert_int_eq(recv(pair[1], received, sizeof(received), 0), -1);
  sender.proxy = &proxy;
  size_t size = proxy_header_write(&sender, 3, 4, bytes);
  ck_assert_int_eq(proxy_header_send(&sender, pair[0], 3, 4), 0);
  ck_assert_int_eq(recv(pair[1], received, sizeof(received), 0), (ssize_t)size);
  ck_assert_mem_eq(received, bytes, size);
  close(pair[1]);
  ck_assert_int_eq(proxy_header_send(&sender, pair[0], 3, 4), -1);
  ck_assert_int_eq(errno, EPIPE);
  close(pair[0]);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {addresses_follow_from_the_connection, 1},
      {tlvs_are_those_of_the_option, 1},
      {the_longest_header_fits, 1},
      {values_come_back, 1},
      {other_values_are_refused, 1},
      {the_header_is_sent_if_there_is_one, 1},
  };
  return run_suite_fixture("proxy_header", tests, count_of(tests), setup, NULL);
}
