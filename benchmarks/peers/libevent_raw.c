/*
 * libevent_raw: libevent's event loop with plain events: one persistent read event per connection,
 * and direct calls of recv and send, as in memcached.  One thread without locks, no timeouts.  As
 * in the bare loop, a partial send ends the connection and each event accepts one connection.
 */
#include "benchmarks/peers/peer.h"

#include <event2/event.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
  struct event_base *base;
  enum peer_exchange exchange;
  char buffer[PEER_BUFFER_SIZE];
};

struct conn {
  struct server *server;
  struct event *event; /* owns */
};

static void conn_close(struct conn *conn, int fd) {
  event_free(conn->event);
  free(conn);
  close(fd);
}

static void on_readable(evutil_socket_t fd, short what, void *argument) {
  struct conn *conn = argument;
  struct server *server = conn->server;
  ssize_t size = recv(fd, server->buffer, sizeof(server->buffer), 0);
  bool stays = size > 0;
  (void)what;
  if (stays && server->exchange == PEER_ECHO) {
    stays = send(fd, server->buffer, (size_t)size, MSG_NOSIGNAL) == size;
  } else if (stays) {
    stays = memchr(server->buffer, 0, (size_t)size) == NULL;
  }
  if (!stays) {
    conn_close(conn, fd);
  }
}

static bool greeted(const struct server *server, int fd) {
  return server->exchange == PEER_ECHO || (send(fd, PEER_GREETING, PEER_GREETING_SIZE,
                                                MSG_NOSIGNAL) == (ssize_t)PEER_GREETING_SIZE &&
                                           server->exchange == PEER_GREET);
}

static void on_acceptable(evutil_socket_t listener, short what, void *argument) {
  struct server *server = argument;
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  (void)what;
  if (fd == -1) {
    return;
  }
  struct conn *conn = greeted(server, fd) ? malloc(sizeof(*conn)) : NULL;
  if (conn == NULL) {
    close(fd);
    return;
  }
  conn->server = server;
  conn->event = event_new(server->base, fd, EV_READ | EV_PERSIST, on_readable, conn);
  if (conn->event == NULL || event_add(conn->event, NULL) == -1) {
    peer_die("cannot add an event");
  }
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct server server = {.base = event_base_new(), .exchange = options.exchange};
  peer_raise_descriptors();
  int listener = peer_listen(options.port, false);
  struct event *event = server.base == NULL ? NULL
                                            : event_new(server.base, listener, EV_READ | EV_PERSIST,
                                                        on_acceptable, &server);
  if (event == NULL || event_add(event, NULL) == -1) {
    peer_die("cannot use libevent");
  }
  peer_announce(listener);
  return event_base_dispatch(server.base) == 0 ? 0 : 1;
}
