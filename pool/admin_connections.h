/*
 * admin_connections: the route /connections, which waits for the workers and answers later.
 */
#ifndef POOL_ADMIN_CONNECTIONS_H
#define POOL_ADMIN_CONNECTIONS_H

#include "pool/admin.h"

/**
 * admin_connections(admin, conn, request):
 * Answer with the connections of the data server that match the query, as soon as all workers have
 * answered. After a second, workers that have not answered are left out. While a walk runs, another
 * request gets 503.
 * Thread: xchg-adm.
 */
void admin_connections(struct admin *admin, struct xchg_conn *conn,
                       const struct http_request *request);

/** ${conn} closes: release its walk. Thread: xchg-adm. */
void admin_connections_end(struct admin *admin, const struct xchg_conn *conn);

#endif
