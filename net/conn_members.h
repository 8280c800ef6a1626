/*
 * conn_members: all members of the structs that make a connection, in their order, without a gap.
 *
 * The text at each one says where it stands in the record of a packed connection: its tag, or why
 * it has none.  To add, remove or move a member gives an error here.  Then decide what the record
 * does with it, and change net/conn_record.c first.
 */
#ifndef NET_CONN_MEMBERS_H
#define NET_CONN_MEMBERS_H

#include "net/conn_log.h"

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
#define FIRST(type, member) (offsetof(type, member) == 0)
#define NEXT(type, before, member) (offsetof(type, member) == END_OF(type, before))
#define LAST(type, member) (END_OF(type, member) == sizeof(type))

static_assert(FIRST(struct xchg_conn, source),
              "source: made anew: a turn is asked for, a timer armed");
static_assert(NEXT(struct xchg_conn, source, ctx), "ctx: the receiver's");
static_assert(NEXT(struct xchg_conn, ctx, cold), "cold: see struct conn_cold");
static_assert(NEXT(struct xchg_conn, cold, in), "in: INPUT, SCANNED");
static_assert(NEXT(struct xchg_conn, in, out), "out: OUTPUT: the bytes, those of references too");
static_assert(NEXT(struct xchg_conn, out, fd), "fd: beside the record");
static_assert(NEXT(struct xchg_conn, fd, state), "state: STATE");
static_assert(NEXT(struct xchg_conn, state, end_reason),
              "end_reason: END_REASON; then FLAGS: 16 bits");
static_assert(NEXT(struct xchg_conn, messages, active_ns), "active_ns: MESSAGES, ACTIVE");
static_assert(NEXT(struct xchg_conn, active_ns, bytes_in), "bytes_in: BYTES_IN");
static_assert(NEXT(struct xchg_conn, bytes_in, bytes_out), "bytes_out: BYTES_OUT");
static_assert(NEXT(struct xchg_conn, bytes_out, discarded),
              "discarded: CLOCK, also message_clock_ns");
static_assert(LAST(struct xchg_conn, discarded), "discarded");
static_assert(LAST(struct xchg_conn, message_clock_ns), "message_clock_ns");

/* request 2, readable 2, hold_reasons 3; is_unix, eof, extra_input, clock_stopped, drain_due,
 * stalled, lifetime_over, half_close, proxied 1 each: no bit is free. */
static_assert(8 * (offsetof(struct xchg_conn, messages) - END_OF(struct xchg_conn, end_reason)) ==
                  2 + 2 + 3 + 9,
              "bits of struct xchg_conn: see flags_of");

static_assert(FIRST(struct conn_cold, progress_ns), "progress_ns: PROGRESS");
static_assert(NEXT(struct conn_cold, progress_ns, timer_ns), "timer_ns: TIMER");
static_assert(NEXT(struct conn_cold, timer_ns, lifetime_ns), "lifetime_ns: LIFETIME");
static_assert(NEXT(struct conn_cold, lifetime_ns, memberships), "memberships: GROUPS");
static_assert(NEXT(struct conn_cold, memberships, jobs),
              "jobs: none: it holds no job that is under way");
static_assert(NEXT(struct conn_cold, jobs, header), "header: PROXY_HEADER");
static_assert(NEXT(struct conn_cold, header, acknowledged), "acknowledged: ACKNOWLEDGED");
static_assert(NEXT(struct conn_cold, acknowledged, offloads), "offloads: 0, or it stays");
static_assert(NEXT(struct conn_cold, offloads, slot), "slot: the receiver's");
static_assert(NEXT(struct conn_cold, slot, unused), "unused");
static_assert(LAST(struct conn_cold, unused), "unused");

static_assert(FIRST(struct conn_peer, addr), "addr: ADDRESS");
static_assert(NEXT(struct conn_peer, addr, ip_slot),
              "ip_slot: beside the record; then LISTENER and OPENED");
static_assert(sizeof(struct conn_peer) == END_OF(struct conn_peer, ip_slot) + 8, "64 bits");

static_assert(FIRST(struct conn_proxy, accepted_ns), "accepted_ns: PROXY_ACCEPTED");
static_assert(NEXT(struct conn_proxy, accepted_ns, via), "via: PROXY_VIA");
static_assert(NEXT(struct conn_proxy, via, destination), "destination: PROXY_DESTINATION");
static_assert(NEXT(struct conn_proxy, destination, accepts), "accepts: PROXY_ACCEPTS");
static_assert(NEXT(struct conn_proxy, accepts, version), "version: PROXY_VERSION");
static_assert(NEXT(struct conn_proxy, version, command), "command: PROXY_COMMAND");
static_assert(NEXT(struct conn_proxy, command, announced), "announced: PROXY_ANNOUNCED");
static_assert(NEXT(struct conn_proxy, announced, opened), "opened: PROXY_OPENED");
static_assert(NEXT(struct conn_proxy, opened, unused), "unused");
static_assert(LAST(struct conn_proxy, unused), "unused");

static_assert(FIRST(struct conn_pace, message_ns), "message_ns: PACE_MESSAGE");
static_assert(NEXT(struct conn_pace, message_ns, handoff_us), "handoff_us: PACE_HANDOFF");
static_assert(NEXT(struct conn_pace, handoff_us, held), "held: PACE_HELD");
static_assert(NEXT(struct conn_pace, held, unused), "unused");
static_assert(LAST(struct conn_pace, unused), "unused");

/* Of a membership: number of the group, slow. Of a buf: its bytes, scanned. All else is links. */
static_assert(sizeof(struct member) == 72, "a new member of struct member: in GROUPS?");
static_assert(sizeof(struct buf) == 40, "a new member of struct buf: in INPUT or OUTPUT?");
static_assert(sizeof(struct addr) == 20, "a new member of struct addr: in put_address?");

#undef FIRST
#undef NEXT
#undef LAST
#undef END_OF

#endif
