/*
 * check_config_value: every variable with valid and invalid values.
 *
 * The large table has valid values with the number that they become, invalid values, and the exact
 * text of the fault. The whole line of each fault is compared, so it always names the variable, the
 * value and what is allowed.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"

#include "core/parse.h"
#include "core/config_vars.h"

#include <inttypes.h>
#include <stdlib.h>

#define WORD_MAX 128

struct value_case {
  const char *name;
  const char *wanted;
  const char *good; /* words: text>number */
  const char *bad;  /* words */
};

#define BAD_NUMBERS " -1 +1 1.5 0x10 abc 1e3 1, 1; 18446744073709551616 99999999999999999999"
#define BAD_TIMES " -1s +1s 1 30 s 1h 1S 1.5s 1m30s 1s, 1KiB 00 18446744073709552us 307445735m"
#define BAD_SIZES " -1 +1 1.5KiB KiB 1k 1K 1KB 1kib 1TiB 1s 17179869184GiB 18446744073709551616"
#define TIMES "0>0 0s>0 1us>1000 250ms>250000000 30s>30000000000 5m>300000000000 "
#define YEAR "525600m>31536000000000000 31536000s>31536000000000000"
#define OVER_YEAR "525601m 31536001s" BAD_TIMES
#define YEAR_WANTED "a time (500us, 250ms, 30s, 5m) from 0 to 525600m"
#define SWITCHES "on>1 off>0 ON>1 Off>0"
#define BAD_SWITCHES "1 0 yes no true false onn o of on,"

