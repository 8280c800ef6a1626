/*
 * check_config: defaults, presets, contradictions, the descriptor limit, unknown names, and that
 * one load reports all faults. Single values are in check_config_value.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"

#include "core/config_vars.h"

#include <stdlib.h>

#define WORD_MAX 128

START_TEST(defaults) {
  struct config c;
  GOOD(&c);
  ck_assert(c.exchange == EXCHANGE_GREET && c.has_greeting && c.reply == REPLY_NONE);
  ck_assert(c.greeting.size == 19 && memcmp(c.greeting.bytes, "Message from server", 19) == 0);
  ck_assert(c.frame.kind == XCHG_FRAME_DELIMITER && c.frame.size == 0);
  ck_assert(c.messages == 1 && c.max_message_bytes == 65536);
  ck_assert(c.listen_count == 1 && c.listen[0].any && c.listen[0].addr.port == 7000);
  ck_assert(c.backlog == 4096 && !c.reuseport && c.nodelay && c.keepalive);
  ck_assert(c.defer_accept_s == 0 && c.fastopen == 0 && c.sndbuf_bytes == 0);
  ck_assert(c.model == MODEL_POOL && c.workers == 3 && c.queue == 1024);
  ck_assert(c.dispatch == XCHG_DISPATCH_LEAST && !c.pin && c.spin_ns == 0);
  ck_assert(c.handler == NULL && c.offload_threads == 4 && c.watchdog_ns == 100 * NS_PER_MS);
  ck_assert(c.admin_count == 0 && c.use == USE_CLIENTS && c.stall_ns == 30 * NS_PER_S);
  ck_assert(c.max_connections == CONFIG_CONNECTIONS_MAX && c.overload == XCHG_OVERLOAD_WAIT);
  ck_assert(c.max_per_ip == 0 && c.allow.count == 0 && c.deny.count == 0);
  ck_assert_uint_eq(c.max_pending_bytes, 256 * 1024);
  ck_assert(c.idle_timeout_ns == 60 * NS_PER_S && c.message_timeout_ns == 10 * NS_PER_S);
  ck_assert(c.write_timeout_ns == 10 * NS_PER_S && c.max_lifetime_ns == 0);
  ck_assert(c.linger_ns == 2 * NS_PER_S && c.stop_grace_ns == 100 * NS_PER_MS);
  ck_assert(c.drain_timeout_ns == 30 * NS_PER_S && c.drain_delay_ns == 0);
  ck_assert(c.proxy_timeout_ns == 5 * NS_PER_S && c.proxy_trust.count == 0);
  ck_assert(c.listen[0].proxy == ADDR_PROXY_OFF);
  ck_assert(c.log_level == LOG_INFO && c.log_format == LOG_LOGFMT && c.slow_log_ns == 0);
  ck_assert(!c.user.set && c.sandbox == SANDBOX_AUTO && !c.core);
  ck_assert(c.upgrade == UPGRADE_OFF && c.upgrade_timeout_ns == 30 * NS_PER_S);
  ck_assert(config_sandbox_mode(&c) == SANDBOX_AUTO);
  config_fini(&c);
  ck_assert_ptr_null(c.greeting.bytes);
  config_fini(&c);
}
END_TEST

/* Empty means unset, for every variable and for an unknown one. */
START_TEST(empty_means_unset) {
  struct config c;
  char entries[VAR_COUNT + 1][WORD_MAX];
  const char *list[VAR_COUNT + 2];
  for (size_t i = 0; i < VAR_COUNT; i++) {
    snprintf(entries[i], WORD_MAX, "%s=", config_var_defs[i].name);
    list[i] = entries[i];
  }
  list[VAR_COUNT] = "XCHG_NOBODY=";
  list[VAR_COUNT + 1] = NULL;
  ck_assert_uint_eq(load(&c, list, &plenty), 0);
  ck_assert(c.has_greeting && c.queue == 1024 && c.listen_count == 1);
  config_fini(&c);
}
END_TEST

