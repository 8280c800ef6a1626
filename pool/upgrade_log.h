/* upgrade_log: the lines that the old process of an upgrade writes. */
#ifndef POOL_UPGRADE_LOG_H
#define POOL_UPGRADE_LOG_H

#include "pool/upgrade_state.h"

/** msg="upgrade refused", with ${error} unless it is 0. */
void upgrade_log_refused(struct log *log, const char *why, int error);

/** msg=upgrading, or msg=returning: the new process, version ${to}, has said who it is. */
void upgrade_log_begun(const struct upgrade *upgrade, const char *to);

/** A line for each reason why connections stay, and msg=upgraded or msg=returned at every level. */
void upgrade_log_done(const struct upgrade *upgrade);

/** msg="upgrade turned back", or msg="return turned back". */
void upgrade_log_turned_back(const struct upgrade *upgrade, const char *status);

/** If ${channel} rests after an error, say so once. Return: until when it rests, or NEVER. */
uint64_t upgrade_log_rest(struct log *log, struct upgrade_channel *channel);

/** Write "exit 78" or "signal 11" for the ${status} of waitpid, "unknown" for any other value. */
void upgrade_describe_status(int status, char *text, size_t size);

#endif
