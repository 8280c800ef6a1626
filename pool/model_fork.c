/*
 * model_fork: serves each connection in a child process.
 *
 * A child keeps its connection, standard error and the eventfd of the stop, which it shares with
 * the parent and which becomes readable permanently when the server stops.  It adds its counters to
 * memory that it shares with the parent, then sets its byte there.  If that byte is not set when
 * the child has ended, the parent counts an `error`.  An exit code would not do: a handler that
 * calls exit(0) ends its child, too.  Children die with the acceptor (PDEATHSIG), and the parent
 * kills those that live longer than the drain timeout.
 */
#include "pool/worker.h"
#include "pool/model.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a child may live after the drain timeout. */
#define KILL_AFTER_NS NS_PER_S

/* Descriptors from here on are not closed one by one. */
#define CLOSE_MAX 4096

struct child {
  pid_t pid; /* 0 = free */
  uint32_t ip_slot;
};

struct model_fork {
  struct model model;
  struct child *children; /* owns; acceptor */
  uint32_t count;         /* entries of children */
  uint32_t live;          /* acceptor */
  uint64_t dispatched;    /* connections so far, for their ids; acceptor */
  struct wake stop;       /* readable permanently once the server stops; shared with children */
  struct shared *shared;  /* owns: mapped */
  uint64_t kill_ns;       /* when the remaining children are killed; acceptor */
};

/* What the processes share. */
struct shared {
  struct stats stats; /* children add theirs when they end */
  atom_u64 stop_ns;
  uint8_t counted[]; /* by child: 1 = it has added its counters; waitpid orders the read */
};

static struct model_fork *fork_of(struct model *model) {
  return container_of(model, struct model_fork, model);
}

static size_t shared_bytes(uint32_t count) { return sizeof(struct shared) + count; }

/* ---- the child ---- */

/*
 * Close the descriptors from ${first} to ${last}.  A child that kept a listener would hold its
 * address after the server's end.  So where the system refuses close_range (an old kernel, a
 * container), they are closed one by one.  The call goes by its number, because musl 1.2.3 has no
 * close_range.
 */
static void close_from_to(int first, int last) {
  if (first > last || syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0U) == 0) {
    return;
  }
  for (int fd = first; fd <= last && fd < CLOSE_MAX; fd++) {
    sys_close(fd);
  }
}

/* Close everything but standard descriptors, the connection and the stop's eventfd. */
static void close_others(int a, int b) {
  int low = a < b ? a : b, high = a < b ? b : a;
  close_from_to(3, low - 1);
  close_from_to(low + 1, high - 1);
  close_from_to(high + 1, INT_MAX);
}

static void child_main(struct model_fork *all, const struct accepted_conn *accepted,
                       uint8_t *counted, pid_t parent) {
  const struct model_setup *setup = &all->model.setup;
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* refused: the child outlives a killed parent */
  if (getppid() != parent) {
    _exit(1); /* the parent died before prctl */
  }
  close_others(accepted->fd, all->stop.fd);
  const struct worker_setup worker_setup = {.config = setup->config,
                                            .handler = setup->handler,
                                            .admission = setup->admission,
                                            .server = setup->server,
                                            .log = setup->log};
  struct worker worker; /* on the stack, without malloc: see pool/worker.c */
  if (worker_open_single(&worker, &worker_setup, &all->stop) == -1) {
    atom_add_relaxed_u64(&all->shared->stats.ended[XCHG_MEMORY], 1);
    accepted_conn_close(accepted);
  } else {
    struct accepted_conn own = *accepted;
    own.ip_slot = NO_IP_SLOT; /* the parent releases it */
    atom_add_relaxed_u32(&worker.live, 1);
    worker_number_single(&worker, all->dispatched);
    worker_serve_single(&worker, &own, &all->shared->stop_ns);
    stats_merge(&all->shared->stats, &worker.stats);
    worker_close(&worker); /* the kernel would do it, but a leak checker needs it */
  }
  *counted = 1;
  wake_close(&all->stop);
  _exit(0);
}

/* ---- the parent ---- */

static uint32_t fork_free_places(struct model *model) {
  struct model_fork *all = fork_of(model);
  return all->count - all->live;
}

static uint32_t fork_live(struct model *model) { return fork_of(model)->live; }

