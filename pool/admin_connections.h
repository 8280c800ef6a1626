/*
 * admin_connections: the route /connections, which asks the workers and answers later.
 */
#ifndef POOL_ADMIN_CONNECTIONS_H
#define POOL_ADMIN_CONNECTIONS_H

#include "pool/admin.h"

/**
 * admin_connections(admin, conn, request):
 * Answer with the connections of the data server that the query describes, once all workers have
 * answered, or after a second without those that have not. A second asker gets 503.
 * Thread: xchg-adm, as what follows.
 */
void admin_connections(struct admin *admin, struct xchg_conn *conn,
                       const struct http_request *request);

/** ${conn} closes: forget what it has asked for. */
void admin_connections_end(struct admin *admin, const struct xchg_conn *conn);

#endif
