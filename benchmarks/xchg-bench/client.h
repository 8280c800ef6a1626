/*
 * client: one connection to the server, from connect to close.
 *
 * It sends what has begun, and compares every byte that comes with what must come.  It decides
 * nothing: when an exchange begins, and what follows an end, is the thread's affair.
 *
 *   CLOSED --open--> CONNECTING --EPOLLOUT--> OPEN --end of stream, failure, close--> CLOSED
 *                     |     ^
 *                     '-----'  open again, after CLIENT_BUSY (no descriptor meanwhile)
 *
 * Messages are numbered on from 0 over all connections of an endless exchange, and within the
 * connection of a counted one, whose exchange is the connection.  Always
 *
 *   in <= begun <= last      the reply of `in` is awaited, `begun` is the next that may begin
 *   out <= begun             `out` is being sent; without replies in follows out
 *   begun - in <= pipeline   except in a counted exchange without replies
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "schedule.h"
#include "message.h"
#include "counters.h"

#include <assert.h>
#include <sys/socket.h>

#define CLIENT_BUFFER_SIZE 65536

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_OPEN };

/* What became of a client's turn. */
enum client_outcome {
  CLIENT_WAITS, /* for an event, or for an exchange to begin */
  CLIENT_MORE,  /* there is more to do at once, but others come first */
  CLIENT_BUSY,  /* the server's backlog is full (a UNIX socket's): open it again later */
  CLIENT_DONE,  /* the counted exchange is complete; closed */
  CLIENT_FAILED /* see env->error; closed */
};

struct client {
  uint64_t begun, out, in, last; /* messages: see above */
  uint64_t out_done, in_done;    /* bytes of message out, of the reply to message in */
  uint64_t exchange;             /* counted: this connection's exchange; see client_intended */
  uint64_t greeted;              /* bytes of the greeting that came */
  uint64_t due;                  /* open loop: exchanges that should have begun, and have not */
  uint64_t opened_ns;            /* when connect was called */
  uint64_t retry_ns;             /* without a descriptor: not to be opened before */
  uint64_t *starts;              /* borrows: of message m at m mod pipeline; counted: at 0 */
  struct client *ready_next, *retry_next; /* the thread's queues */
  int fd;                                 /* owns; -1 = none */
  uint32_t number;                        /* over all threads */
  uint8_t state;                          /* enum client_state */
  uint8_t failures; /* in a row, with nothing that went well between; stays at 255 */
  bool idle;        /* opened and verified only: not counted */
  bool ready;       /* in the thread's queue of those that can go on */
  bool retrying;    /* in the thread's queue of those to be opened again */
  bool opening;     /* its first connection has begun to be made */
  bool first_done;  /* its first connection is made (verified, if idle) or has failed */
  bool verified;    /* has been connected (and verified) once */
  bool blocked;     /* the kernel took less than there was to send */
  bool ended;       /* EPOLLRDHUP and the like: read until the end of stream */
  bool answered;    /* counted: the first byte has come */
  bool unread;      /* there may be more to read at once */
};

/* "Under 512 bytes a connection", with a pipeline of 16 and an epoll entry's pointer. */
static_assert(sizeof(struct client) + 16 * sizeof(uint64_t) < 512, "a client must stay small");

/* What the clients of one thread share; constant but for the last group. */
struct client_env {
  const struct message_set *messages;
  const struct schedule *schedule; /* NULL = closed loop */
  uint64_t start_ns;               /* of the schedule */
  uint64_t connections;            /* of all threads */
  uint32_t pipeline;
  uint64_t per_connection; /* messages a connection; NEVER = no end */
  bool counted;            /* the server closes after them */
  bool replies;
  bool nodelay;
  struct sockaddr_storage address;
  socklen_t address_size;
  const struct addr *bind; /* borrows */
  uint32_t bind_count;
  int epoll_fd; /* borrows */

  struct counters *counters;
  uint64_t now; /* the time of what is being done */
  enum bench_error error;
  int error_errno;                      /* 0 = none */
  uint8_t received[CLIENT_BUFFER_SIZE]; /* scratch */
  uint8_t gathered[CLIENT_BUFFER_SIZE];
};

/** A closed client; ${starts} has room for pipeline times. */
void client_init(struct client *client, uint32_t number, uint64_t *starts);

/** Begin to connect. Return CLIENT_WAITS, CLIENT_BUSY or CLIENT_FAILED. */
enum client_outcome client_open(struct client_env *env, struct client *client);

/** Close; what had begun is void, and the next message is one that has not begun. */
void client_close(struct client *client);

/** May one more message of an endless exchange begin? */
bool client_can_begin(const struct client_env *env, const struct client *client);

/** The next message begins; client_send sends it. */
void client_begin(struct client_env *env, struct client *client);

/** The counted exchange begins: to be followed by client_open. */
void client_begin_counted(struct client_env *env, struct client *client);

/** Exchanges that have begun and not ended. */
uint64_t client_in_flight(const struct client_env *env, const struct client *client);

/** When the oldest of them did begin; NEVER where there is none. */
uint64_t client_oldest_ns(const struct client_env *env, const struct client *client);

/** When exchange ${exchange}, which is in flight, did begin. */
uint64_t client_start_ns(const struct client_env *env, const struct client *client,
                         uint64_t exchange);

/** When exchange ${exchange} (of this connection) should start; ${start} in a closed loop. */
uint64_t client_intended_ns(const struct client_env *env, const struct client *client,
                            uint64_t exchange, uint64_t start);

/** Deal with ${events} of epoll: connect, receive, compare. */
enum client_outcome client_on_event(struct client_env *env, struct client *client, uint32_t events);

/** Send what has begun, as far as the kernel takes it. */
enum client_outcome client_send(struct client_env *env, struct client *client);

/** Count a failure of the client as ${error}, and close it. Return: CLIENT_FAILED. */
enum client_outcome client_fail(struct client_env *env, struct client *client,
                                enum bench_error error, int error_errno);

#endif
