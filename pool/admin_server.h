/*
 * admin_server: the server of the admin endpoint, as pool/serve sees it.
 *
 * It starts before the program's server and ends behind it, so it can be asked all the time.  Each
 * function takes NULL, which stands for no endpoint, and does nothing then.
 *
 * At most ADMIN_CONNECTIONS clients have a place.  A newcomer takes the place of the connection
 * that has been idle for longest between two requests.  Only if none is idle it is closed; but one
 * by a UNIX socket then takes the place of a TCP connection, if there is one.  A burst of newcomers
 * may exceed that for a moment, because what they ask has not been read yet.
 */
#ifndef POOL_ADMIN_SERVER_H
#define POOL_ADMIN_SERVER_H

#include "pool/admin.h"

#define ADMIN_CONNECTIONS 16

/**
 * admin_server_open(admin, setup):
 * Make the endpoint and let it answer, if XCHG_ADMIN is set; else ${*admin} is NULL. Its state is
 * starting.
 * Return: 0, or an exit code after a line in the log; admin_server_close is due in both cases.
 */
int admin_server_open(struct admin **admin, const struct admin_setup *setup);

/** ${data} runs, and its addresses are about to be logged. */
void admin_server_set_serving(struct admin *admin, struct xchg_server *data);

/** The stop has begun, its delay included: from now on /readyz says 503. */
void admin_server_set_draining(struct admin *admin);

/** Has POST /drain been called? It wakes the main thread by the data server's server_done_fd. */
bool admin_server_drain_asked(const struct admin *admin);

/**
 * admin_server_tend_log(admin, now_ns):
 * Set the level of the log as POST /log has asked, and as configured when that is over.
 * Return: when to call it again, if nothing wakes the main thread before.
 */
uint64_t admin_server_tend_log(struct admin *admin, uint64_t now_ns);

/** Answer what has been asked, then end the endpoint's threads. */
void admin_server_end(struct admin *admin);

/** Free it. */
void admin_server_close(struct admin *admin);

#endif
