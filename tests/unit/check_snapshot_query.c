/* check_snapshot_query: every parameter of /connections, its bounds, and what is refused. */
#include "pool/snapshot_query.h"

#include "core/sys.h"
#include "tests/fixtures/run_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct snapshot_query query;
static char why[128];

/* Parse ${size} bytes that end at the end of their memory. */
static int parse_bytes(const char *text, size_t size) {
  char *copy = malloc(size == 0 ? 1 : size);
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, text, size);
  struct http_text part = {.at = size == 0 ? NULL : copy, .size = size};
  memset(why, 0, sizeof(why));
  int result = snapshot_query_parse(part, &query, why, sizeof(why));
  free(copy);
  ck_assert_int_eq(result, why[0] == 0 ? 0 : -1);
  return result;
}

static int parse(const char *text) { return parse_bytes(text, strlen(text)); }

START_TEST(defaults) {
  ck_assert_int_eq(parse(""), 0);
  ck_assert_uint_eq(query.rows, 100);
  ck_assert_uint_eq(query.worker, SNAPSHOT_ALL_WORKERS);
  ck_assert_int_eq(query.sort, SORT_AGE);
  ck_assert_int_eq(query.state, SHOWS_ALL);
  ck_assert_uint_eq(query.min_age_ns, 0);
  ck_assert_uint_eq(query.peer.family, ADDR_NONE);
}
END_TEST

START_TEST(every_parameter_at_once) {
  ck_assert_int_eq(parse("peer=10.0.0.0/8&min_age=10s&sort=pending&state=draining&worker=3&n=1000"),
                   0);
  ck_assert_uint_eq(query.rows, 1000);
  ck_assert_uint_eq(query.worker, 3);
  ck_assert_int_eq(query.sort, SORT_PENDING);
  ck_assert_int_eq(query.state, SHOWS_DRAINING);
  ck_assert_uint_eq(query.min_age_ns, 10 * NS_PER_S);
  ck_assert_uint_eq(query.peer.family, ADDR_IPV4);
  ck_assert_uint_eq(query.peer.bits, 8);
}
END_TEST

START_TEST(words_name_themselves) {
  static const char *const sorts[] = {"age", "idle", "in", "out", "pending"};
  static const char *const states[] = {"open", "draining", "ending", "header"};
  char text[32];
  for (size_t i = 0; i < count_of(sorts); i++) {
    snprintf(text, sizeof(text), "sort=%s", sorts[i]);
    ck_assert_int_eq(parse(text), 0);
    ck_assert_int_eq(query.sort, i);
    ck_assert_str_eq(snapshot_sort_name(query.sort), sorts[i]);
  }
  for (size_t i = 0; i < count_of(states); i++) {
    snprintf(text, sizeof(text), "state=%s", states[i]);
    ck_assert_int_eq(parse(text), 0);
    ck_assert_int_eq(query.state, i);
    ck_assert_str_eq(snapshot_state_name(query.state), states[i]);
  }
}
END_TEST

/* The reason names the parameter and never repeats what the client sent. */
START_TEST(faults) {
  static const struct {
    const char *text, *why;
  } cases[] = {
      {"n=0", "n takes 1 to 1000"},
      {"n=1001", "n takes 1 to 1000"},
      {"n=-1", "n takes 1 to 1000"},
      {"n=", "n takes 1 to 1000"},
      {"n", "n takes 1 to 1000"},
      {"n=18446744073709551617", "n takes 1 to 1000"},
      {"n=1&n=1", "n is given twice"},
      {"worker=-1", "worker takes the number of a worker"},
      {"worker=4294967295", "worker takes the number of a worker"},
      {"worker=all", "worker takes the number of a worker"},
      {"state=closed", "state takes open, draining, ending or header"},
      {"state=OPEN", "state takes open, draining, ending or header"},
      {"state=", "state takes open, draining, ending or header"},
      {"sort=name", "sort takes age, idle, in, out or pending"},
      {"sort=age,in", "sort takes age, idle, in, out or pending"},
      {"min_age=10", "min_age takes a time such as 10s"},
      {"min_age=1s2", "min_age takes a time such as 10s"},
      {"peer=localhost", "peer takes an address or a block such as 10.0.0.0/8"},
      {"peer=10.0.0.0/33", "peer takes an address or a block such as 10.0.0.0/8"},
      {"peer=%3A%3A1", "peer takes an address or a block such as 10.0.0.0/8"},
      {"peer=1111111111111111111111111111111111111111111111111111111111111111",
       "peer takes an address or a block such as 10.0.0.0/8"},
      {"&", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
      {"=1", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
      {"N=1", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
      {"nn=1", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
      {"n=1&x", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
      {"n=1&&sort=in", "unknown parameter; known are n, worker, state, sort, min_age, peer"},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    ck_assert_int_eq(parse(cases[i].text), -1);
    ck_assert_str_eq(why, cases[i].why);
  }
  ck_assert_int_eq(parse_bytes("n=1\0x", 5), -1); /* no request brings a 0 */
}
END_TEST

START_TEST(blocks_of_both_families) {
  ck_assert_int_eq(parse("peer=::1"), 0);
  ck_assert_uint_eq(query.peer.family, ADDR_IPV6);
  ck_assert_uint_eq(query.peer.bits, 128);
  ck_assert_int_eq(parse("peer=2001:db8::/32"), 0);
  ck_assert_uint_eq(query.peer.bits, 32);
  ck_assert_int_eq(parse("peer=192.0.2.1"), 0);
  ck_assert_uint_eq(query.peer.bits, 32);
  ck_assert_int_eq(parse("peer=0.0.0.0/0"), 0);
  ck_assert_uint_eq(query.peer.family, ADDR_IPV4);
}
END_TEST

/* Every prefix of a full query either parses or says why, and reads no byte after it. */
START_TEST(every_prefix) {
  static const char full[] = "n=10&worker=1&state=ending&sort=idle&min_age=5m&peer=2001:db8::/32";
  for (size_t size = 0; size < sizeof(full); size++) {
    (void)parse_bytes(full, size); /* checks that a failure has a reason */
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {defaults, 1}, {every_parameter_at_once, 1}, {words_name_themselves, 1},
      {faults, 1},   {blocks_of_both_families, 1}, {every_prefix, 1},
  };
  return run_suite("snapshot_query", tests, count_of(tests));
}
