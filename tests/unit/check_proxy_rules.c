/*
 * check_proxy_rules: each rule of the PROXY protocol, and the byte that breaks it.
 */
#include "core/crc32c.h"
#include "tests/fixtures/proxy_fixture.h"

/* ---- version 1 ---- */

START_TEST(other_bytes_are_no_header_at_once) {
  static const char *const begin[] = {"G",      "\n",      "\r\r", "\r\n\r\n\1",
                                      "PROXYX", "PROXY\r", "p",    " "};
  for (size_t i = 0; i < count_of(begin); i++) {
    size_t size = strlen(begin[i]);
    expect_more(begin[i], size - 1);
    expect_bad(PROXY_ANY, begin[i], size, PROXY_CAUSE_NOT_HEADER);
  }
  expect_bad(PROXY_ANY, "\0", 1, PROXY_CAUSE_NOT_HEADER);
}
END_TEST

/* Each is bad with its last byte, and not before it. */
static const char *const bad_lines[] = {
    "PROXY  ",
    "PROXY T\r",
    "PROXY UD",
    "PROXY TCP5",
    "PROXY TCP4\r",
    "PROXY TCP44",
    "PROXY UNKNOWNX",
    "PROXY UNKNOWN\n",
    "PROXY UNKNOWN\rX",
    "PROXY UNKNOWN x\n",
    "PROXY UNKNOWN x\r\r",
    "PROXY TCP4  ",
    "PROXY TCP4 :",
    "PROXY TCP4 a",
    "PROXY TCP4 1.2.3 ",
    "PROXY TCP4 1.2.3.4.5 ",
    "PROXY TCP4 256.2.3.4 ",
    "PROXY TCP4 01.2.3.4 ",
    "PROXY TCP4 255.255.255.2555",
    "PROXY TCP4 1.2.3.4\r",
    "PROXY TCP4 1.2.3.4 1.2.3.4\r",
    "PROXY TCP4 1.2.3.4 1.2.3 ",
    "PROXY TCP4 1.2.3.4 1.2.3.4  ",
    "PROXY TCP4 1.2.3.4 1.2.3.4 01 ",
    "PROXY TCP4 1.2.3.4 1.2.3.4 00 ",
    "PROXY TCP4 1.2.3.4 1.2.3.4 65536 ",
    "PROXY TCP4 1.2.3.4 1.2.3.4 000000",
    "PROXY TCP4 1.2.3.4 1.2.3.4 +",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1\r",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r",
    "PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r",
    "PROXY TCP6 1.2.3.4 ",
    "PROXY TCP6 :: 1.2.3.4 ",
    "PROXY TCP6 ::1%",
    "PROXY TCP6 [",
    "PROXY TCP6 1:2:3:4:5:6:7 ",
    "PROXY TCP6 1:2:3:4:5:6:7:8:9 ",
    "PROXY TCP6 1::2::3 ",
    "PROXY TCP6 1:2:3:4::5:6:7:8 ",
    "PROXY TCP6 00001:: ",
    "PROXY TCP6 ::g",
    "PROXY TCP6 ::1.2.3 ",
    "PROXY TCP6 0000:0000:0000:0000:0000:0000:0000:0000:000000",
};

START_TEST(bad_lines_are_bad_at_their_first_wrong_byte) {
  for (size_t i = 0; i < count_of(bad_lines); i++) {
    size_t size = strlen(bad_lines[i]);
    expect_more(bad_lines[i], size - 1);
    expect_bad(PROXY_ANY, bad_lines[i], size, PROXY_CAUSE_BAD);
  }
  expect_bad(PROXY_ANY, "PROXY TCP4 \0", 12, PROXY_CAUSE_BAD);
}
END_TEST

START_TEST(good_lines_are_understood) {
  static const struct {
    const char *line, *source, *destination;
  } lines[] = {
      {"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0", "255.255.255.255:65535"},
      {"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 1 2\r\n", "[2001:db8::1]:1", "[2001:db8::2]:2"},
      {"PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c000:0202 1 2\r\n", "192.0.2.1:1", "192.0.2.2:2"},
      {"PROXY TCP6 0001::0000 1:2:3:4:5:6:1.2.3.4 9 8\r\n", "[1::]:9", "[1:2:3:4:5:6:102:304]:8"},
      {"PROXY UNKNOWN \r\n", "none", "none"},
      {"PROXY UNKNOWN  any   thing\t\r\n", "none", "none"},
  };
  for (size_t i = 0; i < count_of(lines); i++) {
    char text[ADDR_TEXT_MAX];
    struct proxy_header header = expect_done(lines[i].line, strlen(lines[i].line));
    ck_assert_str_eq(addr_format(&header.source, text), lines[i].source);
    ck_assert_str_eq(addr_format(&header.destination, text), lines[i].destination);
    ck_assert_uint_eq(header.tlvs.size + header.tlvs.offset, 0);
  }
  expect_done("PROXY UNKNOWN \0\xff\r\n", 18);
}
END_TEST

