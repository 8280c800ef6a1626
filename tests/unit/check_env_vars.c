/*
 * check_env_vars: look-up of a variable, the nearest name, and the names that Kubernetes injects.
 */
#include "core/env_vars.h"

#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <string.h>

START_TEST(find) {
  static const char *const environment[] = {"A=1",     "AB=2", "EMPTY=", "NO_EQUALS", "TWICE=x",
                                            "TWICE=y", "=odd", "EQ=a=b", NULL};
  static const char *const nothing[] = {NULL};
  ck_assert_str_eq(env_vars_find(environment, "A"), "1");
  ck_assert_str_eq(env_vars_find(environment, "AB"), "2");
  ck_assert_str_eq(env_vars_find(environment, "TWICE"), "x");
  ck_assert_str_eq(env_vars_find(environment, "EQ"), "a=b");
  ck_assert_ptr_null(env_vars_find(environment, "EMPTY"));
  ck_assert_ptr_null(env_vars_find(environment, "NO_EQUALS"));
  ck_assert_ptr_null(env_vars_find(environment, "a"));
  ck_assert_ptr_null(env_vars_find(environment, "ABC"));
  ck_assert_ptr_null(env_vars_find(nothing, "A"));
}
END_TEST

START_TEST(nearest) {
  static const char *const names[] = {"XCHG_WORKERS", "XCHG_QUEUE", "XCHG_PIN", "XCHG_MAX_PENDING"};
  static const struct {
    const char *name, *nearest;
  } cases[] = {
      {"XCHG_WORKERS", "XCHG_WORKERS"},
      {"XCHG_WORKRES", "XCHG_WORKERS"},
      {"XCHG_WORKER", "XCHG_WORKERS"},
      {"XCHG_WORKERSS", "XCHG_WORKERS"},
      {"XCHG_workers", "XCHG_WORKERS"},
      {"CXHG_WORKERS", "XCHG_WORKERS"},
      {"XCHG_QEUUE", "XCHG_QUEUE"},
      {"XCHG_NIP", "XCHG_PIN"},
      {"XCHG_MAXPENDING", "XCHG_MAX_PENDING"},
      {"WORKERS", NULL},
      {"PENDING", NULL},
      {"", NULL},
      {"Z", NULL},
      {"ZZZZZZZZZZZZZ", NULL},
      {"XCHG_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", NULL},
      {"XCHG_WORKERSXCHG_WORKERSXCHG_WORKERSXCHG_WORKERSXCHG_WORKERSXCHG_WORKERS", NULL},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    const char *got = env_vars_nearest(cases[i].name, names, count_of(names));
    if (cases[i].nearest == NULL) {
      ck_assert_msg(got == NULL, "'%s' -> '%s'", cases[i].name, got);
    } else {
      ck_assert_msg(got != NULL && strcmp(got, cases[i].nearest) == 0, "'%s'", cases[i].name);
    }
  }
  ck_assert_ptr_null(env_vars_nearest("XCHG_WORKERS", names, 0));
}
END_TEST

/* A name is near if the edits are less than half of its length. A swap is one edit. */
START_TEST(nearest_allows_less_than_half_the_length) {
  static const char *const names[] = {"abcdefgh"};
  ck_assert_ptr_nonnull(env_vars_nearest("abcdefgh", names, 1));
  ck_assert_ptr_nonnull(env_vars_nearest("abcdeXXX", names, 1));
  ck_assert_ptr_null(env_vars_nearest("abcdXXXX", names, 1));
  ck_assert_ptr_nonnull(env_vars_nearest("badcfegh", names, 1)); /* three swaps */
  ck_assert_ptr_null(env_vars_nearest("badcfehg", names, 1));    /* four swaps */
  static const char *const tie[] = {"abcx", "abcy"};
  ck_assert_ptr_eq(env_vars_nearest("abcz", tie, 2), tie[0]);
  ck_assert_ptr_eq(env_vars_nearest("abcy", tie, 2), tie[1]);
}
END_TEST

