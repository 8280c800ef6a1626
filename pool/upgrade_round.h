/*
 * upgrade_round: the round trip of an upgrade, after which the server has its old process id.
 *
 *   parent  the child is the server, and nothing is left here.  This process executes the child's
 *           program in its own place, with the channel open: upgrade_round_end
 *   parent  the new program says BACK: it is the new process of a second upgrade, see
 *           pool/upgrade_successor
 *   child   begins that upgrade: upgrade_round_begin.  Connections, listeners and totals return
 *   child   ends after COMMIT
 *
 * Where the parent cannot execute the program, or the program fails before it is ready, it stays a
 * parent: it passes signals on to the child, and ends with its exit code.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_ROUND_H
#define POOL_UPGRADE_ROUND_H

#include "pool/signals.h"
#include "pool/upgrade.h"

/**
 * upgrade_round_begin(upgrade, channel, parent):
 * The process ${parent} has come back.  If a stop has begun it is not wanted, and learns of it by
 * the end of the channel.
 * Own: ${channel} is the upgrade's.
 */
void upgrade_round_begin(struct upgrade *upgrade, const struct upgrade_channel *channel,
                         pid_t parent);

/**
 * upgrade_round_end(upgrade, signals, may_execute):
 * The new process is the server, and this one has closed its own, or cannot.  Execute the program,
 * if it ${may_execute}; else wait for the child as upgrade_round_wait.  The child of a return ends.
 * Return: the exit code of this process.
 */
int upgrade_round_end(struct upgrade *upgrade, struct signals *signals, bool may_execute);

/** Pass what ${signals} has read as ${what} on to the child ${fd}, which is the server. */
void upgrade_round_pass(int fd, enum signals_what what, const struct signals *signals);

/**
 * upgrade_round_wait(fd, signals):
 * Pass signals on to the child ${fd} until it ends.  It stays for the next parent to wait for.
 * Other children are reaped if ${signals->reaps}.
 * Return: its exit code; 128 and the number of the signal that has ended it; 71 = unknown.
 */
int upgrade_round_wait(int fd, struct signals *signals);

#endif
