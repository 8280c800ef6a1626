/*
 * frame: finds the end of a message.
 *
 * Pure functions without state: they read bytes and copy none.  The caller holds the bytes of the
 * stream from the beginning of the current message on.  A length in a prefix is compared with the
 * limit first, so no caller allocates for a length that is over it.
 *
 *   delimiter  data d              ends at the first byte d
 *   line       data [CR] LF        the CR belongs to the terminator
 *   prefix     length data         1, 2, 4 or 8 bytes of either order, which do not count
 *   fixed      data                size bytes
 *   raw        data                all bytes that have arrived
 *   custom                         parsed by its own function in net/conn_input, not here
 */
#ifndef NET_FRAME_H
#define NET_FRAME_H

#include "core/xchg.h"

#include <assert.h>
#include <stdbool.h>

enum frame_result {
  FRAME_MORE,      /* not complete */
  FRAME_MESSAGE,   /* complete: struct frame_parsed has its sizes */
  FRAME_TOO_LONG,  /* over the limit, or certain to be */
  FRAME_BAD,       /* no valid message; only the function of a custom frame says so */
  FRAME_TRUNCATED, /* the stream ended within the message; only frame_parse_last */
};

struct frame_parsed {
  size_t scanned; /* in and out: bytes searched without result */
  size_t head;    /* out: bytes of the prefix */
  size_t size;    /* out: bytes of the message, max at most */
  size_t tail;    /* out: bytes of the terminator */
};

#define FRAME_HEAD_MAX 8

/* What frame_parse does for a frame that is not raw. */
enum frame_result frame_find_end(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                                 size_t size, struct frame_parsed *parsed);

/**
 * frame_parse(frame, max, data, size, parsed):
 * Find the first message in the ${size} (1 at least) bytes at ${data}.  An earlier call with a
 * smaller ${size} has searched the first ${parsed->scanned} bytes.  After FRAME_MORE,
 * ${parsed->scanned} is the value for the next call, otherwise 0.  The work of all
 * calls together is linear in the bytes.
 * Return: FRAME_MESSAGE with ${*parsed} filled, FRAME_MORE or FRAME_TOO_LONG.  The result depends
 * only on the bytes, not on how they arrived.  Exception: a raw message has min(size, max) bytes.
 */
static inline enum frame_result frame_parse(const struct xchg_frame *frame, size_t max,
                                            const uint8_t *data, size_t size,
                                            struct frame_parsed *parsed) {
  if (frame->kind != XCHG_FRAME_RAW) {
    return frame_find_end(frame, max, data, size, parsed);
  }
  assert(max > 0); /* otherwise the message would be empty, for ever */
  *parsed = (struct frame_parsed){.size = size < max ? size : max};
  return FRAME_MESSAGE;
}

/**
 * frame_parse_last(frame, max, data, size, parsed):
 * The same after FRAME_MORE, when the stream has ended.  A delimited message or line ends there,
 * without tail, and a lone CR is data.  A message with a declared length is truncated.
 */
enum frame_result frame_parse_last(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                                   size_t size, struct frame_parsed *parsed);

/** Write the prefix of a message of ${size} bytes into ${head}. Return: its length; 0 = none. */
size_t frame_head(const struct xchg_frame *frame, size_t size, uint8_t head[FRAME_HEAD_MAX]);

/**
 * The terminator of messages that xchg makes: the delimiter, "\n" or none; its length in ${*size}.
 * Valid as long as ${frame}.
 */
const uint8_t *frame_tail(const struct xchg_frame *frame, size_t *size);

/** Does the end of the stream truncate an unfinished message? Otherwise it completes it. */
bool frame_declares(const struct xchg_frame *frame);

/** Is ${frame} filled in as its kind requires, for messages of at most ${max} bytes? */
bool frame_valid(const struct xchg_frame *frame, size_t max);

#endif
