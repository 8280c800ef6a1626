/*
 * check_config_public: how struct xchg_config is imported and exported.
 *
 * The round trip (environment, struct config, struct xchg_config, struct config) walks the table,
 * so that it covers a new row at once: with values at the ends of its range, and without a value.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/config_fixture.h"

#include "core/config_vars.h"

#include <stdlib.h>

#define WORD_MAX 128
#define VALUES_MAX 4

static const struct config_facts embedded = {.cpus = 3,
                                             .descriptors = UINT64_C(1) << 30,
                                             .somaxconn = 65535,
                                             .handler = true,
                                             .embedded = true,
                                             .descriptors_soft = true,
                                             .program = "xchg"};

/* ---- helpers ---- */

static bool is_number(const struct config_var_def *def) { return def->kind <= KIND_ENUM; }

/* Import. The lines go to ${said}. */
static unsigned import(struct config *config, const struct xchg_config *from,
                       const struct config_facts *facts) {
  said[0] = 0;
  FILE *out = fmemopen(said, sizeof(said), "w");
  ck_assert_ptr_nonnull(out);
  memset(config, 0xa5, sizeof(*config));
  unsigned faults = config_import(config, from, facts, out);
  fclose(out);
  return faults;
}

/* Fill a struct from the entries as xchg_config_from_env does. */
static void fill(struct xchg_config *to, const char *const *entries) {
  struct config config;
  ck_assert_msg(load(&config, entries, &embedded) == 0, "%s", said);
  memset(to, 0xa5, sizeof(*to));
  config_export(&config, to, sizeof(*to), entries);
  config_fini(&config);
}

#define FILL(to, ...) fill(to, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* Both are equal row by row. Padding is ignored. */
static void check_same(const struct config *a, const struct config *b) {
  for (size_t i = 0; i < VAR_COUNT; i++) {
    if (is_number(&config_var_defs[i]) && !config_var_defs[i].daemon_only) {
      ck_assert_msg(config_number(a, &config_var_defs[i]) == config_number(b, &config_var_defs[i]),
                    "%s", config_var_defs[i].name);
    }
  }
  ck_assert_uint_eq(a->listen_count, b->listen_count);
  for (uint32_t i = 0; i < a->listen_count; i++) {
    const struct addr_listen *x = &a->listen[i], *y = &b->listen[i];
    ck_assert_mem_eq(&x->addr, &y->addr, sizeof(x->addr));
    ck_assert(x->any == y->any && x->mode == y->mode && x->proxy == y->proxy);
    ck_assert_str_eq(x->path, y->path);
  }
  ck_assert(a->allow.count == b->allow.count && a->deny.count == b->deny.count);
  for (size_t i = 0; i < a->allow.count; i++) {
    ck_assert_mem_eq(&a->allow.blocks[i], &b->allow.blocks[i], sizeof(a->allow.blocks[i]));
  }
  for (size_t i = 0; i < a->deny.count; i++) {
    ck_assert_mem_eq(&a->deny.blocks[i], &b->deny.blocks[i], sizeof(a->deny.blocks[i]));
  }
  ck_assert_uint_eq(a->proxy_trust.count, b->proxy_trust.count);
  for (size_t i = 0; i < a->proxy_trust.count; i++) {
    ck_assert_mem_eq(&a->proxy_trust.blocks[i], &b->proxy_trust.blocks[i],
                     sizeof(a->proxy_trust.blocks[i]));
  }
  ck_assert(a->has_greeting == b->has_greeting && a->greeting.bytes == b->greeting.bytes);
  ck_assert(a->reply_text.bytes == b->reply_text.bytes && a->handler == b->handler);
  ck_assert(a->frame.kind == b->frame.kind && a->frame.size == b->frame.size);
}

