/*
 * stress_inbox: the real ring, inbox, eventfd and epoll between threads, with the protocol of
 * pool/inbox.h.
 *
 *   producer --connections--> consumer 0..N-1   through the ring, in bursts; waits for room as the
 *                                               acceptor does, in its own inbox
 *   sender 0, 1 --tasks--> all of these         at the same time
 *   consumers, producer --wake--> others        that wait for room, a returned task, or credit
 *
 * Checked: each connection and each task of a sender carries a sequence number (no loss, no
 * duplicate, order).  A lost wake-up must not be made good by the next push, which would find the
 * flag still set.  So the producer waits after about half of the bursts until everything was taken.
 * A sleeper that stays in the kernel for twice LOST_AFTER_MS although its condition holds ends the
 * program with an error.
 *
 * Usage: stress_inbox [ITEMS].  The bursts are drawn from a seed that is printed; CHECK_SEED sets
 * it.  No thread spins or yields, so that one core (taskset -c 0) suffices.
 */
#include "pool/inbox.h"

#include "core/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define CONSUMERS_MAX 3
#define SENDERS 2
#define TARGETS_MAX (CONSUMERS_MAX + 1) /* targets of tasks: the consumers, then the producer */
#define NOTES 4                         /* tasks in flight from one sender to one target */
#define TURN_MAX 256                    /* connections that a consumer takes in one turn */
#define LOST_AFTER_MS 10000
#define ITEMS_MIN 100

/* An inbox, and the epoll set that has its eventfd (edge-triggered, never read). */
struct sleeper {
  struct inbox inbox;
  int epoll_fd;   /* owns */
  uint64_t waits; /* owner: waits in the kernel */
  const char *name;
};

/* A task with its sender; the target returns it by counting it in sender.returned. */
struct note {
  struct task letter;
  uint32_t sender;
};

/* A target's counts of the tasks that it received. */
struct post {
  uint64_t
      next[SENDERS + 1]; /* expected sequence number; the last is of the producer's own two tasks */
  unsigned last;         /* number of senders of TASK_NO_MORE_CONNS */
};

struct consumer {
  struct sleeper sleeper;
  struct stress *stress; /* borrows */
  struct post post;
  unsigned index;
  uint64_t taken;
  uint64_t turns;
  struct note last_tasks[2]; /* of the producer: stop and last */
};

struct sender {
  struct sleeper sleeper;
  struct stress *stress; /* borrows */
  unsigned index;
  uint32_t sent[TARGETS_MAX];
  CACHE_ALIGNED atom_u32 credit;  /* producer: tasks that this sender may send so far */
  CACHE_ALIGNED atom_u32 no_more; /* producer: 1 = no more credit comes */
  CACHE_ALIGNED atom_u32 returned[TARGETS_MAX]; /* each target: tasks that were run */
  struct note notes[TARGETS_MAX][NOTES];
};

struct producer {
  struct sleeper sleeper;
  struct post post;
  uint64_t pushed[CONSUMERS_MAX];
  uint64_t wakes;
  uint64_t full;
  uint64_t seed;
  struct consumer *waits_for; /* the consumer whose ring must get room, or become empty */
};

/* One run, with this number of consumers and rings of this capacity. */
struct stress {
  unsigned consumers_count;
  uint32_t capacity;
  uint64_t items, seed;
  struct producer producer;
  struct consumer consumers[CONSUMERS_MAX];
  struct sender senders[SENDERS];
};

struct totals {
  uint64_t items, tasks, wakes, waits, turns, full;
  uint64_t seed; /* of the next run */
};

static _Noreturn void fatal(const char *who, const char *what, uint64_t expected, uint64_t found) {
  fprintf(stderr, "stress_inbox: %s: %s: expected %" PRIu64 ", found %" PRIu64 "\n", who, what,
          expected, found);
  printf("0%%: Checks: 1, Failures: 1, Errors: 0\n");
  fflush(stdout);
  _exit(1);
}

static void expect(const char *who, const char *what, uint64_t expected, uint64_t found) {
  if (expected != found) {
    fatal(who, what, expected, found);
  }
}

