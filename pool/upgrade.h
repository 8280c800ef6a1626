/*
 * upgrade: the old process of one way of a live upgrade.  The new process is
 * pool/upgrade_successor.
 *
 * On the way to the child, the new process is a child.  When it is the server, its parent executes
 * the same program in its own place, and all connections return: see pool/upgrade_round.  On the
 * way back, the child is the old process, and the parent is the new one.
 *
 *   start       the new process is started, or has come back; HELLO of both
 *   listeners   it gets the listeners and starts its threads: READY
 *   hold        this process accepts no more
 *   canary      8 connections go; the new process serves them for a while
 *   batches     64 at a time, until none is left that moves
 *   totals      the admin endpoint accepts no more; all counters go; it answers
 *   left        COMMIT: it is the server.  What stays here ends after XCHG_DRAIN_TIMEOUT
 *
 * A failure before the batches turns the upgrade back: the new process is killed, its end is
 * awaited, and its last packets are read, before a connection is served here again.  So no two
 * processes read one socket.  Connections that the new process has taken end with it.  A parent is
 * not killed on the way back while it has no connection, see pool/upgrade_back.
 *
 * From the batches on most clients are the new process's soon.  If it is slow, or a batch cannot be
 * sent, the rest stays here, and COMMIT follows.  The upgrade turns back if the new process ends,
 * or if it answers neither the last batch nor the totals: no process would accept new clients.
 *
 * Thread: main, which is outside of the sandbox.  Nothing here waits: serve polls the descriptors.
 */
#ifndef POOL_UPGRADE_H
#define POOL_UPGRADE_H

#include "pool/upgrade_state.h"

/** Prepare ${upgrade}. Nothing is opened. */
void upgrade_open(struct upgrade *upgrade, const struct upgrade_setup *setup);

/**
 * The server is closed: tell the new process what has been counted since TOTALS.  If that is the
 * server, image, channel and peer_fd stay open for pool/upgrade_round.
 */
void upgrade_close(struct upgrade *upgrade);

/** Why no upgrade may begin now, or NULL. */
const char *upgrade_obstacle(const struct upgrade *upgrade);

/**
 * upgrade_begin(upgrade, request):
 * Begin an upgrade.  ${request} lists all XCHG_ variables of the new process as NAME=value, then
 * NULL; NULL = those of this one.
 * Return: 0; or an exit code of xchgd --upgrade after a line in the log.
 */
int upgrade_begin(struct upgrade *upgrade, const char *const *request);

/** The new process has been started, or has come back: send HELLO. For pool/upgrade_round. */
void upgrade_introduce(struct upgrade *upgrade);

/**
 * upgrade_fd(upgrade, events):
 * The channel to poll, or -1, and in ${*events} what for.
 * upgrade_process_fd(upgrade):
 * The new process to poll for POLLIN, or -1.
 */
int upgrade_fd(const struct upgrade *upgrade, short *events);
int upgrade_process_fd(const struct upgrade *upgrade);

/** Go on. Call it after each wait. Return: when to call it again at the latest. */
uint64_t upgrade_tend(struct upgrade *upgrade);

/** A stop has begun.  Return: must it wait until upgrade_running is false? */
bool upgrade_cancel(struct upgrade *upgrade);

/** Pass the signal ${number} on to the new process, if it is the server and has not ended. */
void upgrade_pass_signal(struct upgrade *upgrade, int number);

/** This process ends at once: kill the new one, unless it is the server. */
static inline void upgrade_abort(struct upgrade *upgrade) {
  if (upgrade_running(upgrade)) {
    upgrade_signal(upgrade->peer_fd, SIGKILL);
  }
}

#endif
