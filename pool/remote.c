/* remote: see remote.h. */
#include "pool/remote.h"

#include "pool/task.h"
#include "pool/server.h"

#include <errno.h>
#include <stdlib.h>

/* ---- posts --------------------------------------------------------------------------------- */

int xchg_post(struct xchg_server *server, uint64_t id,
              void (*call)(struct xchg_conn *conn, void *argument), void *argument) {
  if (server == NULL || call == NULL || id == 0) {
    return fail(EINVAL);
  }
  if (server_inbox(server, 0) == NULL) {
    return fail(ENOTSUP);
  }
  struct inbox *inbox = server_inbox(server, conn_id_worker(id));
  if (inbox == NULL) {
    return fail(EINVAL);
  }
  if (task_queue_full(inbox)) {
    return fail(EAGAIN);
  }
  struct posted_call *task = posted_call_create(id, call, argument);
  if (task == NULL) {
    return fail(ENOMEM);
  }
  task_send(inbox, &task->task);
  return 0;
}

/* ---- publications -------------------------------------------------------------------------- */

/* Workers, or an error that speaks against sending something to all of them. */
static int count_inboxes(struct xchg_server *server, uint32_t *count) {
  struct inbox *inbox;
  for (*count = 0; (inbox = server_inbox(server, *count)) != NULL; (*count)++) {
    if (!task_owner_ended(inbox) && task_queue_full(inbox)) {
      return fail(EAGAIN);
    }
  }
  return *count == 0 ? fail(ENOTSUP) : 0;
}

int xchg_publish(struct xchg_server *server, uint64_t group, const void *data, size_t size) {
  uint32_t count;
  if (server == NULL) {
    return fail(EINVAL);
  }
  if (size > XCHG_MESSAGE_MAX) {
    return fail(EMSGSIZE);
  }
  if (count_inboxes(server, &count) == -1) {
    return -1;
  }
  struct publication *publication = publication_create(group, data, size, count);
  if (publication == NULL) {
    return fail(ENOMEM);
  }
  for (uint32_t i = 0; i < count; i++) {
    struct inbox *inbox = server_inbox(server, i);
    if (task_owner_ended(inbox)) {
      publication_release(publication); /* nobody is there */
    } else {
      task_send(inbox, publication_task(publication, i));
    }
  }
  publication_release(publication);
  return 0;
}

/* ---- work that blocks ---------------------------------------------------------------------- */

/* One work: a job for the pool, then a call for the worker that asked for it. */
struct offload_job {
  struct posted_call call; /* first: who makes the call frees it */
  struct job job;
  void (*work)(void *argument);
  struct inbox *inbox; /* borrows: the worker's */
};

static void run_offload_job(struct job *job, bool begun) {
  struct offload_job *job_ref = container_of(job, struct offload_job, job);
  if (begun) {
    job_ref->work(job_ref->call.argument);
  } else {
    job_ref->call.id = 0; /* nobody waits for it any more */
  }
  task_send(job_ref->inbox, &job_ref->call.task);
}

int xchg_offload(struct xchg_conn *conn, void (*work)(void *argument),
                 void (*done)(struct xchg_conn *conn, void *argument), void *argument) {
  if (!conn_can_send(conn)) {
    return -1;
  }
  struct xchg_server *server = conn->ctx->server;
  struct inbox *inbox = server == NULL ? NULL : server_inbox(server, conn->ctx->index);
  if (work == NULL || done == NULL) {
    return fail(EINVAL);
  }
  if (inbox == NULL) {
    return fail(ENOTSUP);
  }
  struct offload_job *job_ref = conn_cold(conn) == NULL ? NULL : malloc(sizeof(*job_ref));
  if (job_ref == NULL) {
    return fail(ENOMEM);
  }
  *job_ref = (struct offload_job){.call = {.task = {.kind = TASK_CALL},
                                           .id = xchg_id(conn),
                                           .call = done,
                                           .argument = argument,
                                           .offloaded = true},
                                  .job = {.run = run_offload_job},
                                  .work = work,
                                  .inbox = inbox};
  if (offload_push(&server->offload, &job_ref->job) == -1) {
    int error = errno;
    stats_add(&conn->ctx->stats->offloads_refused, error == EAGAIN);
    free(job_ref);
    return fail(error);
  }
  stats_add(&conn->ctx->stats->offloads, 1);
  (void)conn_offload_begin(conn); /* the cold part is there; this thread takes the result later */
  conn_schedule(conn);
  return 0;
}

/* ---- counters ------------------------------------------------------------------------------ */

void remote_stats(struct xchg_server *server, struct xchg_stats *stats) {
  struct stats totals;
  server_totals(server, &totals);
  stats->accepted = atom_load_relaxed_u64(&totals.accepted);
  stats->open = sub_sat_u64(stats->accepted, stats_ended(&totals));
  for (size_t i = 0; i < XCHG_REASONS; i++) {
    stats->ended[i] = atom_load_relaxed_u64(&totals.ended[i]);
  }
#define OMIT(name)
#define COPY(name) stats->name = atom_load_relaxed_u64(&totals.name);
  STATS_COUNTERS(OMIT, COPY)
}
