/*
 * message: what a connection sends and what it must get back, byte for byte.
 *
 * Every message is a function of the seed, the connection and its sequence number: a slice of one
 * pool of random bytes, at an offset and of a size that a hash chooses, between the frame's prefix
 * and terminator.  So neither sending nor comparing generates bytes, nothing is kept of what was
 * sent, and two harnesses with one seed say the same.  Under `nul` and `line` the pool holds no
 * byte that could end a message.  Constant once made: every thread reads it.
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include "bench.h"

/* Bytes of the pool at most; a longer message goes round it. */
#define MESSAGE_POOL_MAX (1u << 20)

/* One framed message: prefix, body, terminator.  Borrows the bytes of its set. */
struct message {
  const uint8_t *ring; /* the body is ring[(at + i) mod ring_size] */
  uint64_t ring_size, at;
  uint64_t size;  /* of the body */
  uint64_t total; /* with prefix and terminator; 0 = nothing comes */
  uint8_t head[8], head_size;
  uint8_t tail, tail_size;
};

struct message_set {
  struct xchg_frame frame;
  enum config_reply reply;
  struct size_spec size;
  uint64_t seed;
  uint64_t size_min, size_max;
  uint8_t *pool; /* owns */
  uint64_t pool_size;
  struct message greeting; /* total 0 = none */
  struct message text;     /* the reply `text:` */
};

/**
 * message_set_init(set, exchange, size, seed):
 * Make the messages of ${exchange}, whose texts are borrowed.  Sizes are cut to what the frame and
 * XCHG_MAX_MESSAGE (but under raw) allow; under fixed:N all are N.
 * Return: 0, or -1 (ENOMEM).
 */
int message_set_init(struct message_set *set, const struct config *exchange,
                     const struct size_spec *size, uint64_t seed);
void message_set_fini(struct message_set *set);

/** Write message number ${sequence} of ${connection} to ${message}. */
void message_sent(const struct message_set *set, uint64_t connection, uint64_t sequence,
                  struct message *message);

/** The same for the server's reply to it. */
void message_reply(const struct message_set *set, uint64_t connection, uint64_t sequence,
                   struct message *message);

/** Does every message get a reply of at least a byte? */
bool message_replies(const struct message_set *set);

/** The longest message, prefix and terminator included. */
uint64_t message_total_max(const struct message_set *set);

/**
 * Point ${*bytes} at what lies at ${position} (below total); return how many bytes lie there in a
 * row, 1 at least.
 */
size_t message_run(const struct message *message, uint64_t position, const uint8_t **bytes);

/** Copy from ${position} on into the ${room} bytes at ${to}; return how many. */
size_t message_copy(const struct message *message, uint64_t position, uint8_t *to, size_t room);

/**
 * Are the ${size} bytes at ${data} what lies at ${position}? ${position} + ${size} must not exceed
 * total.
 */
bool message_equals(const struct message *message, uint64_t position, const uint8_t *data,
                    size_t size);

#endif
