/*
 * model_iterative: serves one connection at a time on the acceptor's thread.  The others wait in
 * the backlog: the acceptor looks at its listeners again when the connection has ended.
 */
#include "pool/worker.h"
#include "pool/model.h"

#include <errno.h>
#include <stdlib.h>

struct model_iterative {
  struct worker worker; /* first: aligned */
  struct model model;
};

static struct model_iterative *iterative_of(struct model *model) {
  return container_of(model, struct model_iterative, model);
}

static uint32_t iterative_live(struct model *model) {
  return atom_load_relaxed_u32(&iterative_of(model)->worker.live);
}

static int iterative_dispatch(struct model *model, const struct accepted_conn *accepted) {
  struct worker *worker = &iterative_of(model)->worker;
  atom_add_relaxed_u32(&worker->live, 1);
  worker_serve(worker, accepted);
  return 0;
}

static void iterative_stop(struct model *model, uint64_t stop_ns) {
  worker_send_drain(&iterative_of(model)->worker, stop_ns);
}

static void iterative_totals(struct model *model, struct stats *totals) {
  stats_sum(totals, &iterative_of(model)->worker.stats);
}

static void iterative_destroy(struct model *model) {
  struct model_iterative *iterative = iterative_of(model);
  worker_close(&iterative->worker);
  free(iterative);
}

struct model *model_iterative_create(const struct model_setup *setup) {
  static const struct model_ops ops = {.live = iterative_live,
                                       .dispatch = iterative_dispatch,
                                       .stop = iterative_stop,
                                       .add_totals = iterative_totals,
                                       .destroy = iterative_destroy};
  struct model_iterative *iterative = aligned_alloc(CACHE_LINE, sizeof(*iterative));
  if (iterative == NULL) {
    return NULL;
  }
  iterative->model = (struct model){.ops = &ops, .setup = *setup};
  const struct worker_setup worker = {.config = setup->config,
                                      .handler = setup->handler,
                                      .admission = setup->admission,
                                      .server = setup->server,
                                      .log = setup->log};
  if (worker_open(&iterative->worker, &worker) == -1) {
    int error = errno;
    free(iterative);
    errno = error;
    return NULL;
  }
  return &iterative->model;
}
