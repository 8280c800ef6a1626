/*
 * client: see client.h.
 *
 * A connection is registered once, edge-triggered, for input and output.  Alone, EPOLLOUT comes
 * only after a short write.  An established exchange costs one recv and one send, and the clock is
 * read once, after the recv.
 */
#include "client.h"

#include "core/sys.h"
#include "net/sock.h"
#include "wrong.h"
#include "dial.h"

#include <errno.h>
#include <string.h>

/* Buffers read or written in one call, so that other clients get their share. */
#define ROUNDS_MAX 16

/* A run of the pool of at least this size is sent directly instead of copied. */
#define DIRECT_SIZE 16384

#define LAST_EVENTS (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

/* NOLINTNEXTLINE(readability-non-const-parameter): the pointer is kept and written through */
void client_init(struct client *client, uint32_t number, uint64_t *starts) {
  *client = (struct client){.fd = -1, .number = number, .starts = starts};
}

/* ---- begin and end of an exchange ---- */

uint64_t client_intended_ns(const struct client_env *env, const struct client *client,
                            uint64_t exchange, uint64_t start) {
  if (env->schedule == NULL) {
    return start;
  }
  const uint64_t k = client->number + exchange * env->connections;
  return add_sat_u64(env->start_ns, schedule_time_ns(env->schedule, k));
}

static uint64_t *start_of(const struct client_env *env, const struct client *client,
                          uint64_t message) {
  const uint32_t pipeline = env->pipeline;
  if (env->counted || pipeline == 1) {
    return client->starts;
  }
  return &client->starts[message % pipeline];
}

uint64_t client_start_ns(const struct client_env *env, const struct client *client,
                         uint64_t exchange) {
  return *start_of(env, client, exchange);
}

bool client_can_begin(const struct client_env *env, const struct client *client) {
  return client->state == CLIENT_OPEN && client->begun < client->last &&
         client->begun - client->in < env->pipeline;
}

void client_begin(struct client_env *env, struct client *client) {
  *start_of(env, client, client->begun) = env->now;
  if (!client->idle) {
    counters_begin(env->counters, client_intended_ns(env, client, client->begun, env->now),
                   env->now);
  }
  client->begun++;
}

void client_begin_counted(struct client_env *env, struct client *client) {
  client->starts[0] = env->now;
  client->answered = false;
  client->in = client->out = client->begun = 0;
  client->last = env->per_connection;
  counters_begin(env->counters, client_intended_ns(env, client, client->exchange, env->now),
                 env->now);
  client->exchange++;
}

uint64_t client_oldest_ns(const struct client_env *env, const struct client *client) {
  if (client_in_flight(env, client) == 0) {
    return NEVER;
  }
  return *start_of(env, client, client->in);
}

uint64_t client_deadline_ns(const struct client_env *env, const struct client *client) {
  uint64_t since = client_oldest_ns(env, client);
  const bool first = !client->first_done && (client->idle || !env->counted);
  if (since == NEVER && client->state != CLIENT_CLOSED &&
      (client->state == CLIENT_CONNECTING || first)) {
    since = client->opened_ns;
  }
  return add_sat_u64(since, env->timeout_ns);
}

enum client_outcome client_time_out(struct client_env *env, struct client *client) {
  const uint64_t in_flight = client->idle ? 0 : client_in_flight(env, client);
  if (in_flight == 0 && client->state == CLIENT_CONNECTING) {
    return client_fail(env, client, ERROR_CONNECT, ETIMEDOUT);
  }
  const uint64_t first = env->counted ? client->exchange - 1 : client->in;
  for (uint64_t i = 0; i < in_flight && (env->counted || env->replies); i++) {
    const uint64_t start = client_start_ns(env, client, first + i);
    if (sub_sat_u64(env->now, start) >= env->timeout_ns) {
      counters_timeout(env->counters, client_intended_ns(env, client, first + i, start), start,
                       env->now);
    }
  }
  return client_fail(env, client, ERROR_TIMEOUT, 0);
}

/* Is what ${client} waits for too late at env->now?  The sweep in clients.c may come later. */
static bool is_late(const struct client_env *env, const struct client *client) {
  return client_deadline_ns(env, client) <= env->now;
}

uint64_t client_sequence(const struct client_env *env, const struct client *client,
                         uint64_t message) {
  return env->counted ? client->exchange * env->per_connection + message : message;
}

