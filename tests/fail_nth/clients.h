/*
 * clients: the clients of the server under test, each a thread of its own, which know byte by byte
 * what they must receive.
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
  bool (*script)(struct client *client); /* false: the connection was cut off */
  int fd;                                /* owns; -1 = none */
  bool hit;                              /* the order was carried out on its connection */
  bool done;                             /* the script has ended */
  bool right;                            /* ... and everything was right */
  bool stays;                            /* the client ends when the server does */
  struct sockaddr_storage address;       /* the client's own */
  socklen_t size;
  size_t received;
};

/** Forget all clients; later ones connect to the address of ${listener_fd} (TCP or UNIX). */
void clients_reset(void);
void clients_aim(int listener_fd);

/** Start a client as a thread of its own. */
struct client *clients_start(const char *name, bool (*script)(struct client *client));

struct client *clients_at(unsigned i);
unsigned clients_count(void);
/** The number of the client with this address, or -1. */
int clients_find(const struct sockaddr_storage *address, socklen_t size);

/** Wait for all clients, or for those only that do not stay. */
void clients_await(bool staying_too);

/** Compare what the clients have noticed with what the order allows. */
void clients_check(bool started);

/*
 * The steps of scripts.  Each returns false where the server or a timeout has cut the connection
 * off.  Wrong bytes are a fault at once.
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
