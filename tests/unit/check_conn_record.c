/*
 * check_conn_record: the bytes of a record: the format of version 1, what a reader skips, and what
 * it refuses.
 */
#include "tests/fixtures/other_worker.h"
#include "tests/fixtures/proxied_conn.h"

#include "core/fields.h"

/* The numbers of the tags, here once more: they may never change. */
enum {
  STATE = 0x8001,
  END_REASON = 2,
  FLAGS = 0x8003,
  MESSAGES = 0x8004,
  INPUT = 0x8009,
  SCANNED = 10,
  OUTPUT = 0x800b,
  PROGRESS = 12,
  GROUPS = 0x8010,
  ADDRESS = 17,
  LISTENER = 18,
  OPENED = 19,
  PROXY_HEADER = 0x8014,
  PROXY_VIA = 22,
  PROXY_ACCEPTS = 0x8018,
  PROXY_VERSION = 25,
  PROXY_COMMAND = 26,
  PROXY_ANNOUNCED = 27,
  PROXY_OPENED = 0x801c,
  STATE_VERSION = 0x8020,
  SAVED = 0x8021,
};
#define UNKNOWN 1000

#define FLAG_PROXIED (1 << 15)

/* A record that a test writes field by field. */
static struct {
  uint8_t bytes[8192];
  struct fields_writer writer;
} made;

static void make(void) {
  made.writer = (struct fields_writer){.bytes = made.bytes, .room = sizeof(made.bytes)};
}

static void put(uint16_t tag, uint64_t value) { fields_put_number(&made.writer, tag, value); }

static void put_bytes(uint16_t tag, const void *value, size_t size) {
  fields_put(&made.writer, tag, value, size);
}

static const char *read_made(struct conn_record *record) {
  return conn_record_read(record, made.bytes, made.writer.size);
}

static void expect_refused(void) {
  struct conn_record record;
  ck_assert_ptr_nonnull(read_made(&record));
}

static void expect_read(struct conn_record *record) {
  const char *why = read_made(record);
  ck_assert_msg(why == NULL, "refused: %s", why);
}

/* ---- the format ---- */

/* The bytes of version 1. A change here is a change of the format. */
START_TEST(test_format) {
  /* clang-format off */
  static const uint8_t want[] = {
      /* MESSAGES 2 */
      4, 0x80, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
      /* ACTIVE, BYTES_IN, BYTES_OUT, CLOCK */
      5, 0, 8, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
      6, 0, 8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
      7, 0x80, 8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
      8, 0x80, 8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
      /* SCANNED */
      10, 0, 8, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
      /* FLAGS: extra_input */
      3, 0x80, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
      /* ADDRESS 192.0.2.7:258 */
      17, 0, 19, 0, 0, 0, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1,
      /* LISTENER, OPENED */
      18, 0, 8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
      19, 0, 8, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
      /* INPUT */
      9, 0x80, 3, 0, 0, 0, 'a', 'b', 'c',
      /* OUTPUT is empty */
  };
  /* clang-format on */
  uint8_t bytes[1024];
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "abc");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  conn->messages = 2;
  conn->active_ns = UINT64_C(0x0102030405060708);
  conn->bytes_in = 7;
  conn->bytes_out = 4;
  conn->message_clock_ns = 9;
  conn->is_unix = false;
  conn->extra_input = true;
  conn->readable = READABLE_NO;
  *conn_peer(conn) =
      (struct conn_peer){.addr = {.bytes = {192, 0, 2, 7}, .port = 258, .family = ADDR_IPV4},
                         .ip_slot = 11,
                         .listener = 5,
                         .opened_ns = 6};
  ck_assert_uint_ge(sizeof(bytes), conn_record_room(conn));
  size_t size = conn_record_write(conn, bytes);
  ck_assert_uint_eq(size, sizeof(want));
  ck_assert_mem_eq(bytes, want, size);
  close(fd);
  conn->active_ns = fixture.reactor.now_ns;
  fixture_until_all_closed();
}
END_TEST

