/*
 * libuv: one stream per connection, one read buffer for all connections, and uv_try_write, which
 * sends at once.  This is libuv's cheapest way: uv_write needs a request and cost a tenth more
 * when measured.  Bytes that the socket does not take are copied and passed to uv_write.
 */
#include "benchmarks/peers/peer.h"

#include <uv.h>

#include <stdlib.h>
#include <string.h>

struct server {
  uv_tcp_t listener;
  enum peer_exchange exchange;
  char buffer[PEER_BUFFER_SIZE];
};

/* A delayed write: the request, followed by its bytes. */
struct rest {
  uv_write_t request;
  char bytes[];
};

static void on_closed(uv_handle_t *conn) { free(conn); }

static void conn_close(uv_stream_t *conn) {
  if (!uv_is_closing((uv_handle_t *)conn)) {
    uv_close((uv_handle_t *)conn, on_closed);
  }
}

static void on_written(uv_write_t *request, int status) {
  uv_stream_t *conn = request->handle;
  free(request); /* the first member of its struct rest */
  if (status < 0) {
    conn_close(conn);
  }
}

static bool write_later(uv_stream_t *conn, const char *data, size_t size) {
  struct rest *rest = malloc(sizeof(*rest) + size);
  if (rest == NULL) {
    return false;
  }
  memcpy(rest->bytes, data, size);
  uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)size);
  if (uv_write(&rest->request, conn, &buffer, 1, on_written) < 0) {
    free(rest);
    return false;
  }
  return true;
}

static bool write_now(uv_stream_t *conn, char *data, size_t size) {
  uv_buf_t buffer = uv_buf_init(data, (unsigned)size);
  int sent = uv_try_write(conn, &buffer, 1);
  if (sent < 0) {
    sent = sent == UV_EAGAIN ? 0 : -1;
  }
  return sent != -1 &&
         ((size_t)sent == size || write_later(conn, data + sent, size - (size_t)sent));
}

static void on_buffer(uv_handle_t *conn, size_t suggested, uv_buf_t *buffer) {
  struct server *server = conn->data;
  (void)suggested;
  *buffer = uv_buf_init(server->buffer, sizeof(server->buffer));
}

static void on_read(uv_stream_t *conn, ssize_t size, const uv_buf_t *buffer) {
  const struct server *server = conn->data;
  bool stays = size >= 0;
  if (stays && size > 0) {
    stays = server->exchange == PEER_ECHO ? write_now(conn, buffer->base, (size_t)size)
                                          : memchr(buffer->base, 0, (size_t)size) == NULL;
  }
  if (!stays) {
    conn_close(conn);
  }
}

static void on_connection(uv_stream_t *listener, int status) {
  struct server *server = listener->data;
  char greeting[] = PEER_GREETING;
  uv_tcp_t *conn = status < 0 ? NULL : malloc(sizeof(*conn));
  if (conn == NULL) {
    return;
  }
  uv_tcp_init(listener->loop, conn);
  conn->data = server;
  if (uv_accept(listener, (uv_stream_t *)conn) < 0 ||
      (server->exchange != PEER_ECHO &&
       !write_now((uv_stream_t *)conn, greeting, sizeof(greeting))) ||
      server->exchange == PEER_HELLO ||
      uv_read_start((uv_stream_t *)conn, on_buffer, on_read) < 0) {
    conn_close((uv_stream_t *)conn);
  }
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct server server = {.exchange = options.exchange};
  uv_loop_t *loop = uv_default_loop();
  peer_raise_descriptors();
  int fd = peer_listen(options.port, false);
  if (loop == NULL || uv_tcp_init(loop, &server.listener) < 0 ||
      uv_tcp_open(&server.listener, fd) < 0) {
    peer_die("cannot use libuv");
  }
  server.listener.data = &server;
  if (uv_listen((uv_stream_t *)&server.listener, PEER_BACKLOG, on_connection) < 0) {
    peer_die("cannot listen");
  }
  peer_announce(fd);
  return uv_run(loop, UV_RUN_DEFAULT);
}
