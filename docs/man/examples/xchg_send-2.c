/* Send an error message, then close. */
#include <string.h>
#include <xchg.h>

void refuse(struct xchg_conn *conn, const char *why) {
  const struct iovec parts[] = {
      {.iov_base = "ERROR ", .iov_len = 6},
      {.iov_base = (void *)why, .iov_len = strlen(why)},
      {.iov_base = "\r\n", .iov_len = 2},
  };
  xchg_sendv(conn, parts, 3);
  xchg_finish(conn);
}
