/*
 * client: one connection to the server, from connect to close.
 *
 * A client sends the messages that have begun and compares every byte that it receives with the
 * expected one.  It makes no decisions: clients.c decides when an exchange begins and what follows.
 *
 *   CLOSED --open--> CONNECTING --EPOLLOUT--> OPEN --end of stream, failure, close--> CLOSED
 *                     |     ^
 *                     '-----'  open again after CLIENT_BUSY (without a descriptor meanwhile)
 *
 * In an endless exchange, message numbers start at 0 and continue over reconnects.  In a counted
 * exchange, each connection is one exchange and starts at message 0.  Invariants:
 *
 *   in <= begun <= last      the reply to `in` is awaited, `begun` is the next that may begin
 *   out <= begun             `out` is being sent; without replies, in follows out
 *   begun - in <= pipeline   except in a counted exchange without replies
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "schedule.h"
#include "message.h"
#include "proxy_header.h"
#include "counters.h"

#include <assert.h>
#include <sys/socket.h>

#define CLIENT_BUFFER_SIZE 65536

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_OPEN };

/* The outcome of a call. */
enum client_outcome {
  CLIENT_WAITS, /* nothing to do until an event comes or an exchange may begin */
  CLIENT_MORE,  /* more can be done at once, after other clients had their share */
  CLIENT_BUSY,  /* the backlog of a UNIX socket is full: open again later */
  CLIENT_DONE,  /* the counted exchange is complete, the connection closed */
  CLIENT_FAILED /* env->error says why, the connection is closed */
};

struct client {
  uint64_t begun, out, in, last; /* message numbers: see above */
  uint64_t out_done, in_done;    /* bytes sent of message out, received of the reply to in */
  uint64_t exchange;             /* counted: number of the next exchange; see client_intended_ns */
  uint64_t greeted;              /* bytes received of the greeting */
  uint64_t opened_ns;            /* when connect was called */
  uint64_t retry_ns;             /* without a descriptor: the earliest time to open again */
  uint64_t *starts;              /* borrows: of message m at m mod pipeline; counted: at 0 */
  struct client *ready_next, *retry_next; /* links of the queues in struct clients */
  int fd;                                 /* owns; -1 = none */
  uint32_t number;                        /* over all threads */
  uint8_t state;                          /* enum client_state */
  uint8_t failures;                       /* consecutive ones; stays at 255 */
  bool idle;                              /* opened and verified only: not counted */
  bool ready;                             /* in the ready queue */
  bool retrying;                          /* in the retry queue */
  bool opening;                           /* its first connection has been started */
  bool first_done; /* its first connection is made (if idle: verified) or has failed */
  bool verified;   /* was connected (if idle: verified) at least once */
  bool blocked;    /* the kernel took less than was to be sent */
  bool ended;      /* EPOLLRDHUP or the like came: read until the end of stream */
  bool answered;   /* counted: the first byte has come */
  bool unread;     /* the socket may have more to read */
};

/* At most 512 bytes a connection, with a pipeline of 16 and the pointer in epoll. */
static_assert(sizeof(struct client) + 16 * sizeof(uint64_t) < 512, "a client must stay small");

/* What the clients of one thread share; constant except for the last group. */
struct client_env {
  const struct message_set *messages;
  const struct schedule *schedule; /* NULL = closed loop */
  uint64_t start_ns;               /* of the schedule */
  uint64_t connections;            /* of all threads */
  uint32_t pipeline;
  uint64_t per_connection; /* messages per connection; NEVER = unlimited */
  uint64_t timeout_ns;
  bool counted; /* the server closes after per_connection messages */
  bool replies;
  bool nodelay;
  struct sockaddr_storage address;
  socklen_t address_size;
  const struct addr *bind; /* borrows */
  uint32_t bind_count;
  struct proxy_sender proxy;
  struct first_connection *first; /* borrows; NULL = none, as for all threads but one */
  int epoll_fd;                   /* borrows */

  struct counters *counters;
  uint64_t now; /* when the current event was taken up */
  enum bench_error error;
  int error_errno;                      /* 0 = none */
  uint8_t received[CLIENT_BUFFER_SIZE]; /* scratch */
  uint8_t gathered[CLIENT_BUFFER_SIZE];
};

/** Make a closed client; ${starts} has room for pipeline times. */
void client_init(struct client *client, uint32_t number, uint64_t *starts);

/** Begin to connect. Return: CLIENT_WAITS, CLIENT_BUSY or CLIENT_FAILED. */
enum client_outcome client_open(struct client_env *env, struct client *client);

/** Close, and drop what was in flight; the next message is one that has not begun. */
void client_close(struct client *client);

/** May one more message of an endless exchange begin? */
bool client_can_begin(const struct client_env *env, const struct client *client);

/** Begin the next message; client_send sends it. */
void client_begin(struct client_env *env, struct client *client);

/** Begin the counted exchange; the caller then calls client_open. */
void client_begin_counted(struct client_env *env, struct client *client);

/** Exchanges in flight. */
static inline uint64_t client_in_flight(const struct client_env *env, const struct client *client) {
  return env->counted && !client->idle ? client->state != CLIENT_CLOSED
                                       : client->begun - client->in;
}

/** The start of the oldest exchange in flight, or NEVER. */
uint64_t client_oldest_ns(const struct client_env *env, const struct client *client);

/** The start of ${exchange}, which is in flight. */
uint64_t client_start_ns(const struct client_env *env, const struct client *client,
                         uint64_t exchange);

/** When ${exchange} of this connection should start; in a closed loop, ${start}. */
uint64_t client_intended_ns(const struct client_env *env, const struct client *client,
                            uint64_t exchange, uint64_t start);

/** The number of the exchange that begins next; see client_intended_ns. */
static inline uint64_t client_next(const struct client_env *env, const struct client *client) {
  return env->counted ? client->exchange : client->begun;
}

/**
 * The number that selects the bytes of ${message}.  A counted exchange continues it over
 * connections.
 */
uint64_t client_sequence(const struct client_env *env, const struct client *client,
                         uint64_t message);

/** When ${client} times out, or NEVER if it waits for nothing. */
uint64_t client_deadline_ns(const struct client_env *env, const struct client *client);

/**
 * client_time_out(env, client):
 * Record the exchanges in flight that are over the limit with their length, count all as timeouts
 * (or the connection as one that could not be opened), and close.
 * Return: CLIENT_FAILED.
 */
enum client_outcome client_time_out(struct client_env *env, struct client *client);

/** Handle ${events} of epoll: connect, receive, compare. */
enum client_outcome client_on_event(struct client_env *env, struct client *client, uint32_t events);

/** Send what has begun until the kernel takes no more. */
enum client_outcome client_send(struct client_env *env, struct client *client);

/** Count a failure as ${error} and close. Return: CLIENT_FAILED. */
enum client_outcome client_fail(struct client_env *env, struct client *client,
                                enum bench_error error, int error_errno);

#endif
