/*
 * check_proxy: what real senders send, every prefix of it, every changed byte and random changes,
 * as the reference parser judges them.  Each rule has a test in check_proxy_rules.
 */
#include "tests/fixtures/proxy_fixture.h"
#include "tests/fixtures/random.h"

#define A27 "AAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define B27 "BBBBBBBBBBBBBBBBBBBBBBBBBBB"

/* ---- headers of real senders ---- */

static const char tls_header[] =
    HEAD("\x21", "\x11", "\0\x87") "\x7f\0\0\1\x7f\0\0\1\x8f\x7e\x42\xcf"
    "\3\0\4\xee\xc5\4\x52"
    "\2\0\10sni.test"
    "\5\0\44b18d1c08-f486-4fa3-bd2b-cef1050a52e3"
    "\x20\0\x3f\1\0\0\0\0"
    "\x21\0\7TLSv1.3"
    "\x25\0\7RSA2048"
    "\x24\0\12RSA-SHA256"
    "\x23\0\26TLS_AES_256_GCM_SHA384";

static const struct vector {
  const char *sender;
  const uint8_t *bytes;
  size_t size;
  enum proxy_command command;
  const char *source, *destination;
} vectors[] = {
    {"haproxy send-proxy", BYTES("PROXY TCP4 127.0.0.1 127.0.0.1 59646 17102\r\n"),
     PROXY_COMMAND_PROXY, "127.0.0.1:59646", "127.0.0.1:17102"},
    {"nginx stream", BYTES("PROXY TCP6 ::1 ::1 36404 17111\r\n"), PROXY_COMMAND_PROXY,
     "[::1]:36404", "[::1]:17111"},
    {"nginx stream, UNIX client", BYTES("PROXY UNKNOWN\r\n"), PROXY_COMMAND_UNKNOWN, "none",
     "none"},
    {"curl", BYTES("PROXY TCP4 127.0.0.1 127.0.0.1 60926 17100\r\n"), PROXY_COMMAND_PROXY,
     "127.0.0.1:60926", "127.0.0.1:17100"},
    {"the specification's longest",
     BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     PROXY_COMMAND_UNKNOWN, "none", "none"},
    {"haproxy v2", BYTES(HEAD("\x21", "\x11", "\0\x0c") V4_BLOCK), PROXY_COMMAND_PROXY,
     "127.0.0.1:33538", "127.0.0.1:17101"},
    {"haproxy v2 IPv6",
     BYTES(HEAD("\x21", "\x21", "\0\x24") LOOPBACK6 LOOPBACK6 "\xe4\x5c\x42\xd0"),
     PROXY_COMMAND_PROXY, "[::1]:58460", "[::1]:17104"},
    {"haproxy v2 check, UNIX client", BYTES(HEAD("\x20", "\0", "\0\0")), PROXY_COMMAND_LOCAL,
     "none", "none"},
    {"haproxy v2 from TLS", BYTES(tls_header), PROXY_COMMAND_PROXY, "127.0.0.1:36734",
     "127.0.0.1:17103"},
    {"proxy-protocol-js",
     BYTES(HEAD("\x21", "\x11", "\0\x0c") "\xc0\0\2\1\xc6\x33\x64\1\x30\x39\x1b\x58"),
     PROXY_COMMAND_PROXY, "192.0.2.1:12345", "198.51.100.1:7000"},
    {"a LOCAL with a forged address",
     BYTES(HEAD("\x20", "\x11", "\0\x0c") "\6\6\6\6\x7f\0\0\1\0\1\0\2"), PROXY_COMMAND_LOCAL,
     "none", "none"},
    {"proxy-protocol-js UNIX, 108 bytes each",
     BYTES(HEAD("\x21", "\x31", "\0\xd8") A27 A27 A27 A27 B27 B27 B27 B27), PROXY_COMMAND_PROXY,
     "unix", "unix"},
};

