/*
 * api_post: xchg_post, xchg_publish and the offload calls of core/xchg.h: what reaches a connection
 * from another thread.
 *
 * Each of them sends tasks (pool/task) to workers.  Only XCHG_MODEL=pool has workers: in the other
 * models the calls fail with ENOTSUP.
 */
#include "pool/forked.h"
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

/*
 * What the jobs of one connection share.  They hold its address's place in XCHG_MAX_PER_IP when it
 * has ended, so that an address cannot occupy all threads by connections that it resets.
 */
struct conn_jobs {
  atom_u32 refs;               /* of the connection until it ends, and of each job until it ends */
  uint32_t ip_slot;            /* the place, once the connection has ended */
  struct admission *admission; /* borrows: the server's */
  struct offload_job *first;   /* the worker's: jobs that have not come back */
};

/* First a job for the pool of threads, then a call for the worker of the connection. */
struct offload_job {
  struct posted_call call; /* first: task_run frees it */
  struct job job;
  void (*work)(void *argument);
  struct inbox *inbox;                 /* borrows: the worker's */
  struct conn_jobs *jobs;              /* shared */
  struct offload_job *next, *previous; /* the worker's, while the connection lives: in jobs */
  bool cancel;                         /* XCHG_OFFLOAD_CANCEL */
};

/* Acquire and release: the last one to release sees the place that the connection left. */
static void release_jobs(struct conn_jobs *jobs) {
  if (atom_sub_acq_rel_u32(&jobs->refs, 1) == 1) {
    admission_release(jobs->admission, jobs->ip_slot);
    free(jobs);
  }
}

/* Do the work. A child that it has forked must not go on as a thread of the pool. */
static void do_work(struct offload_job *offload) {
  uint64_t process = forked_number();
  offload->work(offload->call.argument);
  if (forked_number() != process) {
    conn_end_child();
  }
}

static void run_offload_job(struct job *job, bool begun) {
  struct offload_job *offload = container_of(job, struct offload_job, job);
  if (begun) {
    do_work(offload);
  } else {
    offload->call.id = 0; /* no connection waits for it any more */
  }
  release_jobs(offload->jobs);
  task_send(offload->inbox, &offload->call.task);
}

/* The result of a job is back, and its connection lives. */
static void take_back(struct xchg_conn *conn, struct posted_call *posted) {
  struct offload_job *offload = container_of(posted, struct offload_job, call);
  struct conn_jobs *jobs = conn->cold->jobs;
  *(offload->previous == NULL ? &jobs->first : &offload->previous->next) = offload->next;
  if (offload->next != NULL) {
    offload->next->previous = offload->previous;
  }
  conn_offload_end(conn);
  conn_schedule(conn);
}

/* ${conn} has ended: cancel what may be cancelled, and leave its place to what is still to run. */
static void end_jobs(struct xchg_conn *conn) {
  struct conn_jobs *jobs = conn->cold->jobs;
  struct offload *pool = &conn->ctx->server->offload;
  bool left = false;
  for (struct offload_job *offload = jobs->first, *next; offload != NULL; offload = next) {
    next = offload->next; /* read before the job is sent back */
    if (offload->cancel && offload_cancel(pool, &offload->job)) {
      run_offload_job(&offload->job, false);
    } else {
      left = true;
    }
  }
  if (left) {
    jobs->ip_slot = conn_peer(conn)->ip_slot;
    conn_peer(conn)->ip_slot = NO_IP_SLOT;
  }
  conn->cold->jobs = NULL;
  release_jobs(jobs);
}

/* What the jobs of ${conn} share, made at the first one. Return: NULL without memory. */
static struct conn_jobs *jobs_of(struct xchg_conn *conn) {
  struct conn_cold *cold = conn_cold(conn);
  if (cold == NULL || cold->jobs != NULL) {
    return cold == NULL ? NULL : cold->jobs;
  }
  struct conn_jobs *jobs = malloc(sizeof(*jobs));
  if (jobs != NULL) {
    *jobs = (struct conn_jobs){
        .refs = 1, .ip_slot = NO_IP_SLOT, .admission = &conn->ctx->server->admission};
    conn->ctx->end_jobs = end_jobs;
    cold->jobs = jobs;
  }
  return jobs;
}

/* Push ${offload}, a job of ${conn}. Return: 0, or -1 with errno. */
static int push_job(struct xchg_conn *conn, struct offload_job *offload) {
  struct conn_jobs *jobs = offload->jobs;
  atom_add_relaxed_u32(&jobs->refs, 1);
  offload->next = jobs->first; /* before the push: the job may come back at once */
  if (offload_push(&conn->ctx->server->offload, &offload->job) == -1) {
    (void)atom_sub_release_u32(&jobs->refs, 1); /* not the last one: the connection has another */
    return -1;
  }
  if (jobs->first != NULL) {
    jobs->first->previous = offload;
  }
  jobs->first = offload;
  (void)conn_offload_begin(conn); /* the cold part is there; this thread takes the result later */
  return 0;
}

int xchg_offload_flags(struct xchg_conn *conn, void (*work)(void *argument),
                       void (*done)(struct xchg_conn *conn, void *argument), void *argument,
                       unsigned flags) {
  if (!conn_can_send(conn)) {
    return -1;
  }
  struct xchg_server *server = conn->ctx->server;
  struct inbox *inbox = server == NULL ? NULL : server_inbox(server, conn->ctx->index);
  if (work == NULL || done == NULL || (flags & ~XCHG_OFFLOAD_CANCEL) != 0) {
    return fail(EINVAL);
  }
  if (inbox == NULL) {
    return fail(ENOTSUP);
  }
  struct conn_jobs *jobs = jobs_of(conn);
  struct offload_job *offload = jobs == NULL ? NULL : malloc(sizeof(*offload));
  if (offload == NULL) {
    return fail(ENOMEM);
  }
  *offload = (struct offload_job){.call = {.task = {.kind = TASK_CALL},
                                           .id = xchg_id(conn),
                                           .call = done,
                                           .argument = argument,
                                           .returned = take_back},
                                  .job = {.run = run_offload_job},
                                  .work = work,
                                  .inbox = inbox,
                                  .jobs = jobs,
                                  .cancel = (flags & XCHG_OFFLOAD_CANCEL) != 0};
  if (push_job(conn, offload) == -1) {
    int error = errno;
    stats_add(&conn->ctx->stats->offloads_refused, error == EAGAIN);
    free(offload);
    return fail(error);
  }
  stats_add(&conn->ctx->stats->offloads, 1);
  conn_schedule(conn);
  return 0;
}

int xchg_offload(struct xchg_conn *conn, void (*work)(void *argument),
                 void (*done)(struct xchg_conn *conn, void *argument), void *argument) {
  return xchg_offload_flags(conn, work, done, argument, 0);
}
