/*
 * api_post: xchg_post, xchg_publish and xchg_offload of core/xchg.h: what reaches a connection from
 * another thread.
 *
 * Each of them sends tasks (pool/task) to workers.  Only XCHG_MODEL=pool has workers: in the other
 * models the calls fail with ENOTSUP.
 */
#include "pool/task.h"
#include "pool/server.h"

#include <errno.h>
#include <stdlib.h>

/* Does ${server} have workers, and are they threads of this process? Otherwise errno says why. */
static int check_workers(struct xchg_server *server) {
  if (server_inbox(server, 0) == NULL) {
    return fail(ENOTSUP);
  }
  return server_is_owner(server) ? 0 : fail(EPERM);
}

/* ---- posts ---- */

int xchg_post(struct xchg_server *server, uint64_t id,
              void (*call)(struct xchg_conn *conn, void *argument), void *argument) {
  if (server == NULL || call == NULL || id == 0) {
    return fail(EINVAL);
  }
  if (check_workers(server) == -1) {
    return -1;
  }
  struct inbox *inbox = server_inbox(server, conn_id_worker(id, server->config->workers));
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

/* ---- publications ---- */

/* Count the workers. Return: 0, or -1 with errno if the queue of one is full. */
static int count_inboxes(struct xchg_server *server, uint32_t *count) {
  struct inbox *inbox;
  for (*count = 0; (inbox = server_inbox(server, *count)) != NULL; (*count)++) {
    if (!task_owner_ended(inbox) && task_queue_full(inbox)) {
      return fail(EAGAIN);
    }
  }
  return 0;
}

int xchg_publish(struct xchg_server *server, uint64_t group, const void *data, size_t size) {
  uint32_t count;
  if (server == NULL) {
    return fail(EINVAL);
  }
  if (size > XCHG_MESSAGE_MAX) {
    return fail(EMSGSIZE);
  }
  if (check_workers(server) == -1 || count_inboxes(server, &count) == -1) {
    return -1;
  }
  struct publication *publication = publication_create(group, data, size, count);
  if (publication == NULL) {
    return fail(ENOMEM);
  }
  for (uint32_t i = 0; i < count; i++) {
    struct inbox *inbox = server_inbox(server, i);
    if (task_owner_ended(inbox)) {
      publication_release(publication); /* its connections have ended */
    } else {
      task_send(inbox, publication_task(publication, i));
    }
  }
  publication_release(publication);
  return 0;
}

/* ---- work that blocks ---- */

/* First a job for the pool of threads, then a call for the worker of the connection. */
struct offload_job {
  struct posted_call call; /* first: task_run frees it */
  struct job job;
  void (*work)(void *argument);
  struct inbox *inbox; /* borrows: the worker's */
};

static void run_offload_job(struct job *job, bool begun) {
  struct offload_job *offload = container_of(job, struct offload_job, job);
  if (begun) {
    offload->work(offload->call.argument);
  } else {
    offload->call.id = 0; /* no connection waits for it any more */
  }
  task_send(offload->inbox, &offload->call.task);
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
  struct offload_job *offload = conn_cold(conn) == NULL ? NULL : malloc(sizeof(*offload));
  if (offload == NULL) {
    return fail(ENOMEM);
  }
  *offload = (struct offload_job){.call = {.task = {.kind = TASK_CALL},
                                           .id = xchg_id(conn),
                                           .call = done,
                                           .argument = argument,
                                           .offloaded = true},
                                  .job = {.run = run_offload_job},
                                  .work = work,
                                  .inbox = inbox};
  if (offload_push(&server->offload, &offload->job) == -1) {
    int error = errno;
    stats_add(&conn->ctx->stats->offloads_refused, error == EAGAIN);
    free(offload);
    return fail(error);
  }
  stats_add(&conn->ctx->stats->offloads, 1);
  (void)conn_offload_begin(conn); /* the cold part is there; this thread takes the result later */
  conn_schedule(conn);
  return 0;
}
