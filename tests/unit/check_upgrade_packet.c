/* check_upgrade_packet: every kind of packet as bytes and back, and each refusal. */
#include "pool/upgrade_packet.h"

#include "core/fields.h"
#include "tests/fixtures/guard_page.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/upgrade_fixture.h"

/* The kinds; a test of each has the kind _i + 1. */
#define KINDS (UPGRADE_KINDS - 1)

static struct upgrade_packet packet, other;
static struct upgrade_image image, again;

/* Make the image of the sample of ${kind}. */
static void make(enum upgrade_kind kind) {
  upgrade_sample(&packet, kind);
  upgrade_image_of(&image, &packet);
  ck_assert_uint_ge(image.size, UPGRADE_HEAD);
}

/* Add a field to the image, before its descriptors' number is looked at. */
static void add_field(uint16_t tag, const void *value, size_t size) {
  struct fields_writer writer = {
      .bytes = image.bytes, .size = image.size, .room = sizeof(image.bytes)};
  fields_put(&writer, tag, value, size);
  ck_assert(!writer.full);
  image.size = writer.size;
  fields_store(image.bytes + 12, image.size - UPGRADE_HEAD, 4);
}

static void add_number(uint16_t tag, uint64_t number) {
  uint8_t value[8];
  fields_store(value, number, 8);
  add_field(tag, value, 8);
}

/* The image is refused, and the packet has no descriptors then. */
static void expect_refused(const char *why, enum upgrade_kind kind) {
  const char *said = upgrade_packet_of(&other, &image);
  ck_assert_ptr_nonnull(said);
  ck_assert_str_eq(said, why);
  ck_assert_int_eq(other.kind, kind);
  ck_assert_uint_eq(other.number, kind == 0 ? 0 : packet.number);
  if (kind == UPGRADE_LISTENER) {
    ck_assert_int_eq(other.listener.fd, -1);
  } else {
    ck_assert_uint_eq(other.batch.count, 0);
  }
}

START_TEST(test_head) {
  make(UPGRADE_TAKEN);
  static const uint8_t want[] = {'X', 'C', 'H', 'G',  'U', 'P', 'G', 'R', 1, 0, 5, 0,   14,
                                 0,   0,   0,   0xed, 3,   0,   0,   0,   0, 0, 0, 1,   0,
                                 8,   0,   0,   0,    5,   0,   0,   0,   0, 0, 0, 0x80};
  ck_assert_uint_eq(image.size, sizeof(want));
  ck_assert_mem_eq(image.bytes, want, sizeof(want));
}
END_TEST

/* Both have the same fields; their padding may differ. */
static void same_listener(const struct upgrade_listener *a, const struct upgrade_listener *b) {
  ck_assert_mem_eq(&a->addr.addr, &b->addr.addr, sizeof(a->addr.addr));
  ck_assert_int_eq(a->addr.any, b->addr.any);
  ck_assert_int_eq(a->addr.mode, b->addr.mode);
  ck_assert_int_eq(a->addr.proxy, b->addr.proxy);
  ck_assert_str_eq(a->addr.scope, b->addr.scope);
  ck_assert_str_eq(a->addr.path, b->addr.path);
  ck_assert_int_eq(a->use, b->use);
  ck_assert_int_eq(a->inherited, b->inherited);
  ck_assert_uint_eq(a->inode, b->inode);
  ck_assert_uint_eq(a->device, b->device);
  ck_assert_int_eq(a->fd, b->fd);
}

/* Every field arrives: two structs that differ have different bytes. */
START_TEST(test_round_trip) {
  enum upgrade_kind kind = (enum upgrade_kind)(_i + 1);
  make(kind);
  ck_assert_ptr_null(upgrade_packet_of(&other, &image));
  ck_assert_int_eq(other.kind, kind);
  ck_assert_uint_eq(other.number, packet.number);
  upgrade_image_of(&again, &other);
  ck_assert(upgrade_image_same(&image, &again));
  ck_assert_mem_eq(image.fds, again.fds, image.fds_count * sizeof(int));
  if (kind == UPGRADE_BATCH) {
    for (int i = 0; i < SAMPLE_RECORDS; i++) {
      const struct upgrade_record *got = &other.batch.records[i], *sent = &packet.batch.records[i];
      ck_assert_uint_eq(got->size, sent->size);
      ck_assert_int_eq(got->fd, sent->fd);
    }
    ck_assert_int_eq(other.batch.file, packet.batch.file);
  } else if (kind == UPGRADE_TOTALS) {
    ck_assert_uint_eq(other.account.totals.size, packet.account.totals.size);
    ck_assert_mem_eq(other.account.totals.bytes, packet.account.totals.bytes,
                     other.account.totals.size);
  } else if (kind == UPGRADE_LISTENER) {
    same_listener(&other.listener, &packet.listener);
  } else {
    ck_assert_mem_eq(&other, &packet, sizeof(other));
  }
}
END_TEST

