/*
 * worker: see worker.h.
 *
 * Every loop over what others send is bounded per turn: guests, letters and the members that they
 * go to, connections told of a stop, connections cut.  Where one of them has more to do, the next
 * wait returns at once.
 *
 * A worker's memory is mapped and never asked of malloc: jemalloc sets a thread up with its first
 * allocation, and the process dies where it gets no memory for that.
 */
#include "pool/worker.h"

#include "core/sys.h"

#include <assert.h>
#include <sys/mman.h>

#define ACCEPTED_MAX 64 /* taken from the queue in a turn */
#define MAIL_TURN 1024  /* calls made, or members published to, in a turn */
#define VISITS_MAX 256  /* connections told of the stop, or cut, in a turn */
/*
 * The length of a turn is what its last event waited for.  Taking the time costs as much as twenty
 * instructions more in a hundred, where one event is all of a turn: so of short turns a sample.
 */
#define TURNS_SAMPLED 16 /* of turns with few events, one in so many is measured */
#define TURN_LONG 16     /* events from which on each is */

#define CHORES_NS NS_PER_S /* memory that was freed goes back after this time */

/* ---- beginning and end ---- */

static int worker_init(struct worker *worker, const struct worker_setup *setup, uint32_t conns) {
  *worker = (struct worker){.config = setup->config,
                            .admit = setup->admit,
                            .index = setup->index,
                            .chores_ns = NEVER,
                            .mail_end = &worker->mail,
                            .cut_ns = NEVER,
                            .inbox = {.wake = {.fd = -1}},
                            .reactor = {.epoll_fd = -1}};
  void *input = sys_map(CONN_INPUT_FRONT + WORKER_INPUT_BYTES);
  if (input == MAP_FAILED) {
    return -1;
  }
  worker->input = input;
  if (slab_init(&worker->conns, conn_bytes(setup->handler), conns) == -1) {
    return -1;
  }
  worker->reactor.stats = &worker->stats;
  if (conn_host_init(&worker->host, setup->config, setup->handler, &worker->reactor, conns) == -1) {
    return -1;
  }
  worker->host.server = setup->server;
  worker->host.turn_ns = &worker->turn_ns;
  worker->host.index = setup->index;
  worker->host.input = worker->input + CONN_INPUT_FRONT;
  worker->host.input_bytes = WORKER_INPUT_BYTES;
  return 0;
}

int worker_open(struct worker *worker, const struct worker_setup *setup) {
  if (worker_init(worker, setup, (uint32_t)setup->config->max_connections) == -1 ||
      inbox_open(&worker->inbox, setup->config->queue) == -1 ||
      reactor_open(&worker->reactor, &worker->conns, &worker->stats) == -1 ||
      reactor_watch(&worker->reactor, &worker->inbox.wake) == -1) {
    worker_close(worker);
    return -1;
  }
  return 0;
}

int worker_open_single(struct worker *worker, const struct worker_setup *setup,
                       const struct wake *stop) {
  if (worker_init(worker, setup, 1) == -1) {
    worker_close(worker);
    return -1;
  }
  worker->single = true;
  reactor_open_single(&worker->reactor, &worker->conns, &worker->stats);
  return reactor_watch(&worker->reactor, stop);
}

bool worker_discard(struct worker *worker) {
  *worker->mail_end = inbox_take(&worker->inbox);
  worker->mail_end = &worker->mail;
  bool any = worker->mail != NULL;
  while (worker->mail != NULL) {
    struct letter *letter = worker->mail;
    worker->mail = letter->next;
    mail_discard(letter);
  }
  return any;
}

void worker_close(struct worker *worker) {
  (void)worker_discard(worker);
  conn_host_fini(&worker->host);
  slab_fini(&worker->conns);
  reactor_close(&worker->reactor);
  if (!worker->single) {
    inbox_close(&worker->inbox);
  }
  if (worker->input != NULL) {
    (void)sys_unmap(worker->input, CONN_INPUT_FRONT + WORKER_INPUT_BYTES);
    worker->input = NULL;
  }
}

/* What was freed a while ago and is not used goes back to the kernel. */
static void give_back(struct worker *worker) {
  worker->chores_ns = NEVER;
  slab_trim(&worker->conns);
  conn_host_trim(&worker->host);
}

/* ---- guests ---- */

static void release_admission(struct worker *worker, uint32_t ip_slot) {
  admit_leave(worker->admit, ip_slot);
  atom_sub_release_u32(&worker->live, 1);
}

static void open_accepted(struct worker *worker, const struct accepted_conn *accepted) {
  if (worker->cutting) {
    stats_add(&worker->stats.ended[XCHG_DRAIN], 1);
    stats_add(&worker->stats.cut, 1);
    sys_close(accepted->fd);
    release_admission(worker, accepted->ip_slot);
  } else if (conn_open(&worker->host, accepted) == -1) {
    release_admission(worker, accepted->ip_slot);
  }
}

