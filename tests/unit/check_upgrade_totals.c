/*
 * check_upgrade_totals: every counter and every bucket reaches the next process, once, and nothing
 * goes back.
 *
 * The first tests compare whole blocks as arrays of words.  So a counter that is added to struct
 * stats and not to the names of the totals is found.
 */
#include "pool/upgrade_totals.h"

#include "core/fields.h"
#include "net/fd_socket.h"
#include "pool/server_stats.h"
#include "tests/fixtures/guard_page.h"
#include "tests/fixtures/server_fixture.h"

#define WORDS (sizeof(struct stats) / sizeof(uint64_t))

static struct upgrade_totals totals;
static struct server_base base;
static uint8_t bytes[UPGRADE_TOTALS_MAX];
static uint32_t same[CONFIG_LISTEN_MAX]; /* listener i is listener i */

static uint64_t word(const struct stats *stats, size_t i) {
  uint64_t value;
  memcpy(&value, (const char *)stats + i * sizeof(value), sizeof(value));
  return value;
}

static void set_word(struct stats *stats, size_t i, uint64_t value) {
  memcpy((char *)stats + i * sizeof(value), &value, sizeof(value));
}

/* The words of struct stats that are counters, without accepted, which goes by listener. */
static bool is_counter(size_t i) {
  size_t at = i * sizeof(uint64_t);
  return at >= offsetof(struct stats, ended) &&
         at < offsetof(struct stats, lived_ns) + sizeof(uint64_t);
}

static void fill_histogram(struct histogram *histogram, uint64_t seed) {
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    atom_store_relaxed_u64(&histogram->counts[i], seed + i);
  }
  atom_store_relaxed_u64(&histogram->max, seed + 1000);
  atom_store_relaxed_u64(&histogram->sum, seed * 1000003);
}

static void check_histogram(const struct histogram *histogram, uint64_t seed) {
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    ck_assert_uint_eq(atom_load_relaxed_u64(&histogram->counts[i]), seed + i);
  }
  ck_assert_uint_eq(atom_load_relaxed_u64(&histogram->max), seed + 1000);
  ck_assert_uint_eq(atom_load_relaxed_u64(&histogram->sum), seed * 1000003);
}

/* Fill ${of} with values that all differ, ${more} added to each. */
static void fill(struct upgrade_totals *of, uint64_t more) {
  memset(of, 0, sizeof(*of));
  for (size_t i = 0; i < WORDS; i++) {
    set_word(&of->counted.totals, i, 1000 + i + more);
  }
  fill_histogram(&of->counted.handoff_ns, 11 + more);
  fill_histogram(&of->counted.turn_ns, 22 + more);
  fill_histogram(&of->counted.queue_depth, 33 + more);
  fill_histogram(&of->counted.accept_batch, 44 + more);
  fill_histogram(&of->counted.frozen_ns, 50 + more);
  of->counted.accept_paused_ns = 55 + more;
  of->counted.log_lines_lost = 66 + more;
  of->listeners = CONFIG_LISTEN_MAX;
  for (uint32_t i = 0; i < CONFIG_LISTEN_MAX; i++) {
    of->accepted[i] = 700 + i + more;
  }
  of->elsewhere = 88 + more;
}

static void set_up(void) {
  memset(&base, 0, sizeof(base));
  for (uint32_t i = 0; i < CONFIG_LISTEN_MAX; i++) {
    same[i] = i;
  }
}

static void take(size_t size) { ck_assert(upgrade_totals_read(&base, bytes, size, same)); }

/* ---- what is carried ---- */

/* What comes later replaces what came before, and leaves what was counted here. */
START_TEST(test_everything_arrives) {
  atom_store_relaxed_u64(&base.own_totals.moved, 5);
  for (uint64_t more = 0; more <= 9; more += 9) {
    fill(&totals, more);
    take(upgrade_totals_write(&totals, bytes));
    for (size_t i = 0; i < WORDS; i++) {
      ck_assert_msg(word(&base.totals, i) == (is_counter(i) ? 1000 + i + more : 0), "word %zu", i);
    }
    check_histogram(&base.handoff_ns, 11 + more);
    check_histogram(&base.turn_ns, 22 + more);
    check_histogram(&base.queue_depth, 33 + more);
    check_histogram(&base.accept_batch, 44 + more);
    check_histogram(&base.frozen_ns, 50 + more);
    for (uint32_t i = 0; i < CONFIG_LISTEN_MAX; i++) {
      ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted[i]), 700 + i + more);
    }
    ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted_elsewhere), 88 + more);
    ck_assert_uint_eq(atom_load_relaxed_u64(&base.paused_ns), 55 + more);
    ck_assert_uint_eq(atom_load_relaxed_u64(&base.log_lines_lost), 66 + more);
  }
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.own_totals.moved), 5);
}
END_TEST

