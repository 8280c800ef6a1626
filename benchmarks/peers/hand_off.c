/*
 * hand_off: the lower bound of xchgd's hand-off: the least work that passes a connection from one
 * thread to another.
 *
 * The main thread accepts, writes an eventfd and waits for the next connection.  The other thread
 * waits for the eventfd (edge-triggered, never read) and serves `greet`.  One variable holds one
 * descriptor, so there may be one client at a time.  There is no admission, no queue, no choice of
 * a worker and no counter.  On SIGTERM it prints quantiles in ns, from accept4's return to the
 * other thread's first look, in the same buckets as xchgd's:
 *
 *   handoff_ns_p50=N handoff_ns_p90=N handoff_ns_p99=N
 */
#include "core/sys.h"
#include "core/histogram.h"
#include "benchmarks/peers/peer.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define NO_CONN UINT32_MAX
#define EVENTS 64

struct hand_off {
  int acceptor_epoll, worker_epoll, wake;
  uint64_t accepted_ns;    /* written before conn, read after it */
  atom_u32 conn;           /* a descriptor */
  struct histogram spread; /* the worker's */
};

static void watch(int epoll, int fd, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll == -1 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == -1) {
    peer_die("cannot use epoll");
  }
}

static void take_conn(struct hand_off *h) {
  uint32_t conn = atom_load_acquire_u32(&h->conn);
  if (conn == NO_CONN) {
    return;
  }
  histogram_record(&h->spread, sys_now_ns() - h->accepted_ns);
  atom_store_release_u32(&h->conn, NO_CONN);
  watch(h->worker_epoll, (int)conn, EPOLLIN | EPOLLET);
  (void)!send((int)conn, PEER_GREETING, PEER_GREETING_SIZE, MSG_NOSIGNAL);
}

static void work(struct hand_off *h) {
  struct epoll_event events[EVENTS];
  char message[PEER_BUFFER_SIZE];
  for (;;) {
    int count = epoll_wait(h->worker_epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd != h->wake) { /* the whole message */
        (void)!recv(events[i].data.fd, message, sizeof(message), 0);
        close(events[i].data.fd);
      }
    }
    take_conn(h);
  }
}

static void *run_worker(void *argument) {
  work(argument);
  return NULL;
}

static void accept_one(struct hand_off *h, int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd == -1) {
    return;
  }
  h->accepted_ns = sys_now_ns();
  if (atom_load_acquire_u32(&h->conn) != NO_CONN) {
    close(fd); /* of a second client */
    return;
  }
  atom_store_release_u32(&h->conn, (uint32_t)fd);
  const uint64_t one = 1;
  (void)!write(h->wake, &one, sizeof(one));
}

static volatile sig_atomic_t ended;
static void end(int signal) { ended = signal; }

int main(int argc, char **argv) {
  static struct hand_off h = {.conn = NO_CONN};
  struct peer_options options = peer_parse(argc, argv);
  const struct sched_param no_priority = {.sched_priority = 0};
  int listener = peer_listen(options.port, false);
  h.acceptor_epoll = epoll_create1(EPOLL_CLOEXEC);
  h.worker_epoll = epoll_create1(EPOLL_CLOEXEC);
  h.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  watch(h.acceptor_epoll, listener, EPOLLIN);
  watch(h.worker_epoll, h.wake, EPOLLIN | EPOLLET);
  pthread_t worker;
  errno = pthread_create(&worker, NULL, run_worker, &h);
  if (errno != 0) {
    peer_die("cannot start a thread");
  }
  (void)sched_setscheduler(0, SCHED_BATCH, &no_priority); /* as xchgd's acceptor on a shared core */
  signal(SIGTERM, end);
  peer_announce(listener);
  struct epoll_event event;
  while (ended == 0) {
    if (epoll_wait(h.acceptor_epoll, &event, 1, 100) == 1) {
      accept_one(&h, listener);
    }
  }
  for (uint32_t i = 0; i < 3; i++) {
    const uint32_t permille[] = {500, 900, 990};
    printf("%shandoff_ns_p%u=%llu", i == 0 ? "" : " ", permille[i] / 10,
           (unsigned long long)histogram_quantile(&h.spread, permille[i]));
  }
  printf("\n");
}