/* What is missing is 0 or never: a record without a field is an open connection. */
START_TEST(test_missing_fields) {
  struct conn_record record;
  make();
  expect_read(&record);
  ck_assert_int_eq(record.conn.state, CONN_OPEN);
  ck_assert_uint_eq(record.cold.timer_ns, NEVER);
  ck_assert_uint_eq(record.cold.lifetime_ns, NEVER);
  ck_assert_uint_eq(record.cold.progress_ns, 0);
  ck_assert_int_eq(record.owned.fd, -1);
  ck_assert_uint_eq(record.owned.ip_slot, NO_IP_SLOT);
  ck_assert_uint_eq(record.input.size + record.output.size, 0);
}
END_TEST

/* Numbers may be shorter than they are written. */
START_TEST(test_short_numbers) {
  struct conn_record record;
  for (size_t size = 1; size <= 8; size++) {
    make();
    put_bytes(MESSAGES, "\1\0\0\0\0\0\0\0", size);
    expect_read(&record);
    ck_assert_uint_eq(record.conn.messages, 1);
  }
  make();
  put_bytes(MESSAGES, "", 0);
  expect_refused();
  make();
  put_bytes(MESSAGES, "\1\0\0\0\0\0\0\0\0", 9);
  expect_refused();
}
END_TEST

START_TEST(test_unknown_tags) {
  struct conn_record record;
  make();
  put(UNKNOWN, 5);
  put_bytes(UNKNOWN + 1, "", 0);
  put_bytes(UNKNOWN, "twice", 5);
  put(MESSAGES, 3);
  expect_read(&record);
  ck_assert_uint_eq(record.conn.messages, 3);
  put(UNKNOWN | FIELD_REQUIRED, 5);
  expect_refused();
  make();
  put(STATE & ~FIELD_REQUIRED, CONN_LINGERING); /* not this tag: without the bit it is another */
  expect_read(&record);
  ck_assert_int_eq(record.conn.state, CONN_OPEN);
}
END_TEST

/* ---- invalid values ---- */

static const struct {
  uint16_t tag;
  uint64_t value;
} invalid[] = {
    {STATE, CONN_CLOSED},
    {STATE, 256},
    {STATE, CONN_HEADER}, /* without a listener for headers */
    {END_REASON, XCHG_REASONS},
    {FLAGS, 3},      /* request */
    {FLAGS, 3 << 2}, /* readable */
    {FLAGS, HOLD_OFFLOADS << 4},
    {FLAGS, 1 << 16},
    {FLAGS, FLAG_PROXIED}, /* by no kind of header */
    {LISTENER, CONFIG_LISTEN_MAX},
    {OPENED, CONN_OPENED_MASK + 1},
    {PROXY_ACCEPTS, 256},
    {PROXY_ANNOUNCED, 2},
    {PROXY_OPENED, 2},
    {STATE_VERSION, UINT64_C(1) << 32},
    {SAVED, 1}, /* without a version */
};

START_TEST(test_invalid_values) {
  make();
  put(invalid[_i].tag, invalid[_i].value);
  expect_refused();
}
END_TEST

START_TEST(test_fields_twice) {
  make();
  put(MESSAGES, 1);
  put(MESSAGES, 1);
  expect_refused();
  make();
  put_bytes(INPUT, "a", 1);
  put_bytes(INPUT, "a", 1);
  expect_refused();
}
END_TEST

START_TEST(test_bytes_in_the_wrong_state) {
  static const struct {
    enum conn_state state;
    uint16_t tag;
    bool valid;
  } cases[] = {{CONN_OPEN, INPUT, true},       {CONN_ENDING, INPUT, false},
               {CONN_LINGERING, INPUT, false}, {CONN_OPEN, OUTPUT, true},
               {CONN_ENDING, OUTPUT, true},    {CONN_LINGERING, OUTPUT, false}};
  for (size_t i = 0; i < count_of(cases); i++) {
    struct conn_record record;
    make();
    put(STATE, cases[i].state);
    put_bytes(cases[i].tag, "bytes", 5);
    ck_assert_msg((read_made(&record) == NULL) == cases[i].valid, "case %zu", i);
  }
  make();
  put_bytes(INPUT, "", 0);
  expect_refused();
}
END_TEST

