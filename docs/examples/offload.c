/*
 * offload: answers each line that holds a number with how many primes lie below it.
 *
 *   C> 100
 *   S> 25
 *
 * Counting takes long, and a callback that takes long stops every connection of its worker.  So the
 * work is done on a thread of the pool that XCHG_OFFLOAD_THREADS sizes:
 *
 *   on_message (worker)  a job is made and handed over; the connection's further lines wait
 *   count_primes (pool)  knows the job alone: no connection may be touched here
 *   answer (worker)      sends, and frees the job, also where the client has gone meanwhile
 *
 * The pool's queue has an end.  Whoever finds it full is told so and may ask again: a server that
 * promises more than it can do is slow for everybody.
 */
#include <xchg.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Beyond that the work would take seconds. */
#define NUMBER_MAX 10000000U
#define DIGITS_MAX 8

struct job {
  unsigned number;
  unsigned primes;
};

/* The number that ${message} holds, 1..NUMBER_MAX; 0 where it is none. */
static unsigned parse(const struct xchg_message *message) {
  const char *digits = message->data; /* not a string: nothing ends it but its size */
  unsigned number = 0;
  if (message->size > DIGITS_MAX) {
    return 0;
  }
  for (size_t i = 0; i < message->size; i++) {
    if (digits[i] < '0' || digits[i] > '9') {
      return 0;
    }
    number = number * 10 + (unsigned)(digits[i] - '0');
  }
  return number <= NUMBER_MAX ? number : 0;
}

static bool is_prime(unsigned number) {
  for (unsigned divisor = 2; divisor * divisor <= number; divisor++) {
    if (number % divisor == 0) {
      return false;
    }
  }
  return number >= 2;
}

/* The work: on a thread of the pool. */
static void count_primes(void *argument) {
  struct job *job = argument;
  for (unsigned number = 2; number < job->number; number++) {
    job->primes += is_prime(number) ? 1 : 0;
  }
}

/* The work is done, or will not be: on the connection's worker again. */
static void answer(struct xchg_conn *conn, void *argument) {
  struct job *job = argument;
  if (conn != NULL) { /* else nobody waits for the answer */
    char text[32];
    int size = snprintf(text, sizeof(text), "%u\n", job->primes);
    xchg_send(conn, text, (size_t)size);
  }
  free(job);
}

static void refuse(struct xchg_conn *conn, int reason) {
  static const char busy[] = "busy, ask again later\n", cannot[] = "cannot count here\n";
  if (reason == EAGAIN) {
    xchg_send(conn, busy, sizeof(busy) - 1);
  } else { /* ENOTSUP: XCHG_OFFLOAD_THREADS=0, or a model without a pool; ENOMEM */
    xchg_send(conn, cannot, sizeof(cannot) - 1);
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  static const char bad[] = "not a number from 1 to 10000000\n";
  unsigned number = parse(message);
  if (number == 0) {
    xchg_send(conn, bad, sizeof(bad) - 1);
    return;
  }
  struct job *job = malloc(sizeof(*job));
  if (job == NULL) {
    refuse(conn, ENOMEM);
    return;
  }
  *job = (struct job){.number = number};
  if (xchg_offload(conn, count_primes, answer, job) == -1) {
    refuse(conn, errno);
    free(job); /* it stayed ours */
  }
}

int main(int argc, char **argv) {
  static const struct xchg_handler offload = {
      .size = sizeof(offload),
      .frame = {.kind = XCHG_FRAME_LINE},
      .max_message = 1024,
      .on_message = on_message,
  };
  return xchg_main(&offload, argc, argv);
}
