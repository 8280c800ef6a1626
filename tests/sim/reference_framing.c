/* reference_framing: see reference_framing.h. */
#include "tests/sim/reference_framing.h"

/* The index of the first ${byte} from ${at} on, or ${size}. */
static uint32_t look_for(const uint8_t *bytes, uint32_t at, uint32_t size, uint8_t byte) {
  while (at < size && bytes[at] != byte) {
    at++;
  }
  return at;
}

static void split_delimited(const struct config *config, const uint8_t *bytes, uint32_t size,
                            struct piece *piece) {
  uint32_t at = look_for(bytes, piece->start, size, config->frame.delimiter);
  piece->size = at - piece->start;
  piece->end = at < size ? at + 1 : size;
  piece->kind = piece->size > config->max_message_bytes ? PIECE_TOO_LONG
                : at < size                             ? PIECE_MESSAGE
                                                        : PIECE_PART;
}

static void split_line(const struct config *config, const uint8_t *bytes, uint32_t size,
                       struct piece *piece) {
  uint32_t at = look_for(bytes, piece->start, size, '\n');
  bool cr = at > piece->start && bytes[at - 1] == '\r'; /* still data if no LF follows */
  piece->size = at - piece->start - (cr ? 1 : 0);
  piece->end = at < size ? at + 1 : size;
  piece->kind = piece->size > config->max_message_bytes ? PIECE_TOO_LONG
                : at < size                             ? PIECE_MESSAGE
                                                        : PIECE_PART;
}

static void split_prefixed(const struct config *config, const uint8_t *bytes, uint32_t size,
                           struct piece *piece) {
  uint32_t head = config->frame.kind == XCHG_FRAME_PREFIX ? (uint32_t)config->frame.size : 0;
  uint64_t length = head == 0 ? config->frame.size : 0;
  piece->end = size;
  piece->kind = PIECE_PART;
  if (size - piece->start < head) {
    return;
  }
  for (uint32_t i = 0; i < head; i++) {
    length = length * 256 + bytes[piece->start + i];
  }
  piece->data = piece->start + head;
  if (length > config->max_message_bytes) {
    piece->kind = PIECE_TOO_LONG;
  } else if (size - piece->data >= length) {
    piece->kind = PIECE_MESSAGE;
    piece->size = (uint32_t)length;
    piece->end = piece->data + piece->size;
  }
}

uint32_t reference_framing_split(const struct config *config, const uint8_t *bytes, uint32_t size,
                                 struct piece *pieces, uint32_t max) {
  uint32_t count = 0, at = 0;
  if (config->frame.kind == XCHG_FRAME_RAW) {
    return 0;
  }
  while (at < size && count < max) {
    struct piece *piece = &pieces[count++];
    *piece = (struct piece){.start = at, .data = at};
    if (config->frame.kind == XCHG_FRAME_DELIMITER) {
      split_delimited(config, bytes, size, piece);
    } else if (config->frame.kind == XCHG_FRAME_LINE) {
      split_line(config, bytes, size, piece);
    } else {
      split_prefixed(config, bytes, size, piece);
    }
    if (piece->kind != PIECE_MESSAGE) {
      break;
    }
    at = piece->end;
  }
  return count;
}
