/*
 * conn_pack: moves a connection to another worker, of this process or of another one.
 *
 *   sender    conn_stays         may it move?  Ask at a quiet point
 *             conn_record_room   how much room does its record need?
 *             conn_pack          write the record, park the connection
 *             conn_gone          the receiver serves it: call on_gone, free the object
 *   receiver  conn_record_read   check the bytes; any thread (net/conn_record.h)
 *             conn_unpack        allocate everything, call on_restore; the connection is parked
 *   either    conn_resume        serve the parked connection
 *
 * A parked connection is complete, but its worker leaves it alone.  Its descriptor is not watched,
 * its timer is cancelled, it gets no turn, and nothing finds it.  Calls for it have no effect.
 * While a worker has parked connections (ctx->parked), its posted calls and publications wait.  So
 * a connection that comes back has missed nothing, and has its id.
 *
 * A quiet point of a worker is between its reap and its next wait, outside of callbacks: no event
 * is in hand, and no connection has its turn.  All calls with a conn_ctx or a connection are the
 * owner's.
 *
 * Who owns what:
 *
 *   the record      the caller.  It is one block of bytes, in the caller's memory, and the same
 *                   bytes for a worker of this process and for another process
 *   the descriptor  the connection of the sender, until conn_gone gives it to the caller.  Another
 *                   process gets a copy of its own.  In this process the connection of the receiver
 *                   has it, too, from conn_unpack on
 *   the ip_slot     likewise.  For another process, the receiver gets one of its own by
 *                   admission_adopt, which never refuses
 *   the count       worker.live is the caller's.  It adds 1 for the target before conn_unpack, and
 *                   subtracts 1 for the sender after conn_gone, so no sum is too small
 *
 * Output and input of any length stand in the record, up to CONN_RECORD_MAX bytes in all.  The
 * bytes of references are copied, and conn_gone releases the references.  Nothing of a record
 * points anywhere.
 *
 * Give back: conn_resume at the sender.  It needs no memory.  The caller knows that the
 * receiver has not called it.  So one side serves at every moment, or none does for a while.
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
  CONN_STAYS_HANDLER, /* on_save has refused: conn_pack knows that */
  CONN_STAYS_REFUSED, /* the other process has refused it: conn_stays does not know that */
  CONN_STAYS_UNSENT,  /* it could not be sent: likewise */
  CONN_STAYS_COUNT    /* the number of these */
};

/** Why does ${conn}, not CLOSED, stay? This is a quiet point; its worker waits with epoll. */
enum conn_stays conn_stays(const struct xchg_conn *conn);

/** The reason in words, for the log. */
const char *conn_stays_text(enum conn_stays stays);

/**
 * conn_pack(conn, bytes):
 * Write ${conn}, which moves, to ${bytes}, which has room for conn_record_room, and park it.
 * Return: the size of the record; or 0 if on_save refuses: then nothing has changed.
 */
size_t conn_pack(struct xchg_conn *conn, uint8_t *bytes);

/**
 * conn_gone(conn):
 * The receiver of ${conn}, which is parked, serves it: call on_gone.  Its object is freed, at once
 * or in the next dispatch.
 * Return: what it owned, which is the caller's.
 */
struct conn_owned conn_gone(struct xchg_conn *conn);

/**
 * conn_unpack(ctx, record):
 * Make a parked connection of ${record}, whose owned the caller has set, and call on_restore.
 * Return: it; or NULL with nothing left after the next dispatch, and errno: ENOMEM; ENOTSUP: it
 * began with a PROXY header, and no listener here has ;proxy=; EBADMSG: it does not fit the
 * handler: its frame, a timer without on_timer, a state without on_restore or the reverse;
 * ECANCELED: on_restore refuses.
 */
struct xchg_conn *conn_unpack(struct conn_ctx *ctx, const struct conn_record *record);

/**
 * conn_resume(conn):
 * Serve ${conn}, which is parked: it has a turn in the next dispatch.  If the kernel has no memory
 * to register it, it ends there as XCHG_MEMORY, as a new one would.
 */
void conn_resume(struct xchg_conn *conn);

/**
 * conn_suspend(ctx):
 * Give the connections of ${ctx} no turn until conn_unsuspend.  Posted calls and publications run.
 * Output that they queue waits.  A second call does nothing.
 * Return: how many connections wait for offloaded work.
 * conn_unsuspend(ctx):
 * Serve those that are not parked again.  Does nothing if ${ctx} was not suspended.
 */
uint32_t conn_suspend(struct conn_ctx *ctx);
void conn_unsuspend(struct conn_ctx *ctx);

#endif
