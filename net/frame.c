/*
 * frame: see frame.h.
 *
 * A terminated frame (delimiter, line) is searched with memchr in a window that ends where the
 * message would be too long.  So no byte is searched twice, and none after the limit.  A frame with
 * a declared length (prefix, fixed) is arithmetic that cannot overflow: lengths are compared with
 * the bytes that are left, never with a sum that contains a number from the peer.
 *
 * A CR belongs to the terminator of a line only if LF follows.  So a CR directly after the longest
 * message is undecided: until its successor comes, the message is neither complete nor too long.
 */
#include "net/frame.h"

#include <stdbool.h>
#include <string.h>

/* The longest terminator of a line: part of the window that is searched. */
#define CRLF_SIZE 2

/** Bytes of the prefix; 0 = none. */
static size_t head_size(const struct xchg_frame *frame) {
  return frame->kind == XCHG_FRAME_PREFIX ? frame->size : 0;
}

/** The bytes of ${size} to search for a message of ${max} bytes and a terminator of ${extra}. */
static size_t window(size_t size, size_t max, size_t extra) {
  return size > max && size - max > extra ? max + extra : size;
}

/** Find ${terminator} after the ${scanned} bytes. Return: its index, or ${size}. */
static size_t find_delimiter(const uint8_t *data, size_t size, size_t scanned, uint8_t terminator) {
  const uint8_t *at = scanned < size ? memchr(data + scanned, terminator, size - scanned) : NULL;
  return at == NULL ? size : (size_t)(at - data);
}

static enum frame_result parse_delimited(const struct xchg_frame *frame, size_t max,
                                         const uint8_t *data, size_t size,
                                         struct frame_parsed *parsed) {
  size_t searched = window(size, max, 1);
  size_t at = find_delimiter(data, searched, parsed->scanned, frame->delimiter);
  parsed->scanned = 0;
  if (at < searched) {
    *parsed = (struct frame_parsed){.size = at, .tail = 1};
    return FRAME_MESSAGE;
  }
  if (size > max) {
    return FRAME_TOO_LONG;
  }
  parsed->scanned = size;
  return FRAME_MORE;
}

static enum frame_result parse_line(size_t max, const uint8_t *data, size_t size,
                                    struct frame_parsed *parsed) {
  size_t searched = window(size, max, CRLF_SIZE);
  size_t at = find_delimiter(data, searched, parsed->scanned, '\n');
  parsed->scanned = 0;
  if (at < searched) {
    size_t cr = at > 0 && data[at - 1] == '\r' ? 1 : 0;
    if (at - cr > max) {
      return FRAME_TOO_LONG;
    }
    *parsed = (struct frame_parsed){.size = at - cr, .tail = cr + 1};
    return FRAME_MESSAGE;
  }
  if (size > max && (size - max > 1 || data[max] != '\r')) {
    return FRAME_TOO_LONG;
  }
  parsed->scanned = size; /* without LF; a CR is read again once its LF has come */
  return FRAME_MORE;
}

/** Parse a message of ${length} bytes after a prefix of ${head}. */
static enum frame_result parse_length(size_t max, size_t head, size_t length, size_t size,
                                      struct frame_parsed *parsed) {
  if (length > max) {
    return FRAME_TOO_LONG;
  }
  if (size - head < length) {
    return FRAME_MORE;
  }
  *parsed = (struct frame_parsed){.head = head, .size = length};
  return FRAME_MESSAGE;
}

static enum frame_result parse_prefixed(const struct xchg_frame *frame, size_t max,
                                        const uint8_t *data, size_t size,
                                        struct frame_parsed *parsed) {
  size_t head = head_size(frame);
  if (size < head) {
    return FRAME_MORE;
  }
  size_t length = 0;
  for (size_t i = 0; i < head; i++) {
    length = length << 8 | data[frame->little_endian ? head - 1 - i : i];
  }
  return parse_length(max, head, length, size, parsed);
}

enum frame_result frame_find_end(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                                 size_t size, struct frame_parsed *parsed) {
  assert(size > 0);
  assert(parsed->scanned <= size);
  switch (frame->kind) {
    case XCHG_FRAME_DELIMITER:
      return parse_delimited(frame, max, data, size, parsed);
    case XCHG_FRAME_LINE:
      return parse_line(max, data, size, parsed);
    case XCHG_FRAME_PREFIX:
      parsed->scanned = 0;
      return parse_prefixed(frame, max, data, size, parsed);
    default:
      break;
  }
  assert(frame->kind == XCHG_FRAME_FIXED); /* a custom frame has its own function */
  parsed->scanned = 0;
  return parse_length(max, 0, frame->size, size, parsed);
}

bool frame_declares(const struct xchg_frame *frame) {
  return frame->kind == XCHG_FRAME_PREFIX || frame->kind == XCHG_FRAME_FIXED ||
         frame->kind == XCHG_FRAME_CUSTOM;
}

enum frame_result frame_parse_last(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                                   size_t size, struct frame_parsed *parsed) {
  (void)data; /* FRAME_MORE has said that it contains no terminator */
  assert(size > 0);
  if (frame_declares(frame)) {
    return FRAME_TRUNCATED;
  }
  if (size > max) { /* a longest line and a CR without LF */
    return FRAME_TOO_LONG;
  }
  *parsed = (struct frame_parsed){.size = size};
  return FRAME_MESSAGE;
}

size_t frame_head(const struct xchg_frame *frame, size_t size, uint8_t head[FRAME_HEAD_MAX]) {
  size_t count = head_size(frame);
  assert(count == 0 || size >> (8 * count - 1) >> 1 == 0);
  for (size_t i = 0; i < count; i++) {
    head[frame->little_endian ? i : count - 1 - i] = (uint8_t)(size >> 8 * i);
  }
  return count;
}

const uint8_t *frame_tail(const struct xchg_frame *frame, size_t *size) {
  *size = frame->kind == XCHG_FRAME_DELIMITER || frame->kind == XCHG_FRAME_LINE ? 1 : 0;
  return frame->kind == XCHG_FRAME_LINE ? (const uint8_t *)"\n" : &frame->delimiter;
}

bool frame_valid(const struct xchg_frame *frame, size_t max) {
  switch (frame->kind) {
    case XCHG_FRAME_RAW:
    case XCHG_FRAME_DELIMITER:
    case XCHG_FRAME_LINE:
      return frame->size == 0 && frame->parse == NULL;
    case XCHG_FRAME_FIXED:
      return frame->size > 0 && frame->size <= max && frame->parse == NULL;
    case XCHG_FRAME_PREFIX:
      return (frame->size == 1 || frame->size == 2 || frame->size == 4 || frame->size == 8) &&
             frame->parse == NULL;
    case XCHG_FRAME_CUSTOM:
      return frame->size == 0 && frame->parse != NULL;
  }
  return false;
}
