/*
 * libuv: a stream a connection, one read buffer for all of them, and uv_try_write, which sends at
 * once: libuv's cheapest way (uv_write alone costs a request and, measured, a tenth more).  What
 * the socket does not take is copied and left to uv_write.
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

/* A write that had to wait: the request and its bytes in one piece. */
struct rest {
  uv_write_t request;
  char bytes[];
};

static void on_closed(uv_handle_t *guest) { free(guest); }

static void guest_close(uv_stream_t *guest) {
  if (!uv_is_closing((uv_handle_t *)guest))
    uv_close((uv_handle_t *)guest, on_closed);
}

static void on_written(uv_write_t *request, int status) {
  uv_stream_t *guest = request->handle;
  free(request); /* the first member of its struct rest */
  if (status < 0)
    guest_close(guest);
}

static bool write_later(uv_stream_t *guest, const char *data, size_t size) {
  struct rest *rest = malloc(sizeof *rest + size);
  if (rest == NULL)
    return false;
  memcpy(rest->bytes, data, size);
  uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)size);
  if (uv_write(&rest->request, guest, &buffer, 1, on_written) < 0) {
    free(rest);
    return false;
  }
  return true;
}

static bool write_now(uv_stream_t *guest, char *data, size_t size) {
  uv_buf_t buffer = uv_buf_init(data, (unsigned)size);
  int sent = uv_try_write(guest, &buffer, 1);
  if (sent < 0)
    sent = sent == UV_EAGAIN ? 0 : -1;
  return sent != -1 &&
         ((size_t)sent == size || write_later(guest, data + sent, size - (size_t)sent));
}

static void on_buffer(uv_handle_t *guest, size_t suggested, uv_buf_t *buffer) {
  struct server *server = guest->data;
  (void)suggested;
  *buffer = uv_buf_init(server->buffer, sizeof server->buffer);
}

static void on_read(uv_stream_t *guest, ssize_t size, const uv_buf_t *buffer) {
  const struct server *server = guest->data;
  bool stays = size >= 0;
  if (stays && size > 0)
    stays = server->exchange == PEER_ECHO ? write_now(guest, buffer->base, (size_t)size)
                                          : memchr(buffer->base, 0, (size_t)size) == NULL;
  if (!stays)
    guest_close(guest);
}

static void on_connection(uv_stream_t *listener, int status) {
  struct server *server = listener->data;
  char greeting[] = PEER_GREETING;
  uv_tcp_t *guest = status < 0 ? NULL : malloc(sizeof *guest);
  if (guest == NULL)
    return;
  uv_tcp_init(listener->loop, guest);
  guest->data = server;
  if (uv_accept(listener, (uv_stream_t *)guest) < 0 ||
      (server->exchange != PEER_ECHO &&
       !write_now((uv_stream_t *)guest, greeting, sizeof greeting)) ||
      server->exchange == PEER_HELLO || uv_read_start((uv_stream_t *)guest, on_buffer, on_read) < 0)
    guest_close((uv_stream_t *)guest);
}

int main(int argc, char **argv) {
  struct peer_options options = peer_parse(argc, argv);
  struct server server = {.exchange = options.exchange};
  uv_loop_t *loop = uv_default_loop();
  peer_raise_descriptors();
  int fd = peer_listen(options.port, false);
  if (loop == NULL || uv_tcp_init(loop, &server.listener) < 0 ||
      uv_tcp_open(&server.listener, fd) < 0)
    peer_die("cannot use libuv");
  server.listener.data = &server;
  if (uv_listen((uv_stream_t *)&server.listener, PEER_BACKLOG, on_connection) < 0)
    peer_die("cannot listen");
  peer_announce(fd);
  return uv_run(loop, UV_RUN_DEFAULT);
}
