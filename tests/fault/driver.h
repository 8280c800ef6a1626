/*
 * driver: a scripted client and a rig as its server, run to the end whatever fails.
 *
 * A test can make any system call of the server fail meanwhile (fault.h).  The calls of the client
 * do not go through the seam.
 */
#ifndef TESTS_FAULT_DRIVER_H
#define TESTS_FAULT_DRIVER_H

#include "tests/fault/fault.h"
#include "tests/unit/rig.h"

#define DRIVER_BYTES_MAX ((size_t)1 << 20)

struct driver {
  /* the script */
  const char *sends; /* borrows */
  size_t sends_size;
  bool half_closes; /* after the last byte; else after the end of the server's stream */
  bool single;      /* the server waits with poll */
  bool tcp;
  int patience; /* idle turns before time advances; 0 = 1000 */

  /* the result */
  char *got; /* owns */
  size_t got_size;
  bool ended; /* the stream ended in order */
};

/* One step of the client. Return: did any byte move? */
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
 * Run ${driver} with ${rig}, which is started, to its end.  Time advances when nothing else
 * happens, so that time-outs end what a fault has left.
 */
static inline void driver_run(struct driver *driver, struct rig *rig) {
  driver->got = malloc(DRIVER_BYTES_MAX);
  ck_assert_ptr_nonnull(driver->got);
  driver->got_size = 0;
  driver->ended = false;
  int fd = driver->tcp ? rig_connect_tcp(rig) : rig_connect(rig);
  size_t sent = 0;
  int still = 0, patience = driver->patience > 0 ? driver->patience : 1000;
  for (int i = 0; rig->slab.used > 0; i++) {
    ck_assert_int_lt(i, 10000000);
    uint64_t read = atom_load_relaxed_u64(&rig->stats.bytes_in);
    bool moved = driver_step(driver, fd, &sent);
    bool waits = driver->tcp && still > 100; /* loopback may take its time */
    rig_turn(rig, waits ? sys_now_ns() + NS_PER_MS : 0);
    moved = moved || rig->reactor.ready > 0 || reactor_busy(&rig->reactor) ||
            read != atom_load_relaxed_u64(&rig->stats.bytes_in);
    still = moved ? 0 : still + 1;
    if (still > patience) {
      rig_advance(rig, NS_PER_S);
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