/* In a counted exchange, begin as many messages as may be in flight. */
static void extend(const struct client_env *env, struct client *client) {
  if (env->counted && !client->idle) {
    client->begun = env->replies ? min_u64(client->last, client->in + env->pipeline) : client->last;
  }
}

static void end_message(struct client_env *env, struct client *client) {
  const uint64_t message = client->in++;
  client->failures = 0;
  if (env->counted || client->idle) {
    extend(env, client);
    return;
  }
  if (!env->replies) {
    counters_end_unmeasured(env->counters, env->now);
    return;
  }
  const uint64_t start = *start_of(env, client, message);
  counters_end(env->counters, client_intended_ns(env, client, message, start), start, env->now);
}

static enum client_outcome end_counted(struct client_env *env, struct client *client) {
  const uint64_t start = client->starts[0];
  const uint64_t exchange = client->exchange - 1;
  counters_end(env->counters, client_intended_ns(env, client, exchange, start), start, env->now);
  client->failures = 0;
  client_close(client);
  return CLIENT_DONE;
}

/* ---- open and close ---- */

static enum client_outcome established(struct client_env *env, struct client *client) {
  client->state = CLIENT_OPEN;
  if (!client->idle) {
    client->verified = true;
    counters_connect(env->counters, sub_sat_u64(env->now, client->opened_ns), env->now);
  }
  extend(env, client);
  const int sent = proxy_header_send(&env->proxy, client->fd, client->number, client->opened_ns);
  return sent == 0 ? CLIENT_WAITS : client_fail(env, client, ERROR_RESET, errno);
}

/* Take the connection that was made before the run.  The time since then does not count. */
static bool take_first(const struct client_env *env, struct client *client) {
  uint64_t connect_ns;
  if (!dial_take_first(env->first, &client->fd, &connect_ns)) {
    return false;
  }
  client->starts[0] = client->opened_ns -= connect_ns; /* a counted exchange began then */
  return true;
}

/* Wait for the events of ${client}. */
static enum client_outcome watch(struct client_env *env, struct client *client) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              .data.ptr = client};
  if (sys_epoll_ctl(env->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) == -1) {
    return client_fail(env, client, ERROR_CONNECT, errno);
  }
  return CLIENT_WAITS; /* a connection that is already established reports EPOLLOUT at once */
}

enum client_outcome client_open(struct client_env *env, struct client *client) {
  assert(client->fd == -1);
  if (client->state == CLIENT_CLOSED) { /* else repeated attempts count as one */
    client->opened_ns = env->now;
  }
  client->state = CLIENT_CONNECTING;
  client->greeted = client->out_done = client->in_done = 0;
  client->blocked = client->ended = client->unread = false;
  if (!env->counted || client->idle) {
    client->last = add_sat_u64(client->begun, env->per_connection);
  }
  if (take_first(env, client)) {
    return watch(env, client);
  }
  const struct addr *from =
      env->bind_count > 0 ? &env->bind[client->number % env->bind_count] : NULL;
  client->fd = dial_socket(env->address.ss_family, from, env->nodelay);
  if (client->fd == -1) {
    return client_fail(env, client, ERROR_CONNECT, errno);
  }
  const int made = connect(client->fd, (struct sockaddr *)&env->address, env->address_size);
  if (made == -1 && errno == EAGAIN) {
    sys_close(client->fd);
    client->fd = -1;
    return CLIENT_BUSY;
  }
  if (made == -1 && errno != EINPROGRESS) {
    return client_fail(env, client, ERROR_CONNECT, errno);
  }
  return watch(env, client);
}

void client_close(struct client *client) {
  if (client->fd != -1) {
    sys_close(client->fd);
    client->fd = -1;
  }
  client->state = CLIENT_CLOSED;
  client->in = client->out = client->begun;
}

enum client_outcome client_fail(struct client_env *env, struct client *client,
                                enum bench_error error, int error_errno) {
  env->error = error;
  env->error_errno = error_errno;
  if (client->idle) {
    counters_lost(env->counters, error, error_errno);
  } else {
    counters_fail(env->counters, error, error_errno, client_in_flight(env, client), env->now);
  }
  client->failures = (uint8_t)min_u64(client->failures + 1u, UINT8_MAX);
  client_close(client);
  return CLIENT_FAILED;
}

/* ---- receive ---- */

