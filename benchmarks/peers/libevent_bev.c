/*
 * libevent_bev: libevent as its manual teaches it: a listener and a bufferevent a connection.  Echo
 * moves the input's chains to the output without copying; greet lets its output drain before it
 * closes.  Output that a client does not take is kept, without a limit.
 */
#include "benchmarks/peers/peer.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <string.h>

struct server {
  struct event_base *base;
  enum peer_exchange exchange;
};

static void on_drained(struct bufferevent *guest, void *argument) {
  (void)argument;
  bufferevent_free(guest);
}

static void on_end(struct bufferevent *guest, short what, void *argument) {
  (void)what, (void)argument;
  bufferevent_free(guest);
}

/* Close once everything has left. */
static void finish(struct bufferevent *guest) {
  if (evbuffer_get_length(bufferevent_get_output(guest)) == 0) {
    bufferevent_free(guest);
    return;
  }
  bufferevent_disable(guest, EV_READ);
  bufferevent_setcb(guest, NULL, on_drained, on_end, NULL);
}

static void on_echo(struct bufferevent *guest, void *argument) {
  (void)argument;
  if (bufferevent_write_buffer(guest, bufferevent_get_input(guest)) == -1)
    bufferevent_free(guest);
}

static void on_message(struct bufferevent *guest, void *argument) {
  struct evbuffer *input = bufferevent_get_input(guest);
  (void)argument;
  if (evbuffer_search(input, "", 1, NULL).pos != -1)
    finish(guest);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int size, void *argument) {
  struct server *server = argument;
  struct bufferevent *guest = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
  (void)listener, (void)address, (void)size;
  if (guest == NULL) {
    evutil_closesocket(fd);
    return;
  }
  bufferevent_setcb(guest, server->exchange == PEER_ECHO ? on_echo : on_message, NULL, on_end,
                    NULL);
  if (server->exchange != PEER_ECHO)
    bufferevent_write(guest, PEER_GREETING, PEER_GREETING_SIZE);
  if (server->exchange == PEER_HELLO)
    finish(guest);
  else
    bufferevent_enable(guest, EV_READ | EV_WRITE);
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct server server = {.base = event_base_new(), .exchange = options.exchange};
  peer_raise_descriptors();
  int fd = peer_listen(options.port, false);
  evutil_make_socket_nonblocking(fd);
  struct evconnlistener *listener =
      server.base == NULL
          ? NULL
          : evconnlistener_new(server.base, on_accept, &server,
                               LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, fd);
  if (listener == NULL)
    peer_die("cannot use libevent");
  peer_announce(fd);
  return event_base_dispatch(server.base) == 0 ? 0 : 1;
}
