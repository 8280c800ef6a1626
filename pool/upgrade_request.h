/*
 * upgrade_request: the socket of XCHG_UPGRADE in the server, and who asks there (xchgd --upgrade).
 *
 *   accept     the asker must be this user or root, else 77
 *   REQUEST    within 5 s; it holds all XCHG_ variables of the new process, and no descriptor
 *   check      the configuration must be one that this server can become, else 78
 *   begin      upgrade_begin; 75 while another upgrade or a stop is under way
 *   ANSWER     the outcome, and the names of the variables that have changed
 *
 * Only root may change XCHG_HANDLER or weaken XCHG_SANDBOX.  The server may have rights that other
 * processes of its user lack, and a request must not be a way to them.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_REQUEST_H
#define POOL_UPGRADE_REQUEST_H

#include "net/upgrade_socket.h"
#include "pool/upgrade.h"

/* One asker. */
struct upgrade_asker {
  struct upgrade_channel channel;
  uid_t uid;
  uint64_t deadline_ns;       /* for its request */
  char changes[UPGRADE_TEXT]; /* the variables that its upgrade changes */
};

struct upgrade_requests {
  struct upgrade_socket socket;
  struct upgrade *upgrade;      /* borrows */
  bool gave_up;                 /* the path was left to another process */
  struct upgrade_asker reading; /* its request has not come */
  struct upgrade_asker waiting; /* its upgrade is under way */
};

/** Prepare ${requests} without a socket. */
void requests_init(struct upgrade_requests *requests, struct upgrade *upgrade);

/** Listen, if XCHG_UPGRADE names a socket. Return: 0, or an exit code after a line in the log. */
int requests_open(struct upgrade_requests *requests);

/** Listen no more, and remove the file: another process takes the path. Askers stay. */
void requests_leave(struct upgrade_requests *requests);

/** Close everything. */
void requests_close(struct upgrade_requests *requests);

/** The descriptors to poll for input: of the socket and of the asker that has not asked, or -1. */
void requests_fds(const struct upgrade_requests *requests, int *socket, int *asker);

/** Go on. Return: when to call it again at the latest. */
uint64_t requests_tend(struct upgrade_requests *requests);

#endif