/* A packet of nothing but its head: its fields are 0. */
START_TEST(test_fields_that_are_missing) {
  make(UPGRADE_HELLO);
  image.size = UPGRADE_HEAD;
  fields_store(image.bytes + 12, 0, 4);
  ck_assert_ptr_null(upgrade_packet_of(&other, &image));
  memset(&packet.hello, 0, sizeof(packet.hello));
  ck_assert_mem_eq(&other.hello, &packet.hello, sizeof(packet.hello));
}
END_TEST

/* No byte behind the end is read, and no prefix is accepted. */
START_TEST(test_every_prefix) {
  make((enum upgrade_kind)(_i + 1));
  uint8_t *end = guard_page_map(image.size);
  for (size_t size = 0; size < image.size; size++) {
    uint8_t *begin = end - size;
    memcpy(begin, image.bytes, size);
    struct upgrade_received received = {begin, size, image.fds, image.fds_count};
    ck_assert_ptr_nonnull(upgrade_decode(&other, &received));
    ck_assert_int_eq(other.kind, size < UPGRADE_HEAD ? 0 : _i + 1);
    if (size >= UPGRADE_HEAD) { /* with a size that fits it ends between two fields or is refused */
      fields_store(begin + 12, size - UPGRADE_HEAD, 4);
      (void)upgrade_decode(&other, &received);
    }
  }
}
END_TEST

START_TEST(test_bad_heads) {
  make(UPGRADE_READY);
  image.bytes[0] ^= 1;
  expect_refused("not a packet", 0);
  make(UPGRADE_READY);
  image.size = UPGRADE_HEAD - 1;
  expect_refused("not a packet", 0);
  static const uint16_t kinds[] = {0, UPGRADE_KINDS, UINT16_MAX};
  for (size_t i = 0; i < count_of(kinds); i++) {
    make(UPGRADE_READY);
    fields_store(image.bytes + 10, kinds[i], 2);
    expect_refused("an unknown kind", 0);
  }
  static const uint16_t versions[] = {0, 2, UINT16_MAX};
  for (size_t i = 0; i < count_of(versions); i++) {
    make(UPGRADE_READY);
    fields_store(image.bytes + 8, versions[i], 2);
    expect_refused("another version", 0);
  }
  make(UPGRADE_READY);
  fields_store(image.bytes + 12, 1, 4);
  expect_refused("a wrong size", UPGRADE_READY);
  make(UPGRADE_READY);
  fields_store(image.bytes + 20, 1, 4);
  expect_refused("lost descriptors", UPGRADE_READY);
}
END_TEST

/* A later version may add fields. One that must be understood is refused. */
START_TEST(test_unknown_fields) {
  enum upgrade_kind kind = (enum upgrade_kind)(_i + 1);
  make(kind);
  again = image;
  add_field(0x1234, "new", 3);
  ck_assert_ptr_null(upgrade_packet_of(&other, &image));
  upgrade_image_of(&image, &other);
  ck_assert(upgrade_image_same(&image, &again));
  add_field(FIELD_REQUIRED | 0x1234, "new", 3);
  expect_refused("a field that must be understood", kind);
}
END_TEST

START_TEST(test_wrong_values) {
  static char text[UPGRADE_TEXT];
  memset(text, 'x', sizeof(text));
  make(UPGRADE_HELLO);
  add_field(6, text, sizeof(text)); /* no room for its 0 */
  expect_refused("a field with a wrong value", UPGRADE_HELLO);
  make(UPGRADE_HELLO);
  add_field(6, text, sizeof(text) - 1);
  ck_assert_ptr_null(upgrade_packet_of(&other, &image));
  ck_assert_uint_eq(strlen(other.hello.version), UPGRADE_TEXT - 1);
  make(UPGRADE_HELLO);
  add_field(6, "a\0b", 3);
  expect_refused("a field with a wrong value", UPGRADE_HELLO);
  make(UPGRADE_HELLO);
  add_field(1, text, 9);
  expect_refused("a field with a wrong value", UPGRADE_HELLO);
  make(UPGRADE_HELLO);
  add_field(1, text, 0);
  expect_refused("a field with a wrong value", UPGRADE_HELLO);
  make(UPGRADE_TOTALS);
  add_number(3, 2);
  expect_refused("a field with a wrong value", UPGRADE_TOTALS);
}
END_TEST

