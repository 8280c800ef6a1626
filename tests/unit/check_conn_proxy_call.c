/*
 * check_conn_proxy_call: what a PROXY header changes for the handler: the address, the lists of
 * addresses, xchg_proxy and xchg_proxy_tlv.
 */
#include "tests/fixtures/proxied_conn.h"

#include <pthread.h>

/* From HAProxy behind TLS: checksum, authority, unique id, and TLS with four sub-TLVs. */
#define TLS_HEADER                                                           \
  V2_HEAD("\x21", "\x11", "\0\x87")                                          \
  "\x7f\0\0\1\x7f\0\0\1\x8f\x7e\x42\xcf\3\0\4\xee\xc5\4\x52\2\0\x08sni.test" \
  "\5\0\x24"                                                                 \
  "b18d1c08-f486-4fa3-bd2b-cef1050a52e3\x20\0\x3f\1\0\0\0\0\x21\0\7TLSv1.3"  \
  "\x25\0\7RSA2048\x24\0\x0aRSA-SHA256\x23\0\x16TLS_AES_256_GCM_SHA384"

#define A27 "AAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define N27 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define UNIX_HEAD V2_HEAD("\x21", "\x31", "\0\xd8")

/* ---- addresses ---- */

static const char *address_of(const struct xchg_conn *conn) {
  static char text[XCHG_ADDRESS_MAX];
  ck_assert_int_eq(xchg_address(conn, text, sizeof(text)), 0);
  return text;
}

/* on_open finds the announced address in place. */
static void act_expect_address(struct xchg_conn *conn) {
  ck_assert_str_eq(address_of(conn), test_data);
}

START_TEST(test_address_is_the_announced_one) {
  static const struct {
    const char *bytes;
    size_t size;
    const char *address;
  } cases[] = {
#define CASE(header, address) {header, sizeof(header) - 1, address}
      CASE(V1, "192.0.2.7:12345"),
      CASE(V2, "192.0.2.7:12345"),
      CASE("PROXY TCP6 2001:db8::1 ::1 5 6\r\n", "[2001:db8::1]:5"),
      CASE("PROXY TCP6 ::ffff:192.0.2.9 ::1 5 6\r\n", "192.0.2.9:5"),
      CASE(V1_UNKNOWN, "0.0.0.0:0"), /* the fixture's address of a TCP client */
      CASE(V2_LOCAL, "0.0.0.0:0"),
      CASE(V2_HEAD("\x20", "\x11", "\0\x0c") "\6\6\6\6\x7f\0\0\1\0\1\0\2", "0.0.0.0:0"),
      CASE(V2_HEAD("\x21", "\x12", "\0\x0c") "\6\6\6\6\x7f\0\0\1\0\1\0\2", "0.0.0.0:0"),
      CASE(UNIX_HEAD "/run/a" N27 N27 N27 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                     "/b" N27 N27 N27 N27,
           "unix:/run/a"),
      CASE(UNIX_HEAD "/a b\\\xff" N27 N27 N27 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                     "/b" N27 N27 N27 N27,
           "unix:/a\\x20b\\x5c\\xff"),
      CASE(UNIX_HEAD A27 A27 A27 A27 "B" N27 N27 N27 N27, "unix:" A27 A27 A27 A27),
  };
  acts[AT_OPEN] = act_expect_address;
  for (size_t i = 0; i < count_of(cases); i++) {
    char bytes[16 + 216 + 1];
    size_t size = min_u64(cases[i].size, 16 + 216); /* a path of zeroes may be a byte too long */
    memcpy(bytes, cases[i].bytes, size);
    test_data = (void *)cases[i].address;
    acts[AT_OPEN] = act_expect_address;
    int fd = proxied_tcp(_i == 1);
    client_send(fd, bytes, size);
    expect_greeting(fd);
    ck_assert_str_eq(address_of(fixture_conn()), cases[i].address);
    close_and_expect_end(fd, XCHG_FINISHED);
    proxied_conn_reset();
  }
}
END_TEST