START_TEST(real_senders_are_understood) {
  for (size_t i = 0; i < count_of(vectors); i++) {
    const struct vector *vector = &vectors[i];
    struct proxy_header header = expect_done(vector->bytes, vector->size);
    char text[ADDR_TEXT_MAX];
    ck_assert_uint_eq(header.version, vector->bytes[0] == 'P' ? 1 : 2);
    ck_assert_uint_eq(header.command, vector->command);
    ck_assert_str_eq(addr_format(&header.source, text), vector->source);
    ck_assert_str_eq(addr_format(&header.destination, text), vector->destination);
  }
}
END_TEST

START_TEST(tls_is_understood) {
  struct proxy_header header = expect_done(BYTES(tls_header));
  ck_assert(header.tls.present);
  ck_assert_uint_eq(header.tls.bits, 1);
  ck_assert_uint_eq(header.tls.verify, 0);
  ck_assert_uint_eq(header.tls.cn.offset, 0);
  ck_assert_uint_eq(header.alpn.offset, 0);
  expect_span(tls_header, header.tls.version, "TLSv1.3");
  expect_span(tls_header, header.tls.cipher, "TLS_AES_256_GCM_SHA384");
  expect_span(tls_header, header.authority, "sni.test");
  expect_span(tls_header, header.unique_id, "b18d1c08-f486-4fa3-bd2b-cef1050a52e3");
  struct proxy_span crc = proxy_find_tlv((const uint8_t *)tls_header, &header, PROXY_TLV_CRC32C);
  expect_span(tls_header, crc, "\xee\xc5\4\x52");
  ck_assert_uint_eq(proxy_find_tlv((const uint8_t *)tls_header, &header, PROXY_TLV_NOOP).offset, 0);
}
END_TEST

START_TEST(a_unix_path_ends_at_its_first_nul) {
  const struct vector *full = &vectors[count_of(vectors) - 1];
  uint8_t bytes[232];
  struct proxy_header header = expect_done(full->bytes, full->size);
  expect_span(full->bytes, header.source_path, A27 A27 A27 A27);
  expect_span(full->bytes, header.destination_path, B27 B27 B27 B27);
  memcpy(bytes, full->bytes, sizeof(bytes));
  bytes[16 + 107] = 0;
  bytes[16 + 108] = 0;
  header = expect_done(bytes, sizeof(bytes));
  ck_assert_uint_eq(header.source_path.size, 107);
  ck_assert_uint_eq(header.destination_path.size, 0);
  ck_assert_uint_eq(header.destination_path.offset, 16 + 108);
}
END_TEST

START_TEST(every_prefix_can_go_on) {
  for (size_t i = 0; i < count_of(vectors); i++) {
    for (size_t size = 0; size < vectors[i].size; size++) {
      expect_more(vectors[i].bytes, size);
    }
  }
}
END_TEST

START_TEST(bytes_after_the_header_change_nothing) {
  for (size_t i = 0; i < count_of(vectors); i++) {
    uint8_t bytes[512];
    struct proxy_header header;
    size_t size = vectors[i].size;
    memcpy(bytes, vectors[i].bytes, size);
    for (unsigned next = 0; next < 256; next++) {
      memset(bytes + size, (int)next, 200);
      ck_assert_int_eq(parse(PROXY_ANY, bytes, size + 200, &header), PROXY_DONE);
      ck_assert_uint_eq(header.size, size);
    }
  }
}
END_TEST

/* ---- changed bytes ---- */

/* What a changed byte of a vector may lead to, by its place. */
static void check_changed(const struct vector *vector, size_t at, enum proxy_result result,
                          const struct proxy_header *header) {
  bool line = vector->bytes[0] == 'P';
  if (at < (line ? 6 : 12)) {
    ck_assert(result == PROXY_BAD && header->cause == PROXY_CAUSE_NOT_HEADER);
  } else if (line && result == PROXY_BAD) {
    ck_assert(header->cause == PROXY_CAUSE_BAD);
  } else if (!line && at == 12 && header->cause != PROXY_CAUSE_NONE) {
    ck_assert(header->cause == PROXY_CAUSE_VERSION || header->cause == PROXY_CAUSE_BAD);
  } else if (result == PROXY_BAD && header->cause == PROXY_CAUSE_TOO_LONG) {
    ck_assert(at == 14 || (at == 15 && vector->bytes[14] == 0x0f));
  }
}

