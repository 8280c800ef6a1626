/*
 * admin_connections: see admin_connections.h.
 *
 * The walk belongs to the connection that waits for it.  While it is in progress, data->walk is the
 * only pointer to it that is kept.
 */
#include "pool/admin_connections.h"

#include "pool/snapshot.h"

#include <errno.h>
#include <stdlib.h>

/* A worker that takes longer is named as missing. */
#define WALK_NS NS_PER_S

/* Send the rows of ${walk}, which has been finished. */
static void answer_rows(struct admin *admin, struct xchg_conn *conn, const struct snapshot *walk) {
  size_t size = snapshot_json(walk, admin->buffer, ADMIN_BUFFER_BYTES);
  char *more = size > ADMIN_BUFFER_BYTES ? malloc(size) : NULL;
  if (size <= ADMIN_BUFFER_BYTES) {
    admin_answer(conn, 200, "application/json", admin->buffer, size);
  } else if (more == NULL) {
    admin_answer_line(conn, 503, "out of memory");
  } else {
    (void)snapshot_json(walk, more, size); /* the size is known */
    admin_answer(conn, 200, "application/json", more, size);
  }
  free(more);
}

/* All workers have answered, or the second is over. */
static void finish(struct xchg_conn *conn, struct snapshot *walk) {
  const struct admin_conn *state = xchg_state(conn);
  snapshot_finish(walk);
  if (admin_awaited(conn, state->number)) {
    answer_rows(xchg_user(conn), conn, walk);
  }
  snapshot_free(walk);
}

static void on_late(struct admin *admin, struct xchg_conn *conn, uint32_t number) {
  (void)number; /* the connection waits for one answer only, this one */
  finish(conn, admin->data->walk);
}

static void refuse(struct xchg_conn *conn, int error) {
  switch (error) {
    case EBUSY:
      admin_answer_line(conn, 503, "busy");
      return;
    case EINVAL:
      admin_answer_line(conn, 400, "no such worker");
      return;
    case ENOTSUP:
      admin_answer_line(conn, 501, "available under XCHG_MODEL=pool only");
      return;
    default:
      admin_answer_line(conn, 503, "out of memory");
      return;
  }
}

void admin_connections(struct admin *admin, struct xchg_conn *conn,
                       const struct http_request *request) {
  struct snapshot_query query;
  char why[128];
  if (snapshot_query_parse(request->query, &query, why, sizeof(why)) == -1) {
    admin_answer_line(conn, 400, why);
    return;
  }
  if (snapshot_start(admin->data, &query, conn, finish) == NULL) {
    refuse(conn, errno);
    return;
  }
  (void)admin_wait(conn, on_late, WALK_NS); /* finish knows the number by the connection */
}

void admin_connections_end(struct admin *admin, const struct xchg_conn *conn) {
  struct snapshot *walk = admin_life(admin) == ADMIN_STARTING ? NULL : admin->data->walk;
  if (walk != NULL && snapshot_asker(walk) == xchg_id(conn)) {
    snapshot_free(walk);
  }
}