/* Load the entry (or none), export, import: the result must equal what was loaded. */
static void check_round(const char *entry) {
  struct config loaded, imported;
  struct xchg_config between;
  const char *const entries[] = {entry, NULL};
  ck_assert_msg(load(&loaded, entries, &embedded) == 0, "%s", said);
  memset(&between, 0xa5, sizeof(between));
  config_export(&loaded, &between, sizeof(between), entries);
  ck_assert_msg(import(&imported, &between, &embedded) == 0, "%s", said);
  check_same(&loaded, &imported);
  config_fini(&loaded);
  config_fini(&imported);
}

/*
 * Write values that the parser of ${row} accepts, at least one of them not the default. Return: how
 * many.
 */
static size_t make_values(const struct config_var_def *def, char values[VALUES_MAX][WORD_MAX]) {
  size_t count = 0;
  switch (def->kind) {
    case KIND_INTEGER:
    case KIND_SIZE:
      snprintf(values[count++], WORD_MAX, "%llu", (unsigned long long)def->min);
      snprintf(values[count++], WORD_MAX, "%llu", (unsigned long long)def->max - 1);
      snprintf(values[count++], WORD_MAX, "%llu", (unsigned long long)def->max);
      break;
    case KIND_TIME:
      snprintf(values[count++], WORD_MAX, "%lluus", (unsigned long long)(def->min / NS_PER_US));
      snprintf(values[count++], WORD_MAX, "%lluus", (unsigned long long)(def->max / NS_PER_US) - 1);
      snprintf(values[count++], WORD_MAX, "%lluus", (unsigned long long)(def->max / NS_PER_US));
      break;
    case KIND_SWITCH:
      snprintf(values[count++], WORD_MAX, "on");
      snprintf(values[count++], WORD_MAX, "off");
      break;
    case KIND_ENUM:
      for (; def->names[count] != NULL; count++) {
        ck_assert_uint_lt(count, VALUES_MAX);
        snprintf(values[count], WORD_MAX, "%s", def->names[count]);
      }
      break;
    case KIND_LISTEN:
      snprintf(values[count++], WORD_MAX,
               "127.0.0.1:0,[::1]:80,:7,unix:/run/x;mode=0600;proxy=any");
      break;
    case KIND_BLOCKS:
      snprintf(values[count++], WORD_MAX, "10.1.2.3/8,2001:db8::/32,::ffff:192.0.2.9/120");
      break;
    case KIND_GREETING:
    case KIND_FRAME:
    case KIND_REPLY:
    case KIND_ADMIN:
    case KIND_PATH:
    case KIND_USER:
    case KIND_UPGRADE:
      ck_abort_msg("%s: a kind that this test cannot try yet", def->name);
  }
  return count;
}

/* ---- tests ---- */

START_TEST(round_trip_of_every_variable) {
  size_t tried = 0;
  check_round(NULL);
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char values[VALUES_MAX][WORD_MAX], entry[(VALUES_MAX + 1) * WORD_MAX];
    if (config_var_defs[i].field == NULL) {
      continue;
    }
    size_t count = make_values(&config_var_defs[i], values);
    ck_assert_uint_gt(count, 0);
    for (size_t j = 0; j < count; j++) {
      snprintf(entry, sizeof(entry), "%s=%s", config_var_defs[i].name, values[j]);
      check_round(entry);
      tried++;
    }
  }
  ck_assert_uint_gt(tried, 2 * 20);
}
END_TEST

/* A row is public, or a handler or the program decides it. */
START_TEST(every_row_has_a_field_or_is_decided) {
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    bool decided = config_is_exchange((enum config_var)i) || i == VAR_HANDLER || i == VAR_MODEL ||
                   def->daemon_only;
    ck_assert_msg((def->field == NULL) == decided, "%s", def->name);
    if (decided) {
      continue;
    }
    /* The field has the variable's name, and its unit. */
    char name[64] = "XCHG_";
    size_t size = strlen(name);
    for (const char *p = def->field; *p != 0; p++) {
      name[size++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    }
    name[size] = 0;
    ck_assert_msg(strncmp(name, def->name, strlen(def->name)) == 0, "%s", def->field);
    static const char *const units[] = {"", "_NS", "_S", "_BYTES"};
    size_t known = 0;
    for (size_t j = 0; j < count_of(units); j++) {
      known += strcmp(name + strlen(def->name), units[j]) == 0 ? 1 : 0;
    }
    ck_assert_msg(known == 1, "%s", def->field);
  }
}
END_TEST