START_TEST(every_changed_byte_is_judged_as_the_reference_does) {
  for (size_t i = 0; i < count_of(vectors); i++) {
    const struct vector *vector = &vectors[i];
    uint8_t bytes[512];
    memcpy(bytes, vector->bytes, vector->size);
    for (size_t at = 0; at < vector->size; at++) {
      for (unsigned value = 0; value < 256; value++) {
        struct proxy_header header;
        bytes[at] = (uint8_t)value;
        enum proxy_result result = parse(PROXY_ANY, bytes, vector->size, &header);
        if (value != vector->bytes[at]) {
          check_changed(vector, at, result, &header);
        }
      }
      bytes[at] = vector->bytes[at];
    }
  }
}
END_TEST

/* Only a header that has no checksum any more passes: LOCAL, another type, or no TLVs. */
START_TEST(a_checksum_finds_every_changed_byte) {
  uint8_t bytes[sizeof(tls_header) - 1];
  memcpy(bytes, tls_header, sizeof(bytes));
  unsigned found = 0;
  for (size_t at = 12; at < sizeof(bytes); at++) {
    for (unsigned change = 1; change < 256; change++) {
      struct proxy_header header;
      bytes[at] = (uint8_t)tls_header[at] ^ (uint8_t)change;
      enum proxy_result result = parse(PROXY_ANY, bytes, sizeof(bytes), &header);
      bool local = at == 12 && bytes[at] == 0x20, other_type = at == 28;
      bool no_tlvs = at == 15 && bytes[at] == 12;
      ck_assert(result != PROXY_DONE || local || other_type || no_tlvs);
      found += result == PROXY_BAD && header.cause == PROXY_CAUSE_CHECKSUM;
      bytes[at] = (uint8_t)tls_header[at];
    }
  }
  ck_assert_uint_gt(found, 20000);
}
END_TEST

START_TEST(random_changes_are_judged_as_the_reference_does) {
  uint64_t state = 1;
  unsigned results[3] = {0, 0, 0};
  for (unsigned round = 0; round < 20000; round++) {
    const struct vector *vector = &vectors[random_next(&state) % count_of(vectors)];
    uint8_t bytes[512];
    struct proxy_header header;
    memcpy(bytes, vector->bytes, vector->size);
    for (uint64_t changes = random_next(&state) % 4; changes > 0; changes--) {
      uint64_t at = random_next(&state) % vector->size;
      bytes[at] = vector->bytes[random_next(&state) % vector->size];
    }
    results[parse(PROXY_ANY, bytes, vector->size, &header)]++;
  }
  ck_assert(results[PROXY_MORE] > 100 && results[PROXY_DONE] > 1000 && results[PROXY_BAD] > 1000);
}
END_TEST

START_TEST(a_listener_takes_its_version_only) {
  for (size_t i = 0; i < count_of(vectors); i++) {
    const struct vector *vector = &vectors[i];
    bool line = vector->bytes[0] == 'P';
    size_t signature = line ? 6 : 12;
    struct proxy_header header;
    ck_assert_int_eq(parse(line ? PROXY_V1 : PROXY_V2, vector->bytes, vector->size, &header),
                     PROXY_DONE);
    enum proxy_accepts other = line ? PROXY_V2 : PROXY_V1;
    for (size_t size = 0; size < signature; size++) {
      ck_assert_int_eq(parse(other, vector->bytes, size, &header), PROXY_MORE);
    }
    for (size_t size = signature; size <= vector->size; size++) {
      expect_bad(other, vector->bytes, size, PROXY_CAUSE_VERSION);
    }
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {real_senders_are_understood, 1},
      {tls_is_understood, 1},
      {a_unix_path_ends_at_its_first_nul, 1},
      {every_prefix_can_go_on, 1},
      {bytes_after_the_header_change_nothing, 1},
      {every_changed_byte_is_judged_as_the_reference_does, 1},
      {a_checksum_finds_every_changed_byte, 1},
      {random_changes_are_judged_as_the_reference_does, 1},
      {a_listener_takes_its_version_only, 1},
  };
  return run_suite_fixture("proxy", tests, count_of(tests), setup, NULL);
}