START_TEST(test_groups) {
  static uint8_t groups[(XCHG_GROUPS_MAX + 1) * CONN_RECORD_GROUP];
  struct conn_record record;
  make();
  put_bytes(GROUPS, groups, XCHG_GROUPS_MAX * CONN_RECORD_GROUP);
  expect_read(&record);
  make();
  put_bytes(GROUPS, groups, sizeof(groups));
  expect_refused();
  for (size_t size = 1; size < CONN_RECORD_GROUP; size++) {
    make();
    put_bytes(GROUPS, groups, CONN_RECORD_GROUP + size);
    expect_refused();
  }
  groups[8] = 7; /* no way to be slow */
  make();
  put_bytes(GROUPS, groups, CONN_RECORD_GROUP);
  expect_refused();
}
END_TEST

/* What a handler has saved. */
START_TEST(test_saved) {
  static uint8_t bytes[CONN_RECORD_SAVED + XCHG_SAVE_MAX + 1];
  static const size_t sizes[] = {0, 1, XCHG_SAVE_MAX};
  struct conn_record record;
  for (size_t i = 0; i < count_of(sizes); i++) {
    size_t size = conn_record_put_saved(bytes, 3, sizes[i]);
    ck_assert_uint_eq(size, sizes[i] == 0 ? FIELD_NUMBER : CONN_RECORD_SAVED + sizes[i]);
    ck_assert_ptr_null(conn_record_read(&record, bytes, size));
    ck_assert_uint_eq(record.state_version, 3);
    ck_assert_uint_eq(record.saved.size, sizes[i]);
    ck_assert_ptr_eq(record.saved.data, sizes[i] == 0 ? NULL : bytes + CONN_RECORD_SAVED);
  }
  size_t size = conn_record_put_saved(bytes, 3, XCHG_SAVE_MAX + 1);
  ck_assert_ptr_nonnull(conn_record_read(&record, bytes, size));
}
END_TEST

START_TEST(test_addresses) {
  uint8_t address[20] = {127, 0, 0, 1};
  struct conn_record record;
  address[18] = ADDR_UNIX;
  make();
  put_bytes(ADDRESS, address, 19);
  expect_read(&record);
  for (size_t size = 0; size <= sizeof(address); size++) {
    make();
    put_bytes(PROXY_VIA, address, size);
    ck_assert((read_made(&record) == NULL) == (size == 19));
  }
  address[18] = ADDR_UNIX + 1;
  make();
  put_bytes(ADDRESS, address, 19);
  expect_refused();
}
END_TEST

/* A record of a connection behind a proxy, but for one value. */
static void make_proxied(uint16_t tag, uint64_t value) {
  static const struct {
    uint16_t tag;
    uint64_t value;
  } fields[] = {{STATE, CONN_OPEN},
                {FLAGS, FLAG_PROXIED},
                {PROXY_ACCEPTS, ADDR_PROXY_ANY},
                {PROXY_VERSION, 2},
                {PROXY_COMMAND, STATS_PROXY_LOCAL},
                {PROXY_OPENED, true}};
  make();
  for (size_t i = 0; i < count_of(fields); i++) {
    put(fields[i].tag, fields[i].tag == tag ? value : fields[i].value);
  }
}

START_TEST(test_proxy) {
  static uint8_t header[PROXY_HEADER_MAX + 1];
  struct conn_record record;
  make_proxied(0, 0);
  put_bytes(PROXY_HEADER, header, PROXY_HEADER_MAX);
  expect_read(&record);
  ck_assert(record.proxied);
  make_proxied(0, 0);
  put_bytes(PROXY_HEADER, header, sizeof(header));
  expect_refused();
  make_proxied(PROXY_ACCEPTS, ADDR_PROXY_OFF);
  expect_refused();
  make_proxied(PROXY_ACCEPTS, ADDR_PROXY_ANY + 1);
  expect_refused();
  make_proxied(PROXY_VERSION, 3);
  expect_refused();
  make_proxied(PROXY_COMMAND, STATS_PROXY_COMMANDS);
  expect_refused();
  make_proxied(FLAGS, 0);
  put_bytes(PROXY_HEADER, header, 1);
  expect_refused();
  make();
  put(STATE, CONN_HEADER);
  put(FLAGS, FLAG_PROXIED);
  put(PROXY_ACCEPTS, ADDR_PROXY_V1);
  put_bytes(INPUT, header, PROXY_HEADER_MAX);
  expect_read(&record);
  put_bytes(OUTPUT, header, 1); /* nothing is sent before the header has come */
  expect_refused();
  make();
  put(STATE, CONN_HEADER);
  put(FLAGS, FLAG_PROXIED);
  put(PROXY_ACCEPTS, ADDR_PROXY_V1);
  put_bytes(INPUT, header, sizeof(header));
  expect_refused();
}
END_TEST

