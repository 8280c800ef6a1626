/*
 * libevent_raw: libevent's event loop with plain events: one persistent read event a connection,
 * recv and send by ourselves, as memcached does.  No locks (one thread), no time-outs.  As in the
 * bare loop, what a send does not take at once ends the connection, and one accept an event.
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

struct guest {
  struct server *server;
  struct event *event; /* owns */
};

static void guest_close(struct guest *guest, int fd) {
  event_free(guest->event);
  free(guest);
  close(fd);
}

static void on_readable(evutil_socket_t fd, short what, void *argument) {
  struct guest *guest = argument;
  struct server *server = guest->server;
  ssize_t size = recv(fd, server->buffer, sizeof server->buffer, 0);
  bool stays = size > 0;
  (void)what;
  if (stays && server->exchange == PEER_ECHO)
    stays = send(fd, server->buffer, (size_t)size, MSG_NOSIGNAL) == size;
  else if (stays)
    stays = memchr(server->buffer, 0, (size_t)size) == NULL;
  if (!stays)
    guest_close(guest, fd);
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
  if (fd == -1)
    return;
  struct guest *guest = greeted(server, fd) ? malloc(sizeof *guest) : NULL;
  if (guest == NULL) {
    close(fd);
    return;
  }
  guest->server = server;
  guest->event = event_new(server->base, fd, EV_READ | EV_PERSIST, on_readable, guest);
  if (guest->event == NULL || event_add(guest->event, NULL) == -1)
    peer_die("cannot add an event");
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct server server = {.base = event_base_new(), .exchange = options.exchange};
  peer_raise_descriptors();
  int listener = peer_listen(options.port, false);
  struct event *event = server.base == NULL ? NULL
                                            : event_new(server.base, listener, EV_READ | EV_PERSIST,
                                                        on_acceptable, &server);
  if (event == NULL || event_add(event, NULL) == -1)
    peer_die("cannot use libevent");
  peer_announce(listener);
  return event_base_dispatch(server.base) == 0 ? 0 : 1;
}