static const struct value_case value_cases[] = {
    {"XCHG_EXCHANGE", "greet, line, echo or discard",
     "greet>0 line>1 echo>2 discard>3 GREET>0 Echo>2", "greeting lines ech echoo 0 1 none greet,"},
    {"XCHG_MESSAGES", "an integer from 0 to 9223372036854775807",
     "0>0 1>1 1000>1000 9223372036854775807>9223372036854775807",
     "9223372036854775808 18446744073709551615" BAD_NUMBERS},
    {"XCHG_MAX_MESSAGE", "a size (4096, 64KiB, 1MiB) from 1 to 1GiB",
     "1>1 4096>4096 64KiB>65536 1MiB>1048576 1GiB>1073741824 1073741824>1073741824",
     "0 0KiB 1073741825 2GiB 1025MiB" BAD_SIZES},
    {"XCHG_BACKLOG", "an integer from 1 to 2147483647",
     "1>1 128>128 4096>4096 2147483647>2147483647",
     "0 2147483648 4294967296 4294967297" BAD_NUMBERS},
    {"XCHG_REUSEPORT", "on or off", SWITCHES, BAD_SWITCHES},
    {"XCHG_NODELAY", "on or off", SWITCHES, BAD_SWITCHES},
    {"XCHG_KEEPALIVE", "on or off", SWITCHES, BAD_SWITCHES},
    {"XCHG_DEFER_ACCEPT", "an integer from 0 to 86400", "0>0 1>1 86400>86400",
     "86401 1s 0s" BAD_NUMBERS},
    {"XCHG_FASTOPEN", "an integer from 0 to 65535", "0>0 1>1 65535>65535", "65536" BAD_NUMBERS},
    {"XCHG_SNDBUF", "a size (4096, 64KiB, 1MiB) from 0 to 1GiB",
     "0>0 1>1 64KiB>65536 1GiB>1073741824", "1073741825 2GiB" BAD_SIZES},
    {"XCHG_MODEL", "pool, iterative, fork or thread",
     "pool>0 iterative>1 fork>2 thread>3 POOL>0 Thread>3", "threads poo prefork 0 pool,fork"},
    {"XCHG_WORKERS", "an integer from 1 to 1024", "1>1 2>2 1024>1024 0001>1",
     "0 1025 4294967297" BAD_NUMBERS},
    {"XCHG_QUEUE", "an integer from 1 to 1048576",
     "1>1 2>2 3>4 4>4 5>8 1000>1024 1024>1024 1025>2048 524289>1048576 1048576>1048576",
     "0 1048577 4294967297 1KiB" BAD_NUMBERS},
    {"XCHG_DISPATCH", "least or round-robin", "least>0 round-robin>1 Round-Robin>1",
     "roundrobin round_robin rr most 1"},
    {"XCHG_PIN", "on or off", SWITCHES, BAD_SWITCHES},
    {"XCHG_SPIN", "a time (500us, 250ms, 30s, 5m) from 0 to 1s",
     "0>0 50us>50000 999999us>999999000 1000ms>1000000000 1s>1000000000",
     "1000001us 1001ms 2s 1m" BAD_TIMES},
    {"XCHG_OFFLOAD_THREADS", "an integer from 0 to 1024", "0>0 1>1 4>4 1024>1024",
     "1025 4294967297" BAD_NUMBERS},
    {"XCHG_WATCHDOG", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_HANDLER", "a path that contains a /, at most 4095 bytes", "", "x.so handler ."},
    {"XCHG_MAX_CONNECTIONS", "an integer from 1 to 16777216", "1>1 1024>1024 16777216>16777216",
     "0 16777217" BAD_NUMBERS},
    {"XCHG_OVERLOAD", "wait or refuse", "wait>0 refuse>1 REFUSE>1", "drop waiting reject 0"},
    {"XCHG_MAX_PER_IP", "an integer from 0 to 2147483647", "0>0 1>1 2147483647>2147483647",
     "2147483648" BAD_NUMBERS},
    {"XCHG_MAX_PENDING", "a size (4096, 64KiB, 1MiB) from 4KiB to 1GiB",
     "4096>4096 4KiB>4096 256KiB>262144 1GiB>1073741824", "0 1 4095 1073741825" BAD_SIZES},
    {"XCHG_IDLE_TIMEOUT", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_MESSAGE_TIMEOUT", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_PROXY_TIMEOUT", "a time (500us, 250ms, 30s, 5m) from 3s to 1m",
     "3s>3000000000 3000ms>3000000000 5s>5000000000 60s>60000000000 1m>60000000000",
     "0 2999ms 2s 60001ms 61s 2m" BAD_TIMES},
    {"XCHG_WRITE_TIMEOUT", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_MAX_LIFETIME", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_LINGER", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_STOP_GRACE", "a time (500us, 250ms, 30s, 5m) from 0 to 1m",
     "0>0 100ms>100000000 60s>60000000000 1m>60000000000", "61s 60001ms 2m" BAD_TIMES},
    {"XCHG_DRAIN_TIMEOUT", YEAR_WANTED, TIMES YEAR, OVER_YEAR},
    {"XCHG_LOG_LEVEL", "error, warn, info or debug", "error>0 warn>1 info>2 debug>3 DEBUG>3",
     "warning trace 3 err"},
    {"XCHG_LOG_FORMAT", "logfmt or json", "logfmt>0 json>1 JSON>1", "text jsonl 0"},
    {"XCHG_FRAME", "nul, line, u16, u32, raw, or fixed:N with N from 1 to 1073741824", "",
     "null lines u8 u64 fixed fixed: fixed:0 fixed:-1 fixed:x fixed:1073741825 fixed:1KiB "
     "fixed:4,5 "
     "fixed:18446744073709551617 raw: line,nul"},
    {"XCHG_REPLY", "none, echo, or text: and a text with the escapes \\n \\r \\t \\0 \\\\ \\xNN",
     "", "hello echo: tex text 0 echos"},
};

static const struct config_var_def *row_of(const char *name) {
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (strcmp(config_var_defs[i].name, name) == 0) {
      return &config_var_defs[i];
    }
  }
  ck_abort_msg("no row %s", name);
}

/* Copy the next word of the list. Return: NULL after the last. */
static const char *next_word(const char *list, char word[WORD_MAX]) {
  list += strspn(list, " ");
  size_t size = strcspn(list, " ");
  if (size == 0) {
    return NULL;
  }
  ck_assert_uint_lt(size, WORD_MAX);
  memcpy(word, list, size);
  word[size] = 0;
  return list + size;
}

static size_t check_good(const struct value_case *c) {
  char word[WORD_MAX], entry[2 * WORD_MAX];
  size_t count = 0;
  for (const char *list = c->good; (list = next_word(list, word)) != NULL; count++) {
    struct config config;
    char *mark = strchr(word, '>');
    *mark = 0;
    snprintf(entry, sizeof(entry), "%s=%s", c->name, word);
    GOOD(&config, entry, "XCHG_GREETING=none");
    uint64_t number = config_number(&config, row_of(c->name));
    ck_assert_msg(number == strtoull(mark + 1, NULL, 10), "%s: %" PRIu64, entry, number);
    config_fini(&config);
  }
  return count;
}

static size_t check_bad(const struct value_case *c) {
  char word[WORD_MAX], entry[2 * WORD_MAX], line[512];
  size_t count = 0;
  for (const char *list = c->bad; (list = next_word(list, word)) != NULL; count++) {
    struct config config;
    snprintf(entry, sizeof(entry), "%s=%s", c->name, word);
    snprintf(line, sizeof(line), "xchgd: %s='%s': want %s\n", c->name, word, c->wanted);
    ck_assert_uint_eq(LOAD(&config, &plenty, entry), 1);
    ck_assert_str_eq(said, line);
  }
  return count;
}