/* Every byte of the public struct belongs to a row, except size, log and alignment gaps. */
START_TEST(every_field_belongs_to_a_row) {
  char owner[sizeof(struct xchg_config)] = {0};
  memset(owner + offsetof(struct xchg_config, size), 1, sizeof(size_t));
  memset(owner + offsetof(struct xchg_config, log), 1, 2 * sizeof(void *));
  for (size_t i = 0; i < VAR_COUNT; i++) {
    const struct config_var_def *def = &config_var_defs[i];
    for (size_t j = 0; def->field != NULL && j < def->size; j++) {
      ck_assert_msg(owner[def->public_offset + j] == 0, "%s overlaps another", def->name);
      owner[def->public_offset + j] = 1;
    }
  }
  size_t gap = 0;
  for (size_t i = 0; i < sizeof(owner); i++) {
    gap = owner[i] != 0 ? 0 : gap + 1;
    ck_assert_msg(gap < _Alignof(struct xchg_config), "the field at %zu belongs to no row", i);
  }
}
END_TEST

START_TEST(defaults_are_exported) {
  struct xchg_config x;
  FILL(&x);
  ck_assert_uint_eq(x.size, sizeof(x));
  ck_assert_str_eq(x.listen, ":7000");
  ck_assert(x.allow[0] == 0 && x.deny[0] == 0);
  ck_assert(x.backlog == 4096 && !x.reuseport && x.nodelay && x.keepalive);
  ck_assert(x.queue == 1024 && x.dispatch == XCHG_DISPATCH_LEAST && !x.pin && x.spin_ns == 0);
  ck_assert(x.offload_threads == 4 && x.watchdog_ns == 100 * NS_PER_MS);
  ck_assert(x.overload == XCHG_OVERLOAD_WAIT && x.max_per_ip == 0);
  ck_assert(x.max_pending_bytes == 256 * 1024 && x.max_message_bytes == 65536);
  ck_assert(x.idle_timeout_ns == 60 * NS_PER_S && x.drain_timeout_ns == 30 * NS_PER_S);
  ck_assert(x.log_level == XCHG_LOG_INFO && x.log_format == XCHG_LOG_LOGFMT);
  ck_assert(x.slow_log_ns == 0);
  ck_assert(x.log == NULL && x.log_user == NULL);
  /* Values that depend on the machine stay unset. */
  ck_assert(x.workers == 0 && x.max_connections == 0);
}
END_TEST

/* Values of the environment are exported, and strings are copied. */
START_TEST(environment_values_are_exported) {
  static const char listen[] = "XCHG_LISTEN=127.0.0.1:0,:1", deny[] = "XCHG_DENY=::1";
  struct xchg_config x;
  FILL(&x, listen, deny, "XCHG_WORKERS=3", "XCHG_MAX_CONNECTIONS=77", "XCHG_QUEUE=1000",
       "XCHG_LOG_LEVEL=debug", "XCHG_DISPATCH=round-robin", "XCHG_PIN=on", "XCHG_SNDBUF=4KiB");
  ck_assert_ptr_eq(x.listen, strchr(listen, '=') + 1);
  ck_assert_ptr_eq(x.deny, strchr(deny, '=') + 1);
  ck_assert(x.workers == 3 && x.max_connections == 77 && x.queue == 1024);
  ck_assert(x.log_level == XCHG_LOG_DEBUG && x.dispatch == XCHG_DISPATCH_ROUND_ROBIN && x.pin);
  ck_assert_uint_eq(x.sndbuf_bytes, 4096);
}
END_TEST

