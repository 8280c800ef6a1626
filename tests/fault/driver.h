/*
 * driver: a client with a script and a conn_fixture as its server, run to the end whatever fails.
 *
 * The including test can have any of the server's system calls fail meanwhile (fault.h); the
 * client's own do not go through the seam.
 */
#ifndef TESTS_FAULT_DRIVER_H
#define TESTS_FAULT_DRIVER_H

#include "tests/fault/fault.h"
#include "tests/fixtures/conn_fixture.h"

#define DRIVER_BYTES_MAX ((size_t)1 << 20)

struct driver {
  /* the script */
  const char *sends; /* borrows */
  size_t sends_size;
  bool half_closes; /* after the last byte; else once the server's end has come */
  bool single;      /* the server waits with poll */
  bool tcp;
  int patience; /* turns in which nothing moves before time does; 0 = plenty */

  /* what it got */
  char *got; /* owns */
  size_t got_size;
  bool ended; /* the end of the stream came in order */
};

/* One look at the socket from the client's side. Return: did anything move? */
static inline bool driver_step(struct driver *driver, int fd, size_t *sent) {
  bool moved = false;
  if (*sent < driver->sends_size) {
    ssize_t put = send(fd, driver->sends + *sent, driver->sends_size - *sent, MSG_NOSIGNAL);
    moved = put > 0;
    bool over = put == -1 && errno != EAGAIN;
    *sent = over ? driver->sends_size : *sent + (put > 0 ? (size_t)put : 0);
    if (*sent == driver->sends_size && driver->half_closes) {
      (void)shutdown(fd, SHUT_WR);
    }
  }
  ssize_t got = recv(fd, driver->got + driver->got_size, DRIVER_BYTES_MAX - driver->got_size, 0);
  driver->got_size += got > 0 ? (size_t)got : 0;
  if (got == 0 && !driver->ended) {
    driver->ended = true;
    (void)shutdown(fd, SHUT_WR);
  }
  return moved || got > 0;
}

/*
 * Run ${driver} with the started fixture to its end.  Time moves when nothing else does, so that
 * timeouts end what a fault has left.
 */
static inline void driver_run(struct driver *driver) {
  driver->got = malloc(DRIVER_BYTES_MAX);
  ck_assert_ptr_nonnull(driver->got);
  driver->got_size = 0;
  driver->ended = false;
  int fd = driver->tcp ? client_connect_tcp() : client_connect();
  size_t sent = 0;
  int still = 0, patience = driver->patience > 0 ? driver->patience : 1000;
  for (int i = 0; fixture.slab.used > 0; i++) {
    ck_assert_int_lt(i, 10000000);
    uint64_t read = atom_load_relaxed_u64(&fixture.stats.bytes_in);
    bool moved = driver_step(driver, fd, &sent);
    bool waits = driver->tcp && still > 100; /* loopback may take its time */
    fixture_turn(waits ? sys_now_ns() + NS_PER_MS : 0);
    moved = moved || fixture.reactor.ready > 0 || reactor_busy(&fixture.reactor) ||
            read != atom_load_relaxed_u64(&fixture.stats.bytes_in);
    still = moved ? 0 : still + 1;
    if (still > patience) {
      fixture_advance(NS_PER_S);
    }
  }
  while (driver_step(driver, fd, &sent)) {
  }
  close(fd);
}

static inline void driver_fini(struct driver *driver) {
  free(driver->got);
  driver->got = NULL;
}

#endif
