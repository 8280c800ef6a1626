/* Send a length, most significant byte first, and a body that the engine frees. */
#include <stdlib.h>
#include <xchg.h>

void answer(struct xchg_conn *conn, char *body, size_t size) {
  const unsigned char length[2] = {(unsigned char)(size >> 8),
                                   (unsigned char)size};
  xchg_send(conn, length, sizeof(length));
  if (xchg_send_ref(conn, body, size, free, body) == -1) {
    free(body);
  }
}
