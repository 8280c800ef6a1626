/*
 * clients: what talks to the server under test, each on a fiber of its own, and knows byte by byte
 * what it must be answered.
 */
#ifndef TESTS_FAIL_NTH_CLIENTS_H
#define TESTS_FAIL_NTH_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define CLIENTS_MAX 24

struct client {
  const char *name;
  bool (*script)(struct client *client); /* false: it was cut off */
  int fd;                                /* owns; -1 = none */
  bool hit;                              /* what was ordered was done to its connection */
  bool done;                             /* the script is over */
  bool right;                            /* ... and all of it was as it must be */
  bool stays;                            /* it ends when the server does */
  struct sockaddr_storage address;       /* its own */
  socklen_t size;
  size_t received;
};

/** No clients; they will connect to ${to} (TCP or UNIX). */
void clients_reset(void);
void clients_aim(int listener_fd);

/** Another client, on a fiber of its own. */
struct client *clients_start(const char *name, bool (*script)(struct client *client));

struct client *clients_at(unsigned i);
unsigned clients_count(void);
/** The number of the one whose address this is, or -1. */
int clients_find(const struct sockaddr_storage *address, socklen_t size);

/** Wait for all, or for all but those that stay. */
void clients_await(bool those_who_stay);

/** Hold what they have seen against what the order allows them to see. */
void clients_check(bool started);

/*
 * What scripts are made of.  Each returns false where the server, or a time-out, has cut the
 * connection off; wrong bytes are a fault at once.
 */
bool client_connect(struct client *client);
bool client_put(struct client *client, const void *data, size_t size);
bool client_want(struct client *client, const void *data, size_t size);
bool client_want_end(struct client *client);
void client_end(struct client *client);
void client_reset(struct client *client);
void client_wait_ms(unsigned ms);

#define PUT(client, text) client_put(client, text, sizeof(text) - 1)
#define WANT(client, text) client_want(client, text, sizeof(text) - 1)

#endif
