/*
 * message: what a connection sends and what it must receive, byte for byte.
 *
 * A message is a function of the seed, the connection and its sequence number.  Its body is a slice
 * of one pool of random bytes; a hash chooses offset and size.  The frame's prefix and terminator
 * surround it.  So sending and comparing generate no bytes, and sent messages are not stored.  Two
 * instances of xchg-bench with one seed send the same bytes.  Under `nul` and `line` the pool has
 * no byte that could end a message.
 *
 * Thread: a set is constant after message_set_init, and all threads read it.
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include "bench.h"

/* The largest pool; a longer message wraps around. */
#define MESSAGE_POOL_MAX (1u << 20)

/* One framed message: prefix, body, terminator.  It borrows the bytes of its set. */
struct message {
  const uint8_t *ring; /* the body is ring[(at + i) mod ring_size] */
  uint64_t ring_size, at;
  uint64_t size;  /* of the body */
  uint64_t total; /* with prefix and terminator; 0 = no message */
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
  struct message greeting; /* total is 0 if there is none */
  struct message text;     /* the reply `text:` */
};

/**
 * message_set_init(set, exchange, size, seed):
 * Make the messages of ${exchange}, whose texts are borrowed.  Sizes are limited by the frame and,
 * except under raw, by XCHG_MAX_MESSAGE.  Under fixed:N all sizes are N.
 * Return: 0, or -1 (ENOMEM).
 */
int message_set_init(struct message_set *set, const struct config *exchange,
                     const struct size_spec *size, uint64_t seed);
void message_set_fini(struct message_set *set);

/** Set ${message} to message number ${sequence} of ${connection}. */
void message_sent(const struct message_set *set, uint64_t connection, uint64_t sequence,
                  struct message *message);

/** Set ${message} to the server's reply to it. */
void message_reply(const struct message_set *set, uint64_t connection, uint64_t sequence,
                   struct message *message);

/** Does every message get a reply of at least one byte? */
bool message_replies(const struct message_set *set);

/** The size of the longest message, with prefix and terminator. */
uint64_t message_total_max(const struct message_set *set);

/**
 * message_run(message, position, bytes):
 * Point ${*bytes} at the byte at ${position}, which is below total.  Return: how many bytes of the
 * message are contiguous there, at least 1.
 */
size_t message_run(const struct message *message, uint64_t position, const uint8_t **bytes);

/** Copy at most ${room} bytes from ${position} to ${to}. Return: their number. */
size_t message_copy(const struct message *message, uint64_t position, uint8_t *to, size_t room);

/**
 * message_equals(message, position, data, size):
 * Are the ${size} bytes at ${data} those at ${position}?  ${position} + ${size} is at most total.
 */
bool message_equals(const struct message *message, uint64_t position, const uint8_t *data,
                    size_t size);

/**
 * message_match(message, done, data, size):
 * Compare ${data} with the bytes of ${message} from ${*done} on, and move ${*done} on.
 * Return: how many bytes belong to the message; 0 = they are wrong.
 */
size_t message_match(const struct message *message, uint64_t *done, const uint8_t *data,
                     size_t size);

#endif