START_TEST(a_line_has_107_bytes_at_most) {
  char bytes[PROXY_V1_MAX + 1];
  memset(bytes, 'x', sizeof(bytes));
  memcpy(bytes, "PROXY UNKNOWN ", 14);
  memcpy(bytes + PROXY_V1_MAX - 2, "\r\n", 2);
  expect_done(bytes, PROXY_V1_MAX);
  memcpy(bytes + PROXY_V1_MAX - 2, "x\r\n", 3);
  expect_more(bytes, PROXY_V1_MAX - 1);
  expect_bad(PROXY_ANY, bytes, PROXY_V1_MAX, PROXY_CAUSE_TOO_LONG);
  expect_bad(PROXY_ANY, bytes, PROXY_V1_MAX + 1, PROXY_CAUSE_TOO_LONG);
  const char *dotted =
      "PROXY TCP6 1111:2222:3333:4444:5555:6666:111.112.113.114 "
      "1111:2222:3333:4444:5555:6666:111.112.113.114 1 2\r\n";
  ck_assert_uint_eq(strlen(dotted), PROXY_V1_MAX + 1);
  expect_bad(PROXY_ANY, dotted, PROXY_V1_MAX + 1, PROXY_CAUSE_TOO_LONG);
}
END_TEST

/* ---- version 2 ---- */

START_TEST(version_command_and_family_are_checked_at_once) {
  for (unsigned byte = 0; byte < 256; byte++) {
    uint8_t bytes[] = HEAD("x", "\x11", "\0\x0c");
    bytes[12] = (uint8_t)byte;
    if (byte == 0x20 || byte == 0x21) {
      expect_more(bytes, 13);
    } else {
      expect_bad(PROXY_ANY, bytes, 13, byte >> 4 == 2 ? PROXY_CAUSE_BAD : PROXY_CAUSE_VERSION);
    }
    bytes[12] = 0x21;
    bytes[13] = (uint8_t)byte;
    if (byte >> 4 <= 3 && (byte & 15) <= 2) {
      expect_more(bytes, 14);
    } else {
      expect_bad(PROXY_ANY, bytes, 14, PROXY_CAUSE_BAD);
    }
    bytes[12] = 0x20;
    expect_more(bytes, 14);
  }
}
END_TEST

/* The addresses of streams are used, those of the other kinds skipped. TLVs follow all of them. */
START_TEST(each_family_needs_its_addresses) {
  static const uint16_t sizes[] = {0, 12, 36, 216};
  static const enum addr_family families[] = {ADDR_NONE, ADDR_IPV4, ADDR_IPV6, ADDR_UNIX};
  for (unsigned family = 0; family < 4; family++) {
    for (unsigned kind = 0; kind < 3; kind++) {
      uint8_t bytes[300] = HEAD("\x21", "x", "\0x");
      memset(bytes + 16, 'a', 216);
      memcpy(bytes + 16 + sizes[family], "\1\0\2h2", 5);
      bytes[13] = (uint8_t)(family << 4 | kind);
      bytes[15] = (uint8_t)(sizes[family] + 5);
      struct proxy_header header = expect_done(bytes, 16 + (size_t)sizes[family] + 5);
      expect_span(bytes, header.alpn, "h2");
      ck_assert_uint_eq(header.tlvs.size, 5);
      ck_assert_uint_eq(header.source.family, kind == 1 ? families[family] : ADDR_NONE);
      ck_assert_uint_eq(header.source_path.offset != 0, kind == 1 && family == 3);
      bytes[15] = (uint8_t)sizes[family];
      expect_done(bytes, 16 + (size_t)sizes[family]);
      bytes[15] = (uint8_t)(sizes[family] - 1);
      if (family != 0) {
        expect_bad(PROXY_ANY, bytes, 16, PROXY_CAUSE_BAD);
      }
    }
  }
}
END_TEST

START_TEST(a_mapped_address_is_ipv4) {
  uint8_t bytes[] =
      HEAD("\x21", "\x21", "\0\x24") "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1" LOOPBACK6 "\0\1\0\2";
  struct proxy_header header = expect_done(bytes, sizeof(bytes) - 1);
  char text[ADDR_TEXT_MAX];
  ck_assert_str_eq(addr_format(&header.source, text), "192.0.2.1:1");
}
END_TEST