START_TEST(presets_may_be_overridden) {
  struct config c;
  GOOD(&c, "XCHG_EXCHANGE=line");
  ck_assert(!c.has_greeting && c.frame.kind == XCHG_FRAME_LINE && c.reply == REPLY_ECHO);
  ck_assert_uint_eq(c.messages, 1);
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=echo");
  ck_assert(!c.has_greeting && c.frame.kind == XCHG_FRAME_RAW && c.reply == REPLY_ECHO);
  ck_assert_uint_eq(c.messages, 0);
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=discard");
  ck_assert(!c.has_greeting && c.frame.kind == XCHG_FRAME_RAW && c.reply == REPLY_NONE);
  ck_assert_uint_eq(c.messages, 0);
  config_fini(&c);
  /* Each of the five variables overrides the preset, in any order. */
  GOOD(&c, "XCHG_MESSAGES=7", "XCHG_FRAME=u32", "XCHG_EXCHANGE=line", "XCHG_REPLY=text:\\x41\\0",
       "XCHG_GREETING=hi", "XCHG_MAX_MESSAGE=10");
  ck_assert(c.messages == 7 && c.frame.kind == XCHG_FRAME_PREFIX && c.frame.size == 4 &&
            c.max_message_bytes == 10);
  ck_assert(c.reply == REPLY_TEXT && c.reply_text.size == 2);
  ck_assert(memcmp(c.reply_text.bytes, "A\0", 2) == 0);
  ck_assert(c.greeting.size == 2 && memcmp(c.greeting.bytes, "hi", 2) == 0);
  config_fini(&c);
}
END_TEST

/* Texts that the frame cannot carry, and other contradictions. */
START_TEST(contradictions_are_faults) {
  struct config c;
  BAD("xchgd: XCHG_GREETING='a\\x5c0b': want a text without a 0 byte, which ends a message of "
      "XCHG_FRAME=nul",
      "XCHG_GREETING=a\\0b");
  BAD("xchgd: XCHG_REPLY='text:\\x5cx00': want a text without a 0 byte, which ends a message of "
      "XCHG_FRAME=nul",
      "XCHG_REPLY=text:\\x00");
  BAD("xchgd: XCHG_GREETING='hello\\x5cn': want a text without LF, which ends a message of "
      "XCHG_FRAME=line",
      "XCHG_EXCHANGE=line", "XCHG_GREETING=hello\\n");
  BAD("xchgd: XCHG_REPLY='text:\\x0a': want a text without LF, which ends a message of "
      "XCHG_FRAME=line",
      "XCHG_EXCHANGE=line", "XCHG_REPLY=text:\n");
  BAD("xchgd: XCHG_GREETING='Message from server': want a text of exactly 18 bytes under "
      "XCHG_FRAME=fixed:18, not of 19",
      "XCHG_FRAME=fixed:18");
  BAD("xchgd: XCHG_REPLY='text:ab': want a text of exactly 3 bytes under XCHG_FRAME=fixed:3, not "
      "of 2",
      "XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:3", "XCHG_REPLY=text:ab");
  BAD("xchgd: XCHG_FRAME='fixed:11': want N at most 10, the value of XCHG_MAX_MESSAGE",
      "XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:11", "XCHG_MAX_MESSAGE=10");
  BAD("xchgd: XCHG_FRAME='fixed:65537': want N at most 65536, the value of XCHG_MAX_MESSAGE",
      "XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:65537");
  BAD("xchgd: XCHG_DEFER_ACCEPT='5': want 0 or XCHG_GREETING=none: the client would wait for the "
      "greeting",
      "XCHG_DEFER_ACCEPT=5");
  /* The same values without the contradiction. */
  GOOD(&c, "XCHG_GREETING=a\\nb");
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=line", "XCHG_GREETING=a\\0\\r", "XCHG_REPLY=text:\\0");
  config_fini(&c);
  GOOD(&c, "XCHG_FRAME=fixed:19", "XCHG_REPLY=text:0123456789abcdef\\0\\n\\\\");
  config_fini(&c);
  GOOD(&c, "XCHG_FRAME=fixed:18", "XCHG_GREETING=none");
  config_fini(&c);
  GOOD(&c, "XCHG_FRAME=raw", "XCHG_GREETING=\\0\\n", "XCHG_REPLY=text:\\0\\n");
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:10", "XCHG_MAX_MESSAGE=10");
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=echo", "XCHG_FRAME=u16", "XCHG_MAX_MESSAGE=1"); /* without the prefix */
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=echo", "XCHG_FRAME=u32", "XCHG_MAX_MESSAGE=3");
  config_fini(&c);
  GOOD(&c, "XCHG_EXCHANGE=echo", "XCHG_DEFER_ACCEPT=5");
  ck_assert_uint_eq(c.defer_accept_s, 5);
  config_fini(&c);
}
END_TEST

