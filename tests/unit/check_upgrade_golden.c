/*
 * check_upgrade_golden: today's decoder reads the packets that earlier versions have written.
 *
 * tests/golden/upgrade-V/KIND is a packet of the version V as the first program with it wrote it,
 * and then its CRC32C, little-endian.  A file never changes once it was released.  With
 * GOLDEN=write the program writes the files that do not exist (`make golden`).
 */
#include "pool/upgrade_packet.h"

#include "core/fields.h"
#include "core/crc32c.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/upgrade_fixture.h"

#include <errno.h>
#include <stdlib.h>

#define CRC_SIZE 4
#define KINDS (UPGRADE_KINDS - 1)

static struct upgrade_packet packet, sample;
static struct upgrade_image image, again;

/* Read the golden packet of ${kind} into the image, without its descriptors. */
static void read_golden(enum upgrade_kind kind) {
  char path[64];
  FILE *file = fopen(upgrade_golden_path(path, kind), "rb");
  ck_assert_msg(file != NULL, "%s is missing: make golden", path);
  image.size = fread(image.bytes, 1, sizeof(image.bytes), file);
  fclose(file);
  ck_assert_msg(image.size > CRC_SIZE, "%s is empty", path);
  image.size -= CRC_SIZE;
  ck_assert_msg(
      fields_load(image.bytes + image.size, CRC_SIZE) == crc32c(0, image.bytes, image.size),
      "%s was changed", path);
}

/* Each golden packet is read, and has the values of the sample. */
START_TEST(test_golden_packets) {
  enum upgrade_kind kind = (enum upgrade_kind)(_i + 1);
  read_golden(kind);
  upgrade_sample(&sample, kind);
  upgrade_image_of(&again, &sample); /* for the descriptors */
  image.fds_count = again.fds_count;
  memcpy(image.fds, again.fds, sizeof(image.fds));
  const char *why = upgrade_packet_of(&packet, &image);
  ck_assert_msg(why == NULL, "%s: %s", upgrade_kind_name(kind), why);
  ck_assert_uint_eq(packet.number, sample.number);
  upgrade_image_of(&image, &packet);
  ck_assert(upgrade_image_same(&image, &again));
}
END_TEST

/* The check finds one changed bit. */
START_TEST(test_changed_bit) {
  read_golden(UPGRADE_HELLO);
  uint32_t crc = crc32c(0, image.bytes, image.size);
  for (size_t i = 0; i < 8 * image.size; i++) {
    image.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    ck_assert_uint_ne(crc32c(0, image.bytes, image.size), crc);
    image.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
  }
}
END_TEST

/* Write the files that do not exist. Return: the exit code. */
static int write_golden(void) {
  char path[64];
  for (enum upgrade_kind kind = 1; kind < UPGRADE_KINDS; kind++) {
    FILE *file = fopen(upgrade_golden_path(path, kind), "wbx");
    if (file == NULL && errno == EEXIST) {
      continue;
    }
    if (file == NULL) {
      perror(path);
      return 1;
    }
    upgrade_sample(&sample, kind);
    upgrade_image_of(&image, &sample);
    fields_store(image.bytes + image.size, crc32c(0, image.bytes, image.size), CRC_SIZE);
    if (fwrite(image.bytes, image.size + CRC_SIZE, 1, file) != 1 || fclose(file) != 0) {
      perror(path);
      return 1;
    }
    puts(path);
  }
  return 0;
}

int main(void) {
  const struct suite_test tests[] = {
      {test_golden_packets, KINDS},
      {test_changed_bit, 1},
  };
  const char *golden = getenv("GOLDEN");
  if (golden != NULL && strcmp(golden, "write") == 0) {
    return write_golden();
  }
  return run_suite("upgrade_golden", tests, count_of(tests));
}
