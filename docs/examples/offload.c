/*
 * offload: answer each line that holds a number with the count of primes below it.
 *
 *   C> 100
 *   S> 25
 *
 * A callback that takes long stops all connections of its worker. Counting takes long, so it runs
 * on a thread of a pool. XCHG_OFFLOAD_THREADS sets the size of the pool.
 *
 *   on_message    worker  makes a job and queues it; further lines of the connection wait
 *   count_primes  pool    uses the job only; it must not use a connection
 *   answer        worker  sends the result and frees the job, also if the client has left
 *
 * The queue of the pool is bounded. If it is full, the client is told to ask again later. A count
 * that has not begun when its client leaves is cancelled, because only that client wants it.
 */
#include <xchg.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The count for a larger number would take seconds. */
#define NUMBER_MAX 10000000U
#define DIGITS_MAX 8

struct job {
  unsigned number;
  unsigned primes;
};

/* The number in ${message}, from 1 to NUMBER_MAX; 0 if it is not such a number. */
static unsigned parse(const struct xchg_message *message) {
  const char *digits = message->data; /* not a string: there is no NUL after it */
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

/* Runs on a thread of the pool. */
static void count_primes(void *argument) {
  struct job *job = argument;
  for (unsigned number = 2; number < job->number; number++) {
    job->primes += is_prime(number) ? 1 : 0;
  }
}

/* Runs on the connection's worker, after the work, or in place of it if the work is cancelled. */
static void answer(struct xchg_conn *conn, void *argument) {
  struct job *job = argument;
  if (conn != NULL) { /* the client is still connected */
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
  } else { /* ENOMEM, or ENOTSUP: XCHG_OFFLOAD_THREADS=0, XCHG_MODEL is not pool */
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
  if (xchg_offload_flags(conn, count_primes, answer, job, XCHG_OFFLOAD_CANCEL) == -1) {
    refuse(conn, errno);
    free(job); /* the library has not taken it */
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