static struct child *child_of(struct model_fork *all, pid_t pid) {
  for (uint32_t i = 0; i < all->count; i++) { /* linear: a fork costs a hundred times as much */
    if (all->children[i].pid == pid) {
      return &all->children[i];
    }
  }
  return NULL;
}

static int fork_dispatch(struct model *model, const struct accepted_conn *accepted) {
  struct model_fork *all = fork_of(model);
  struct child *child = child_of(all, 0);
  uint8_t *counted = &all->shared->counted[child - all->children];
  pid_t parent = getpid();
  all->dispatched++;
  *counted = 0;
  pid_t pid = fork();
  if (pid == -1) {
    return -1;
  }
  if (pid == 0) {
    child_main(all, accepted, counted, parent);
  }
  accepted_conn_close(accepted);
  *child = (struct child){.pid = pid, .ip_slot = accepted->ip_slot};
  all->live++;
  return 0;
}

static void kill_late(struct model_fork *all) {
  if (sys_now_ns() < all->kill_ns) {
    return;
  }
  for (uint32_t i = 0; i < all->count; i++) {
    if (all->children[i].pid != 0) {
      (void)kill(all->children[i].pid, SIGKILL); /* cannot fail: our child, not yet reaped */
    }
  }
}

static void fork_reap(struct model *model) {
  struct model_fork *all = fork_of(model);
  pid_t pid;
  bool orphans = !model->setup.custom_handler; /* a handler may wait for children of its own */
  while ((orphans || all->live > 0) && (pid = waitpid(-1, NULL, WNOHANG)) > 0) {
    struct child *child = child_of(all, pid);
    if (child == NULL) {
      continue; /* a child from before execve, or an orphan of a container */
    }
    if (all->shared->counted[child - all->children] == 0) {
      atom_add_relaxed_u64(&all->shared->stats.ended[XCHG_ERROR], 1);
    }
    admission_release(model->setup.admission, child->ip_slot);
    child->pid = 0;
    all->live--;
  }
}

static void fork_stop(struct model *model, uint64_t stop_ns) {
  struct model_fork *all = fork_of(model);
  atom_store_relaxed_u64(&all->shared->stop_ns, stop_ns); /* the eventfd orders it */
  wake_signal(&all->stop);
}

static bool fork_finish(struct model *model) {
  struct model_fork *all = fork_of(model);
  const struct config *config = model->setup.config;
  uint64_t patience_ns = max_u64(config->drain_timeout_ns, config->stop_grace_ns);
  all->kill_ns = atom_load_relaxed_u64(&all->shared->stop_ns) + patience_ns + KILL_AFTER_NS;
  kill_late(all);
  fork_reap(model);
  return all->live == 0;
}

static void fork_totals(struct model *model, struct stats *totals) {
  stats_sum(totals, &fork_of(model)->shared->stats);
}

static void fork_destroy(struct model *model) {
  struct model_fork *all = fork_of(model);
  wake_close(&all->stop);
  if (all->shared != NULL) {
    (void)munmap(all->shared, shared_bytes(all->count)); /* a failure leaks it */
  }
  free(all->children);
  free(all);
}

struct model *model_fork_create(const struct model_setup *setup) {
  static const struct model_ops ops = {.free_places = fork_free_places,
                                       .live = fork_live,
                                       .dispatch = fork_dispatch,
                                       .reap = fork_reap,
                                       .stop = fork_stop,
                                       .finish = fork_finish,
                                       .add_totals = fork_totals,
                                       .destroy = fork_destroy};
  struct model_fork *all = calloc(1, sizeof(*all));
  if (all == NULL) {
    return NULL;
  }
  *all = (struct model_fork){.model = {.ops = &ops, .setup = *setup},
                             .count = (uint32_t)setup->config->max_connections,
                             .stop = {.fd = -1},
                             .kill_ns = NEVER};
  all->children = calloc(all->count, sizeof(*all->children));
  void *shared = mmap(NULL, shared_bytes(all->count), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  all->shared = shared == MAP_FAILED ? NULL : shared;
  if (all->children == NULL || all->shared == NULL || wake_open(&all->stop) == -1) {
    int error = errno;
    fork_destroy(&all->model);
    errno = error;
    return NULL;
  }
  return &all->model;
}