START_TEST(derived_values_are_imported) {
  struct xchg_config x;
  struct config c;
  struct config_facts facts = embedded;
  FILL(&x);
  facts.cpus = 5;
  facts.descriptors = 1000;
  x.queue = 1000;
  x.listen = x.allow = x.deny = NULL;
  ck_assert_msg(import(&c, &x, &facts) == 0, "%s", said);
  ck_assert(c.workers == 5 && c.queue == 1024 && c.model == MODEL_POOL && c.handler == NULL);
  ck_assert_uint_eq(c.max_connections, 1000 - config_reserve(&c, &facts));
  ck_assert(c.listen_count == 1 && c.listen[0].any && c.listen[0].addr.port == 7000);
  ck_assert(c.allow.count == 0 && c.deny.count == 0 && !c.has_greeting && c.messages == 0);
  config_fini(&c);
}
END_TEST

/* One invalid value: one line, and no memory is left. */
#define BAD_FIELD(line, assignment)                         \
  do {                                                      \
    struct xchg_config x;                                   \
    struct config c;                                        \
    FILL(&x, "XCHG_ALLOW=10.0.0.0/8", "XCHG_DENY=::1");     \
    assignment;                                             \
    ck_assert_uint_eq(import(&c, &x, &embedded), 1);        \
    ck_assert_str_eq(said, "xchg: " line "\n");             \
    ck_assert(c.allow.blocks == NULL && c.deny.count == 0); \
  } while (0)

#define YEAR_WANTED "want a time (500us, 250ms, 30s, 5m) from 0 to 525600m"

START_TEST(each_invalid_number_is_one_fault) {
  BAD_FIELD("workers=2000: want an integer from 1 to 1024", x.workers = 2000);
  BAD_FIELD("workers=4294967295: want an integer from 1 to 1024", x.workers = UINT32_MAX);
  BAD_FIELD("backlog=0: want an integer from 1 to 2147483647", x.backlog = 0);
  BAD_FIELD("queue=0: want an integer from 1 to 1048576", x.queue = 0);
  BAD_FIELD("offload_threads=1025: want an integer from 0 to 1024", x.offload_threads = 1025);
  BAD_FIELD("watchdog_ns=18446744073709551615: " YEAR_WANTED, x.watchdog_ns = UINT64_MAX);
  BAD_FIELD("idle_timeout_ns=31536000000000001: " YEAR_WANTED,
            x.idle_timeout_ns = UINT64_C(31536000000000001));
  BAD_FIELD("max_pending_bytes=4095: want a size (4096, 64KiB, 1MiB) from 4KiB to 1GiB",
            x.max_pending_bytes = 4095);
  BAD_FIELD("max_message_bytes=0: want a size (4096, 64KiB, 1MiB) from 1 to 1GiB",
            x.max_message_bytes = 0);
  BAD_FIELD("max_connections=16777217: want an integer from 1 to 16777216",
            x.max_connections = 16777217);
  BAD_FIELD("dispatch=2: want least or round-robin", x.dispatch = (enum xchg_dispatch)2);
  BAD_FIELD("overload=9: want wait or refuse", x.overload = (enum xchg_overload)9);
  BAD_FIELD("log_level=4: want error, warn, info or debug", x.log_level = (enum xchg_log_level)4);
  BAD_FIELD("slow_log_ns=999999: want 0, or at least 1ms", x.slow_log_ns = 999999);
  BAD_FIELD("log_format=4294967295: want logfmt or json",
            x.log_format = (enum xchg_log_format)UINT32_MAX);
  BAD_FIELD("pin=7: want on or off", memset(&x.pin, 7, sizeof(x.pin)));
}
END_TEST

#define LISTEN_WANTED                                                                          \
  "want at most 64 of address:port, [v6]:port, :port, unix:/path[;mode=0660], each also with " \
  ";proxy=v2"

START_TEST(each_invalid_text_is_one_fault) {
  BAD_FIELD("listen='localhost:1': " LISTEN_WANTED "; not 'localhost:1'", x.listen = "localhost:1");
  BAD_FIELD("proxy_trust='': want the addresses of the proxies: a TCP listener has ;proxy=",
            x.listen = ":1;proxy=v1");
  BAD_FIELD("listen='': " LISTEN_WANTED "; not ''", x.listen = "");
  BAD_FIELD(
      "allow='::1,\\x0a': want a list of addresses and blocks, such as 10.0.0.0/8,2001:db8::/32; "
      "not '\\x0a'",
      x.allow = "::1,\n");
  BAD_FIELD(
      "deny='x': want a list of addresses and blocks, such as 10.0.0.0/8,2001:db8::/32; not 'x'",
      x.deny = "x");
}
END_TEST

