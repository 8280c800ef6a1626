/*
 * check_config_listen: XCHG_ADMIN with its reserve, its contradictions and its warnings, and the
 * two variables that belong to it.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"

#include "core/config_vars.h"

START_TEST(addresses) {
  struct config c;
  GOOD(&c, "XCHG_ADMIN=127.0.0.1:7001,unix:/a,unix:/b;mode=0660,:0");
  ck_assert_uint_eq(c.admin_count, 4);
  ck_assert_uint_eq(c.admin[0].addr.port, 7001);
  ck_assert_int_eq(c.admin[1].mode, 0600);
  ck_assert_int_eq(c.admin[2].mode, 0660);
  ck_assert(c.admin[3].any && c.use == USE_CLIENTS);
  config_fini(&c);
  GOOD(&c, "XCHG_ADMIN=");
  ck_assert_uint_eq(c.admin_count, 0);
  config_fini(&c);
  GOOD(&c, "XCHG_ADMIN=:1,:2,:3,:4,:5,:6,:7,:8");
  ck_assert_uint_eq(c.admin_count, 8);
  config_fini(&c);
}
END_TEST

#define WANTED "want at most 8 of address:port, [v6]:port, :port, unix:/path[;mode=0660]; not '"

START_TEST(bad_addresses) {
  BAD("xchgd: XCHG_ADMIN=':1,:2,:3,:4,:5,:6,:7,:8,:9': " WANTED ":9'",
      "XCHG_ADMIN=:1,:2,:3,:4,:5,:6,:7,:8,:9");
  BAD("xchgd: XCHG_ADMIN='localhost:1': " WANTED "localhost:1'", "XCHG_ADMIN=localhost:1");
  BAD("xchgd: XCHG_ADMIN=':1,': " WANTED "'", "XCHG_ADMIN=:1,");
  BAD("xchgd: XCHG_ADMIN=':1;proxy=v2': " WANTED ":1;proxy=v2'", "XCHG_ADMIN=:1;proxy=v2");
  BAD("xchgd: XCHG_ADMIN='unix:/a;proxy=any': " WANTED "unix:/a;proxy=any'",
      "XCHG_ADMIN=unix:/a;proxy=any");
}
END_TEST

/* XCHG_LISTEN, XCHG_ADMIN, and whether both can be bound. */
static const struct {
  const char *listen, *admin;
  bool good;
} pairs[] = {
    {"XCHG_LISTEN=:7000", "XCHG_ADMIN=:7001", true},
    {"XCHG_LISTEN=:7000", "XCHG_ADMIN=:7000", false},
    {"XCHG_LISTEN=:7000", "XCHG_ADMIN=127.0.0.1:7000", false},
    {"XCHG_LISTEN=[::1]:7000", "XCHG_ADMIN=:1,:7000", false},
    {"XCHG_LISTEN=0.0.0.0:7000", "XCHG_ADMIN=127.0.0.1:7000", false},
    {"XCHG_LISTEN=127.0.0.1:7000", "XCHG_ADMIN=0.0.0.0:7000", false},
    {"XCHG_LISTEN=127.0.0.1:7000", "XCHG_ADMIN=127.0.0.1:7000", false},
    {"XCHG_LISTEN=127.0.0.1:7000", "XCHG_ADMIN=127.0.0.2:7000", true},
    {"XCHG_LISTEN=127.0.0.1:7000", "XCHG_ADMIN=[::1]:7000", true},
    {"XCHG_LISTEN=0.0.0.0:7000", "XCHG_ADMIN=[::1]:7000", true},
    {"XCHG_LISTEN=:0", "XCHG_ADMIN=:0", true},
    {"XCHG_LISTEN=:1,unix:/a", "XCHG_ADMIN=unix:/b,unix:/a", false},
    {"XCHG_LISTEN=unix:/a;mode=0666", "XCHG_ADMIN=unix:/a", false},
    {"XCHG_LISTEN=unix:/a", "XCHG_ADMIN=unix:/b", true},
};

START_TEST(clashes) {
  struct config c;
  unsigned faults = LOAD(&c, &plenty, pairs[_i].listen, pairs[_i].admin);
  ck_assert_msg(faults == (pairs[_i].good ? 0 : 1), "%s %s: %s", pairs[_i].listen, pairs[_i].admin,
                said);
  if (faults > 0) {
    ck_assert_ptr_nonnull(strstr(said, "': want other addresses than those of XCHG_LISTEN\n"));
    return;
  }
  config_fini(&c);
}
END_TEST

/* Passed sockets replace XCHG_LISTEN or XCHG_ADMIN, so these cannot clash. */
START_TEST(passed_sockets_clash_with_nothing) {
  struct config c;
  struct config_facts facts = plenty;
  facts.passed.data_count = _i == 0;
  facts.passed.admin_count = _i == 1;
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_LISTEN=:7000", "XCHG_ADMIN=:7000"), 0);
  config_fini(&c);
}
END_TEST

/* A name that asks for PROXY headers counts as an item with ;proxy=. */
START_TEST(passed_names_ask_for_headers) {
  struct config c;
  struct config_facts facts = plenty;
  facts.passed.data_count = 2;
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert(!config_takes_proxy(&c));
  config_fini(&c);
  facts.passed.data[1].proxy = ADDR_PROXY_V2;
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert(config_takes_proxy(&c));
  config_fini(&c);
}
END_TEST