/* Free what has ended in this turn. Return: how many. */
static uint32_t reap(struct worker *worker) {
  uint32_t count = 0;
  struct source *source;
  while ((source = reactor_reap(&worker->reactor)) != NULL) {
    release_admission(worker, conn_of(source)->ip_slot);
    reactor_free(&worker->reactor, source);
    count++;
  }
  if (count > 0 && worker->chores_ns == NEVER) {
    worker->chores_ns = worker->reactor.now_ns + CHORES_NS;
  }
  return count;
}

/* ---- the stop ---- */

static void begin_stop(struct worker *worker, uint64_t stop_ns) {
  const struct config *config = worker->config;
  worker->host.stop_ns = stop_ns;
  worker->stopping = true;
  worker->visited = 0;
  worker->cut_ns = add_sat_u64(stop_ns, max_u64(config->drain_timeout_ns, config->stop_grace_ns));
}

static void visit(struct worker *worker, struct source *source) {
  if (worker->cutting) {
    stats_add(&worker->stats.cut, conn_cut(source) ? 1 : 0);
  } else {
    conn_stop(source);
  }
}

/* Tell the next connections that the server stops, or cut them where its patience is over. */
static void go_on_stopping(struct worker *worker) {
  if (!worker->cutting && worker->cut_ns <= worker->reactor.now_ns) {
    worker->cutting = true;
    worker->stopping = true;
    worker->visited = 0;
  }
  for (int i = 0; i < VISITS_MAX && worker->stopping; i++) {
    uint32_t slot = slab_next(&worker->conns, worker->visited);
    if (slot == SLAB_NONE) {
      worker->stopping = false;
      return;
    }
    worker->visited = slot + 1;
    struct source *source = slab_at(&worker->conns, slot);
    if (source->generation != 0) {
      visit(worker, source);
    }
  }
}

static void begin_cut(struct worker *worker) {
  if (worker->host.stop_ns == NEVER) {
    begin_stop(worker, worker->reactor.now_ns);
  }
  worker->cut_ns = 0;
}

/* Obey what the server says; put aside what others say. */
static void read_letters(struct worker *worker) {
  struct letter *letter = inbox_take(&worker->inbox);
  while (letter != NULL) {
    struct letter *next = letter->next;
    switch (letter->kind) {
      case LETTER_STOP:
        if (worker->host.stop_ns == NEVER) { /* else a cut has overtaken it */
          begin_stop(worker, letter->time_ns);
        }
        break;
      case LETTER_CUT:
        begin_cut(worker);
        break;
      case LETTER_LAST:
        worker->last = true;
        break;
      default:
        letter->next = NULL;
        *worker->mail_end = letter;
        worker->mail_end = &letter->next;
        break;
    }
    letter = next;
  }
}

/*
 * So much was queued to members that more would make slow ones of them who only had no turn yet:
 * those who have asked for one by now come first.
 */
static bool note_issued(struct worker *worker, uint64_t bytes) {
  worker->issued_bytes += bytes;
  if (worker->issued_bytes < worker->config->max_pending_bytes / 2) {
    return false;
  }
  worker->issued_bytes = 0;
  worker->issued_turn = worker->reactor.asked;
  return true;
}

static void deal_with_mail(struct worker *worker) {
  uint32_t budget = MAIL_TURN;
  if (worker->reactor.served < worker->issued_turn) {
    return;
  }
  while (worker->mail != NULL && budget > 0) {
    struct letter *letter = worker->mail;
    struct letter *next = letter->next; /* now: the letter is gone afterwards */
    uint64_t bytes = mail_bytes(letter);
    if (!mail_deal(&worker->host, &worker->inbox, letter, &budget)) {
      return;
    }
    worker->mail = next;
    if (next == NULL) {
      worker->mail_end = &worker->mail;
    }
    if (note_issued(worker, bytes)) {
      return;
    }
  }
}

/* ---- turns ---- */

/*
 * Poll for a while before sleeping, not beyond the next time when something is due; return true if
 * something came.
 */
static bool spin(struct worker *worker) {
  uint64_t until_ns = worker->reactor.now_ns + worker->config->spin_ns;
  do {
    reactor_wait(&worker->reactor, 0);
    if (worker->reactor.ready > 0 || !inbox_empty(&worker->inbox)) {
      return true;
    }
  } while (worker->reactor.now_ns < until_ns && worker->reactor.now_ns < worker->cut_ns &&
           wheel_next_ns(&worker->reactor.wheel) > worker->reactor.now_ns);
  return false;
}

