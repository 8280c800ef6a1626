/*
 * reference_framing: the contract's framing once more, as plainly as it can be written, to judge
 * net/frame by.
 */
#ifndef TESTS_SIM_REFERENCE_FRAMING_H
#define TESTS_SIM_REFERENCE_FRAMING_H

#include "core/config.h"

enum piece_kind {
  PIECE_MESSAGE,  /* whole */
  PIECE_TOO_LONG, /* over the limit, or announced so */
  PIECE_PART      /* the bytes end within it */
};

/* A message of a stream, or what stands where one should. */
struct piece {
  uint32_t start;         /* first byte, a prefix included */
  uint32_t data, size;    /* what the frame carries */
  uint32_t end;           /* behind its last byte, the terminator included */
  enum piece_kind kind;   /* the last one may be no MESSAGE */
  uint64_t first_read_ns; /* when the server read its first byte; 0 = not yet */
  uint64_t answered;      /* bytes that the server will have sent with this message's reply */
};

/**
 * Cut ${size} bytes into at most ${max} pieces; under raw there are none.  Return: how many.
 */
uint32_t reference_framing_split(const struct config *config, const uint8_t *bytes, uint32_t size,
                                 struct piece *pieces, uint32_t max);

#endif