START_TEST(too_long_is_known_before_it_is_read) {
  uint8_t bytes[PROXY_HEADER_MAX] = HEAD("\x21", "\x11", "\x0f\xf0") V4_BLOCK "\4\x0f\xe1";
  expect_more(bytes, 16);
  expect_more(bytes, PROXY_HEADER_MAX - 1);
  struct proxy_header header = expect_done(bytes, PROXY_HEADER_MAX);
  ck_assert_uint_eq(header.tlvs.size, PROXY_HEADER_MAX - 28);
  bytes[15] = 0xf1;
  expect_more(bytes, 15);
  expect_bad(PROXY_ANY, bytes, 16, PROXY_CAUSE_TOO_LONG);
  memcpy(bytes + 14, "\xff\xff", 2);
  expect_bad(PROXY_ANY, bytes, 16, PROXY_CAUSE_TOO_LONG);
  bytes[12] = 0x20;
  expect_bad(PROXY_ANY, bytes, 16, PROXY_CAUSE_TOO_LONG);
}
END_TEST

/* ---- TLVs ---- */

static uint8_t built[1024];

/* A header of ${command} and UNSPEC with the ${size} bytes of ${tlvs}. Return: its size. */
static size_t build(char command, const void *tlvs, size_t size) {
  memcpy(built, HEAD("x", "\0", "\0\0"), 16);
  built[12] = (uint8_t)command;
  built[14] = (uint8_t)(size >> 8);
  built[15] = (uint8_t)size;
  memcpy(built + 16, tlvs, size);
  return 16 + size;
}

#define BUILD(command, tlvs) built, build(command, tlvs, sizeof(tlvs) - 1)

START_TEST(tlvs_stay_within_their_bounds) {
  static const struct {
    const void *tlvs;
    size_t size;
  } rows[] = {
      {BYTES("\4")},                                            /* one byte left over */
      {BYTES("\4\0")},                                          /* two */
      {BYTES("\4\0\0\4\0")},                                    /* after another */
      {BYTES("\4\0\1")},                                        /* a byte too long */
      {BYTES("\xee\xff\xff")},                                  /* the longest */
      {BYTES("\2\0\3ab")},                                      /* the last one */
      {BYTES("\3\0\3abc")},                                     /* CRC32c of 3 bytes */
      {BYTES("\3\0\5abcde")},                                   /* and of 5 */
      {BYTES("\x20\0\0")},                                      /* TLS without bytes */
      {BYTES("\x20\0\4\1\0\0\0")},                              /* and of 4 */
      {BYTES("\x20\0\6\1\0\0\0\0\x21")},                        /* a byte left over in it */
      {BYTES("\x20\0\7\1\0\0\0\0\x21\0")},                      /* two */
      {BYTES("\x20\0\10\1\0\0\0\0\x21\0\1\4\0\0")},             /* longer than TLS */
      {BYTES("\x20\0\13\1\0\0\0\0\x21\0\0\xff\xff\xff\4\0\0")}, /* the second one */
  };
  for (size_t i = 0; i < count_of(rows); i++) {
    size_t size = build(0x21, rows[i].tlvs, rows[i].size);
    expect_more(built, size - 1);
    expect_bad(PROXY_ANY, built, size, PROXY_CAUSE_BAD);
    struct proxy_header header = expect_done(built, build(0x20, rows[i].tlvs, rows[i].size));
    ck_assert_uint_eq(header.tlvs.offset, 0);
    ck_assert_uint_eq(header.authority.offset + header.unique_id.offset, 0);
    ck_assert(!header.tls.present);
  }
}
END_TEST

START_TEST(a_unique_id_has_128_bytes_at_most) {
  char tlv[3 + PROXY_UNIQUE_ID_MAX + 1] = "\5\0\x80";
  struct proxy_header header = expect_done(built, build(0x21, tlv, 3 + PROXY_UNIQUE_ID_MAX));
  ck_assert_uint_eq(header.unique_id.size, PROXY_UNIQUE_ID_MAX);
  tlv[2]++;
  expect_bad(PROXY_ANY, built, build(0x21, tlv, 3 + PROXY_UNIQUE_ID_MAX + 1), PROXY_CAUSE_BAD);
}
END_TEST

