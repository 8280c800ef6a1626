/*
 * task: see task.h.
 *
 * A task is allocated on the sender's thread and freed on the worker's.  TASK_QUEUE_MAX bounds the
 * tasks that wait; one visit may be added.  TASK_BYTES_MAX and the limits of the members' send
 * queues bound publications.
 */
#include "pool/task.h"

#include "net/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The task of a publication for one worker. */
struct publication_task {
  struct task task;
  struct publication *publication;
  bool begun; /* the worker has begun to visit the members */
};

struct publication {
  atom_u32 refs;
  uint64_t group;
  uint8_t *bytes; /* after the tasks */
  size_t size;
  struct publication_task tasks[];
};

static struct posted_call *posted_call_of(struct task *task) {
  return container_of(task, struct posted_call, task);
}

static struct publication_task *publication_task_of(struct task *task) {
  return container_of(task, struct publication_task, task);
}

static struct visit *visit_of(struct task *task) { return container_of(task, struct visit, task); }

/* ---- create ---- */

struct posted_call *posted_call_create(uint64_t id,
                                       void (*call)(struct xchg_conn *conn, void *argument),
                                       void *argument) {
  struct posted_call *made = malloc(sizeof(*made));
  if (made != NULL) {
    *made = (struct posted_call){
        .task = {.kind = TASK_CALL}, .id = id, .call = call, .argument = argument};
  }
  return made;
}

struct publication *publication_create(uint64_t group, const void *data, size_t size,
                                       uint32_t tasks) {
  size_t head = sizeof(struct publication) + tasks * sizeof(struct publication_task);
  struct publication *publication = malloc(head + size);
  if (publication == NULL) {
    return NULL;
  }
  *publication = (struct publication){
      .refs = tasks + 1, .group = group, .bytes = (uint8_t *)publication + head, .size = size};
  for (uint32_t i = 0; i < tasks; i++) {
    publication->tasks[i] =
        (struct publication_task){.task = {.kind = TASK_PUBLISH}, .publication = publication};
  }
  if (size > 0) {
    memcpy(publication->bytes, data, size);
  }
  return publication;
}

struct task *publication_task(struct publication *publication, uint32_t i) {
  return &publication->tasks[i].task;
}

/* Acquire and release: the last one to release sees what all others did. */
static void release_ref(void *argument) {
  struct publication *publication = argument;
  if (atom_sub_acq_rel_u32(&publication->refs, 1) == 1) {
    free(publication);
  }
}

void publication_release(struct publication *publication) { release_ref(publication); }

/* ---- send ---- */

bool task_queue_full(struct inbox *inbox) {
  return atom_load_relaxed_u32(&inbox->tasks_waiting) >= TASK_QUEUE_MAX ||
         atom_load_relaxed_u64(&inbox->task_bytes) > TASK_BYTES_MAX;
}

bool task_owner_ended(struct inbox *inbox) {
  return atom_load_relaxed_u32(&inbox->owner_ended) != 0;
}

uint64_t task_bytes(struct task *task) {
  return task->kind == TASK_PUBLISH ? publication_task_of(task)->publication->size : 0;
}

void task_send(struct inbox *inbox, struct task *task) {
  atom_add_relaxed_u32(&inbox->tasks_waiting, 1);
  atom_add_relaxed_u64(&inbox->task_bytes, task_bytes(task));
  inbox_push_mpsc(inbox, task);
}

bool visit_send(struct inbox *inbox, struct visit *visit) {
  /* Pairs with the store in show_connections: the worker is done with the last visit's slots. */
  if (atom_exchange_acq_rel_u32(&inbox->visits, 1) != 0) {
    return false;
  }
  visit->task = (struct task){.kind = TASK_VISIT};
  visit->cursor = 0;
  task_send(inbox, &visit->task);
  return true;
}

/* ---- run ---- */

static void run_posted_call(struct conn_ctx *ctx, struct posted_call *posted) {
  struct xchg_conn *conn = conn_find(ctx, posted->id);
  if (conn != NULL && posted->returned != NULL) {
    posted->returned(conn, posted);
  }
  posted->call(conn, posted->argument);
  if (ctx->thread == NULL) {
    conn_end_child(); /* the call has forked, and this is the child */
  }
  free(posted);
}

static bool publish_to_members(struct conn_ctx *ctx, struct publication_task *task,
                               uint32_t *budget) {
  struct publication *publication = task->publication;
  const struct buf_ref ref = {.data = publication->bytes,
                              .size = publication->size,
                              .release = release_ref,
                              .argument = publication};
  if (ctx->groups.groups.buckets == NULL) {
    return true; /* no connection of this worker has ever joined a group */
  }
  if (!task->begun) {
    task->begun = true;
    group_begin(&ctx->groups, publication->group);
  }
  for (; *budget > 0; (*budget)--) {
    enum xchg_slow slow;
    struct xchg_conn *conn = group_next(&ctx->groups, &slow);
    if (conn == NULL) {
      return true;
    }
    atom_add_relaxed_u32(&publication->refs, 1);
    if (!conn_publish(conn, slow, &ref)) {
      /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the task's reference is left */
      release_ref(publication);
    }
  }
  return false;
}

/* Another visit may be sent before ended is called, which tells the sender. */
static bool show_connections(struct conn_ctx *ctx, struct inbox *inbox, struct visit *visit,
                             uint32_t *budget) {
  const struct slab *slab = ctx->reactor->slab;
  for (; *budget > 0; (*budget)--) {
    uint32_t slot = slab_next(slab, visit->cursor);
    if (slot == SLAB_NONE) {
      atom_store_release_u32(&inbox->visits, 0); /* pairs with visit_send */
      visit->ended(visit, true);
      return true;
    }
    visit->cursor = slot + 1;
    struct source *source = slab_at(slab, slot);
    if (source_is_live(ctx->reactor, source)) {
      visit->each(visit, conn_of(source));
    }
  }
  return false;
}

bool task_run(struct conn_ctx *ctx, struct inbox *inbox, struct task *task, uint32_t *budget) {
  uint64_t bytes = task_bytes(task);
  watchdog_heartbeat(ctx);
  if (task->kind == TASK_VISIT) {
    if (!show_connections(ctx, inbox, visit_of(task), budget)) {
      return false;
    }
  } else if (task->kind == TASK_CALL) {
    (*budget)--;
    stats_add(&ctx->stats->posts, posted_call_of(task)->returned == NULL);
    run_posted_call(ctx, posted_call_of(task));
  } else {
    struct publication_task *own = publication_task_of(task);
    if (!publish_to_members(ctx, own, budget)) {
      return false;
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the task's own, the last here */
    release_ref(own->publication);
    *budget -= *budget > 0; /* a publication without members costs one, too */
  }
  atom_sub_release_u32(&inbox->tasks_waiting, 1);
  atom_add_relaxed_u64(&inbox->task_bytes, -bytes);
  return true;
}

void task_discard(struct task *task) {
  if (task->kind == TASK_CALL) {
    struct posted_call *posted = posted_call_of(task);
    posted->call(NULL, posted->argument);
    free(posted);
  } else if (task->kind == TASK_PUBLISH) {
    release_ref(publication_task_of(task)->publication);
  } else if (task->kind == TASK_VISIT) {
    visit_of(task)->ended(visit_of(task), false);
  }
}
