/*
 * probe: seam for the static probes (USDT) by which bpftrace, perf and gdb observe a server.
 *
 * `make PROBES=1` defines XCHG_PROBES.  Each call is then a nop, and the section .note.stapsdt
 * contains its address and the places of its arguments.  Any other build contains no instruction of
 * a probe: tests/lint/probes compares each object with that of a source without the calls.
 *
 * There are no semaphores, so a tool may attach by process or by file.  The arguments are values
 * that the caller already has.  So instead of a duration, a probe passes a start time in ns of
 * CLOCK_MONOTONIC: a bpftrace script subtracts it from `nsecs`.
 */
#ifndef CORE_PROBE_H
#define CORE_PROBE_H

#include <stdint.h>

/*
 * THE table of the probes, from which the functions below and the table of docs/tracing.md come:
 * name, types and names of the arguments, when it fires.  The argument id is what xchg_id returns;
 * address points to a struct addr.
 */
/* clang-format off */
#define PROBES(P0, P1, P2, P3, P4)                                                                \
  P2(accept, uint32_t, listener, int, fd, "the acceptor has accepted a connection")               \
  P2(refuse, uint32_t, reason, const void *, address,                                             \
     "a connection is closed that was not opened")                                                \
  P3(handoff, uint32_t, worker, int, fd, uint32_t, queued,                                        \
     "the acceptor has chosen a worker, whose queue had this length")                             \
  P1(wake, uint32_t, worker, "the hand-off has woken a worker that slept")                        \
  P3(open, uint32_t, worker, uint64_t, id, uint64_t, accepted_ns,                                 \
     "a worker opens a connection, before the first callback")                                    \
  P4(proxy, uint32_t, worker, uint64_t, id, uint32_t, version, uint32_t, cause,                   \
     "a PROXY header is complete or refused")                                                     \
  P4(message, uint32_t, worker, uint64_t, id, uint64_t, bytes, uint64_t, number,                  \
     "a message is complete, before its callback")                                                \
  P3(sent, uint32_t, worker, uint64_t, id, uint64_t, bytes, "the kernel has taken output")        \
  P4(close, uint32_t, worker, uint64_t, id, uint32_t, reason, uint64_t, accepted_ns,              \
     "a connection closes, after the last callback")                                              \
  P3(turn, uint32_t, worker, int, events, uint64_t, began_ns, "a turn of a worker is over")       \
  P2(blocked, uint32_t, worker, uint64_t, since_ns, "a callback has exceeded XCHG_WATCHDOG")      \
  P1(pause, int, error, "accepting pauses for an errno, or (0) until there is room")              \
  P0(resume, "accepting goes on")                                                                 \
  P1(stop, uint32_t, stage, "a stage of the stop begins")
/* clang-format on */

/* The stages of the probe stop. */
enum probe_stage {
  PROBE_DRAIN = 1, /* connections drain */
  PROBE_ACCEPTED,  /* no listener is open, and no connection waits for a worker */
  PROBE_CUT,       /* a worker closes its connections, because the drain timeout is over */
  PROBE_CLOSE,     /* all threads have ended */
};

#ifdef XCHG_PROBES

#include <sys/sdt.h>

/* Inlined in any case: the compiler takes the text of the note for many instructions. */
#define PROBE_DEFINE(name, call, ...) \
  static inline __attribute__((always_inline)) void probe_##name(__VA_ARGS__) { call; }
#define PROBE_0(name, when) PROBE_DEFINE(name, STAP_PROBE(xchg, name), void)
#define PROBE_1(name, t1, a1, when) PROBE_DEFINE(name, STAP_PROBE1(xchg, name, a1), t1 a1)
#define PROBE_2(name, t1, a1, t2, a2, when) \
  PROBE_DEFINE(name, STAP_PROBE2(xchg, name, a1, a2), t1 a1, t2 a2)
#define PROBE_3(name, t1, a1, t2, a2, t3, a3, when) \
  PROBE_DEFINE(name, STAP_PROBE3(xchg, name, a1, a2, a3), t1 a1, t2 a2, t3 a3)
#define PROBE_4(name, t1, a1, t2, a2, t3, a3, t4, a4, when) \
  PROBE_DEFINE(name, STAP_PROBE4(xchg, name, a1, a2, a3, a4), t1 a1, t2 a2, t3 a3, t4 a4)

#else

#define PROBE_0(name, when) \
  static inline void probe_##name(void) {}
#define PROBE_1(name, t1, a1, when) \
  static inline void probe_##name(t1 a1) { (void)(a1); }
#define PROBE_2(name, t1, a1, t2, a2, when) \
  static inline void probe_##name(t1 a1, t2 a2) { (void)(a1), (void)(a2); }
#define PROBE_3(name, t1, a1, t2, a2, t3, a3, when) \
  static inline void probe_##name(t1 a1, t2 a2, t3 a3) { (void)(a1), (void)(a2), (void)(a3); }
#define PROBE_4(name, t1, a1, t2, a2, t3, a3, t4, a4, when)     \
  static inline void probe_##name(t1 a1, t2 a2, t3 a3, t4 a4) { \
    (void)(a1), (void)(a2), (void)(a3), (void)(a4);             \
  }

#endif

/* The functions, one for each row. */
PROBES(PROBE_0, PROBE_1, PROBE_2, PROBE_3, PROBE_4)

#endif
