/*
 * admin_server: the server of the admin endpoint, as pool/serve sees it.
 *
 * It starts before the program's server and ends after it, so it answers all the time.  If ${admin}
 * is NULL, there is no endpoint, and the functions do nothing.
 *
 * At most ADMIN_CONNECTIONS clients are connected.  A new connection replaces the one that has been
 * idle longest between two requests.  If none is idle, a new TCP connection is closed, and one to a
 * UNIX socket replaces the least recently used TCP connection: clients of the port cannot lock the
 * operator out.  A burst of new connections may exceed the limit for a moment, because their
 * requests have not been read yet.
 */
#ifndef POOL_ADMIN_SERVER_H
#define POOL_ADMIN_SERVER_H

#include "pool/admin.h"

#define ADMIN_CONNECTIONS 16

/**
 * admin_server_open(admin, setup):
 * Bind the addresses of XCHG_ADMIN, or take over the sockets passed for it, and open what the
 * endpoint needs later. No thread is started. Without either ${*admin} is NULL.
 * Return: 0, or an exit code after a line in the log; admin_server_close is due in both cases.
 */
int admin_server_open(struct admin **admin, const struct admin_setup *setup);

/** Answer from now on, in the state ADMIN_STARTING. Return: as admin_server_open. */
int admin_server_start(struct admin *admin);

/** ${data} runs; msg=listening follows. */
void admin_server_set_serving(struct admin *admin, struct xchg_server *data);

/** The stop has begun, with or without a drain delay: from now on /readyz returns 503. */
void admin_server_set_draining(struct admin *admin);

/** Does an upgrade run? The endpoint's state says so. */
void admin_server_set_upgrading(struct admin *admin, bool upgrading);

/** Has POST /drain been called? It wakes the main thread by the data server's server_done_fd. */
bool admin_server_drain_asked(const struct admin *admin);

/**
 * admin_server_tend_log(admin, now_ns):
 * Set the log level of POST /log, and the configured one when its time is over.
 * Return: when to call it again, if nothing wakes the main thread before.
 */
uint64_t admin_server_tend_log(struct admin *admin, uint64_t now_ns);

/** Answer the requests that have arrived, then end the endpoint's threads. */
void admin_server_end(struct admin *admin);

/** Free it. */
void admin_server_close(struct admin *admin);

#endif