START_TEST(wrong_names_are_a_fault) {
  struct config c;
  struct config_facts facts = plenty;
  facts.passed = (struct listen_fds){.count = 3, .invalid = true};
  ck_assert_uint_eq(LOAD(&c, &facts), 1);
  ck_assert_str_eq(said,
                   "xchgd: LISTEN_FDNAMES: want one name for each of the 3 sockets of "
                   "LISTEN_FDS, at most 64 for clients and 8 named admin\n");
}
END_TEST

/* A refused value is no contradiction. */
START_TEST(one_fault_at_a_time) {
  BAD("xchgd: XCHG_LISTEN='?': want at most 64 of address:port, [v6]:port, :port, "
      "unix:/path[;mode=0660], each also with ;proxy=v2; not '?'",
      "XCHG_LISTEN=?", "XCHG_ADMIN=:7000");
}
END_TEST

START_TEST(reserve) {
  struct config c;
  struct config_facts facts = {.cpus = 2, .descriptors = 256, .somaxconn = 4096};
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  uint64_t without = config_reserve(&c, &facts);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_ADMIN=:1"), 0);
  uint64_t one = config_reserve(&c, &facts);
  ck_assert_uint_eq(one, without + CONFIG_ADMIN_CONNECTIONS + 4 + 1 + 1 + 1);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_ADMIN=:1,unix:/a"), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), one + 2);
  config_fini(&c);
  facts.passed.admin_count = 1; /* as one address, with or without the variable */
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_ADMIN=:1,unix:/a"), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), one);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &facts), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), one);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_UPGRADE=on"), 0);
  ck_assert_uint_eq(config_reserve(&c, &facts), one + 9);
  config_fini(&c);
  ck_assert_uint_eq(LOAD(&c, &facts, "XCHG_UPGRADE=on", "XCHG_MODEL=thread"), 0); /* ignored */
  ck_assert_uint_lt(config_reserve(&c, &facts), one + 9);
  config_fini(&c);
}
END_TEST

START_TEST(times) {
  struct config c;
  GOOD(&c, "XCHG_STALL=0", "XCHG_DRAIN_DELAY=10m");
  ck_assert(c.stall_ns == 0 && c.drain_delay_ns == 600 * NS_PER_S);
  config_fini(&c);
  GOOD(&c, "XCHG_STALL=1s");
  config_fini(&c);
  BAD("xchgd: XCHG_STALL='999ms': want 0, or at least 1s", "XCHG_STALL=999ms");
  BAD("xchgd: XCHG_STALL='61m': want a time (500us, 250ms, 30s, 5m) from 0 to 60m",
      "XCHG_STALL=61m");
  BAD("xchgd: XCHG_DRAIN_DELAY='601s': want a time (500us, 250ms, 30s, 5m) from 0 to 10m",
      "XCHG_DRAIN_DELAY=601s");
}
END_TEST

static const char *const daemon_only[] = {"XCHG_ADMIN=:1", "XCHG_STALL=1s", "XCHG_DRAIN_DELAY=1s"};

START_TEST(embedded_servers_refuse_them) {
  struct config c;
  struct config_facts facts = plenty;
  facts.handler = facts.embedded = true;
  ck_assert_uint_eq(LOAD(&c, &facts, daemon_only[_i]), 1);
  ck_assert_ptr_nonnull(strstr(said, "': must be unset: an embedded server has no admin endpoint"));
  facts.embedded = false; /* xchg_main */
  ck_assert_uint_eq(LOAD(&c, &facts, daemon_only[_i]), 0);
  config_fini(&c);
}
END_TEST

static char warnings[1024];

static void keep(void *user, enum xchg_log_level level, const char *line) {
  (void)user;
  ck_assert_int_eq(level, XCHG_LOG_WARN);
  strcat(strcat(warnings, strstr(line, "msg=")), "\n");
}

static const struct {
  const char *admin, *warning;
} warned[] = {
    {"XCHG_ADMIN=127.0.0.1:1,127.8.8.8:1,[::1]:1", ""},
    {"XCHG_ADMIN=unix:/a,unix:/b;mode=0660,unix:/c;mode=0604", ""},
    {"XCHG_ADMIN=:1",
     "msg=\"the admin endpoint can be reached from other machines\" addr=[::]:1\n"},
    {"XCHG_ADMIN=10.0.0.1:1,[fe80::1%lo]:1",
     "msg=\"the admin endpoint can be reached from other machines\" addr=10.0.0.1:1\n"
     "msg=\"the admin endpoint can be reached from other machines\" addr=[fe80::1%lo]:1\n"},
    {"XCHG_ADMIN=unix:/a;mode=0602",
     "msg=\"every user may give commands at the admin endpoint\" addr=unix:/a\n"},
};

START_TEST(warns) {
  struct config c;
  struct log log;
  warnings[0] = 0; /* in one process, the run before has left its own */
  log_init(&log, keep, NULL, LOG_INFO, LOG_LOGFMT);
  GOOD(&c, warned[_i].admin);
  config_warn_admin(&c, &plenty, &log);
  ck_assert_str_eq(warnings, warned[_i].warning);
  config_fini(&c);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {addresses, 1},
      {bad_addresses, 1},
      {clashes, count_of(pairs)},
      {passed_sockets_clash_with_nothing, 2},
      {passed_names_ask_for_headers, 1},
      {wrong_names_are_a_fault, 1},
      {one_fault_at_a_time, 1},
      {reserve, 1},
      {times, 1},
      {embedded_servers_refuse_them, count_of(daemon_only)},
      {warns, count_of(warned)},
  };
  return run_suite("config_listen", tests, count_of(tests));
}
