/*
 * talk: a client with a script and a rig as its server, run to the end whatever fails.
 *
 * Whoever includes it can have any of the server's system calls fail meanwhile (fault.h); the
 * client's own do not go through the seam.
 */
#ifndef TESTS_FAULT_TALK_H
#define TESTS_FAULT_TALK_H

#include "tests/fault/fault.h"
#include "tests/unit/rig.h"

#define TALK_BYTES_MAX ((size_t)1 << 20)

struct talk {
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
static inline bool talk_step(struct talk *talk, int fd, size_t *sent) {
  bool moved = false;
  if (*sent < talk->sends_size) {
    ssize_t put = send(fd, talk->sends + *sent, talk->sends_size - *sent, MSG_NOSIGNAL);
    moved = put > 0;
    bool over = put == -1 && errno != EAGAIN;
    *sent = over ? talk->sends_size : *sent + (put > 0 ? (size_t)put : 0);
    if (*sent == talk->sends_size && talk->half_closes) {
      (void)shutdown(fd, SHUT_WR);
    }
  }
  ssize_t got = recv(fd, talk->got + talk->got_size, TALK_BYTES_MAX - talk->got_size, 0);
  talk->got_size += got > 0 ? (size_t)got : 0;
  if (got == 0 && !talk->ended) {
    talk->ended = true;
    (void)shutdown(fd, SHUT_WR);
  }
  return moved || got > 0;
}

/*
 * Run ${talk} with ${rig}, which is started, to its end.  Time is moved when nothing else moves, so
 * that time-outs end what a fault has left behind.
 */
static inline void talk_run(struct talk *talk, struct rig *rig) {
  talk->got = malloc(TALK_BYTES_MAX);
  ck_assert_ptr_nonnull(talk->got);
  talk->got_size = 0;
  talk->ended = false;
  int fd = talk->tcp ? rig_connect_tcp(rig) : rig_connect(rig);
  size_t sent = 0;
  int still = 0, patience = talk->patience > 0 ? talk->patience : 1000;
  for (int i = 0; rig->slab.used > 0; i++) {
    ck_assert_int_lt(i, 10000000);
    uint64_t read = atom_load_relaxed_u64(&rig->stats.bytes_in);
    bool moved = talk_step(talk, fd, &sent);
    bool waits = talk->tcp && still > 100; /* loopback may take its time */
    rig_turn(rig, waits ? sys_now_ns() + NS_PER_MS : 0);
    moved = moved || rig->reactor.ready > 0 || reactor_busy(&rig->reactor) ||
            read != atom_load_relaxed_u64(&rig->stats.bytes_in);
    still = moved ? 0 : still + 1;
    if (still > patience) {
      rig_advance(rig, NS_PER_S);
    }
  }
  while (talk_step(talk, fd, &sent)) {
  }
  close(fd);
}

static inline void talk_fini(struct talk *talk) {
  free(talk->got);
  talk->got = NULL;
}

#endif
