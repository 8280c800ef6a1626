/*
 * flood: load on connections that the caller has opened and passes as descriptors.  So the caller
 * can choose them, for example all connections of one worker.
 *
 *   flood bounce|pour COUNT SIZE FD...
 *
 * bounce sends COUNT messages of SIZE bytes on each connection and sends back everything it
 * receives.  The server always has work, and the number of bytes in flight stays the same.  pour
 * sends as many bytes as each connection takes, and discards what it receives.
 *
 * Closed loop, one thread, level-triggered epoll.  Answers are not compared: the measurement uses
 * connections of its own.  On SIGTERM flood prints the number of bytes that it has sent.  It ends
 * with exit code 1 as soon as a connection ends, because the load is then no longer the intended
 * one.
 */
#include "benchmarks/peers/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

struct flood {
  int epoll;
  bool pour;
  size_t count, size;
  uint64_t sent;
  char out[PEER_BUFFER_SIZE]; /* the first messages, and the bytes that pour sends */
  char in[PEER_BUFFER_SIZE];
};

static volatile sig_atomic_t ended;

static void on_signal(int number) {
  (void)number;
  ended = 1;
}

/* Send ${size} bytes of ${data}; the number of bytes that the socket took. */
static size_t give(struct flood *flood, int fd, const char *data, size_t size) {
  ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
  if (sent == -1 && errno != EAGAIN) {
    peer_die("a connection ended");
  }
  size_t taken = sent == -1 ? 0 : (size_t)sent;
  flood->sent += taken;
  return taken;
}

static void add(struct flood *flood, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  int flags = fcntl(fd, F_GETFL);
  if (flood->pour) {
    event.events |= EPOLLOUT;
  }
  if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
      epoll_ctl(flood->epoll, EPOLL_CTL_ADD, fd, &event) == -1) {
    peer_die("cannot use a connection");
  }
  for (size_t i = 0; i < flood->count && !flood->pour; i++) {
    if (give(flood, fd, flood->out, flood->size) != flood->size) {
      peer_die("a connection is full");
    }
  }
}

static void serve(struct flood *flood, const struct epoll_event *event) {
  int fd = event->data.fd;
  if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
    ssize_t size = recv(fd, flood->in, sizeof(flood->in), 0);
    if (size == 0 || (size == -1 && errno != EAGAIN)) {
      peer_die("a connection ended");
    }
    if (size > 0 && !flood->pour && give(flood, fd, flood->in, (size_t)size) != (size_t)size) {
      peer_die("a connection is full");
    }
  }
  if (flood->pour && event->events & EPOLLOUT) {
    (void)give(flood, fd, flood->out, flood->size);
  }
}

static void run(struct flood *flood) {
  struct epoll_event events[EVENTS];
  while (!ended) {
    int count = epoll_wait(flood->epoll, events, EVENTS, 100); /* a signal may come before it */
    for (int i = 0; i < count; i++) {
      serve(flood, &events[i]);
    }
  }
}

int main(int argc, char **argv) {
  static struct flood flood;
  const struct sigaction action = {.sa_handler = on_signal};
  if (argc < 5 || (strcmp(argv[1], "pour") != 0 && strcmp(argv[1], "bounce") != 0)) {
    fprintf(stderr, "usage: flood bounce|pour COUNT SIZE FD...\n");
    return 64;
  }
  flood.pour = strcmp(argv[1], "pour") == 0;
  flood.count = strtoul(argv[2], NULL, 10);
  flood.size = strtoul(argv[3], NULL, 10);
  if (flood.size == 0 || flood.size > sizeof(flood.out)) {
    peer_die("that size is not possible");
  }
  memset(flood.out, 'x', sizeof(flood.out));
  flood.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (flood.epoll == -1 || sigaction(SIGTERM, &action, NULL) == -1) {
    peer_die("cannot start");
  }
  for (int i = 4; i < argc; i++) {
    add(&flood, (int)strtol(argv[i], NULL, 10));
  }
  run(&flood);
  printf("sent %llu\n", (unsigned long long)flood.sent);
  return 0;
}