START_TEST(values_are_parsed_or_refused) {
  size_t count = 0;
  for (size_t i = 0; i < count_of(value_cases); i++) {
    count += check_good(&value_cases[i]) + check_bad(&value_cases[i]);
  }
  ck_assert_uint_ge(count, 300);
}
END_TEST

START_TEST(texts_are_unescaped) {
  static const struct {
    const char *entry;
    bool has;
    const char *text;
  } cases[] = {
      {"XCHG_GREETING=none", false, ""},
      {"XCHG_GREETING=NONE", false, ""},
      {"XCHG_GREETING=text:none", true, "none"},
      {"XCHG_GREETING=text:", true, ""},
      {"XCHG_GREETING=TEXT:a", true, "a"},
      {"XCHG_GREETING=nones", true, "nones"},
      {"XCHG_GREETING=text:text:a", true, "text:a"},
      {"XCHG_GREETING= a b ", true, " a b "},
      {"XCHG_GREETING=\\x6eone", true, "none"},
      {"XCHG_GREETING=a=b,c", true, "a=b,c"},
      {"XCHG_GREETING=\\r\\n\\t\\\\", true, "\r\n\t\\"},
      {"XCHG_GREETING=echo", true, "echo"},
  };
  struct config c;
  for (size_t i = 0; i < count_of(cases); i++) {
    GOOD(&c, cases[i].entry);
    ck_assert_msg(c.has_greeting == cases[i].has, "%s", cases[i].entry);
    ck_assert_uint_eq(c.greeting.size, strlen(cases[i].text));
    if (c.has_greeting) {
      ck_assert_mem_eq(c.greeting.bytes, cases[i].text, c.greeting.size);
    }
    config_fini(&c);
  }
  GOOD(&c, "XCHG_REPLY=text:none");
  ck_assert(c.reply == REPLY_TEXT && c.reply_text.size == 4);
  config_fini(&c);
  GOOD(&c, "XCHG_REPLY=text:");
  ck_assert(c.reply == REPLY_TEXT && c.reply_text.size == 0 && c.reply_text.bytes != NULL);
  config_fini(&c);
  GOOD(&c, "XCHG_REPLY=ECHO");
  ck_assert_int_eq(c.reply, REPLY_ECHO);
  config_fini(&c);
#define ESCAPES "a text with the escapes \\n \\r \\t \\0 \\\\ \\xNN"
  BAD("xchgd: XCHG_GREETING='a\\x5c': want none, or " ESCAPES, "XCHG_GREETING=a\\");
  BAD("xchgd: XCHG_GREETING='\\x5cq': want none, or " ESCAPES, "XCHG_GREETING=\\q");
  BAD("xchgd: XCHG_REPLY='text:\\x5cx4': want none, echo, or text: and " ESCAPES,
      "XCHG_REPLY=text:\\x4");
}
END_TEST

START_TEST(frames_are_parsed) {
  struct config c;
  static const struct {
    const char *entry;
    enum xchg_frame_kind kind;
    size_t size;
  } cases[] = {
      {"XCHG_FRAME=raw", XCHG_FRAME_RAW, 0},
      {"XCHG_FRAME=nul", XCHG_FRAME_DELIMITER, 0},
      {"XCHG_FRAME=line", XCHG_FRAME_LINE, 0},
      {"XCHG_FRAME=u16", XCHG_FRAME_PREFIX, 2},
      {"XCHG_FRAME=U32", XCHG_FRAME_PREFIX, 4},
      {"XCHG_FRAME=fixed:1", XCHG_FRAME_FIXED, 1},
      {"XCHG_FRAME=FIXED:64", XCHG_FRAME_FIXED, 64},
      {"XCHG_FRAME=fixed:1073741824", XCHG_FRAME_FIXED, 1073741824},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    GOOD(&c, cases[i].entry, "XCHG_EXCHANGE=echo", "XCHG_MAX_MESSAGE=1GiB");
    ck_assert(c.frame.kind == cases[i].kind && c.frame.size == cases[i].size);
    config_fini(&c);
  }
}
END_TEST

#define LISTEN_WANTED                                                                          \
  "want at most 64 of address:port, [v6]:port, :port, unix:/path[;mode=0660], each also with " \
  ";proxy=v2"

