/*
 * model_thread: a thread for each connection.
 *
 * There is a slot for each connection that the limit allows.  The acceptor takes a free slot,
 * starts its thread, and joins the thread when it has ended.  A thread that ends pushes its slot on
 * a list that the acceptor takes whole.  Each thread waits for its connection and for one shared
 * eventfd, which the stop makes readable permanently.  So no thread needs a descriptor of its own.
 */
#include "pool/thread.h"
#include "pool/worker.h"
#include "pool/model.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* The worker (19 KiB) and its turns need less; its read buffer is mapped. */
#define STACK_BYTES ((size_t)128 * 1024)
#define STACK_BYTES_CUSTOM ((size_t)1024 * 1024) /* a program's handler may need more stack */

struct thread_slot {
  struct thread_slot *next; /* in the free list (acceptor) or the list of ended slots */
  struct model_thread *all;
  struct accepted_conn accepted;
  uint64_t number; /* tells connections apart in their ids */
  pthread_t thread;
};

struct model_thread {
  struct model model;
  struct thread_slot *slots; /* owns */
  struct thread_slot *free;  /* acceptor */
  uint32_t threads_active;   /* threads to be joined; acceptor */
  uint64_t dispatched;       /* connections so far; acceptor */
  pthread_attr_t attributes;
  struct wake stop; /* readable permanently once the server stops */
  atom_u64 stop_ns;
  struct stats *stats;          /* owns: threads add theirs when they end */
  CACHE_ALIGNED atom_ptr ended; /* slots whose threads have ended */
  CACHE_ALIGNED atom_u32 live;
};

static struct model_thread *model_thread_of(struct model *model) {
  return container_of(model, struct model_thread, model);
}

/* ---- a thread ---- */

/*
 * If there is no memory for a worker the connection is closed.  The worker is on the stack, because
 * it must not use malloc: see pool/worker.c.
 */
static void serve(struct thread_slot *slot) {
  struct model_thread *all = slot->all;
  const struct model_setup *setup = &all->model.setup;
  const struct worker_setup worker_setup = {.config = setup->config,
                                            .handler = setup->handler,
                                            .admission = setup->admission,
                                            .server = setup->server,
                                            .log = setup->log};
  struct worker worker;
  if (worker_open_single(&worker, &worker_setup, &all->stop) == -1) {
    atom_add_relaxed_u64(&all->stats->ended[XCHG_MEMORY], 1);
    accepted_conn_close(&slot->accepted);
    admission_release(setup->admission, slot->accepted.ip_slot);
  } else {
    atom_add_relaxed_u32(&worker.live, 1);
    worker_number_single(&worker, slot->number);
    worker_serve_single(&worker, &slot->accepted, &all->stop_ns);
    stats_merge(all->stats, &worker.stats);
    worker_close(&worker);
  }
}

static void *thread_main(void *argument) {
  struct thread_slot *slot = argument;
  struct model_thread *all = slot->all;
  thread_set_name("xchg-conn");
  serve(slot);
  void *newest = atom_load_relaxed_ptr(&all->ended);
  do {
    slot->next = newest;
  } while (!atom_cas_release_ptr(&all->ended, &newest, slot)); /* pairs with model_thread_reap */
  atom_sub_release_u32(&all->live, 1);
  room_wake(all->model.setup.admission);
  return NULL;
}

/* ---- the acceptor's side ---- */

static void model_thread_reap(struct model *model) {
  struct model_thread *all = model_thread_of(model);
  struct thread_slot *slot = atom_exchange_acquire_ptr(&all->ended, NULL);
  while (slot != NULL) {
    struct thread_slot *next = slot->next;
    (void)pthread_join(slot->thread, NULL); /* cannot fail: joined once, by another */
    slot->next = all->free;
    all->free = slot;
    all->threads_active--;
    slot = next;
  }
}

/* A thread decrements live before its slot is reaped: reap if no slot is free. */
static uint32_t model_thread_free_places(struct model *model) {
  struct model_thread *all = model_thread_of(model);
  if (all->free == NULL) {
    model_thread_reap(model);
  }
  return all->free != NULL ? 1 : 0;
}

static uint32_t model_thread_live(struct model *model) {
  return atom_load_relaxed_u32(&model_thread_of(model)->live);
}

static int model_thread_dispatch(struct model *model, const struct accepted_conn *accepted) {
  struct model_thread *all = model_thread_of(model);
  struct thread_slot *slot = all->free;
  struct thread_slot *next =
      slot->next; /* read before the thread starts: its end links the slot elsewhere */
  slot->accepted = *accepted;
  slot->number = all->dispatched++;
  atom_add_relaxed_u32(&all->live, 1);
  int error = pthread_create(&slot->thread, &all->attributes, thread_main, slot);
  if (error != 0) {
    atom_sub_release_u32(&all->live, 1);
    return fail(error);
  }
  all->free = next;
  all->threads_active++;
  return 0;
}

static void model_thread_stop(struct model *model, uint64_t stop_ns) {
  struct model_thread *all = model_thread_of(model);
  atom_store_relaxed_u64(&all->stop_ns, stop_ns); /* the eventfd orders it */
  wake_signal(&all->stop);
}

static bool model_thread_finish(struct model *model) {
  model_thread_reap(model);
  return model_thread_of(model)->threads_active == 0;
}

static void model_thread_totals(struct model *model, struct stats *totals) {
  stats_sum(totals, model_thread_of(model)->stats);
}

static void model_thread_destroy(struct model *model) {
  struct model_thread *all = model_thread_of(model);
  (void)pthread_attr_destroy(&all->attributes); /* cannot fail: it was initialized */
  wake_close(&all->stop);
  free(all->stats);
  free(all->slots);
  free(all);
}

struct model *model_thread_create(const struct model_setup *setup) {
  static const struct model_ops ops = {.free_places = model_thread_free_places,
                                       .live = model_thread_live,
                                       .dispatch = model_thread_dispatch,
                                       .reap = model_thread_reap,
                                       .stop = model_thread_stop,
                                       .finish = model_thread_finish,
                                       .add_totals = model_thread_totals,
                                       .destroy = model_thread_destroy};
  struct model_thread *all = aligned_alloc(CACHE_LINE, sizeof(*all));
  if (all == NULL) {
    return NULL;
  }
  *all = (struct model_thread){.model = {.ops = &ops, .setup = *setup}, .stop = {.fd = -1}};
  uint32_t count = (uint32_t)setup->config->max_connections;
  (void)pthread_attr_init(&all->attributes);        /* cannot fail: it stores the defaults */
  (void)pthread_attr_setstacksize(&all->attributes, /* refused: the default */
                                  setup->custom_handler ? STACK_BYTES_CUSTOM : STACK_BYTES);
  all->slots = calloc(count, sizeof(*all->slots));
  all->stats = aligned_alloc(CACHE_LINE, sizeof(*all->stats));
  if (all->slots == NULL || all->stats == NULL || wake_open(&all->stop) == -1) {
    int error = errno;
    model_thread_destroy(&all->model);
    errno = error;
    return NULL;
  }
  *all->stats = (struct stats){0};
  for (uint32_t i = count; i-- > 0;) {
    all->slots[i].all = all;
    all->slots[i].next = all->free;
    all->free = &all->slots[i];
  }
  return &all->model;
}
