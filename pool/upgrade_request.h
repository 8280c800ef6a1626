/*
 * upgrade_request: the socket of XCHG_UPGRADE in the server, and who asks there (xchgd --upgrade).
 *
 *   accept    the asker must be this user or root, else 77
 *   request   within 5 s: one packet of texts NAME=value, each with its 0, and no descriptor.  They
 *             are all XCHG_ variables of the new process
 *   check     not while another upgrade or a stop is under way, else 75; the configuration must be
 *             one that this server can become, else 78 or 69
 *   begin     upgrade_begin
 *   answer    one packet: the exit code of xchgd --upgrade, a space, and a text.  That names the
 *             variables that have changed and the connections that stay, or says at which step it
 *             has failed and why
 *
 * Only root may change XCHG_HANDLER, weaken XCHG_SANDBOX or add a port below 1024.  The server may
 * have rights that other processes of its user lack, and a request must not be a way to them.
 *
 * The socket is handed over like all listeners.  The new process accepts after COMMIT.
 *
 * Thread: main.
 */
#ifndef POOL_UPGRADE_REQUEST_H
#define POOL_UPGRADE_REQUEST_H

#include "core/config_vars.h"
#include "pool/upgrade.h"

/* One asker. */
struct upgrade_asker {
  int fd; /* owns; -1 = there is none */
  uid_t uid;
  uint64_t deadline_ns;         /* for its request */
  char changes[VAR_COUNT * 32]; /* the variables that its upgrade changes */
};

struct upgrade_requests {
  struct config config;         /* of the listener */
  struct listener listener;     /* fd -1 = there is none */
  struct upgrade *upgrade;      /* borrows */
  bool held;                    /* the process before this one still accepts */
  struct upgrade_asker reading; /* its request has not come */
  struct upgrade_asker waiting; /* its upgrade is under way */
};

/** Prepare ${requests} without a socket. */
void requests_init(struct upgrade_requests *requests, struct upgrade *upgrade);

/**
 * requests_open(requests, inherited, count):
 * Listen, if XCHG_UPGRADE names a socket: at that of the ${count} ${inherited} ones of the process
 * before, or at a new one.
 * Return: 0, or an exit code after a line in the log.
 */
int requests_open(struct upgrade_requests *requests, struct upgrade_listener *inherited,
                  uint32_t count);

/** Close everything. */
void requests_close(struct upgrade_requests *requests);

/** The descriptors to poll for input: of the socket and of the asker that has not asked, or -1. */
void requests_fds(const struct upgrade_requests *requests, int *socket, int *asker);

/** Go on. Return: when to call it again at the latest. */
uint64_t requests_tend(struct upgrade_requests *requests);

#endif