START_TEST(listen_lists_are_parsed) {
  struct config c;
  char text[2048] = "XCHG_LISTEN=:1", line[4096];
  GOOD(&c, "XCHG_LISTEN=127.0.0.1:0,[::1]:80,:7000,unix:/run/x;mode=0600");
  ck_assert_uint_eq(c.listen_count, 4);
  ck_assert(c.listen[0].addr.family == ADDR_IPV4 && c.listen[1].addr.family == ADDR_IPV6);
  ck_assert(c.listen[2].any && c.listen[2].addr.port == 7000);
  ck_assert(c.listen[3].addr.family == ADDR_UNIX && c.listen[3].mode == 0600);
  config_fini(&c);
  for (unsigned i = 2; i <= 64; i++) {
    size_t size = strlen(text);
    snprintf(text + size, sizeof(text) - size, ",:%u", i);
  }
  GOOD(&c, text);
  ck_assert(c.listen_count == 64 && c.listen[63].addr.port == 64);
  config_fini(&c);
  strcat(text, ",:65");
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
  snprintf(line, sizeof(line), "xchgd: XCHG_LISTEN='%.64s...': " LISTEN_WANTED "; not ':65'\n",
           text + strlen("XCHG_LISTEN="));
  ck_assert_str_eq(said, line);
  static const char *const bad[] = {"localhost:80", "127.0.0.1",         ":65536", "unix:x",
                                    "[::1%lo]:80",  "unix:/s;mode=0999", "*:80",   "7000"};
  for (size_t i = 0; i < count_of(bad); i++) {
    snprintf(text, sizeof(text), "XCHG_LISTEN=:1,%s,:2", bad[i]);
    snprintf(line, sizeof(line), "xchgd: XCHG_LISTEN='%s': " LISTEN_WANTED "; not '%s'\n",
             text + strlen("XCHG_LISTEN="), bad[i]);
    ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
    ck_assert_str_eq(said, line);
  }
  BAD("xchgd: XCHG_LISTEN=',:1': " LISTEN_WANTED "; not ''", "XCHG_LISTEN=,:1");
  BAD("xchgd: XCHG_LISTEN=':1,': " LISTEN_WANTED "; not ''", "XCHG_LISTEN=:1,");
  BAD("xchgd: XCHG_LISTEN=':1, :2': " LISTEN_WANTED "; not ' :2'", "XCHG_LISTEN=:1, :2");
}
END_TEST

/* The longest path has 107 bytes. A longer item is refused, not truncated. */
START_TEST(long_listen_items_are_refused) {
  struct config c;
  char text[512] = "XCHG_LISTEN=unix:/";
  size_t head = strlen(text);
  memset(text + head, 'p', 106);
  GOOD(&c, text);
  ck_assert_uint_eq(strlen(c.listen[0].path), 107);
  config_fini(&c);
  memset(text + head, 'p', 107);
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
  memset(text + head, 'p', 300);
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
  ck_assert_ptr_nonnull(strstr(said, "ppp...'\n"));
}
END_TEST

/* A path is kept unchanged. The longest has 4095 bytes. */
START_TEST(paths_are_kept) {
  struct config c;
  char text[4200] = "XCHG_HANDLER=./";
  size_t head = strlen("XCHG_HANDLER=");
  GOOD(&c, "XCHG_HANDLER=/usr/lib/x, y.so");
  ck_assert_str_eq(c.handler, "/usr/lib/x, y.so");
  config_fini(&c);
  ck_assert_ptr_null(c.handler);
  GOOD(&c, "XCHG_HANDLER=");
  ck_assert_ptr_null(c.handler);
  config_fini(&c);
  memset(text + head + 2, 'p', 4093);
  GOOD(&c, text);
  ck_assert_str_eq(c.handler, text + head);
  config_fini(&c);
  text[head + 4095] = 'p';
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
  ck_assert_ptr_nonnull(
      strstr(said, "ppp...': want a path that contains a /, at most 4095 bytes\n"));
}
END_TEST

#define USER_WANTED "want a name, uid or uid:gid with numbers from 0 to 4294967294"