#define NO_TRUST \
  "xchgd: XCHG_PROXY_TRUST='': want the addresses of the proxies: a TCP listener has ;proxy="

/* A TCP listener with headers needs a trust list, a UNIX socket has its file mode. */
/* The other models start threads and processes while they serve. */
START_TEST(a_sandbox_is_for_the_pool) {
  struct config c;
  BAD("xchgd: XCHG_SANDBOX='on': want auto or off, or XCHG_MODEL=pool", "XCHG_SANDBOX=on",
      "XCHG_MODEL=fork");
  BAD("xchgd: XCHG_SANDBOX='trap': want auto or off, or XCHG_MODEL=pool", "XCHG_SANDBOX=trap",
      "XCHG_MODEL=thread");
  BAD("xchgd: XCHG_MODEL='x': want pool, iterative, fork or thread", "XCHG_SANDBOX=on",
      "XCHG_MODEL=x");
  GOOD(&c, "XCHG_MODEL=iterative");
  ck_assert(c.sandbox == SANDBOX_AUTO && config_sandbox_mode(&c) == SANDBOX_OFF);
  config_fini(&c);
  GOOD(&c, "XCHG_SANDBOX=TRAP", "XCHG_CORE=on");
  ck_assert(config_sandbox_mode(&c) == SANDBOX_TRAP && c.core);
  config_fini(&c);
}
END_TEST

/* Main executes a program, which a sandbox around all threads would forbid. */
START_TEST(an_upgrade_needs_an_open_main) {
  struct config c;
  BAD("xchgd: XCHG_SANDBOX='on': want auto or off, or XCHG_UPGRADE=off: an upgrade executes a "
      "program",
      "XCHG_SANDBOX=on", "XCHG_UPGRADE=on");
  BAD("xchgd: XCHG_SANDBOX='trap': want auto or off, or XCHG_UPGRADE=off: an upgrade executes a "
      "program",
      "XCHG_SANDBOX=trap", "XCHG_UPGRADE=unix:/a");
  BAD("xchgd: XCHG_UPGRADE='yes': want off, on or unix:/path", "XCHG_UPGRADE=yes");
  BAD("xchgd: XCHG_UPGRADE='127.0.0.1:1': want off, on or unix:/path", "XCHG_UPGRADE=127.0.0.1:1");
  BAD("xchgd: XCHG_UPGRADE='unix:/a;mode=0666': want off, on or unix:/path",
      "XCHG_UPGRADE=unix:/a;mode=0666");
  GOOD(&c, "XCHG_UPGRADE=ON", "XCHG_UPGRADE_TIMEOUT=60m");
  ck_assert(c.upgrade == UPGRADE_ON && c.upgrade_timeout_ns == 3600 * NS_PER_S);
  config_fini(&c);
  GOOD(&c, "XCHG_UPGRADE=unix:/run/x", "XCHG_SANDBOX=off");
  ck_assert(c.upgrade == UPGRADE_SOCKET && c.upgrade_at.mode == 0600);
  ck_assert_str_eq(c.upgrade_at.path, "/run/x");
  config_fini(&c);
}
END_TEST

START_TEST(a_proxied_tcp_listener_needs_trust) {
  struct config c;
  BAD(NO_TRUST, "XCHG_LISTEN=127.0.0.1:1;proxy=v2");
  BAD(NO_TRUST, "XCHG_LISTEN=:1,unix:/a;proxy=any,[::1]:2;proxy=v1");
  BAD(NO_TRUST, "XCHG_LISTEN=:1;proxy=any", "XCHG_PROXY_TRUST=");
  GOOD(&c, "XCHG_LISTEN=:1;proxy=v2,:2", "XCHG_PROXY_TRUST=127.0.0.1,10.0.0.0/8,::1");
  ck_assert(c.proxy_trust.count == 3 && c.proxy_trust.blocks[1].bits == 8);
  ck_assert(c.listen[0].proxy == ADDR_PROXY_V2 && c.listen[1].proxy == ADDR_PROXY_OFF);
  ck_assert(config_takes_proxy(&c));
  config_fini(&c);
  GOOD(&c, "XCHG_LISTEN=:1,unix:/a;proxy=any");
  ck_assert(config_takes_proxy(&c));
  config_fini(&c);
  GOOD(&c, "XCHG_LISTEN=:1;proxy=off,unix:/a", "XCHG_PROXY_TRUST=::/0");
  ck_assert(!config_takes_proxy(&c));
  config_fini(&c);
  BAD("xchgd: XCHG_PROXY_TRUST='lb': want a list of addresses and blocks, such as "
      "10.0.0.0/8,2001:db8::/32; not 'lb'",
      "XCHG_LISTEN=:1;proxy=v2", "XCHG_PROXY_TRUST=lb");
}
END_TEST