/* Note the first byte of a reply, or of the answer to a counted exchange. */
static void first_byte(struct client_env *env, struct client *client) {
  if (client->idle || (env->counted && client->answered)) {
    return;
  }
  client->answered = true;
  const uint64_t exchange = env->counted ? client->exchange - 1 : client->in;
  const uint64_t start = *start_of(env, client, client->in);
  counters_first_byte(env->counters, client_intended_ns(env, client, exchange, start), env->now);
}

/* Count ${answer} as wrong, and keep the first one of the thread. Return: CLIENT_FAILED. */
static enum client_outcome refuse(struct client_env *env, struct client *client,
                                  const struct wrong_answer *answer) {
  struct message own;
  if (env->counters->wrong.at_ns == 0) {
    /* Without replies the messages are not numbered by answers: the first one is a good guess. */
    const uint64_t number = env->replies || env->counted ? client->in : 0;
    message_sent(env->messages, client->number, client_sequence(env, client, number), &own);
    struct wrong_answer first = *answer;
    first.own = &own;
    first.connection = client->number;
    first.is_first = env->counters->exchanges == 0;
    wrong_note(&env->counters->wrong, &first, env->now);
  }
  return client_fail(env, client, ERROR_WRONG, 0);
}

/* Compare ${size} bytes at ${data} with what must come next. Return: CLIENT_WAITS or _FAILED. */
static enum client_outcome take(struct client_env *env, struct client *client, const uint8_t *data,
                                size_t size) {
  const struct message *greeting = &env->messages->greeting;
  while (size > 0) {
    struct message reply;
    struct wrong_answer answer = {.data = data, .size = size}; /* if it is wrong */
    size_t count = 0;
    if (client->greeted < greeting->total) {
      answer.expected = greeting;
      answer.done = client->greeted;
      if (env->counted) {
        first_byte(env, client);
      }
      count = message_match(greeting, &client->greeted, data, size);
      if (client->greeted == greeting->total && is_late(env, client)) {
        return client_time_out(env, client);
      }
    } else if (env->replies && client->in < client->begun) {
      message_reply(env->messages, client->number, client_sequence(env, client, client->in),
                    &reply);
      answer.expected = &reply;
      answer.done = client->in_done;
      if (client->in_done == 0) {
        first_byte(env, client);
      }
      count = message_match(&reply, &client->in_done, data, size);
      if (count > 0 && client->in_done == reply.total) {
        if (is_late(env, client)) {
          return client_time_out(env, client);
        }
        client->in_done = 0;
        end_message(env, client);
      }
    }
    if (count == 0) { /* wrong, or no answer is due */
      return refuse(env, client, &answer);
    }
    data += count;
    size -= count;
  }
  return CLIENT_WAITS;
}

/* Handle the end of the stream, which may be correct or too early. */
static enum client_outcome end_of_stream(struct client_env *env, struct client *client) {
  const bool answered = client->greeted == env->messages->greeting.total &&
                        (env->replies ? client->in : client->out) == client->last;
  if (env->counted && !client->idle && answered) {
    return is_late(env, client) ? client_time_out(env, client) : end_counted(env, client);
  }
  return client_fail(env, client, ERROR_SHORT, 0);
}

static enum client_outcome receive(struct client_env *env, struct client *client) {
  client->unread = false;
  for (unsigned round = 0; round < ROUNDS_MAX; round++) {
    size_t count;
    const enum io io = sock_recv(client->fd, env->received, CLIENT_BUFFER_SIZE, &count);
    const int error = errno;
    env->now = sys_now_ns();
    if (io == IO_AGAIN || counters_is_over(env->counters, env->now)) {
      return CLIENT_WAITS;
    }
    if (io == IO_EOF) {
      return end_of_stream(env, client);
    }
    if (io == IO_ERROR) {
      return client_fail(env, client, ERROR_RESET, error);
    }
    if (!client->idle) {
      counters_in(env->counters, count, env->now);
    }
    const enum client_outcome outcome = take(env, client, env->received, count);
    if (outcome != CLIENT_WAITS) {
      return outcome;
    }
    /* A short read means an empty socket, unless the stream has ended: see docs/design.md. */
    if (count < CLIENT_BUFFER_SIZE && !client->ended && env->address.ss_family != AF_UNIX) {
      return CLIENT_WAITS;
    }
  }
  client->unread = true;
  return CLIENT_MORE;
}

