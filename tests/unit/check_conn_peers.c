/*
 * check_conn_peers: peer addresses lie in an array by slot, and conn_ctx_trim gives its unused
 * pages back.
 */
#define FIXTURE_CONNS_MAX 2000
#include "tests/fixtures/conn_fixture.h"

#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
#define ARRAY_BYTES (FIXTURE_CONNS_MAX * sizeof(struct conn_peer))
#define ARRAY_PAGES ((ARRAY_BYTES + PAGE_BYTES - 1) / PAGE_BYTES)

static uint32_t aborted; /* connections whose on_open found their own address */

/* The address of a connection that is the ${number}th. */
static struct addr numbered(uint32_t number) {
  struct addr addr;
  const uint8_t bytes[4] = {10, 0, (uint8_t)(number >> 8), (uint8_t)number};
  addr_from_ipv4(&addr, bytes, (uint16_t)(number + 1));
  return addr;
}

static void check_peer(const struct xchg_conn *conn, uint32_t number) {
  const struct addr want = numbered(number);
  require(memcmp(&conn_peer(conn)->addr, &want, sizeof(want)) == 0, "the address of the peer");
  require(conn_peer(conn)->ip_slot == number, "the slot of the admission");
}

static void abort_on_open(struct xchg_conn *conn) {
  fixture.opens++;
  check_peer(conn, fixture.accepted - 1);
  aborted++;
  xchg_abort(conn);
}

/* Open one more connection over ${fd}. */
static void open_numbered(int fd) {
  struct accepted_conn accepted = {.accepted_ns = fixture.reactor.now_ns,
                                   .addr = numbered(fixture.accepted),
                                   .fd = fd,
                                   .ip_slot = fixture.accepted};
  fixture.accepted++;
  ck_assert_int_eq(conn_open(&fixture.ctx, &accepted), 0);
}

/*
 * Open connections until every slot is in use.  They abort in on_open, which closes their
 * descriptors, but keep their slots until the reap.
 */
static void fill_all_slots(int fd) {
  fixture.handler.on_open = abort_on_open;
  while (fixture.slab.used < FIXTURE_CONNS_MAX) {
    int copy = dup(fd);
    ck_assert_int_ne(copy, -1);
    open_numbered(copy);
  }
  fixture.handler.on_open = fixture_on_open;
}

/* Count the resident pages of the array from page ${first} on. */
static size_t resident(size_t first) {
  unsigned char pages[ARRAY_PAGES];
  size_t count = 0;
  ck_assert_int_eq(mincore(fixture.ctx.peers, ARRAY_BYTES, pages), 0);
  for (size_t i = first; i < ARRAY_PAGES; i++) {
    count += pages[i] & 1;
  }
  return count;
}

static void trim(void) {
  fixture_reap();
  slab_trim(&fixture.slab);
  conn_ctx_trim(&fixture.ctx);
}

/*
 * The pages of slots whose chunk the slab has released are given back, the last one too, and the
 * connection in the lowest slot keeps its peer.  Slots whose page is new have the right peer again.
 */
START_TEST(test_trim_gives_pages_back) {
  int fds[2];
  fixture_start(false);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  open_numbered(fds[1]);
  const struct xchg_conn *conn = fixture_newest();
  for (int round = 0; round < 3; round++) {
    fill_all_slots(fds[0]);
    ck_assert_uint_eq(resident(0), ARRAY_PAGES);
    trim();
    size_t kept = (fixture.slab.per_chunk * sizeof(struct conn_peer) + PAGE_BYTES - 1) / PAGE_BYTES;
    ck_assert_uint_lt(kept, ARRAY_PAGES);
    ck_assert_uint_eq(resident(kept), 0);
    check_peer(conn, 0);
  }
  ck_assert_uint_eq(aborted, 3 * (FIXTURE_CONNS_MAX - 1));
  close(fds[0]);
  fixture_until_all_closed();
  trim();
  ck_assert_uint_eq(resident(0), 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_trim_gives_pages_back, 1}};
  return run_suite_fixture("conn_peers", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