START_TEST(of_duplicates_the_first_counts) {
  struct proxy_header header =
      expect_done(BUILD(0x21,
                        "\1\0\1a\1\0\1b\2\0\0\2\0\1c\5\0\1d\5\0\1e"
                        "\x20\0\21\5\0\0\0\7\x21\0\1f\x21\0\1g\x22\0\1h\x20\0\3abc"));
  expect_span(built, header.alpn, "a");
  expect_span(built, header.authority, "");
  expect_span(built, header.unique_id, "d");
  expect_span(built, header.tls.version, "f");
  expect_span(built, header.tls.cn, "h");
  ck_assert_uint_eq(header.tls.cipher.offset, 0);
  ck_assert_uint_eq(header.tls.bits, 5);
  ck_assert_uint_eq(header.tls.verify, 7);
}
END_TEST

START_TEST(unknown_and_empty_tlvs_are_taken) {
  struct proxy_header header =
      expect_done(BUILD(0x21, "\xe0\0\2xy\4\0\3\0\0\0\4\0\0\x30\0\2ns\1\0\0"));
  expect_span(built, header.alpn, "");
  ck_assert_uint_eq(header.alpn.offset, header.size);
  expect_span(built, proxy_find_tlv(built, &header, 0xe0), "xy");
  expect_span(built, proxy_find_tlv(built, &header, 0x30), "ns");
  ck_assert_uint_eq(proxy_find_tlv(built, &header, PROXY_TLV_NOOP).size, 3);
  ck_assert_uint_eq(proxy_find_tlv(built, &header, PROXY_TLV_AUTHORITY).offset, 0);
}
END_TEST

/* Set the checksum at ${at}. */
static void sum(size_t at, size_t size) {
  memset(built + at, 0, 4);
  uint32_t crc = crc32c(0, built, size);
  for (int i = 0; i < 4; i++) {
    built[at + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
  }
}

START_TEST(a_checksum_must_match) {
  for (char command = 0x20; command <= 0x21; command++) {
    size_t size = build(command, "\2\0\1a\3\0\4xxxx\4\0\0", 14);
    expect_bad(PROXY_ANY, built, size, PROXY_CAUSE_CHECKSUM);
    sum(23, size);
    struct proxy_header header = expect_done(built, size);
    expect_span(built, header.authority, "a");
    for (size_t at = 23; at < 27; at++) {
      built[at] ^= 1;
      expect_bad(PROXY_ANY, built, size, PROXY_CAUSE_CHECKSUM);
      built[at] ^= 1;
    }
    expect_more(built, size - 1);
  }
  size_t size = build(0x21, "\3\0\4xxxx\3\0\2yy", 12);
  sum(19, size);
  expect_done(built, size); /* the second one is no checksum */
}
END_TEST

/* A LOCAL takes no address and skips what is no list of TLVs. */
START_TEST(local_skips_its_block) {
  uint8_t bytes[300] = HEAD("\x20", "\x21", "\1\0");
  for (unsigned family = 0; family < 256; family++) {
    bytes[13] = (uint8_t)family;
    memset(bytes + 16, 0xff, 256);
    struct proxy_header header = expect_done(bytes, 16 + 256);
    ck_assert_uint_eq(header.command, PROXY_COMMAND_LOCAL);
    ck_assert_uint_eq(header.source.family, ADDR_NONE);
    ck_assert_uint_eq(header.source_path.offset, 0);
    ck_assert_uint_eq(header.tlvs.offset, 0);
  }
  struct proxy_header header = expect_done(BUILD(0x20, "\5\0\2id"));
  expect_span(built, header.unique_id, "id");
}
END_TEST

START_TEST(causes_have_the_names_of_the_metrics) {
  static const char *const names[PROXY_CAUSES] = {"none",     "untrusted", "not_header",
                                                  "version",  "bad",       "truncated",
                                                  "too_long", "checksum",  "timeout"};
  for (unsigned cause = 0; cause < PROXY_CAUSES; cause++) {
    ck_assert_str_eq(proxy_cause_name(cause), names[cause]);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {other_bytes_are_no_header_at_once, 1},
      {bad_lines_are_bad_at_their_first_wrong_byte, 1},
      {good_lines_are_understood, 1},
      {a_line_has_107_bytes_at_most, 1},
      {version_command_and_family_are_checked_at_once, 1},
      {each_family_needs_its_addresses, 1},
      {a_mapped_address_is_ipv4, 1},
      {too_long_is_known_before_it_is_read, 1},
      {tlvs_stay_within_their_bounds, 1},
      {a_unique_id_has_128_bytes_at_most, 1},
      {of_duplicates_the_first_counts, 1},
      {unknown_and_empty_tlvs_are_taken, 1},
      {a_checksum_must_match, 1},
      {local_skips_its_block, 1},
      {causes_have_the_names_of_the_metrics, 1},
  };
  return run_suite_fixture("proxy_rules", tests, count_of(tests), setup, NULL);
}