static const struct {
  const char *name, *value;
  bool is;
} kubernetes_cases[] = {
    {"XCHG_SERVICE_HOST", "10.0.0.1", true},
    {"XCHG_SERVICE_PORT", "7000", true},
    {"XCHG_SERVICE_PORT_HTTP", "7000", true},
    {"XCHG_SERVICE_PORT_XCHG_TCP", "7000", true},
    {"XCHG_PORT", "tcp://10.0.0.1:7000", true},
    {"XCHG_PORT", "udp://10.0.0.1:7000", true},
    {"XCHG_PORT", "sctp://10.0.0.1:7000", true},
    {"XCHG_PORT_7000_TCP", "tcp://10.0.0.1:7000", true},
    {"XCHG_PORT_7000_TCP_PROTO", "tcp", true},
    {"XCHG_PORT_7000_TCP_PORT", "7000", true},
    {"XCHG_PORT_7000_TCP_ADDR", "10.0.0.1", true},
    {"XCHG_PORT_53_UDP", "x", true},
    {"XCHG_PORT_53_UDP_ADDR", "x", true},
    {"XCHG_PORT_9_SCTP_PORT", "x", true},
    {"XCHG_BLUE_SERVICE_HOST", "10.0.0.1", true},
    {"XCHG_BLUE_2_SERVICE_PORT", "7000", true},
    {"XCHG_BLUE_SERVICE_PORT_ADMIN", "7000", true},
    {"XCHG_BLUE_PORT", "tcp://10.0.0.1:7000", true},
    {"XCHG_A_B_C_PORT_7000_TCP_ADDR", "10.0.0.1", true},
    {"XCHG_PORT_PORT", "tcp://10.0.0.1:7000", true},
    {"XCHG_PORT", "7000", false},
    {"XCHG_PORT", "http://10.0.0.1:7000", false},
    {"XCHG_PORT", "TCP://10.0.0.1:7000", false},
    {"XCHG_PORT", " tcp://10.0.0.1:7000", false},
    {"XCHG_PORT", "", false},
    {"XCHG_BLUE_PORT", "7000", false},
    {"XCHG_PORT_TCP", "x", false},
    {"XCHG_PORT__TCP", "x", false},
    {"XCHG_PORT_7000", "tcp://10.0.0.1:7000", false},
    {"XCHG_PORT_7000_", "x", false},
    {"XCHG_PORT_7000_ICMP", "x", false},
    {"XCHG_PORT_7000_TCP_", "x", false},
    {"XCHG_PORT_7000_TCP_HOST", "x", false},
    {"XCHG_PORT_7000_TCPS", "x", false},
    {"XCHG_PORT_70A_TCP", "x", false},
    {"XCHG_PORTS", "tcp://x", false},
    {"XCHG_SERVICE_HOSTS", "x", false},
    {"XCHG_SERVICE_PORT_", "x", false},
    {"XCHG_SERVICE_PORTX", "x", false},
    {"XCHG_SERVICE", "x", false},
    {"XCHG__SERVICE_HOST", "x", false},
    {"XCHG_blue_SERVICE_HOST", "x", false},
    {"XCHGSERVICE_HOST", "x", false},
    {"XCHG_BLUESERVICE_HOST", "x", false},
    {"YXCHG_SERVICE_HOST", "x", false},
    {"XCHG_WORKERS", "tcp://10.0.0.1:7000", false},
    {"XCHG_", "tcp://10.0.0.1:7000", false},
};

START_TEST(kubernetes_variables_are_recognized) {
  for (size_t i = 0; i < count_of(kubernetes_cases); i++) {
    ck_assert_msg(env_vars_is_kubernetes(kubernetes_cases[i].name, kubernetes_cases[i].value) ==
                      kubernetes_cases[i].is,
                  "%s=%s", kubernetes_cases[i].name, kubernetes_cases[i].value);
  }
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {find, 1},
      {nearest, 1},
      {nearest_allows_less_than_half_the_length, 1},
      {kubernetes_variables_are_recognized, 1},
  };
  return run_suite("env_vars", tests, count_of(tests));
}