/* What begins with a digit is a number, which is also the group unless one is given. */
START_TEST(users_are_parsed) {
  static const struct {
    const char *entry, *name;
    uint32_t uid, gid;
  } good[] = {{"XCHG_USER=xchg", "xchg", 0, 0},
              {"XCHG_USER=_x-1.y$", "_x-1.y$", 0, 0},
              {"XCHG_USER=65532", "", 65532, 65532},
              {"XCHG_USER=0", "", 0, 0},
              {"XCHG_USER=10:4294967294", "", 10, 4294967294}};
  static const char *const bad[] = {"10:",          "10:x",
                                    "10:1:2",       "x:1",
                                    ":1",           "-1",
                                    "1x",           "4294967295",
                                    "a b",          "a/b",
                                    "4294967296",   "a\xc3",
                                    "1:4294967295", "99999999999999999999"};
  struct config c;
  char text[300] = "XCHG_USER=";
  for (size_t i = 0; i < count_of(good); i++) {
    GOOD(&c, good[i].entry);
    ck_assert(c.user.set && c.user.uid == good[i].uid && c.user.gid == good[i].gid);
    ck_assert_str_eq(c.user.name, good[i].name);
    config_fini(&c);
  }
  for (size_t i = 0; i < count_of(bad); i++) {
    snprintf(text, sizeof(text), "XCHG_USER=%s", bad[i]);
    ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
    ck_assert_ptr_nonnull(strstr(said, "': " USER_WANTED "\n"));
  }
  GOOD(&c, "XCHG_USER=");
  ck_assert(!c.user.set);
  config_fini(&c);
  memset(text + strlen("XCHG_USER="), 'u', 255);
  text[strlen("XCHG_USER=") + 255] = 0;
  GOOD(&c, text);
  ck_assert_uint_eq(strlen(c.user.name), 255);
  config_fini(&c);
  strcat(text, "u");
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
}
END_TEST

#define BLOCKS_WANTED "want a list of addresses and blocks, such as 10.0.0.0/8,2001:db8::/32"

START_TEST(block_lists_are_parsed) {
  struct config c;
  GOOD(&c, "XCHG_ALLOW=10.1.2.3/8,::1", "XCHG_DENY=::ffff:192.0.2.9/120");
  ck_assert(c.allow.count == 2 && c.deny.count == 1);
  ck_assert(c.allow.blocks[0].family == ADDR_IPV4 && c.allow.blocks[0].bits == 8);
  ck_assert(c.allow.blocks[0].bytes[0] == 10 && c.allow.blocks[0].bytes[1] == 0);
  ck_assert(c.allow.blocks[1].family == ADDR_IPV6 && c.allow.blocks[1].bits == 128);
  ck_assert(c.deny.blocks[0].family == ADDR_IPV4 && c.deny.blocks[0].bits == 24);
  config_fini(&c);
  ck_assert(c.allow.blocks == NULL && c.deny.count == 0);
  BAD("xchgd: XCHG_ALLOW='10.0.0.0/33': " BLOCKS_WANTED "; not '10.0.0.0/33'",
      "XCHG_ALLOW=10.0.0.0/33");
  BAD("xchgd: XCHG_DENY='::1,::/129,x': " BLOCKS_WANTED "; not '::/129'", "XCHG_DENY=::1,::/129,x");
  BAD("xchgd: XCHG_DENY='::1,': " BLOCKS_WANTED "; not ''", "XCHG_DENY=::1,");
  BAD("xchgd: XCHG_DENY='::1,,::2': " BLOCKS_WANTED "; not ''", "XCHG_DENY=::1,,::2");
  BAD("xchgd: XCHG_DENY='::1, ::2': " BLOCKS_WANTED "; not ' ::2'", "XCHG_DENY=::1, ::2");
  BAD("xchgd: XCHG_ALLOW='[::1]': " BLOCKS_WANTED "; not '[::1]'", "XCHG_ALLOW=[::1]");
}
END_TEST

/* A fault shows the value escaped and shortened, always on one line. */
START_TEST(faults_show_escaped_values) {
  BAD("xchgd: XCHG_PIN='o\\x0an\\x22\\x27\\x5c\\xc3\\xa9\\x7f\\x01 ~': want on or off",
      "XCHG_PIN=o\nn\"'\\\xc3\xa9\x7f\x01 ~");
  BAD("xchgd: XCHG_PIN='0123456789012345678901234567890123456789012345678901234567890123': "
      "want on or off",
      "XCHG_PIN=0123456789012345678901234567890123456789012345678901234567890123");
  BAD("xchgd: XCHG_PIN='0123456789012345678901234567890123456789012345678901234567890123...': "
      "want on or off",
      "XCHG_PIN=01234567890123456789012345678901234567890123456789012345678901234");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {values_are_parsed_or_refused, 1},
      {texts_are_unescaped, 1},
      {frames_are_parsed, 1},
      {listen_lists_are_parsed, 1},
      {long_listen_items_are_refused, 1},
      {paths_are_kept, 1},
      {users_are_parsed, 1},
      {block_lists_are_parsed, 1},
      {faults_show_escaped_values, 1},
  };
  return run_suite("config_value", tests, count_of(tests));
}
