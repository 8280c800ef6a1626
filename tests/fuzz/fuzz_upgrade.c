/*
 * fuzz_upgrade: any bytes and any number of descriptors are a packet of the upgrade channel, or are
 * refused.  A packet has each descriptor once and points into the bytes.  Written again it is the
 * same packet.
 *
 * Input: whether to mend the head (bit 2 of a byte), the number of descriptors (1 byte), the
 * packet.
 */
#include "core/fields.h"
#include "tests/fixtures/upgrade_fixture.h"
#include "tests/fuzz/fuzz.h"

#define MEND 4
#define FIRST_FD 1000

/* The descriptors that a packet has. */
struct found {
  unsigned count;
  bool seen[FD_PACKET_FDS_MAX];
};

static void find(struct found *found, int fd, unsigned fds_count) {
  fuzz_holds(fd >= FIRST_FD && fd < FIRST_FD + (int)fds_count, "a descriptor was received");
  fuzz_holds(!found->seen[fd - FIRST_FD], "a descriptor has one place");
  found->seen[fd - FIRST_FD] = true;
  found->count++;
}

static void within(const uint8_t *at, uint64_t size, const struct upgrade_received *received) {
  fuzz_holds(at >= received->bytes && size <= received->size &&
                 at + size <= received->bytes + received->size,
             "bytes lie in the packet");
}

static void check_places(const struct upgrade_packet *packet,
                         const struct upgrade_received *received) {
  struct found found = {0};
  if (packet->kind == UPGRADE_LISTENER) {
    find(&found, packet->listener.fd, received->fds_count);
  } else if (packet->kind == UPGRADE_BATCH) {
    fuzz_holds(packet->batch.count >= 1 && packet->batch.count <= UPGRADE_BATCH_MAX,
               "a batch has records");
    for (uint32_t i = 0; i < packet->batch.count; i++) {
      find(&found, packet->batch.records[i].fd, received->fds_count);
      fuzz_holds(packet->batch.records[i].size > 0, "a record has bytes");
    }
    find(&found, packet->batch.file, received->fds_count);
  } else if (packet->kind == UPGRADE_TOTALS) {
    if (packet->account.totals.bytes != NULL) {
      within(packet->account.totals.bytes, packet->account.totals.size, received);
    }
  }
  fuzz_holds(found.count == received->fds_count, "no descriptor is lost");
}

/* What is written again is the same packet. */
static void check_again(const struct upgrade_packet *packet) {
  static struct upgrade_image image, again;
  struct upgrade_packet other;
  upgrade_image_of(&image, packet);
  fuzz_holds(image.size > 0, "there is room");
  fuzz_holds(upgrade_packet_of(&other, &image) == NULL, "it is a packet again");
  upgrade_image_of(&again, &other);
  fuzz_holds(upgrade_image_same(&image, &again), "it is the same packet");
  fuzz_holds(memcmp(image.fds, again.fds, image.fds_count * sizeof(int)) == 0,
             "with the same descriptors");
}

/* Make the head agree with what was received. */
static void mend_head(uint8_t *bytes, size_t size, unsigned fds_count) {
  if (size >= UPGRADE_HEAD) {
    memcpy(bytes, "XCHGUPGR", 8);
    fields_store(bytes + 8, UPGRADE_VERSION, 2);
    fields_store(bytes + 12, size - UPGRADE_HEAD, 4);
    fields_store(bytes + 20, fds_count, 4);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  int fds[FD_PACKET_FDS_MAX];
  size_t packet_size;
  struct upgrade_packet packet;
  uint8_t choice = fuzz_byte(&input);
  unsigned fds_count = fuzz_byte(&input) % (FD_PACKET_FDS_MAX + 1);
  const uint8_t *from = fuzz_bytes(&input, FD_PACKET_BYTES_MAX / 2, &packet_size);
  /* A block of its own, so that the sanitizer sees the first byte after it. */
  uint8_t *bytes = malloc(max_u64(packet_size, 1));
  fuzz_holds(bytes != NULL, "memory is available");
  if (packet_size > 0) {
    memcpy(bytes, from, packet_size);
  }
  for (unsigned i = 0; i < FD_PACKET_FDS_MAX; i++) {
    fds[i] = FIRST_FD + (int)i;
  }
  if ((choice & MEND) != 0) {
    mend_head(bytes, packet_size, fds_count);
  }
  const struct upgrade_received received = {bytes, packet_size, fds, fds_count};
  const char *why = upgrade_decode(&packet, &received);
  fuzz_holds((unsigned)packet.kind < UPGRADE_KINDS, "the kind is known");
  if (why == NULL) {
    check_places(&packet, &received);
    check_again(&packet);
  } else {
    fuzz_holds(packet.kind == UPGRADE_LISTENER ? packet.listener.fd == -1 : packet.batch.count == 0,
               "a refused packet has no descriptor");
  }
  free(bytes);
  return 0;
}