/* More was searched than there is: the record is of another frame. */
START_TEST(test_scanned) {
  struct conn_record record;
  make();
  put_bytes(INPUT, "abc", 3);
  put(SCANNED, 4);
  expect_read(&record);
  fixture_start(false);
  errno = 0;
  ck_assert_ptr_null(conn_unpack(&fixture.ctx, &record));
  ck_assert_int_eq(errno, EBADMSG);
  ck_assert_uint_eq(fixture.slab.used, 0);
}
END_TEST

/* ---- any bytes ---- */

/* Serve ${record} for two turns, if there is a way to; nothing is left of it. */
static void serve(const struct conn_record *read) {
  struct conn_record record = *read;
  int fds[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  record.owned.fd = fds[0];
  struct xchg_conn *conn = conn_unpack(&other.ctx, &record);
  if (conn == NULL) {
    close(fds[0]);
  } else {
    conn_resume(conn);
    client_write(fds[1], "abc\0", 4);
    other_turn();
    other_turn();
    uint32_t slot = slab_next(&other.slab, 0);
    if (slot != SLAB_NONE) {
      (void)conn_stop_now(slab_at(&other.slab, slot)); /* it has ended by itself or by this */
    }
  }
  close(fds[1]);
  other_expect_empty();
}

static void try_bytes(const uint8_t *bytes, size_t size, uint32_t *accepted) {
  struct conn_record record;
  uint8_t *copy = malloc(size == 0 ? 1 : size); /* of this size, so that ASan sees a read beyond */
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, bytes, size);
  if (conn_record_read(&record, copy, size) == NULL) {
    (*accepted)++;
    serve(&record);
  }
  free(copy);
}

/* Every cut and every changed bit of a record with many fields: it is refused, or served. */
START_TEST(test_any_bytes) {
  static const char header[] = V2_HEAD("\x21", "\x11", "\0\x14") V4_BLOCK "\2\0\5hosts";
  uint32_t accepted = 0;
  fixture.config.proxy_timeout_ns = 5 * NS_PER_S;
  fixture.config.listen_count = 1;
  fixture.config.listen[0].proxy = ADDR_PROXY_ANY;
  fixture.config.slow_log_ns = NS_PER_S;
  fixture.handler.proxy_tlvs = true;
  int fd = start_and_connect(false);
  client_send(fd, header, sizeof(header) - 1);
  CLIENT_SEND(fd, "half");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert_int_eq(conn_join(conn, 7, XCHG_SLOW_DROP), 0);
  ck_assert_int_eq(xchg_timer(conn, NS_PER_S), 0);
  ck_assert_int_eq(xchg_send(conn, "output", 6), 0);
  uint8_t *bytes = malloc(conn_record_room(conn));
  ck_assert_ptr_nonnull(bytes);
  size_t size = conn_record_write(conn, bytes);
  fixture.handler.on_open = NULL;
  fixture.handler.on_close = NULL;
  other_open();
  for (size_t cut = 0; cut < size; cut++) {
    try_bytes(bytes, cut, &accepted); /* between two fields it is a record */
  }
  accepted = 0;
  for (size_t bit = 0; bit < 8 * size; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    try_bytes(bytes, size, &accepted);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  ck_assert_uint_gt(accepted, 0);
  other_close();
  free(bytes);
  fixture.handler.on_close = handler_on_close;
  close(fd);
  fixture_until_all_closed();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_format, 1},
                                     {test_missing_fields, 1},
                                     {test_short_numbers, 1},
                                     {test_unknown_tags, 1},
                                     {test_invalid_values, (int)count_of(invalid)},
                                     {test_fields_twice, 1},
                                     {test_bytes_in_the_wrong_state, 1},
                                     {test_groups, 1},
                                     {test_saved, 1},
                                     {test_addresses, 1},
                                     {test_proxy, 1},
                                     {test_scanned, 1},
                                     {test_any_bytes, 1}};
  return run_suite_fixture("conn_record", tests, count_of(tests), handler_fixture_init,
                           handler_fixture_fini);
}