static void sleeper_open(struct sleeper *sleeper, const char *name, uint32_t capacity) {
  sleeper->name = name;
  sleeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  if (sleeper->epoll_fd == -1 || inbox_open(&sleeper->inbox, capacity) == -1 ||
      sys_epoll_ctl(sleeper->epoll_fd, EPOLL_CTL_ADD, sleeper->inbox.wake.fd, &event) == -1) {
    fatal(name, "cannot open", 0, (uint64_t)errno);
  }
}

static void sleeper_close(struct sleeper *sleeper) {
  inbox_close(&sleeper->inbox);
  sys_close(sleeper->epoll_fd);
}

static bool inbox_is_empty(struct inbox *inbox) {
  return ring_empty_consumer(&inbox->ring) && atom_load_relaxed_ptr(&inbox->tasks) == NULL;
}

/* The owner's half of the protocol; ${ready}, if any, is a condition besides the inbox. */
static void sleeper_wait(struct sleeper *sleeper, bool (*ready)(void *), void *context) {
  if (!inbox_prepare_wait(&sleeper->inbox)) {
    return;
  }
  if (ready != NULL && ready(context)) {
    inbox_finish_wait(&sleeper->inbox);
    return;
  }
  struct epoll_event event;
  unsigned overdue = 0;
  sleeper->waits++;
  while (sys_epoll_wait(sleeper->epoll_fd, &event, 1, LOST_AFTER_MS) == 0) {
    if (inbox_is_empty(&sleeper->inbox) && (ready == NULL || !ready(context))) {
      overdue = 0; /* asleep for a reason: a slow machine */
    } else if (++overdue == 2) {
      fatal(sleeper->name, "lost wake-up: waits that should have ended", 0, 1);
    }
  }
  inbox_finish_wait(&sleeper->inbox);
}

/* Run the tasks of ${target}: check them and return them. */
static void take_letters(struct stress *stress, struct sleeper *sleeper, unsigned target,
                         struct post *post) {
  bool nudge[SENDERS + 1] = {false};
  for (struct task *task = inbox_take_all(&sleeper->inbox); task != NULL;) {
    const struct note *note = container_of(task, struct note, letter);
    const uint32_t from = note->sender;
    task = task->next;
    expect(sleeper->name, "task out of order", post->next[from]++, note->letter.time_ns);
    post->last += note->letter.kind == TASK_NO_MORE_CONNS;
    if (from < SENDERS) {
      atom_store_release_u32(&stress->senders[from].returned[target], (uint32_t)post->next[from]);
      nudge[from] = true;
    }
  }
  for (unsigned i = 0; i < SENDERS; i++) {
    if (nudge[i]) {
      inbox_wake(&stress->senders[i].sleeper.inbox);
    }
  }
}

/* A worker: ends when every sender has sent its last task and the ring is empty after that. */
static void *consumer_run(void *context) {
  struct consumer *consumer = context;
  struct stress *stress = consumer->stress;
  struct sleeper *sleeper = &consumer->sleeper;
  struct accepted_conn accepted;
  for (;;) {
    consumer->turns++;
    take_letters(stress, sleeper, consumer->index, &consumer->post);
    const bool last = consumer->post.last == SENDERS + 1;
    unsigned count = 0;
    for (; count < TURN_MAX && inbox_pop(&sleeper->inbox, &accepted); count++) {
      expect(sleeper->name, "connection lost, duplicated or out of order", consumer->taken++,
             accepted.accepted_ns);
      expect(sleeper->name, "connection of another consumer", consumer->index,
             (uint64_t)accepted.fd);
      expect(sleeper->name, "connection torn", (uint32_t)~accepted.accepted_ns, accepted.ip_slot);
    }
    if (count > 0) {
      inbox_wake(&stress->producer.sleeper.inbox);
    } else if (last) {
      return NULL;
    } else {
      sleeper_wait(sleeper, NULL, NULL);
    }
  }
}

static unsigned sender_target(const struct sender *sender, uint32_t count) {
  return (count + sender->index) % (sender->stress->consumers_count + 1);
}

static struct sleeper *target_sleeper(struct stress *stress, unsigned target) {
  return target < stress->consumers_count ? &stress->consumers[target].sleeper
                                          : &stress->producer.sleeper;
}

