/*
 * reference_framing: a second implementation of the framing, as plain as possible, to check
 * net/frame against.
 */
#ifndef TESTS_SIM_REFERENCE_FRAMING_H
#define TESTS_SIM_REFERENCE_FRAMING_H

#include "core/config.h"

enum piece_kind {
  PIECE_MESSAGE,  /* whole */
  PIECE_TOO_LONG, /* over the limit, or its prefix announces so */
  PIECE_PART      /* the stream ends within it */
};

/* A message of a stream, or the bytes where a message should be. */
struct piece {
  uint32_t start;         /* first byte, a prefix included */
  uint32_t data, size;    /* what the frame carries */
  uint32_t end;           /* after its last byte, the terminator included */
  enum piece_kind kind;   /* only the last piece may be another kind */
  uint64_t first_read_ns; /* when the server read its first byte; 0 = not yet */
  uint64_t answered;      /* bytes that the server will have sent after the reply to this message */
};

/** Split ${size} bytes into at most ${max} pieces; raw has none.  Return: how many. */
uint32_t reference_framing_split(const struct config *config, const uint8_t *bytes, uint32_t size,
                                 struct piece *pieces, uint32_t max);

#endif