/* The largest totals have room in a packet, and an unknown number of lost lines is none. */
START_TEST(test_largest) {
  fill(&totals, UINT64_MAX / 2);
  totals.counted.log_lines_lost = METRICS_UNKNOWN;
  size_t size = upgrade_totals_write(&totals, bytes);
  ck_assert_uint_lt(size, UPGRADE_TOTALS_MAX);
  ck_assert_uint_lt(UPGRADE_TOTALS_MAX, FD_PACKET_BYTES_MAX - 64);
  take(size);
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.log_lines_lost), 0);
}
END_TEST

/* A listener that is gone counts elsewhere, and one that has moved in its new place. */
START_TEST(test_listeners_that_differ) {
  fill(&totals, 0);
  totals.listeners = 3;
  same[0] = 5;
  same[1] = UINT32_MAX;
  same[2] = 0;
  take(upgrade_totals_write(&totals, bytes));
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted[5]), 700);
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted[0]), 702);
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted[1]), 0);
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted_elsewhere), 88 + 701);
}
END_TEST

/* ---- what another version has written ---- */

/* Add the one field of ${tag}. Return: are the bytes fields? */
static bool add_field(uint16_t tag, const void *value, size_t size) {
  struct fields_writer writer = {.bytes = bytes, .room = sizeof(bytes)};
  fields_put(&writer, tag, value, size);
  ck_assert(!writer.full);
  return upgrade_totals_read(&base, bytes, writer.size, same);
}

/* A counter, a histogram, a bucket or a listener that is not known here is left out. */
START_TEST(test_unknown_names) {
  struct server_base zero = base;
  static const char histogram[] = "colour_ns\0sum.....max.....\1\0count...";
  static const char bucket[] =
      "turn_ns\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff"
      "count...";
  ck_assert(add_field(99, "x", 1));
  ck_assert(add_field(1, "count...colour", 14));
  ck_assert(add_field(1, "count...", 8));
  ck_assert(add_field(1, "count", 5));
  ck_assert(add_field(1, "", 0));
  ck_assert(add_field(2, histogram, sizeof(histogram) - 1));
  ck_assert(add_field(2, bucket, sizeof(bucket) - 1));
  ck_assert(add_field(2, "", 0));
  ck_assert_mem_eq(&base, &zero, sizeof(base));
  struct fields_writer writer = {.bytes = bytes, .room = sizeof(bytes)};
  for (uint32_t i = 0; i < CONFIG_LISTEN_MAX + 5; i++) { /* it had more listeners */
    fields_put_number(&writer, 3, 1);
  }
  ck_assert(upgrade_totals_read(&base, bytes, writer.size, same));
  ck_assert_uint_eq(atom_load_relaxed_u64(&base.accepted_elsewhere), 5);
}
END_TEST

/* Every prefix and every length of a field is read without a byte behind the end. */
START_TEST(test_every_prefix) {
  fill(&totals, 0);
  size_t size = upgrade_totals_write(&totals, bytes);
  uint8_t *end = guard_page_map(size);
  for (size_t left = 0; left < size; left += left < 5000 ? 1 : 97) {
    memcpy(end - left, bytes, left);
    struct fields_reader reader = {end - left, left};
    struct field field;
    enum fields_result result;
    while ((result = fields_next(&reader, &field)) == FIELDS_NEXT) {
    }
    memset(&base, 0, sizeof(base));
    ck_assert_int_eq(upgrade_totals_read(&base, end - left, left, same), result == FIELDS_END);
  }
}
END_TEST

START_TEST(test_short_fields) {
  fill(&totals, 0);
  upgrade_totals_write(&totals, bytes);
  static uint8_t value[UPGRADE_TOTALS_MAX];
  struct fields_reader reader = {bytes, sizeof(bytes)};
  struct field field;
  for (int tag = 1; tag <= 2; tag++) { /* a counter, a histogram */
    while (fields_next(&reader, &field) == FIELDS_NEXT && field.tag != tag) {
    }
    ck_assert_int_eq(field.tag, tag);
    uint32_t size = field.size;
    memcpy(value, field.value, size);
    uint8_t *end = guard_page_map(FIELD_HEAD + size);
    for (uint32_t left = 0; left < size; left++) {
      struct fields_writer writer = {.bytes = end - FIELD_HEAD - left, .room = FIELD_HEAD + left};
      fields_put(&writer, (uint16_t)tag, value, left);
      ck_assert(upgrade_totals_read(&base, writer.bytes, writer.size, same));
    }
  }
}
END_TEST