static void wait_turn(struct worker *worker, bool more) {
  if (more || worker->stopping || worker->mail != NULL || reactor_busy(&worker->reactor)) {
    reactor_wait(&worker->reactor, 0);
    return;
  }
  bool spins = worker->config->spin_ns > 0 && worker->config->model == MODEL_POOL;
  if (spins && spin(worker)) {
    return;
  }
  if (!inbox_doze(&worker->inbox)) {
    reactor_wait(&worker->reactor, 0);
    return;
  }
  if (worker->chores_ns == NEVER && buf_pool_idle(&worker->host.bufs)) {
    worker->chores_ns = worker->reactor.now_ns + CHORES_NS; /* though nobody has left */
  }
  uint64_t cut_ns = worker->cutting ? NEVER : worker->cut_ns;
  reactor_wait(&worker->reactor, min_u64(cut_ns, worker->chores_ns));
  inbox_rouse(&worker->inbox);
}

/* Take letters and guests. Return: may there be more guests? */
static bool take_in(struct worker *worker, uint32_t *taken) {
  read_letters(worker);
  deal_with_mail(worker);
  struct accepted_conn accepted;
  for (*taken = 0; *taken < ACCEPTED_MAX; (*taken)++) {
    if (!inbox_pop(&worker->inbox, &accepted)) {
      return false;
    }
    histogram_record(&worker->handoffs, sub_sat_u64(sys_now_ns(), accepted.accepted_ns));
    open_accepted(worker, &accepted);
  }
  return true;
}

/*
 * What follows the wait in every kind of worker. Return: has anything been released that an
 * acceptor may wait for?
 */
static bool turn(struct worker *worker) {
  reactor_dispatch(&worker->reactor);
  if (worker->chores_ns <= worker->reactor.now_ns) {
    give_back(worker);
  }
  go_on_stopping(worker);
  return reap(worker) > 0;
}

/* A turn of ${events} events is over. */
static void note_turn(struct worker *worker, int events) {
  bool sampled = worker->turns_count++ % TURNS_SAMPLED == 0;
  if (events > 0 && (sampled || events >= TURN_LONG)) {
    histogram_record(&worker->turns, sub_sat_u64(sys_now_ns(), worker->reactor.now_ns));
  }
}

void worker_run(struct worker *worker) {
  bool more = true;
  worker->host.thread = conn_thread();
  while (!worker->last || more || worker->conns.used > 0) {
    wait_turn(worker, more);
    atom_store_relaxed_u64(&worker->turn_ns, worker->reactor.now_ns);
    int events = worker->reactor.ready;
    bool freed = turn(worker);
    uint32_t taken;
    more = take_in(worker, &taken);
    note_turn(worker, events);
    atom_store_relaxed_u64(&worker->turn_ns, 0);
    if (freed || taken > 0) {
      admit_freed(worker->admit);
    }
  }
  atom_store_relaxed_u32(&worker->inbox.ended, 1);
}

void worker_serve(struct worker *worker, const struct accepted_conn *accepted) {
  worker->host.thread = conn_thread();
  reactor_wait(&worker->reactor, 0); /* the time: the last one was taken with the guest before */
  open_accepted(worker, accepted);
  while (worker->conns.used > 0) {
    wait_turn(worker, false);
    turn(worker);
    read_letters(worker);
  }
}

void worker_number_single(struct worker *worker, uint32_t number) {
  worker->reactor.generation = number % ((UINT32_C(1) << REACTOR_GENERATION_BITS) - 1);
}

void worker_serve_single(struct worker *worker, const struct accepted_conn *accepted,
                         const atom_u64 *stop_ns) {
  assert(worker->single);
  worker->host.thread = conn_thread();
  open_accepted(worker, accepted);
  while (worker->conns.used > 0) {
    uint64_t until_ns = worker->stopping ? 0 : worker->cutting ? NEVER : worker->cut_ns;
    reactor_wait(&worker->reactor, until_ns);
    if (worker->reactor.woken && worker->host.stop_ns == NEVER) {
      begin_stop(worker, atom_load_relaxed_u64(stop_ns));
    }
    turn(worker);
  }
}

void worker_send_stop(struct worker *worker, uint64_t stop_ns) {
  worker->stop = (struct letter){.kind = LETTER_STOP, .time_ns = stop_ns};
  inbox_push_mpsc(&worker->inbox, &worker->stop);
}

void worker_send_cut(struct worker *worker) {
  worker->cut = (struct letter){.kind = LETTER_CUT};
  inbox_push_mpsc(&worker->inbox, &worker->cut);
}

void worker_send_last(struct worker *worker) {
  worker->no_more = (struct letter){.kind = LETTER_LAST};
  inbox_push_mpsc(&worker->inbox, &worker->no_more);
}
