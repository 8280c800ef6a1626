/*
 * frame: net/frame.c on any bytes, for the abstract interpreter (make eva).
 *
 * Every size up to SIZE_MOST and every limit near it is tried one by one, with any bytes. The data
 * ends where its block ends, so reading one byte too many is an alarm. Assertions state what
 * frame.h promises about a message; they must be proved too. Sizes are small because frame.c does
 * not depend on the number of bytes after the first few.
 */
#include "net/frame.h"

#include "tests/eva/any.h"

#include <assert.h>

#define SIZE_MOST 9

static void check_cut(enum frame_result result, const struct frame_parsed *parsed, size_t max,
                      size_t size) {
  if (result == FRAME_MESSAGE) {
    assert(parsed->size <= max);
    assert(parsed->head <= FRAME_HEAD_MAX);
    assert(parsed->tail <= 2);
    assert(parsed->head <= size);
    assert(parsed->size <= size - parsed->head);
    assert(parsed->tail <= size - parsed->head - parsed->size);
  } else if (result == FRAME_MORE) {
    assert(parsed->scanned <= size);
  }
}

static void cut_once(const struct xchg_frame *frame, size_t max, const uint8_t *data, size_t size,
                     size_t scanned) {
  struct frame_parsed parsed = {.scanned = scanned};
  enum frame_result result = frame_parse(frame, max, data, size, &parsed);
  check_cut(result, &parsed, max, size);
  if (result == FRAME_MORE) {
    check_cut(frame_parse_last(frame, max, data, size, &parsed), &parsed, max, size);
  }
}

static void cut_all(const struct xchg_frame *frame, size_t max) {
  uint8_t block[SIZE_MOST];
  if (!frame_valid(frame, max)) {
    return;
  }
  any_bytes(block, sizeof(block));
  for (size_t size = 1; size <= SIZE_MOST; size++) {
    for (size_t scanned = 0; scanned <= size; scanned++) {
      cut_once(frame, max, block + SIZE_MOST - size, size, scanned);
    }
  }
}

static void every_limit(const struct xchg_frame *frame) {
  for (size_t max = 1; max <= SIZE_MOST + 1; max++) {
    cut_all(frame, max);
  }
  cut_all(frame, SIZE_MAX);
}

static void every_head(const struct xchg_frame *frame) {
  uint8_t head[FRAME_HEAD_MAX];
  uint64_t most = frame->size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * frame->size) - 1;
  size_t count = frame_head(frame, any_u64() & most, head);
  assert(count == frame->size);
}

static void every_tail(const struct xchg_frame *frame) {
  size_t size;
  const uint8_t *tail = frame_tail(frame, &size);
  assert(size <= 1);
  assert(size == 0 || *tail <= UINT8_MAX);
}

int main(void) {
  const struct xchg_frame terminated[] = {{.kind = XCHG_FRAME_RAW},
                                          {.kind = XCHG_FRAME_LINE},
                                          {.kind = XCHG_FRAME_DELIMITER, .delimiter = any_byte()}};
  for (size_t i = 0; i < 3; i++) {
    every_limit(&terminated[i]);
    every_tail(&terminated[i]);
  }
  for (size_t size = 1; size <= 8; size *= 2) {
    for (unsigned little = 0; little < 2; little++) {
      const struct xchg_frame frame = {
          .kind = XCHG_FRAME_PREFIX, .size = size, .little_endian = little == 1};
      every_limit(&frame);
      every_head(&frame);
      every_tail(&frame);
    }
  }
  for (size_t size = 1; size <= SIZE_MOST + 1; size++) {
    const struct xchg_frame frame = {.kind = XCHG_FRAME_FIXED, .size = size};
    every_limit(&frame);
  }
  return 0;
}