/* The proxy speaks first, so a greeting does not keep the accept from its first bytes. */
START_TEST(proxied_listeners_may_defer_the_accept) {
  struct config c;
  GOOD(&c, "XCHG_DEFER_ACCEPT=5", "XCHG_LISTEN=:1;proxy=v2,unix:/a", "XCHG_PROXY_TRUST=::1");
  config_fini(&c);
  GOOD(&c, "XCHG_DEFER_ACCEPT=5", "XCHG_LISTEN=unix:/a");
  config_fini(&c);
  BAD("xchgd: XCHG_DEFER_ACCEPT='5': want 0 or XCHG_GREETING=none: the client would wait for the "
      "greeting",
      "XCHG_DEFER_ACCEPT=5", "XCHG_LISTEN=:1;proxy=v2,:2", "XCHG_PROXY_TRUST=::1");
}
END_TEST

/* 65535 bytes fit the length of u16, and 65536 fit only u32. */
START_TEST(a_text_must_fit_the_prefix) {
  struct config c;
  char *text = malloc(70000);
  strcpy(text, "XCHG_REPLY=text:");
  size_t head = strlen(text);
  memset(text + head, 'x', 65536);
  text[head + 65535] = 0;
  GOOD(&c, text, "XCHG_FRAME=u16");
  ck_assert_uint_eq(c.reply_text.size, 65535);
  config_fini(&c);
  text[head + 65535] = 'x';
  text[head + 65536] = 0;
  ck_assert_uint_eq(LOAD(&c, &plenty, text, "XCHG_FRAME=u16"), 1);
  ck_assert_ptr_nonnull(strstr(said,
                               "xx...': want a text of at most 65535 bytes under "
                               "XCHG_FRAME=u16, not of 65536\n"));
  GOOD(&c, text, "XCHG_FRAME=u32");
  config_fini(&c);
  free(text);
}
END_TEST

/* A refused value is reported once, not also as a contradiction. */
START_TEST(a_refused_value_is_no_contradiction) {
  BAD("xchgd: XCHG_EXCHANGE='ech': want greet, line, echo or discard", "XCHG_EXCHANGE=ech",
      "XCHG_FRAME=fixed:4", "XCHG_DEFER_ACCEPT=1");
  BAD("xchgd: XCHG_MAX_MESSAGE='0': want a size (4096, 64KiB, 1MiB) from 1 to 1GiB",
      "XCHG_MAX_MESSAGE=0", "XCHG_EXCHANGE=echo", "XCHG_FRAME=fixed:100000");
}
END_TEST