static uint32_t sender_total(const struct sender *sender) {
  uint32_t total = 0;
  for (unsigned i = 0; i <= sender->stress->consumers_count; i++) {
    total += sender->sent[i];
  }
  return total;
}

static bool note_is_free(struct sender *sender, unsigned target) {
  return sender->sent[target] - atom_load_acquire_u32(&sender->returned[target]) < NOTES;
}

/* May the next task be sent, or has the end come? */
static bool sender_ready(void *context) {
  struct sender *sender = context;
  const uint32_t total = sender_total(sender);
  return note_is_free(sender, sender_target(sender, total)) &&
         (atom_load_acquire_u32(&sender->credit) != total ||
          atom_load_acquire_u32(&sender->no_more) == 1);
}

static void send_note(struct sender *sender, unsigned target, enum task_kind kind) {
  const uint32_t sequence = sender->sent[target]++;
  struct note *note = &sender->notes[target][sequence % NOTES];
  *note = (struct note){.letter = {.kind = kind, .time_ns = sequence}, .sender = sender->index};
  inbox_push_mpsc(&target_sleeper(sender->stress, target)->inbox, &note->letter);
}

struct room_for_note {
  struct sender *sender;
  unsigned target;
};

static bool last_task_ready(void *context) {
  struct room_for_note *room = context;
  return note_is_free(room->sender, room->target);
}

/* A sender: one task for each credit, to the targets in turn; at the end a last one to each. */
static void *sender_run(void *context) {
  struct sender *sender = context;
  for (;;) {
    while (!sender_ready(sender)) {
      sleeper_wait(&sender->sleeper, sender_ready, sender);
    }
    const bool no_more = atom_load_acquire_u32(&sender->no_more) == 1;
    const uint32_t total = sender_total(sender);
    if (atom_load_acquire_u32(&sender->credit) != total) {
      send_note(sender, sender_target(sender, total), TASK_DRAIN);
    } else if (no_more) {
      break;
    }
  }
  for (unsigned target = 0; target <= sender->stress->consumers_count; target++) {
    struct room_for_note room = {sender, target};
    while (!last_task_ready(&room)) {
      sleeper_wait(&sender->sleeper, last_task_ready, &room);
    }
    send_note(sender, target, TASK_NO_MORE_CONNS);
  }
  return NULL;
}

static bool has_room(void *context) {
  const struct producer *producer = context;
  struct ring *ring = &producer->waits_for->sleeper.inbox.ring;
  return ring_count_producer(ring) <= ring->mask;
}

static bool all_taken(void *context) {
  const struct producer *producer = context;
  return ring_count_producer(&producer->waits_for->sleeper.inbox.ring) == 0;
}

static void producer_wait(struct stress *stress, struct consumer *consumer, bool (*ready)(void *)) {
  struct producer *producer = &stress->producer;
  producer->waits_for = consumer;
  while (!ready(producer)) {
    sleeper_wait(&producer->sleeper, ready, producer);
    take_letters(stress, &producer->sleeper, stress->consumers_count, &producer->post);
  }
}

/* Push ${count} connections; each push wakes a sleeper, as inbox_push_spsc does. */
static void push_burst(struct stress *stress, struct consumer *consumer, uint64_t count) {
  struct producer *producer = &stress->producer;
  struct accepted_conn accepted = {.fd = (int)consumer->index};
  for (uint64_t i = 0; i < count; i++) {
    accepted.accepted_ns = producer->pushed[consumer->index]++;
    accepted.ip_slot = (uint32_t)~accepted.accepted_ns;
    int result = inbox_push_spsc(&consumer->sleeper.inbox, &accepted);
    if (result == -1) {
      producer->full++;
      producer_wait(stress, consumer, has_room);
      result = inbox_push_spsc(&consumer->sleeper.inbox, &accepted);
    }
    if (result == -1) {
      fatal("producer", "no room after the wait for it", 0, 1);
    }
    producer->wakes += (uint64_t)result;
  }
}

