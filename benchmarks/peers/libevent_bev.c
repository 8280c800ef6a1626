/*
 * libevent_bev: libevent as its manual teaches it: an evconnlistener, and a bufferevent for each
 * connection.  Echo moves the input's chains to the output without copying.  greet drains its
 * output before it closes.  Output that the client does not read is kept without a limit.
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

static void on_drained(struct bufferevent *conn, void *argument) {
  (void)argument;
  bufferevent_free(conn);
}

static void on_end(struct bufferevent *conn, short what, void *argument) {
  (void)what, (void)argument;
  bufferevent_free(conn);
}

/* Close once all output has been sent. */
static void finish(struct bufferevent *conn) {
  if (evbuffer_get_length(bufferevent_get_output(conn)) == 0) {
    bufferevent_free(conn);
    return;
  }
  bufferevent_disable(conn, EV_READ);
  bufferevent_setcb(conn, NULL, on_drained, on_end, NULL);
}

static void on_echo(struct bufferevent *conn, void *argument) {
  (void)argument;
  if (bufferevent_write_buffer(conn, bufferevent_get_input(conn)) == -1) {
    bufferevent_free(conn);
  }
}

static void on_message(struct bufferevent *conn, void *argument) {
  struct evbuffer *input = bufferevent_get_input(conn);
  (void)argument;
  if (evbuffer_search(input, "", 1, NULL).pos != -1) {
    finish(conn);
  }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int size, void *argument) {
  struct server *server = argument;
  struct bufferevent *conn = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
  (void)listener, (void)address, (void)size;
  if (conn == NULL) {
    evutil_closesocket(fd);
    return;
  }
  bufferevent_setcb(conn, server->exchange == PEER_ECHO ? on_echo : on_message, NULL, on_end, NULL);
  if (server->exchange != PEER_ECHO) {
    bufferevent_write(conn, PEER_GREETING, PEER_GREETING_SIZE);
  }
  if (server->exchange == PEER_HELLO) {
    finish(conn);
  } else {
    bufferevent_enable(conn, EV_READ | EV_WRITE);
  }
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
  if (listener == NULL) {
    peer_die("cannot use libevent");
  }
  peer_announce(fd);
  return event_base_dispatch(server.base) == 0 ? 0 : 1;
}