/* A path whose escaped form is too long is shortened. */
START_TEST(test_long_path_is_shortened) {
  char bytes[16 + 216];
  memcpy(bytes, UNIX_HEAD, 16);
  memset(bytes + 16, 1, 216);
  int fd = proxied_tcp(false);
  client_send(fd, bytes, sizeof(bytes));
  expect_greeting(fd);
  const char *address = address_of(fixture_conn());
  size_t size = strlen(address);
  ck_assert_uint_lt(size, XCHG_ADDRESS_MAX);
  ck_assert(strncmp(address, "unix:\\x01\\x01", 13) == 0);
  ck_assert_str_eq(address + size - 7, "\\x01...");
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* ---- lists ---- */

static struct addr_block blocks[2];

static void allow_only(const char *block, bool deny) {
  ck_assert_int_eq(addr_parse_block(block, &blocks[deny]), 0);
  *(deny ? &fixture.config.deny : &fixture.config.allow) =
      (struct config_blocks){.blocks = &blocks[deny], .count = 1};
}

/* Send ${header}; is its client admitted? */
static void expect_admitted(const void *header, size_t size, bool over_unix, bool admitted) {
  fixture_start(false);
  int fd = over_unix ? client_connect() : client_connect_tcp();
  client_write(fd, header, size);
  if (admitted) {
    expect_greeting(fd);
    close_and_expect_end(fd, XCHG_FINISHED);
  } else {
    expect_unopened_end(XCHG_DENIED);
    close(fd);
  }
  proxied_conn_reset();
}

#define ADMITTED(header, over_unix, admitted) \
  expect_admitted(header, sizeof(header) - 1, over_unix, admitted)

START_TEST(test_lists_are_asked_for_the_announced_address) {
  allow_only("192.0.2.0/24", false);
  ADMITTED(V2, true, true);
  allow_only("192.0.2.0/24", true);
  ADMITTED(V2, true, false);
  allow_only("192.0.3.0/24", false);
  ADMITTED(V1, false, false);
  allow_only("192.0.3.0/24", true);
  ADMITTED(V1, false, true);
}
END_TEST

/* LOCAL and UNKNOWN: the address of the socket, as on a plain listener. */
START_TEST(test_lists_are_asked_for_the_socket_without_an_address) {
  allow_only("192.0.2.0/24", false);
  ADMITTED(V2_LOCAL, false, false);
  allow_only("0.0.0.0/32", false); /* the fixture's address of a TCP client */
  ADMITTED(V1_UNKNOWN, false, true);
  allow_only("192.0.2.0/24", false);
  ADMITTED(V2_LOCAL, true, true); /* the lists do not apply to UNIX sockets */
  allow_only("192.0.2.0/24", false);
  ADMITTED(V2_HEAD("\x20", "\x11", "\0\x0c") V4_BLOCK, false, false); /* forged */
}
END_TEST

/* An announced path is in no block: an allow list refuses it, a deny list does not. */
START_TEST(test_lists_and_an_announced_path) {
  static char header[16 + 216] = UNIX_HEAD "/run/a";
  allow_only("::/0", false);
  expect_admitted(header, sizeof(header), true, false);
  allow_only("::/0", true);
  expect_admitted(header, sizeof(header), true, true);
}
END_TEST

/* ---- xchg_proxy ---- */

static bool equals(struct xchg_bytes bytes, const char *text) {
  return bytes.data != NULL && bytes.size == strlen(text) &&
         memcmp(bytes.data, text, bytes.size) == 0;
}

static struct xchg_proxy ask(const struct xchg_conn *conn) {
  struct xchg_proxy proxy = {.size = sizeof(proxy)};
  ck_assert_int_eq(xchg_proxy(conn, &proxy), 0);
  ck_assert_uint_eq(proxy.size, sizeof(proxy));
  return proxy;
}

static void expect_no_tlv(const struct xchg_conn *conn, uint8_t type) {
  const void *data;
  size_t size;
  errno = 0;
  ck_assert_int_eq(xchg_proxy_tlv(conn, type, &data, &size), -1);
  ck_assert_int_eq(errno, ENOENT);
}

START_TEST(test_contents_of_a_header) {
  const void *data;
  size_t size;
  fixture.handler.proxy_tlvs = true;
  int fd = proxied_tcp(_i == 1);
  CLIENT_SEND(fd, TLS_HEADER "x\0");
  expect_greeting(fd);
  CLIENT_EXPECT(fd, "x\0");
  const struct xchg_conn *conn = fixture_conn();
  struct xchg_proxy proxy = ask(conn);
  ck_assert(proxy.version == 2 && proxy.command == XCHG_COMMAND_PROXY);
  ck_assert_str_eq(proxy.via, "0.0.0.0:0");
  ck_assert_str_eq(proxy.source, "127.0.0.1:36734");
  ck_assert_str_eq(proxy.destination, "127.0.0.1:17103");
  ck_assert(equals(proxy.authority, "sni.test") && proxy.alpn.data == NULL);
  ck_assert(equals(proxy.unique_id, "b18d1c08-f486-4fa3-bd2b-cef1050a52e3"));
  ck_assert(proxy.tls && proxy.tls_bits == 1 && proxy.tls_verify == 0);
  ck_assert(equals(proxy.tls_version, "TLSv1.3") && proxy.tls_cn.data == NULL);
  ck_assert(equals(proxy.tls_cipher, "TLS_AES_256_GCM_SHA384"));
  ck_assert_int_eq(xchg_proxy_tlv(conn, 0x02, &data, &size), 0);
  ck_assert(size == 8 && memcmp(data, "sni.test", 8) == 0);
  ck_assert_int_eq(xchg_proxy_tlv(conn, 0x20, &data, &size), 0);
  ck_assert_uint_eq(size, 0x3f);
  expect_no_tlv(conn, 0x01);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Without proxy_tlvs nothing is kept: no memory, no texts. */
START_TEST(test_tlvs_are_kept_on_demand) {
  int fd = proxied_tcp(false);
  CLIENT_SEND(fd, TLS_HEADER);
  expect_greeting(fd);
  fixture_settle();
  const struct xchg_conn *conn = fixture_conn();
  ck_assert_uint_eq(fixture.ctx.bufs.bytes, 0);
  ck_assert_uint_eq(fixture.ctx.colds.used, 0);
  struct xchg_proxy proxy = ask(conn);
  ck_assert_str_eq(proxy.source, "127.0.0.1:36734");
  ck_assert(proxy.authority.data == NULL && !proxy.tls && proxy.unique_id.data == NULL);
  expect_no_tlv(conn, 0x02);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_commands) {
  int fd = proxied_tcp(false);
  CLIENT_SEND(fd, V2_LOCAL);
  expect_greeting(fd);
  struct xchg_proxy proxy = ask(fixture_conn());
  ck_assert(proxy.version == 2 && proxy.command == XCHG_COMMAND_LOCAL);
  ck_assert(proxy.source[0] == 0 && proxy.destination[0] == 0);
  close_and_expect_end(fd, XCHG_FINISHED);
  proxied_conn_reset();
  fd = start_and_connect(false);
  CLIENT_SEND(fd, V1_UNKNOWN);
  expect_greeting(fd);
  proxy = ask(fixture_conn());
  ck_assert(proxy.version == 1 && proxy.command == XCHG_COMMAND_UNKNOWN);
  ck_assert_str_eq(proxy.via, "unix");
  ck_assert_uint_eq(atom_load_relaxed_u64(&fixture.stats.proxy_headers[0][STATS_PROXY_UNKNOWN]), 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

static void *call_elsewhere(void *argument) {
  struct xchg_proxy proxy = {.size = sizeof(proxy)};
  const void *data;
  size_t size;
  errno = 0;
  ck_assert(xchg_proxy(argument, &proxy) == -1 && errno == EPERM);
  errno = 0;
  ck_assert(xchg_proxy_tlv(argument, 1, &data, &size) == -1 && errno == EPERM);
  return NULL;
}

START_TEST(test_errors) {
  struct xchg_proxy proxy = {.size = sizeof(proxy) - 1};
  pthread_t thread;
  int fd = start_and_connect(false);
  errno = 0; /* a header has not come */
  ck_assert(xchg_proxy(fixture_conn(), &proxy) == -1 && errno == ENOENT);
  CLIENT_SEND(fd, V2);
  expect_greeting(fd);
  errno = 0;
  ck_assert(xchg_proxy(fixture_conn(), &proxy) == -1 && errno == EINVAL);
  ck_assert_int_eq(pthread_create(&thread, NULL, call_elsewhere, fixture_conn()), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  close_and_expect_end(fd, XCHG_FINISHED);
  proxied_conn_reset();
  fixture.config.listen[0].proxy = ADDR_PROXY_OFF;
  fd = start_and_connect(false);
  expect_greeting(fd);
  proxy.size = sizeof(proxy);
  errno = 0;
  ck_assert(xchg_proxy(fixture_conn(), &proxy) == -1 && errno == ENOENT);
  expect_no_tlv(fixture_conn(), 1);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* A plain connection takes the slot of one behind a proxy, and the other way round. */
START_TEST(test_plain_connections_next_to_proxied_ones) {
  fixture_start(false);
  for (int i = 0; i < 4; i++) {
    fixture.config.listen[0].proxy = i % 2 == 0 ? ADDR_PROXY_V2 : ADDR_PROXY_OFF;
    int fd = client_connect_tcp();
    if (i % 2 == 0) {
      CLIENT_SEND(fd, V2);
    }
    CLIENT_EXPECT(fd, GREETING);
    ck_assert_str_eq(address_of(fixture_conn()), i % 2 == 0 ? "192.0.2.7:12345" : "0.0.0.0:0");
    close_and_expect_end(fd, XCHG_FINISHED);
    slab_trim(&fixture.slab);
    conn_ctx_trim(&fixture.ctx);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_address_is_the_announced_one, 2},
      {test_long_path_is_shortened, 1},
      {test_lists_are_asked_for_the_announced_address, 1},
      {test_lists_are_asked_for_the_socket_without_an_address, 1},
      {test_lists_and_an_announced_path, 1},
      {test_contents_of_a_header, 2},
      {test_tlvs_are_kept_on_demand, 1},
      {test_commands, 1},
      {test_errors, 1},
      {test_plain_connections_next_to_proxied_ones, 1},
  };
  return run_suite_fixture("conn_proxy_call", tests, count_of(tests), proxied_conn_init,
                           handler_fixture_fini);
}
