/* upgrade_log: the lines that the old process of an upgrade writes. */
#ifndef POOL_UPGRADE_LOG_H
#define POOL_UPGRADE_LOG_H

#include "pool/upgrade_giver.h"

#include <sys/types.h>

/* Of an upgrade that has succeeded. */
struct upgrade_sums {
  pid_t child;
  uint64_t listeners; /* for clients */
  uint64_t started_ns;
};

/** msg="upgrade refused", with ${error} unless it is 0. */
void upgrade_log_refused(struct log *log, const char *why, int error);

/** msg=upgrading: the new process, which is version ${to}, has said who it is. */
void upgrade_log_begun(struct log *log, pid_t child, const char *path, const char *to,
                       uint64_t connections);

/** A line for each reason why connections stay, and msg=upgraded, at every level. */
void upgrade_log_done(struct log *log, const struct upgrade_giver *giver,
                      const struct upgrade_sums *sums);

/** msg="upgrade turned back". */
void upgrade_log_turned_back(struct log *log, const struct upgrade_giver *giver, const char *step,
                             const char *reason, const char *status);

/** Write "exit 78" or "signal 11" for the ${status} of waitpid, "unknown" for any other value. */
void upgrade_describe_status(int status, char *text, size_t size);

#endif