START_TEST(connections_fit_the_descriptor_limit) {
  struct config c;
  struct config_facts facts = {.cpus = 2, .descriptors = 64, .somaxconn = 4096};
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert_uint_ge(c.max_connections, 35);
  uint64_t reserve = config_reserve(&c, &facts);
  ck_assert_uint_eq(c.max_connections, 64 - reserve);
  config_fini(&c);
  /* Another listener and another worker reduce the number of connections. */
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_LISTEN=:1,:2", "XCHG_WORKERS=3"), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), reserve + 3);
  facts.passed.data_count = 5;
  ck_assert_uint_eq(config_reserve(&c, &facts), reserve + 6);
  facts.passed.data_count = 0;
  config_fini(&c);
  /* A UNIX listener also holds its folder; a passed one does not. */
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_LISTEN=unix:/s"), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), reserve + 1);
  facts.passed.data_count = 1;
  ck_assert_uint_eq(config_reserve(&c, &facts), reserve);
  facts.passed.data_count = 0;
  config_fini(&c);
  char entry[64], line[256];
  snprintf(entry, sizeof(entry), "XCHG_MAX_CONNECTIONS=%d", (int)(64 - reserve));
  ck_assert_uint_eq(LOAD(&c, &facts, entry), 0);
  config_fini(&c);
  snprintf(entry, sizeof(entry), "XCHG_MAX_CONNECTIONS=%d", (int)(65 - reserve));
  ck_assert_uint_eq(LOAD(&c, &facts, entry), 1);
  snprintf(line, sizeof(line),
           "xchgd: XCHG_MAX_CONNECTIONS='%d': want an integer from 1 to %d: the descriptor limit "
           "(RLIMIT_NOFILE, hard) of 64 less a reserve of %d\n",
           (int)(65 - reserve), (int)(64 - reserve), (int)reserve);
  ck_assert_str_eq(said, line);
  /* Room for exactly one connection, then for none. */
  facts.descriptors = reserve + 1;
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert_uint_eq(c.max_connections, 1);
  config_fini(&c);
  for (facts.descriptors = 0; facts.descriptors <= reserve; facts.descriptors++) {
    ck_assert_uint_eq(LOAD(&c, &facts), 1);
    snprintf(line, sizeof(line),
             "xchgd: XCHG_MAX_CONNECTIONS='': the descriptor limit (RLIMIT_NOFILE, hard) of %d "
             "leaves no connection after a reserve of %d; want a higher limit\n",
             (int)facts.descriptors, (int)reserve);
    ck_assert_str_eq(said, line);
  }
}
END_TEST

/* A sandbox may refuse to tell the descriptor limit, or to raise it. */
START_TEST(an_unknown_descriptor_limit) {
  struct config c;
  struct config_facts facts = {.cpus = 2, .descriptors_error = EPERM, .somaxconn = 4096};
  ck_assert_uint_eq(LOAD(&c, &facts), 1);
  ck_assert_str_eq(said,
                   "xchgd: XCHG_MAX_CONNECTIONS='': the system does not tell the descriptor limit "
                   "(getrlimit, prlimit64): Operation not permitted; allow the call, or set a "
                   "value\n");
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_MAX_CONNECTIONS=1000"), 0);
  ck_assert_uint_eq(c.max_connections, 1000);
  ck_assert_uint_eq(c.descriptors, 1000 + config_reserve(&c, &facts));
  config_fini(&c);
  facts = (struct config_facts){.cpus = 2, .descriptors = 16, .descriptors_soft = true};
  ck_assert_uint_eq(LOAD(&c, &facts), 1);
  ck_assert_ptr_nonnull(strstr(said, "the descriptor limit (RLIMIT_NOFILE, soft) of 16 "));
}
END_TEST

START_TEST(connections_by_model) {
  static const char *const models[] = {"XCHG_MODEL=iterative", "XCHG_MODEL=fork",
                                       "XCHG_MODEL=thread"};
  struct config c;
  struct config_facts facts = {.cpus = 64, .descriptors = 4096, .somaxconn = 4096};
  for (size_t i = 0; i < count_of(models); i++) {
    facts.descriptors = 4096;
    ck_assert_uint_eq(LOAD(&c, &facts, models[i]), 0);
    ck_assert_uint_eq(c.max_connections, 1024);
    config_fini(&c);
    ck_assert_uint_eq(LOAD(&c, &facts, models[i], "XCHG_MAX_CONNECTIONS=3000"), 0);
    ck_assert_uint_eq(c.max_connections, 3000);
    config_fini(&c);
    facts.descriptors = 200;
    ck_assert_uint_eq(LOAD(&c, &facts, models[i]), 0);
    ck_assert_uint_eq(c.max_connections, 200 - config_reserve(&c, &facts));
    config_fini(&c);
  }
  facts.descriptors = UINT64_MAX;
  facts.cpus = 5000;
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert(c.max_connections == CONFIG_CONNECTIONS_MAX && c.workers == 1024);
  config_fini(&c);
}
END_TEST

