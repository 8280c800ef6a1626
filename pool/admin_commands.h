/*
 * admin_commands: the commands of the admin endpoint. pool/admin_routes has checked their guards.
 */
#ifndef POOL_ADMIN_COMMANDS_H
#define POOL_ADMIN_COMMANDS_H

#include "pool/admin.h"

/**
 * POST /drain, /ready?state=, /log?level=&for= and /close?id=&how=: execute ${request} and answer.
 * Only /close answers later, when the worker of the connection has executed it. Thread: xchg-adm.
 */
void admin_command_drain(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request);
void admin_command_ready(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request);
void admin_command_log(struct admin *admin, struct xchg_conn *conn,
                       const struct http_request *request);
void admin_command_close(struct admin *admin, struct xchg_conn *conn,
                         const struct http_request *request);

#endif