/* A struct of another version is one fault and is not read further. */
START_TEST(another_size_is_one_fault) {
  struct config c;
  char line[128];
  static const size_t sizes[] = {0, 1, sizeof(struct xchg_config) - 8,
                                 sizeof(struct xchg_config) + 8, SIZE_MAX};
  for (size_t i = 0; i < count_of(sizes); i++) {
    size_t *size = malloc(sizeof(*size)); /* only the size exists */
    ck_assert_ptr_nonnull(size);
    *size = sizes[i];
    ck_assert_uint_eq(import(&c, (const void *)size, &embedded), 1);
    snprintf(line, sizeof(line), "xchg: size=%zu: want %zu, sizeof(struct xchg_config)\n", sizes[i],
             sizeof(struct xchg_config));
    ck_assert_str_eq(said, line);
    free(size);
  }
}
END_TEST

/* All faults are reported at once. A refused value is not also a contradiction. */
START_TEST(all_faults_are_reported_at_once) {
  struct xchg_config x;
  struct config c;
  memset(&x, 0xff, sizeof(x));
  x.size = sizeof(x);
  x.listen = x.allow = x.deny = x.proxy_trust = "?";
  size_t want = 0;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    want += config_var_defs[i].field != NULL ? 1 : 0;
  }
  ck_assert_uint_eq(import(&c, &x, &embedded), want);
  const char *at = said;
  for (size_t i = 0; i < VAR_COUNT; i++) {
    char start[WORD_MAX];
    if (config_var_defs[i].field == NULL) {
      continue;
    }
    snprintf(start, sizeof(start), "xchg: %s=", config_var_defs[i].field);
    ck_assert_msg(strncmp(at, start, strlen(start)) == 0, "%s is not at %s", start, at);
    at = strchr(at, '\n') + 1;
  }
  ck_assert_int_eq(*at, 0);
}
END_TEST

/* The descriptor limit applies to a struct as to an environment. */
START_TEST(connections_fit_the_descriptor_limit) {
  struct xchg_config x;
  struct config c;
  struct config_facts facts = embedded;
  facts.descriptors = 128;
  FILL(&x, "XCHG_WORKERS=2");
  x.max_connections = 104;
  ck_assert_uint_eq(import(&c, &x, &facts), 1);
  ck_assert_str_eq(said,
                   "xchg: max_connections=104: want an integer from 1 to 103: the descriptor limit "
                   "(RLIMIT_NOFILE, soft) of 128 less a reserve of 25\n");
  x.max_connections = 103;
  ck_assert_msg(import(&c, &x, &facts) == 0, "%s", said);
  ck_assert_uint_eq(c.max_connections, 103);
  config_fini(&c);
  x.max_connections = 0;
  facts.descriptors = 25;
  ck_assert_uint_eq(import(&c, &x, &facts), 1);
  ck_assert_str_eq(said,
                   "xchg: max_connections=0: the descriptor limit (RLIMIT_NOFILE, soft) of 25 "
                   "leaves no connection after a reserve of 25; want a higher limit\n");
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {round_trip_of_every_variable, 1},
      {every_row_has_a_field_or_is_decided, 1},
      {every_field_belongs_to_a_row, 1},
      {defaults_are_exported, 1},
      {environment_values_are_exported, 1},
      {derived_values_are_imported, 1},
      {each_invalid_number_is_one_fault, 1},
      {each_invalid_text_is_one_fault, 1},
      {another_size_is_one_fault, 1},
      {all_faults_are_reported_at_once, 1},
      {connections_fit_the_descriptor_limit, 1},
  };
  return run_suite("config_public", tests, count_of(tests));
}
