/* End a connection from another thread. */
#include <xchg.h>

static void end(struct xchg_conn *conn, void *argument) {
  (void)argument;
  if (conn != NULL) {
    xchg_send(conn, "bye\n", 4);
    xchg_finish(conn);
  }
}

int dismiss(struct xchg_server *server, uint64_t id) {
  return xchg_post(server, id, end, NULL);
}