/* Check the result of connect. */
static enum client_outcome connected(struct client_env *env, struct client *client,
                                     uint32_t events) {
  env->now = sys_now_ns();
  if (counters_is_over(env->counters, env->now)) {
    return CLIENT_WAITS;
  }
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) {
      error = errno;
    }
    if (error != 0) {
      return client_fail(env, client, ERROR_CONNECT, error);
    }
  }
  if ((events & EPOLLOUT) != 0) {
    if (is_late(env, client)) {
      return client_time_out(env, client);
    }
    return established(env, client);
  }
  return CLIENT_WAITS;
}

enum client_outcome client_on_event(struct client_env *env, struct client *client,
                                    uint32_t events) {
  if (client->state == CLIENT_CONNECTING) {
    const enum client_outcome outcome = connected(env, client, events);
    if (outcome == CLIENT_FAILED || client->state != CLIENT_OPEN) {
      return outcome;
    }
  }
  client->ended = client->ended || (events & LAST_EVENTS) != 0;
  client->blocked = client->blocked && (events & EPOLLOUT) == 0;
  if (client->ended || (events & EPOLLIN) != 0) {
    return receive(env, client);
  }
  env->now = sys_now_ns();
  return CLIENT_WAITS;
}

/* ---- send ---- */

/*
 * Choose what to send next: a long run of the pool itself, or a copy of as many messages as fit.
 * ${*last} tells whether it ends with the last byte that has begun.
 */
static size_t gather(struct client_env *env, const struct client *client, const uint8_t **bytes,
                     bool *last) {
  size_t size = 0;
  *last = false;
  uint64_t position = client->out_done;
  for (uint64_t next = client->out; next < client->begun; next++, position = 0) {
    struct message message;
    message_sent(env->messages, client->number, client_sequence(env, client, next), &message);
    if (size == 0 && position >= message.head_size && position < message.total) {
      const size_t run = message_run(&message, position, bytes);
      const bool all = position + run == message.total && next + 1 == client->begun;
      if (run >= DIRECT_SIZE || (all && *bytes != &message.tail)) {
        *last = all;
        return run;
      }
    }
    const size_t copied =
        message_copy(&message, position, env->gathered + size, CLIENT_BUFFER_SIZE - size);
    size += copied;
    *last = next + 1 == client->begun && position + copied == message.total;
    if (size == CLIENT_BUFFER_SIZE) {
      break;
    }
  }
  *bytes = env->gathered;
  return size;
}

/*
 * Account for ${count} bytes taken by the kernel; ${all}: everything that has begun is sent.
 * Return: CLIENT_WAITS or CLIENT_FAILED.
 */
static enum client_outcome sent(struct client_env *env, struct client *client, uint64_t count,
                                bool all) {
  if (!client->idle) {
    counters_out(env->counters, count, env->now);
  }
  if (all && (env->replies || env->counted)) { /* the size of each message does not matter */
    client->out = client->begun;
    client->out_done = 0;
    return CLIENT_WAITS;
  }
  client->out_done += count;
  while (client->out < client->begun) {
    struct message message;
    message_sent(env->messages, client->number, client_sequence(env, client, client->out),
                 &message);
    if (client->out_done < message.total) {
      break;
    }
    if (!env->replies && !env->counted && is_late(env, client)) {
      return client_time_out(env, client);
    }
    client->out_done -= message.total;
    client->out++;
    if (!env->replies && !env->counted) {
      end_message(env, client);
    }
  }
  return CLIENT_WAITS;
}

enum client_outcome client_send(struct client_env *env, struct client *client) {
  for (unsigned round = 0; round < ROUNDS_MAX; round++) {
    if (client->state != CLIENT_OPEN || client->blocked || client->out == client->begun ||
        counters_is_over(env->counters, env->now)) {
      return CLIENT_WAITS;
    }
    const uint8_t *bytes;
    bool last;
    const size_t size = gather(env, client, &bytes, &last);
    size_t count;
    const enum io io = sock_send(client->fd, bytes, size, &count);
    if (io == IO_ERROR) {
      return client_fail(env, client, ERROR_RESET, errno);
    }
    client->blocked = count < size;
    if (sent(env, client, count, last && count == size) == CLIENT_FAILED) {
      return CLIENT_FAILED;
    }
  }
  return CLIENT_MORE;
}