/* ---- two servers ---- */

static char first[256 * 1024], second[256 * 1024];

static void scrape(struct xchg_server *of, char *text) {
  const struct server_state state = {.state = "serving", .log_lines_lost = METRICS_UNKNOWN};
  size_t size = server_metrics(of, &state, METRICS_TEXT, text, sizeof(first) - 1);
  ck_assert_uint_lt(size, sizeof(first) - 1);
  text[size] = 0;
}

/* May a sample begin anew, or is its label another in the second server? */
static bool is_other(const char *line) {
  static const char *const others[] = {"#", "xchg_worker_", "xchg_listener_", "process_"};
  for (size_t i = 0; i < count_of(others); i++) {
    if (strncmp(line, others[i], strlen(others[i])) == 0) {
      return true;
    }
  }
  return false;
}

/* Every sample of the first server stands in the text of the second, which has served no client. */
static unsigned check_same_samples(void) {
  unsigned compared = 0;
  for (const char *line = first; *line != 0; line = strchr(line, '\n') + 1) {
    size_t size = (size_t)(strchr(line, '\n') + 1 - line);
    char sample[512] = "\n";
    ck_assert_uint_lt(size, sizeof(sample) - 2);
    memcpy(sample + 1, line, size);
    if (!is_other(line)) {
      ck_assert_msg(strstr(second, sample) != NULL, "not there: %s", sample);
      compared++;
    }
  }
  return compared;
}

static struct upgrade_totals *look_at(struct xchg_server *of) {
  upgrade_totals_look(&totals, of, METRICS_UNKNOWN);
  return &totals;
}

static void stop(struct xchg_server *of) {
  xchg_server_stop(of);
  ck_assert_int_eq(xchg_server_wait(of), 0);
}

/* The totals of ${of} add up, with this many open connections. */
static void check_totals(struct xchg_server *of, uint64_t accepted, uint64_t open) {
  struct xchg_stats stats = {.size = sizeof(stats)};
  ck_assert_int_eq(xchg_server_stats(of, &stats), 0);
  check_sums(&stats);
  ck_assert_uint_eq(stats.accepted, accepted);
  ck_assert_uint_eq(stats.open, open);
}

/*
 * Five clients, of which two have ended.  The next server says what the first has said.  When the
 * others end, it hears of them, and the sum goes on adding up.
 */
START_TEST(test_next_server) {
  int clients[5];
  SETTINGS("XCHG_LISTEN=127.0.0.1:0,127.0.0.1:0");
  start_server(&echoes);
  for (int i = 0; i < 5; i++) {
    clients[i] = connect_and_ping(server);
  }
  close(clients[0]);
  close(clients[1]);
  AWAIT(read_stats().open == 3);
  struct xchg_server *old = server;
  create_server(&echoes);
  server->base = aligned_alloc(CACHE_LINE, sizeof(base));
  ck_assert_ptr_nonnull(server->base);
  memset(server->base, 0, sizeof(base));
  ck_assert_int_eq(xchg_server_start(server), 0);
  check_totals(server, 0, 0);
  /* Its acceptor counts a batch after the hand-off, so the numbers may still change. */
  AWAIT((scrape(old, first), scrape(old, second), strcmp(first, second) == 0));
  size_t size = upgrade_totals_write(look_at(old), bytes);
  ck_assert(upgrade_totals_read(server->base, bytes, size, same));
  scrape(server, second);
  ck_assert_uint_gt(check_same_samples(), 100);
  check_totals(server, 5, 3);
  close(connect_and_ping(server));
  AWAIT(read_stats().accepted == 6 && read_stats().open == 3);
  for (int i = 2; i < 5; i++) {
    close(clients[i]);
  }
  stop(old);
  size = upgrade_totals_write(look_at(old), bytes);
  ck_assert(upgrade_totals_read(server->base, bytes, size, same));
  check_totals(server, 6, 0);
  ck_assert_uint_eq(read_stats().messages, 6);
  xchg_server_destroy(old);
  stop(server);
  xchg_server_destroy(server);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_everything_arrives, 1}, {test_largest, 1},      {test_listeners_that_differ, 1},
      {test_unknown_names, 1},      {test_every_prefix, 1}, {test_short_fields, 1},
      {test_next_server, 1},
  };
  return run_suite_fixture("upgrade_totals", tests, count_of(tests), set_up, NULL);
}