START_TEST(unknown_variables_are_faults) {
  BAD("xchgd: XCHG_WORKRES='4': unknown variable; did you mean XCHG_WORKERS?", "XCHG_WORKRES=4");
  BAD("xchgd: XCHG_workers='4': unknown variable; did you mean XCHG_WORKERS?", "XCHG_workers=4");
  BAD("xchgd: XCHG_HANDLE='/x.so': unknown variable; did you mean XCHG_HANDLER?",
      "XCHG_HANDLE=/x.so");
  BAD("xchgd: XCHG_PORT='7000': unknown variable; did you mean XCHG_CORE?", "XCHG_PORT=7000");
  BAD("xchgd: XCHG_='1': unknown variable; xchgd --help lists all", "XCHG_=1");
  BAD("xchgd: XCHG_\\x0a\\x27\\x22\\x80\\xfe='\\xff\\x1b[2J': unknown variable; xchgd --help lists "
      "all",
      "XCHG_\n'\"\x80\xfe=\xff\x1b[2J");
  struct config c;
  GOOD(&c, "XCHG_SERVICE_HOST=10.0.0.1", "XCHG_SERVICE_PORT=7000", "XCHG_PORT=tcp://10.0.0.1:7000",
       "XCHG_PORT_7000_TCP_ADDR=10.0.0.1", "XCHG_BLUE_SERVICE_PORT_HTTP=80", "xchg_workers=x",
       "XCHGD=x", "MY_XCHG_X=x", "XCHG_NO_EQUALS_SIGN");
  config_fini(&c);
  char text[700] = "XCHG_";
  memset(text + 5, 'A', 600);
  strcpy(text + 605, "=x");
  ck_assert_uint_eq(LOAD(&c, &plenty, text), 1);
  ck_assert_ptr_nonnull(strstr(said, "AAAA...='x': unknown variable; xchgd --help lists all\n"));
}
END_TEST

/*
 * A fault in every variable at once, two unknown ones and a contradiction: a line for each, in
 * order. First without a handler, since its fault changes the lines of the exchange's variables.
 */
START_TEST(all_faults_are_reported_at_once) {
  struct config c;
  bool handled = _i == 1;
  char entries[VAR_COUNT][WORD_MAX];
  const char *list[VAR_COUNT + 3];
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const char *wrong = i == VAR_GREETING ? "\\" : i == VAR_HANDLER && !handled ? "" : "?";
    snprintf(entries[i], WORD_MAX, "%s=%s", config_var_defs[i].name, wrong);
    list[i] = entries[i];
  }
  list[VAR_COUNT] = "XCHG_QEUUE=1";
  list[VAR_COUNT + 1] = "XCHG_PIM=1";
  list[VAR_COUNT + 2] = NULL;
  ck_assert_uint_eq(load(&c, list, &plenty), VAR_COUNT + (handled ? 2 : 1));
  const char *at = said;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[WORD_MAX];
    if (i == VAR_HANDLER && !handled) {
      continue;
    }
    int size = snprintf(start, sizeof(start), "xchgd: %s='", config_var_defs[i].name);
    ck_assert_msg(strncmp(at, start, (size_t)size) == 0, "%s is not at %s", start, at);
    at = strchr(at, '\n') + 1;
  }
  ck_assert_ptr_nonnull(strstr(at, "XCHG_QEUUE='1': unknown variable; did you mean XCHG_QUEUE?"));
  ck_assert_ptr_nonnull(strstr(at, "XCHG_PIM='1': unknown variable; did you mean XCHG_PIN?"));
  struct config_facts poor = {.cpus = 1, .descriptors = 3};
  ck_assert_uint_eq(LOAD(&c, &poor, "XCHG_QUEUE=0", "XCHG_FRAME=fixed:4", "XCHG_DEFER_ACCEPT=1",
                         "XCHG_NODLEAY=on"),
                    5);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {defaults, 1},
      {empty_means_unset, 1},
      {presets_may_be_overridden, 1},
      {contradictions_are_faults, 1},
      {a_text_must_fit_the_prefix, 1},
      {a_sandbox_is_for_the_pool, 1},
      {an_upgrade_needs_an_open_main, 1},
      {a_proxied_tcp_listener_needs_trust, 1},
      {proxied_listeners_may_defer_the_accept, 1},
      {a_refused_value_is_no_contradiction, 1},
      {connections_fit_the_descriptor_limit, 1},
      {an_unknown_descriptor_limit, 1},
      {connections_by_model, 1},
      {unknown_variables_are_faults, 1},
      {all_faults_are_reported_at_once, 2},
  };
  return run_suite("config", tests, count_of(tests));
}
