/*
 * conn_pack: moves a connection to another worker, of this process or of another one.
 *
 * Only connections of built-in exchanges move: their handler keeps no state.
 *
 *   sender    conn_stays         may it move?  Ask at a quiet point
 *             conn_record_room   how much room does its record need?
 *             conn_pack          write the record; the connection is not this worker's any more
 *   receiver  conn_record_read   check the bytes; any thread (net/conn_record.h)
 *             conn_unpack        allocate everything; the connection does nothing yet
 *             conn_resume        register the descriptor, ask for a turn
 *   either    conn_record_close  the connection is lost: close it and count why
 *
 * A quiet point of a worker is between its reap and its next wait, outside of callbacks: no event
 * is in hand, and no connection has its turn.  All calls with a conn_ctx are the owner's.
 *
 * Who owns what:
 *
 *   the record      the caller.  It is one block of bytes, in the caller's memory, and the same
 *                   bytes for a worker of this process and for another process
 *   the descriptor  the connection until conn_pack, then the caller.  The connection from a
 *                   successful conn_unpack on
 *   the ip_slot     likewise.  In this process it moves unchanged.  For another process the sender
 *                   keeps it until the receiver has said TAKEN, and then returns it by
 *                   admission_release.  The receiver gets one of its own by admission_adopt, which
 *                   never refuses
 *   the count       worker.live is the caller's.  It adds 1 for the target before it sends the
 *                   record, and subtracts 1 for the sender afterwards, so no sum is too small
 *
 * Give back: the sender unpacks its own record, in the same worker or in another one.  There is no
 * other way.  The id of the connection changes.  After TAKEN the sender closes its descriptor.
 *
 * Output and input of any length stand in the record, up to CONN_RECORD_MAX bytes in all.  The
 * bytes of references are copied, and conn_pack releases the references.  Nothing of a record
 * points anywhere.
 *
 * conn_pack does not fail.  conn_unpack fails as a whole: then the descriptor and the slot are the
 * caller's as before.  So one side serves at every moment, or the record waits with its owner.
 *
 * Counters: a move counts no end and no opening.  Nothing is logged.  Neither on_open nor on_close
 * is called.
 */
#ifndef NET_CONN_PACK_H
#define NET_CONN_PACK_H

#include "net/conn_record.h"

/* Why a connection cannot move now. */
enum conn_stays {
  CONN_MOVES,         /* it can */
  CONN_STAYS_OFFLOAD, /* until its offloaded jobs have come back */
  CONN_STAYS_LARGE,   /* until it has fewer bytes */
  CONN_STAYS_REFUSED, /* the other process has refused it: conn_stays does not know that */
  CONN_STAYS_UNSENT,  /* it could not be sent: likewise */
  CONN_STAYS_COUNT    /* the number of these */
};

/** Why does ${conn} stay? The caller is at a quiet point; its worker waits with epoll. */
enum conn_stays conn_stays(const struct xchg_conn *conn);

/** The reason in words, for the log. */
const char *conn_stays_text(enum conn_stays stays);

/**
 * conn_pack(conn, bytes, owned):
 * Write ${conn}, which moves, to ${bytes}, which has room for conn_record_room.  Its descriptor
 * leaves the epoll set.  Its object is freed, at once or in the next dispatch.
 * Return: the size of the record.
 * Own: what ${owned} names is the caller's.
 */
size_t conn_pack(struct xchg_conn *conn, uint8_t *bytes, struct conn_owned *owned);

/**
 * conn_unpack(ctx, record):
 * Make a connection of ${record}, whose owned the caller has set.  It gets no turn, and nothing
 * finds it, until conn_resume.  The worker may run turns and tasks meanwhile.
 * Return: it; or NULL with nothing changed and errno: ENOMEM; ENOTSUP: it began with a PROXY
 * header, and no listener here has ;proxy=; EBADMSG: it does not fit the handler: its frame, or a
 * timer without on_timer.
 */
struct xchg_conn *conn_unpack(struct conn_ctx *ctx, const struct conn_record *record);

/**
 * conn_resume(conn, record):
 * Serve ${conn}, which conn_unpack made of ${record}: it has a turn in the next dispatch.  If the
 * kernel has no memory to register it, it ends there as XCHG_MEMORY, as a new one would.
 */
void conn_resume(struct xchg_conn *conn, const struct conn_record *record);

/** No worker can take ${record}: close its descriptor, count its end as ${reason}, keep ip_slot. */
void conn_record_close(struct conn_ctx *ctx, const struct conn_record *record,
                       enum xchg_reason reason);

#endif
