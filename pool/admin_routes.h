/*
 * admin_routes: the routes of the admin endpoint.
 */
#ifndef POOL_ADMIN_ROUTES_H
#define POOL_ADMIN_ROUTES_H

#include "pool/admin.h"

/** Answer ${request}, which is well-formed. Thread: xchg-adm. */
void admin_routes_answer(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request);

#endif
