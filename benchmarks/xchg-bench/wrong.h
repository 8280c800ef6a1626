/*
 * wrong: the first wrong answer of a load thread, for the report.
 */
#ifndef BENCH_WRONG_H
#define BENCH_WRONG_H

#include "message.h"

/* A wrong answer: ${size} bytes at ${data} came where ${expected} continues after ${done} bytes. */
struct wrong_answer {
  const struct message *expected; /* NULL = no byte was due */
  uint64_t done;
  const uint8_t *data;
  size_t size;
  const struct message *own; /* what the client has sent; NULL = nothing */
  uint32_t connection;
  bool is_first; /* no exchange has succeeded before */
};

/**
 * wrong_note(example, answer, now_ns):
 * Store ${answer}, which came at ${now_ns}, in ${example} from the first byte that differs.
 */
void wrong_note(struct wrong_example *example, const struct wrong_answer *answer, uint64_t now_ns);

#endif