/* One to four, so that every push may meet a sleeper, or up to twice the capacity of the ring. */
static uint64_t burst_size(struct stress *stress, uint64_t left) {
  uint64_t *seed = &stress->producer.seed;
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  const uint64_t drawn = *seed >> 33;
  const uint64_t size = 1 + (drawn % 4 == 0 ? drawn / 4 % 4 : drawn / 4 % (2 * stress->capacity));
  return min_u64(size, left);
}

static void give_credit(struct stress *stress, bool no_more) {
  for (unsigned i = 0; i < SENDERS; i++) {
    struct sender *sender = &stress->senders[i];
    if (no_more) {
      atom_store_release_u32(&sender->no_more, 1);
    } else {
      atom_store_release_u32(&sender->credit, atom_load_relaxed_u32(&sender->credit) + 1);
    }
    inbox_wake(&sender->sleeper.inbox);
  }
}

static void send_last_tasks(struct consumer *consumer) {
  for (unsigned i = 0; i < 2; i++) {
    struct note *note = &consumer->last_tasks[i];
    *note =
        (struct note){.letter = {.kind = i == 0 ? TASK_DRAIN : TASK_NO_MORE_CONNS, .time_ns = i},
                      .sender = SENDERS};
    inbox_push_mpsc(&consumer->sleeper.inbox, &note->letter);
  }
}

/* The acceptor; its last task follows the last connection. */
static void *producer_run(void *context) {
  struct stress *stress = context;
  struct producer *producer = &stress->producer;
  uint64_t left = stress->items;
  for (uint64_t burst = 0; left > 0; burst++) {
    struct consumer *consumer = &stress->consumers[burst % stress->consumers_count];
    const uint64_t size = burst_size(stress, left);
    left -= size;
    push_burst(stress, consumer, size);
    give_credit(stress, false);
    if (producer->seed >> 63 == 0) {
      producer_wait(stress, consumer, all_taken);
    }
  }
  give_credit(stress, true);
  for (unsigned i = 0; i < stress->consumers_count; i++) {
    send_last_tasks(&stress->consumers[i]);
  }
  while (producer->post.last < SENDERS) {
    sleeper_wait(&producer->sleeper, NULL, NULL);
    take_letters(stress, &producer->sleeper, stress->consumers_count, &producer->post);
  }
  return NULL;
}

static void stress_open(struct stress *stress) {
  static const char *const names[CONSUMERS_MAX] = {"consumer 0", "consumer 1", "consumer 2"};
  sleeper_open(&stress->producer.sleeper, "producer", 1);
  stress->producer.seed = stress->seed;
  for (unsigned i = 0; i < stress->consumers_count; i++) {
    struct consumer *consumer = &stress->consumers[i];
    consumer->stress = stress;
    consumer->index = i;
    sleeper_open(&consumer->sleeper, names[i], stress->capacity);
  }
  for (unsigned i = 0; i < SENDERS; i++) {
    struct sender *sender = &stress->senders[i];
    sender->stress = stress;
    sender->index = i;
    sleeper_open(&sender->sleeper, i == 0 ? "sender 0" : "sender 1", 1);
  }
}

static pthread_t start(void *(*run)(void *), void *context) {
  pthread_t thread;
  const int error = pthread_create(&thread, NULL, run, context);
  expect("main", "pthread_create", 0, (uint64_t)error);
  return thread;
}

static void stress_run(struct stress *stress) {
  pthread_t threads[CONSUMERS_MAX + SENDERS + 1];
  unsigned count = 0;
  for (unsigned i = 0; i < stress->consumers_count; i++) {
    threads[count++] = start(consumer_run, &stress->consumers[i]);
  }
  for (unsigned i = 0; i < SENDERS; i++) {
    threads[count++] = start(sender_run, &stress->senders[i]);
  }
  threads[count++] = start(producer_run, stress);
  while (count > 0) {
    expect("main", "pthread_join", 0, (uint64_t)pthread_join(threads[--count], NULL));
  }
}