START_TEST(test_wrong_listeners) {
  static const struct {
    uint16_t tag;
    uint64_t number;
    const char *why;
  } cases[] = {
      {1, ADDR_NONE, "not an address"},
      {1, ADDR_UNIX + 1, "a field with a wrong value"},
      {3, 65536, "a field with a wrong value"},
      {4, 2, "a field with a wrong value"},
      {5, 010000, "not an address"},
      {5, UINT32_MAX - 1, "not an address"},
      {5, UINT64_MAX, "a field with a wrong value"},
      {6, ADDR_PROXY_ANY + 1, "a field with a wrong value"},
      {2, 0, "a field with a wrong value"}, /* 8 bytes are no address */
      {9, USE_REQUESTS + 1, "a field with a wrong value"},
      {10, 2, "a field with a wrong value"},
  };
  for (size_t i = 0; i < count_of(cases); i++) {
    make(UPGRADE_LISTENER);
    add_number(cases[i].tag, cases[i].number);
    expect_refused(cases[i].why, UPGRADE_LISTENER);
  }
}
END_TEST

/* Each kind has as many descriptors as it needs, and as many as its head says. */
START_TEST(test_wrong_descriptors) {
  enum upgrade_kind kind = (enum upgrade_kind)(_i + 1);
  for (int change = -1; change <= 1; change += 2) {
    make(kind);
    if (change == -1 && image.fds_count == 0) {
      continue;
    }
    unsigned count = image.fds_count + (unsigned)change;
    image.fds_count = count;
    expect_refused("lost descriptors", kind);
    fields_store(image.bytes + 20, count, 4);
    expect_refused("a wrong number of descriptors", kind);
  }
}
END_TEST

START_TEST(test_wrong_batches) {
  make(UPGRADE_BATCH);
  image.size = UPGRADE_HEAD;
  fields_store(image.bytes + 12, 0, 4);
  fields_store(image.bytes + 20, 0, 4);
  image.fds_count = 0;
  expect_refused("a wrong number of descriptors", UPGRADE_BATCH);
  make(UPGRADE_BATCH);
  add_field(FIELD_REQUIRED | 1, "", 0);
  expect_refused("a record with a wrong size", UPGRADE_BATCH);
  make(UPGRADE_BATCH);
  add_number(FIELD_REQUIRED | 1, 0);
  expect_refused("a record with a wrong size", UPGRADE_BATCH);
  make(UPGRADE_BATCH);
  add_number(FIELD_REQUIRED | 1, UINT64_C(1) << 32);
  expect_refused("a record with a wrong size", UPGRADE_BATCH);
  make(UPGRADE_BATCH);
  add_number(FIELD_REQUIRED | 1, 1);
  expect_refused("a wrong number of descriptors", UPGRADE_BATCH);
  make(UPGRADE_BATCH);
  for (unsigned i = SAMPLE_RECORDS; i < UPGRADE_BATCH_MAX + 1; i++) {
    add_number(FIELD_REQUIRED | 1, 1);
  }
  expect_refused("too many records", UPGRADE_BATCH);
}
END_TEST

START_TEST(test_too_long) {
  static uint8_t bytes[FD_PACKET_BYTES_MAX];
  size_t most = FD_PACKET_BYTES_MAX - UPGRADE_HEAD - FIELD_HEAD - 4 * FIELD_NUMBER;
  upgrade_sample(&packet, UPGRADE_TOTALS);
  packet.account.totals = (struct upgrade_bytes){bytes, most};
  upgrade_image_of(&image, &packet);
  ck_assert_uint_eq(image.size, FD_PACKET_BYTES_MAX);
  packet.account.totals.size++;
  upgrade_image_of(&image, &packet);
  ck_assert_uint_eq(image.size, 0);
}
END_TEST

/* A full batch fits into a packet. */
START_TEST(test_full_batch) {
  struct upgrade_batch *batch = &packet.batch;
  upgrade_sample(&packet, UPGRADE_BATCH);
  for (batch->count = 0; batch->count < UPGRADE_BATCH_MAX; batch->count++) {
    batch->records[batch->count] = (struct upgrade_record){.size = UINT32_MAX, .fd = 1};
  }
  upgrade_image_of(&image, &packet);
  ck_assert_uint_eq(image.fds_count, FD_PACKET_FDS_MAX);
  ck_assert_ptr_null(upgrade_packet_of(&other, &image));
  ck_assert_uint_eq(other.batch.count, UPGRADE_BATCH_MAX);
  ck_assert_uint_eq(other.batch.records[UPGRADE_BATCH_MAX - 1].size, UINT32_MAX);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_head, 1},
      {test_round_trip, KINDS},
      {test_fields_that_are_missing, 1},
      {test_every_prefix, KINDS},
      {test_bad_heads, 1},
      {test_unknown_fields, KINDS},
      {test_wrong_values, 1},
      {test_wrong_listeners, 1},
      {test_wrong_descriptors, KINDS},
      {test_wrong_batches, 1},
      {test_too_long, 1},
      {test_full_batch, 1},
  };
  return run_suite("upgrade_packet", tests, count_of(tests));
}
