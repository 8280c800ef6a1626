/* Write the id and the address of each connection to a file. */
#include <inttypes.h>
#include <stdio.h>
#include <xchg.h>

void on_open(struct xchg_conn *conn) {
  char address[XCHG_ADDRESS_MAX];
  FILE *journal = xchg_user(conn);
  if (xchg_address(conn, address, sizeof(address)) == 0) {
    fprintf(journal, "%" PRIu64 " is %s\n", xchg_id(conn), address);
  }
}