/* All threads have ended: do the counts add up? */
static void stress_check(struct stress *stress, struct totals *totals) {
  uint64_t tasks[SENDERS] = {0};
  for (unsigned i = 0; i < stress->consumers_count; i++) {
    struct consumer *consumer = &stress->consumers[i];
    expect(consumer->sleeper.name, "connections taken", stress->producer.pushed[i],
           consumer->taken);
    expect(consumer->sleeper.name, "last tasks taken", 2, consumer->post.next[SENDERS]);
    expect(consumer->sleeper.name, "empty at the end", 1, inbox_is_empty(&consumer->sleeper.inbox));
    totals->items += consumer->taken;
    totals->waits += consumer->sleeper.waits;
    totals->turns += consumer->turns;
    for (unsigned from = 0; from < SENDERS; from++) {
      tasks[from] += consumer->post.next[from];
    }
  }
  for (unsigned i = 0; i < SENDERS; i++) {
    struct sender *sender = &stress->senders[i];
    tasks[i] += stress->producer.post.next[i];
    expect(sender->sleeper.name, "tasks taken", sender_total(sender), tasks[i]);
    totals->tasks += tasks[i];
  }
  totals->wakes += stress->producer.wakes;
  totals->full += stress->producer.full;
}

/* One run with rings of ${capacity}; its totals are added to ${sum}. */
static void run(unsigned consumers_count, uint32_t capacity, uint64_t items, struct totals *sum) {
  sum->seed = sum->seed * UINT64_C(6364136223846793005) + capacity;
  void *memory = NULL;
  expect("main", "memory", 0, (uint64_t)posix_memalign(&memory, CACHE_LINE, sizeof(struct stress)));
  struct stress *stress = memory;
  *stress = (struct stress){
      .consumers_count = consumers_count, .capacity = capacity, .items = items, .seed = sum->seed};
  struct totals totals = {0};
  const uint64_t start_ns = sys_now_ns();
  stress_open(stress);
  stress_run(stress);
  stress_check(stress, &totals);
  expect("main", "items", items, totals.items);
  const uint64_t ms = (sys_now_ns() - start_ns) / NS_PER_MS;
  printf("consumers=%u capacity=%" PRIu32 " items=%" PRIu64 " tasks=%" PRIu64 " wakes=%" PRIu64
         " waits=%" PRIu64 " turns=%" PRIu64 " full=%" PRIu64 " ms=%" PRIu64 "\n",
         consumers_count, capacity, totals.items, totals.tasks, totals.wakes, totals.waits,
         totals.turns, totals.full, ms);
  fflush(stdout);
  sleeper_close(&stress->producer.sleeper);
  for (unsigned i = 0; i < consumers_count; i++) {
    sleeper_close(&stress->consumers[i].sleeper);
  }
  for (unsigned i = 0; i < SENDERS; i++) {
    sleeper_close(&stress->senders[i].sleeper);
  }
  free(stress);
  sum->items += totals.items;
  sum->wakes += totals.wakes;
}

int main(int argc, char **argv) {
  char *end = NULL;
  const uint64_t items = argc > 1 ? strtoull(argv[1], &end, 10) : 2000000;
  if (argc > 2 || items < ITEMS_MIN || (end != NULL && *end != '\0')) {
    fprintf(stderr, "usage: stress_inbox [items], at least %d\n", ITEMS_MIN);
    return 64;
  }
  const char *text = getenv("CHECK_SEED");
  struct totals sum = {.seed = text != NULL ? strtoull(text, NULL, 0) : sys_now_ns()};
  printf("CHECK_SEED=%" PRIu64 "\n", sum.seed);
  fflush(stdout);
  /* Small rings cost a wake or two for every few items, so they get a small share. */
  const uint64_t one = min_u64(items / 100, 20000);
  const uint64_t small = min_u64(items / 50, 400000);
  const uint64_t rest = items - one - small;
  run(1, 1, one, &sum);
  run(2, 16, small, &sum);
  run(1, 1024, rest / 2, &sum);
  run(3, 1024, rest - rest / 2, &sum);
  expect("main", "items in all", items, sum.items);
  printf("items=%" PRIu64 " wakes=%" PRIu64 ": nothing lost, duplicated or out of order\n",
         sum.items, sum.wakes);
  printf("100%%: Checks: 4, Failures: 0, Errors: 0\n");
  return 0;
}
