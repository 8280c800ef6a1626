/*
 * frame: where does a message end?
 *
 * Pure: looks at bytes, keeps nothing, copies nothing.  The caller holds what has arrived of the
 * stream from the beginning of the current message on, and asks; the length of a prefix is checked
 * against the limit before anybody could allocate for it.
 *
 *   delimiter  data d              ends at the first byte d
 *   line       data [CR] LF        the CR belongs to the terminator
 *   prefix     n.. data            length in 1, 2, 4 or 8 bytes, either order, itself not counted
 *   fixed      data                size bytes
 *   raw        data                all there is
 *   custom                         cut by its own function (net/conn_input), not here
 */
#ifndef NET_FRAME_H
#define NET_FRAME_H

#include "core/xchg.h"

#include <stdbool.h>

enum frame_result {
  FRAME_MORE,      /* not complete */
  FRAME_MESSAGE,   /* complete: struct frame_parse is filled */
  FRAME_TOO_LONG,  /* over the limit, or will be */
  FRAME_BAD,       /* can be no message (a custom frame's function alone says so) */
  FRAME_TRUNCATED, /* the stream ended within it (frame_parse_last only) */
};

struct frame_parsed {
  size_t scanned; /* in and out: bytes that a search has seen in vain */
  size_t head;    /* out: bytes of the prefix */
  size_t size;    /* out: bytes of the message behind it, max at most */
  size_t tail;    /* out: bytes of the terminator behind that */
};

#define FRAME_HEAD_MAX 8

/**
 * frame_parse(frame, max, data, size, cut):
 * Find the first message of the ${size} (1 at least) bytes at ${data}, of which the first
 * ${cut->scanned} were seen in vain by an earlier call with a shorter ${size}; on FRAME_MORE
 * ${cut->scanned} is what the next call may skip, else 0.  The work over all calls is linear in the
 * bytes.
 * Return: FRAME_MESSAGE with ${*cut} filled, FRAME_MORE or FRAME_TOO_LONG. The result depends on
 * the bytes alone, never on how they were split, except under raw, where the message is min(size,
 * max) bytes.
 */
enum frame_result frame_parse(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                              size_t size, struct frame_parsed *parsed);

/**
 * frame_parse_last(frame, max, data, size, cut):
 * The same where frame_parse said FRAME_MORE and the stream has ended: delimiter and line end the
 * message there (no tail; a lone CR is data), under a declared length it is truncated.
 */
enum frame_result frame_parse_last(const struct xchg_frame *frame, size_t max, const uint8_t *data,
                                   size_t size, struct frame_parsed *parsed);

/**
 * Write the prefix of a message of ${size} bytes into ${head}; return its length, 0 for frames
 * without one.
 */
size_t frame_head(const struct xchg_frame *frame, size_t size, uint8_t head[FRAME_HEAD_MAX]);

/**
 * The terminator that the server's own messages get: the delimiter, "\n" or none; its length in
 * ${*size}; valid as long as ${frame}.
 */
const uint8_t *frame_tail(const struct xchg_frame *frame, size_t *size);

/** Is a message of ${frame} that the stream's end cut short truncated (else complete)? */
bool frame_declares(const struct xchg_frame *frame);

/** Can messages of at most ${max} bytes be cut by ${frame}: is it filled in as its kind wants? */
bool frame_valid(const struct xchg_frame *frame, size_t max);

#endif
