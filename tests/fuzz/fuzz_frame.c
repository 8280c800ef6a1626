/*
 * fuzz_frame: the messages found do not depend on the pieces in which the stream arrives.
 *
 * What has arrived is parsed as net/conn_input does it: from the beginning of the current message,
 * with the position up to which it was searched.  The reference, which keeps no state, gives the
 * expected result.  The bytes after what has arrived would end a message at once if a parser looked
 * too far.
 *
 * Input: kind, size or delimiter, limit (2 bytes), a number n, n lengths of arrivals, the stream.
 */
#include "tests/fuzz/fuzz.h"

#include "net/frame.h"
#include "tests/fixtures/reference_framing.h"

#define STREAM_MAX 4096

static enum frame_result result_of(enum piece_kind kind) {
  return kind == PIECE_MESSAGE ? FRAME_MESSAGE : kind == PIECE_PART ? FRAME_MORE : FRAME_TOO_LONG;
}

/* The framing of our own messages must be the framing that is taken off. */
static void check_around(const struct xchg_frame *frame, const uint8_t *data,
                         const struct frame_parsed *parsed) {
  uint8_t head[FRAME_HEAD_MAX];
  size_t tail_size;
  const uint8_t *tail = frame_tail(frame, &tail_size);
  size_t head_size = frame_head(frame, parsed->size, head);
  fuzz_holds(head_size == parsed->head && memcmp(head, data, head_size) == 0,
             "the head is written as it was read");
  const uint8_t *end = data + parsed->head + parsed->size + parsed->tail;
  fuzz_holds(tail_size <= parsed->tail && memcmp(tail, end - tail_size, tail_size) == 0,
             "the tail is written as it was read");
}

struct arrival {
  struct xchg_frame frame;
  size_t max;
  uint8_t stream[STREAM_MAX]; /* what has arrived, and traps after it */
  size_t arrived;
  size_t at; /* where the current message begins */
  struct frame_parsed cut;
  bool over;
};

/* Parse what has arrived. */
static void cut_arrived(struct arrival *arrival) {
  while (arrival->at < arrival->arrived && !arrival->over) {
    const uint8_t *data = arrival->stream + arrival->at;
    size_t size = arrival->arrived - arrival->at;
    struct piece want =
        reference_framing_piece(&arrival->frame, arrival->max, data, 0, (uint32_t)size);
    enum frame_result result =
        frame_parse(&arrival->frame, arrival->max, data, size, &arrival->cut);
    const struct frame_parsed *parsed = &arrival->cut;
    fuzz_holds(result == result_of(want.kind), "the result depends on the bytes only");
    if (result == FRAME_MORE) {
      fuzz_holds(parsed->scanned <= size, "only what has arrived was searched");
      return;
    }
    fuzz_holds(parsed->scanned == 0, "the next message is searched from its beginning");
    arrival->over = result != FRAME_MESSAGE;
    if (arrival->over) {
      return;
    }
    fuzz_holds(parsed->head == want.data && parsed->size == want.size &&
                   parsed->head + parsed->size + parsed->tail == want.end,
               "the message depends on the bytes only");
    fuzz_holds(parsed->size <= arrival->max, "no message is over the limit");
    fuzz_holds(parsed->head + parsed->size + parsed->tail > 0, "every message consumes bytes");
    check_around(&arrival->frame, data, parsed);
    arrival->at += parsed->head + parsed->size + parsed->tail;
  }
}

static void end_stream(struct arrival *arrival) {
  const struct xchg_frame *frame = &arrival->frame;
  size_t size = arrival->arrived - arrival->at;
  if (arrival->over || size == 0) {
    return;
  }
  struct frame_parsed parsed = arrival->cut;
  enum frame_result result =
      frame_parse_last(frame, arrival->max, arrival->stream + arrival->at, size, &parsed);
  bool declared = frame->kind == XCHG_FRAME_PREFIX || frame->kind == XCHG_FRAME_FIXED;
  enum frame_result want = declared               ? FRAME_TRUNCATED
                           : size <= arrival->max ? FRAME_MESSAGE
                                                  : FRAME_TOO_LONG;
  fuzz_holds(result == want && frame_declares(frame) == declared,
             "the end of the stream has the right result");
  fuzz_holds(
      result != FRAME_MESSAGE || (parsed.size == size && parsed.head == 0 && parsed.tail == 0),
      "the last message is the whole rest");
}

/* Choose the framing. */
static void choose(struct arrival *arrival, struct fuzz_input *input) {
  static const uint8_t widths[] = {1, 2, 4, 8};
  uint8_t kind = fuzz_byte(input), detail = fuzz_byte(input);
  struct xchg_frame *frame = &arrival->frame;
  arrival->max = (size_t)fuzz_u16(input) + 1;
  switch (kind % 5) {
    case 0:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_DELIMITER, .delimiter = detail};
      break;
    case 1:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_LINE};
      break;
    case 2:
      *frame = (struct xchg_frame){
          .kind = XCHG_FRAME_PREFIX, .size = widths[detail % 4], .little_endian = detail >= 128};
      break;
    case 3:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_FIXED, .size = detail % arrival->max + 1};
      break;
    default:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_RAW};
  }
  fuzz_holds(frame_valid(frame, arrival->max), "the framing is valid");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct arrival arrival;
  struct fuzz_input input = {data, size};
  size_t count, stream_size;
  choose(&arrival, &input);
  arrival.arrived = arrival.at = 0;
  arrival.cut = (struct frame_parsed){.scanned = 0};
  arrival.over = false;
  const uint8_t *lengths = fuzz_bytes(&input, fuzz_byte(&input) % 32, &count);
  const uint8_t *stream = fuzz_bytes(&input, STREAM_MAX, &stream_size);
  for (size_t i = 0; arrival.arrived < stream_size; i++) {
    size_t length = count == 0 ? stream_size : (size_t)lengths[i % count] + 1;
    length = min_u64(length, stream_size - arrival.arrived);
    memcpy(arrival.stream + arrival.arrived, stream + arrival.arrived, length);
    arrival.arrived += length;
    memset(arrival.stream + arrival.arrived,
           arrival.frame.kind == XCHG_FRAME_LINE ? '\n' : arrival.frame.delimiter,
           min_u64(STREAM_MAX - arrival.arrived, 64));
    cut_arrived(&arrival);
  }
  end_stream(&arrival);
  return 0;
}
