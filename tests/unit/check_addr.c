/*
 * check_addr: addresses to listen on, blocks of addresses, and IPv4-mapped addresses, which become
 * IPv4.
 */
#include "core/addr.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* A text and what addr_format_listen writes for its address. */
struct listen_case {
  const char *text;
  const char *format; /* NULL: refused */
  int family;
  int mode;
  enum addr_proxy proxy;
};

static const struct listen_case listen_cases[] = {
    {"127.0.0.1:7000", "127.0.0.1:7000", ADDR_IPV4, -1, 0},
    {"0.0.0.0:0", "0.0.0.0:0", ADDR_IPV4, -1, 0},
    {"255.255.255.255:65535", "255.255.255.255:65535", ADDR_IPV4, -1, 0},
    {"[::1]:80", "[::1]:80", ADDR_IPV6, -1, 0},
    {"[::]:80", "[::]:80", ADDR_IPV6, -1, 0},
    {"[2001:DB8:0:0::1]:1", "[2001:db8::1]:1", ADDR_IPV6, -1, 0},
    {"[1:2:3:4:5:6:7:8]:65535", "[1:2:3:4:5:6:7:8]:65535", ADDR_IPV6, -1, 0},
    {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", ADDR_IPV6, -1, 0},
    {"[::ffff:10.0.0.1]:80", "10.0.0.1:80", ADDR_IPV4, -1, 0},
    {"[::FFFF:0a00:0001]:80", "10.0.0.1:80", ADDR_IPV4, -1, 0},
    {"[::10.0.0.1]:80", "[::10.0.0.1]:80", ADDR_IPV6, -1, 0},
    {"[fe80::1]:80", "[fe80::1]:80", ADDR_IPV6, -1, 0},
    {"[fe80::1%1]:80", "[fe80::1%1]:80", ADDR_IPV6, -1, 0},
    {"[FE80::0:1%eth0]:80", "[fe80::1%eth0]:80", ADDR_IPV6, -1, 0},
    {"[fe80::1%b\xc3\xbcro]:80", "[fe80::1%b\xc3\xbcro]:80", ADDR_IPV6, -1, 0},
    {"[febf::1%br-1.2@x]:80", "[febf::1%br-1.2@x]:80", ADDR_IPV6, -1, 0},
    {"[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff%abcdefghijklmno]:65535",
     "[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff%abcdefghijklmno]:65535", ADDR_IPV6, -1, 0},
    {"unix:/run/xchg.sock", "unix:/run/xchg.sock", ADDR_UNIX, -1, 0},
    {"UNIX:/run/Xchg", "unix:/run/Xchg", ADDR_UNIX, -1, 0},
    {"unix:/a b:1", "unix:/a b:1", ADDR_UNIX, -1, 0},
    {"unix:/s;mode=0660", "unix:/s", ADDR_UNIX, 0660, 0},
    {"unix:/s;mode=660", "unix:/s", ADDR_UNIX, 0660, 0},
    {"unix:/s;MODE=0777", "unix:/s", ADDR_UNIX, 0777, 0},
    {"unix:/s;mode=0", "unix:/s", ADDR_UNIX, 0, 0},
    {"unix:/s;mode=0000", "unix:/s", ADDR_UNIX, 0, 0},
    {"unix:/s;mode=7", "unix:/s", ADDR_UNIX, 7, 0},
    {"unix:/s;mode=", NULL, 0, 0, 0},
    {"unix:/s;mode=0888", NULL, 0, 0, 0},
    {"unix:/s;mode=1000", NULL, 0, 0, 0},
    {"unix:/s;mode=7777", NULL, 0, 0, 0},
    {"unix:/s;mode=00660", NULL, 0, 0, 0},
    {"unix:/s;mode=0660 ", NULL, 0, 0, 0},
    {"unix:/s;mode=-1", NULL, 0, 0, 0},
    {"unix:/s;mode=0x1ff", NULL, 0, 0, 0},
    {"unix:/s;mode=0660;mode=0600", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=off", "127.0.0.1:80", ADDR_IPV4, -1, ADDR_PROXY_OFF},
    {"127.0.0.1:80;proxy=v1", "127.0.0.1:80", ADDR_IPV4, -1, ADDR_PROXY_V1},
    {"[::1]:80;proxy=v2", "[::1]:80", ADDR_IPV6, -1, ADDR_PROXY_V2},
    {"[fe80::1%eth0]:80;PROXY=Any", "[fe80::1%eth0]:80", ADDR_IPV6, -1, ADDR_PROXY_ANY},
    {"unix:/s;proxy=any", "unix:/s", ADDR_UNIX, -1, ADDR_PROXY_ANY},
    {"unix:/s;mode=0660;proxy=v2", "unix:/s", ADDR_UNIX, 0660, ADDR_PROXY_V2},
    {"unix:/s;proxy=v1;mode=7", "unix:/s", ADDR_UNIX, 7, ADDR_PROXY_V1},
    {"127.0.0.1:80;", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v3", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v22", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=on", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v2 ", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v2;", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v2;proxy=v2", NULL, 0, 0, 0},
    {"127.0.0.1:80;mode=0660", NULL, 0, 0, 0},
    {"127.0.0.1:80;proxy=v2;mode=0660", NULL, 0, 0, 0},
    {"127.0.0.1:80 ;proxy=v2", NULL, 0, 0, 0},
    {"127.0.0.1;proxy=v2:80", NULL, 0, 0, 0},
    {";proxy=v2", NULL, 0, 0, 0},
    {"unix:/s;proxy=v2;mode=0660;proxy=v2", NULL, 0, 0, 0},
    {"unix:/s;mode=;proxy=v2", NULL, 0, 0, 0},
    {"unix:/s;proxy=;mode=0660", NULL, 0, 0, 0},
    {"unix:;proxy=v2", NULL, 0, 0, 0},
    {"unix:/s;", NULL, 0, 0, 0},
    {"unix:/s;0660", NULL, 0, 0, 0},
    {"unix:/s;owner=root", NULL, 0, 0, 0},
    {"unix:;mode=0660", NULL, 0, 0, 0},
    {"unix:", NULL, 0, 0, 0},
    {"unix:run/xchg.sock", NULL, 0, 0, 0},
    {"unix:./s", NULL, 0, 0, 0},
    {"unix: /s", NULL, 0, 0, 0},
    {"unix", NULL, 0, 0, 0},
    {"/run/xchg.sock", NULL, 0, 0, 0},
    {"", NULL, 0, 0, 0},
    {":", NULL, 0, 0, 0},
    {"::", NULL, 0, 0, 0},
    {"7000", NULL, 0, 0, 0},
    {":65536", NULL, 0, 0, 0},
    {":99999999999999999999", NULL, 0, 0, 0},
    {":-1", NULL, 0, 0, 0},
    {":+1", NULL, 0, 0, 0},
    {": 1", NULL, 0, 0, 0},
    {":7000 ", NULL, 0, 0, 0},
    {":http", NULL, 0, 0, 0},
    {"*:7000", NULL, 0, 0, 0},
    {"127.0.0.1", NULL, 0, 0, 0},
    {"127.0.0.1:", NULL, 0, 0, 0},
    {"127.0.0.1:65536", NULL, 0, 0, 0},
    {"127.0.0.1:1:2", NULL, 0, 0, 0},
    {"127.0.0:80", NULL, 0, 0, 0},
    {"127.0.0.1.1:80", NULL, 0, 0, 0},
    {"127.0.0.256:80", NULL, 0, 0, 0},
    {"127.0.0.01:80", NULL, 0, 0, 0},
    {"0x7f.0.0.1:80", NULL, 0, 0, 0},
    {" 127.0.0.1:80", NULL, 0, 0, 0},
    {"[127.0.0.1]:80", NULL, 0, 0, 0},
    {"localhost:80", NULL, 0, 0, 0},
    {"::1:80", NULL, 0, 0, 0},
    {"[::1]", NULL, 0, 0, 0},
    {"[::1]80", NULL, 0, 0, 0},
    {"[::1]:", NULL, 0, 0, 0},
    {"[::1:80", NULL, 0, 0, 0},
    {"::1]:80", NULL, 0, 0, 0},
    {"[]:80", NULL, 0, 0, 0},
    {"[:80", NULL, 0, 0, 0},
    {"[[::1]]:80", NULL, 0, 0, 0},
    {"[::1%lo]:80", NULL, 0, 0, 0},
    {"[::%eth0]:80", NULL, 0, 0, 0},
    {"[2001:db8::1%eth0]:80", NULL, 0, 0, 0},
    {"[fec0::1%eth0]:80", NULL, 0, 0, 0},
    {"[ff02::1%eth0]:80", NULL, 0, 0, 0},
    {"[::ffff:10.0.0.1%eth0]:80", NULL, 0, 0, 0},
    {"[fe80::1%]:80", NULL, 0, 0, 0},
    {"[fe80::1%%eth0]:80", NULL, 0, 0, 0},
    {"[fe80::1%eth0%eth1]:80", NULL, 0, 0, 0},
    {"[fe80::1%et h0]:80", NULL, 0, 0, 0},
    {"[fe80::1%et\nh0]:80", NULL, 0, 0, 0},
    {"[fe80::1%et/h0]:80", NULL, 0, 0, 0},
    {"[fe80::1%et:h0]:80", NULL, 0, 0, 0},
    {"[fe80::1%et]h0]:80", NULL, 0, 0, 0},
    {"[fe80::1%abcdefghijklmnop]:80", NULL, 0, 0, 0},
    {"[%eth0]:80", NULL, 0, 0, 0},
    {"fe80::1%eth0:80", NULL, 0, 0, 0},
    {"127.0.0.1%eth0:80", NULL, 0, 0, 0},
    {"[1:2:3:4:5:6:7:8:9]:80", NULL, 0, 0, 0},
    {"[1::2::3]:80", NULL, 0, 0, 0},
    {"[12345::]:80", NULL, 0, 0, 0},
    {"[::ffff:10.0.0.256]:80", NULL, 0, 0, 0},
    {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:80", NULL, 0, 0, 0},
};

START_TEST(listen_addresses_are_parsed) {
  const struct listen_case *c = &listen_cases[_i];
  struct addr_listen listen, before;
  memset(&listen, 0x55, sizeof(listen));
  before = listen;
  int result = addr_parse_listen(c->text, &listen);
  if (c->format == NULL) {
    ck_assert_msg(result == -1, "'%s' was read", c->text);
    ck_assert_msg(memcmp(&listen, &before, sizeof(listen)) == 0, "'%s'", c->text);
    return;
  }
  char text[128];
  ck_assert_msg(result == 0, "'%s' was refused", c->text);
  ck_assert_str_eq(addr_format_listen(&listen, text, sizeof(text)), c->format);
  ck_assert_msg(listen.proxy == c->proxy, "'%s'", c->text);
  ck_assert_int_eq(listen.addr.family, c->family);
  ck_assert_int_eq(listen.mode, c->mode);
  ck_assert(!listen.any);
}
END_TEST

START_TEST(any_address_has_no_host) {
  struct addr_listen listen;
  char text[64];
  ck_assert_int_eq(addr_parse_listen(":7000", &listen), 0);
  ck_assert(listen.any);
  ck_assert_int_eq(listen.addr.family, ADDR_IPV6);
  ck_assert_int_eq(listen.addr.port, 7000);
  ck_assert_int_eq(listen.mode, -1);
  ck_assert_str_eq(addr_format_listen(&listen, text, sizeof(text)), "[::]:7000");
  ck_assert_int_eq(addr_parse_listen(":0", &listen), 0);
  ck_assert(listen.any && listen.addr.port == 0);
}
END_TEST

/* 107 bytes and the 0 fill a sockaddr_un. The mode is not part of the path. */
START_TEST(unix_paths_have_at_most_107_bytes) {
  char text[256] = "unix:/";
  char formatted[128], cut[20];
  struct addr_listen listen;
  memset(text + 6, 'p', 106);
  text[5 + 107] = 0;
  ck_assert_int_eq(addr_parse_listen(text, &listen), 0);
  ck_assert_uint_eq(strlen(listen.path), 107);
  ck_assert_str_eq(listen.path, text + 5);
  ck_assert_str_eq(addr_format_listen(&listen, formatted, sizeof(formatted)), text);
  ck_assert_uint_eq(strlen(addr_format_listen(&listen, cut, sizeof(cut))), sizeof(cut) - 1);
  memcpy(text + 5 + 107, ";mode=0600", 11);
  ck_assert_int_eq(addr_parse_listen(text, &listen), 0);
  ck_assert_uint_eq(strlen(listen.path), 107);
  ck_assert_int_eq(listen.mode, 0600);
  memcpy(text + 5 + 107, "p", 2);
  ck_assert_int_eq(addr_parse_listen(text, &listen), -1);
  memcpy(text + 5 + 107, "p;mode=0600", 12);
  ck_assert_int_eq(addr_parse_listen(text, &listen), -1);
}
END_TEST

/* ${network} is the masked address as addr_format writes it. Its port is the number of bits. */
struct block_case {
  const char *text;
  const char *network; /* NULL: refused */
};

static const struct block_case block_cases[] = {
    {"10.0.0.0/8", "10.0.0.0:8"},
    {"10.1.2.3/8", "10.0.0.0:8"},
    {"10.1.2.3", "10.1.2.3:32"},
    {"10.1.2.3/32", "10.1.2.3:32"},
    {"255.255.255.255/31", "255.255.255.254:31"},
    {"255.255.255.255/25", "255.255.255.128:25"},
    {"255.255.255.255/24", "255.255.255.0:24"},
    {"255.255.255.255/23", "255.255.254.0:23"},
    {"255.255.255.255/1", "128.0.0.0:1"},
    {"255.255.255.255/0", "0.0.0.0:0"},
    {"0.0.0.0/0", "0.0.0.0:0"},
    {"::/0", "[::]:0"},
    {"ffff::/0", "[::]:0"},
    {"::1", "[::1]:128"},
    {"::1/128", "[::1]:128"},
    {"::1/127", "[::]:127"},
    {"2001:db8:ffff::/33", "[2001:db8:8000::]:33"},
    {"2001:db8::1/64", "[2001:db8::]:64"},
    {"2001:db8::ff/121", "[2001:db8::80]:121"},
    {"::ffff:10.1.2.3", "10.1.2.3:32"},
    {"::ffff:10.1.2.3/128", "10.1.2.3:32"},
    {"::ffff:10.1.2.3/104", "10.0.0.0:8"},
    {"::ffff:10.1.2.3/97", "0.0.0.0:1"},
    {"::ffff:10.1.2.3/96", "0.0.0.0:0"},
    {"::ffff:0:0/96", "0.0.0.0:0"},
    {"::ffff:10.1.2.3/80", "[::]:80"},
    {"::ffff:0:0/0", "[::]:0"},
    {"", NULL},
    {"/", NULL},
    {"/8", NULL},
    {"10.0.0.0/", NULL},
    {"10.0.0.0/33", NULL},
    {"10.0.0.0/-1", NULL},
    {"10.0.0.0/8/8", NULL},
    {"10.0.0.0/ 8", NULL},
    {"10.0.0.0 /8", NULL},
    {"10.0.0.0/8 ", NULL},
    {"10.0.0.0/255.0.0.0", NULL},
    {"10.0.0.0/4294967304", NULL},
    {"10.0.0.0/18446744073709551624", NULL},
    {"10.0.0/8", NULL},
    {"10/8", NULL},
    {"10.0.0.256", NULL},
    {"010.0.0.1", NULL},
    {"::/129", NULL},
    {"::1/", NULL},
    {"[::1]", NULL},
    {"[::1]/128", NULL},
    {"::1%lo", NULL},
    {"fe80::1%eth0/64", NULL},
    {"fe80::/10%1", NULL},
    {":::", NULL},
    {"1:2:3:4:5:6:7:8:9", NULL},
    {"::ffff:10.0.0.1/129", NULL},
    {"localhost", NULL},
    {"*", NULL},
    {"unix:/s", NULL},
};

START_TEST(blocks_are_parsed_and_masked) {
  const struct block_case *c = &block_cases[_i];
  struct addr_block block, before;
  memset(&block, 0x55, sizeof(block));
  before = block;
  int result = addr_parse_block(c->text, &block);
  if (c->network == NULL) {
    ck_assert_msg(result == -1, "'%s' was read", c->text);
    ck_assert(memcmp(&block, &before, sizeof(block)) == 0);
    return;
  }
  ck_assert_msg(result == 0, "'%s' was refused", c->text);
  struct addr network = {.family = block.family, .port = block.bits};
  memcpy(network.bytes, block.bytes, sizeof(network.bytes));
  char text[ADDR_TEXT_MAX];
  ck_assert_str_eq(addr_format(&network, text), c->network);
}
END_TEST

/* ::ffff:0:0/95 holds other addresses than mapped ones: it stays IPv6 with its bits. */
START_TEST(block_wider_than_mapped) {
  struct addr_block block;
  static const uint8_t want[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe};
  ck_assert_int_eq(addr_parse_block("::ffff:10.1.2.3/95", &block), 0);
  ck_assert_int_eq(block.family, ADDR_IPV6);
  ck_assert_int_eq(block.bits, 95);
  ck_assert_mem_eq(block.bytes, want, sizeof(want));
}
END_TEST

static bool is_in(const char *ip, const char *block_text) {
  struct addr_block block, host;
  ck_assert_int_eq(addr_parse_block(block_text, &block), 0);
  ck_assert_int_eq(addr_parse_block(ip, &host), 0);
  struct addr addr = {.family = host.family, .port = 4711};
  memcpy(addr.bytes, host.bytes, sizeof(addr.bytes));
  return addr_in_block(&addr, &block);
}

START_TEST(blocks_contain_their_addresses) {
  ck_assert(is_in("10.0.0.0", "10.0.0.0/8"));
  ck_assert(is_in("10.255.255.255", "10.0.0.0/8"));
  ck_assert(!is_in("11.0.0.0", "10.0.0.0/8"));
  ck_assert(!is_in("9.255.255.255", "10.0.0.0/8"));
  ck_assert(is_in("172.31.255.255", "172.16.0.0/12"));
  ck_assert(!is_in("172.32.0.0", "172.16.0.0/12"));
  ck_assert(!is_in("172.15.255.255", "172.16.0.0/12"));
  ck_assert(is_in("1.2.3.4", "1.2.3.4"));
  ck_assert(!is_in("1.2.3.5", "1.2.3.4"));
  ck_assert(is_in("1.2.3.5", "1.2.3.4/31"));
  ck_assert(!is_in("1.2.3.6", "1.2.3.4/31"));
  ck_assert(is_in("255.255.255.255", "0.0.0.0/0"));
  ck_assert(!is_in("127.255.255.255", "128.0.0.0/1"));
  ck_assert(is_in("128.0.0.0", "128.0.0.0/1"));
  ck_assert(is_in("ffff::", "::/0"));
  ck_assert(is_in("2001:db8::ffff", "2001:db8::/32"));
  ck_assert(!is_in("2001:db9::", "2001:db8::/32"));
  ck_assert(is_in("2001:db8:0:7fff::", "2001:db8::/49"));
  ck_assert(!is_in("2001:db8:0:8000::", "2001:db8::/49"));
  ck_assert(is_in("::1", "::1"));
  ck_assert(!is_in("::2", "::1"));
  ck_assert(is_in("::ffff:10.1.1.1", "10.0.0.0/8"));
  ck_assert(is_in("10.1.1.1", "::ffff:10.0.0.0/104"));
  ck_assert(!is_in("10.1.1.1", "::/0"));
  ck_assert(!is_in("::1", "0.0.0.0/0"));
  struct addr_block all;
  struct addr unix_peer = {.family = ADDR_UNIX}, none = {.family = ADDR_NONE};
  ck_assert_int_eq(addr_parse_block("0.0.0.0/0", &all), 0);
  ck_assert(!addr_in_block(&unix_peer, &all));
  ck_assert(!addr_in_block(&none, &all));
}
END_TEST

START_TEST(addresses_from_the_kernel) {
  static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4};
  static const uint8_t nearly[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 1, 2, 3, 4};
  static const uint8_t bytes[4] = {1, 2, 3, 4};
  struct addr six, four;
  char text[ADDR_TEXT_MAX];
  /* In dirty memory unused fields must become 0 all the same. */
  memset(&six, 0x55, sizeof(six));
  memset(&four, 0xaa, sizeof(four));
  addr_from_ipv6(&six, mapped, 80);
  addr_from_ipv4(&four, bytes, 80);
  ck_assert_mem_eq(&six, &four, sizeof(six));
  ck_assert_str_eq(addr_format(&six, text), "1.2.3.4:80");
  addr_from_ipv6(&six, nearly, 65535);
  ck_assert_int_eq(six.family, ADDR_IPV6);
  ck_assert_str_eq(addr_format(&six, text), "[::1:ffff:102:304]:65535");
}
END_TEST

START_TEST(addresses_are_formatted) {
  char text[ADDR_TEXT_MAX];
  struct addr addr = {.family = ADDR_UNIX};
  ck_assert_str_eq(addr_format(&addr, text), "unix");
  addr.family = ADDR_NONE;
  ck_assert_str_eq(addr_format(&addr, text), "none");
  memset(&addr, 0xff, sizeof(addr));
  addr.family = ADDR_IPV6;
  ck_assert_str_eq(addr_format(&addr, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {listen_addresses_are_parsed, count_of(listen_cases)},
      {any_address_has_no_host, 1},
      {unix_paths_have_at_most_107_bytes, 1},
      {blocks_are_parsed_and_masked, count_of(block_cases)},
      {block_wider_than_mapped, 1},
      {blocks_contain_their_addresses, 1},
      {addresses_from_the_kernel, 1},
      {addresses_are_formatted, 1},
  };
  return run_suite("addr", tests, count_of(tests));
}
