/*
 * loop: the lower bound for all servers: the fewest system calls with which epoll can serve.
 *
 *   exchange   calls     which
 *   echo       2 + 1/k   recv, send; epoll_wait is shared by the k connections that it reports
 *   greet      5 + 2/k   accept4, send, epoll_ctl, recv, close
 *   hello      3 + 1/k   accept4, send, close
 *
 * There is no state per connection: no timers, limits, output buffer or counters, and no framing
 * but the search for the 0 byte.  A partial send ends the connection; no measured client stops
 * reading. greet closes at once, even if unread input turns that into a reset.  Each event accepts
 * one connection: accepting until EAGAIN ends in a failing accept4, which costs more than the wait
 * that it saves.
 *
 * The edge-triggered loop reads until a short read, not until EAGAIN, so the count of system calls
 * is the same.  The difference is that the kernel does not put a socket back on the ready list,
 * which is visible from some thousand connections on.
 */
#include "benchmarks/peers/loop.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

struct loop {
  int epoll;
  int listener;
  enum peer_exchange exchange;
  uint32_t events; /* of a connection */
  char buffer[PEER_BUFFER_SIZE];
};

static void accept_one(struct loop *loop) {
  int fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd == -1) {
    return;
  }
  struct epoll_event event = {.events = loop->events, .data.fd = fd};
  if ((loop->exchange != PEER_ECHO &&
       send(fd, PEER_GREETING, PEER_GREETING_SIZE, MSG_NOSIGNAL) != (ssize_t)PEER_GREETING_SIZE) ||
      loop->exchange == PEER_HELLO || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == -1) {
    close(fd);
  }
}

/* Echo the bytes of one read; false if the connection must be closed. */
static bool echo(struct loop *loop, int fd, ssize_t *size) {
  *size = recv(fd, loop->buffer, sizeof(loop->buffer), 0);
  return *size > 0 && send(fd, loop->buffer, (size_t)*size, MSG_NOSIGNAL) == *size;
}

/* Read a part of the message; false if it is complete or the connection ended. */
static bool receive(struct loop *loop, int fd, ssize_t *size) {
  *size = recv(fd, loop->buffer, sizeof(loop->buffer), 0);
  return *size > 0 && memchr(loop->buffer, 0, (size_t)*size) == NULL;
}

static void serve(struct loop *loop, int fd) {
  ssize_t size;
  bool stays;
  do {
    stays = loop->exchange == PEER_ECHO ? echo(loop, fd, &size) : receive(loop, fd, &size);
  } while (stays && (loop->events & EPOLLET) && size == (ssize_t)sizeof(loop->buffer));
  if (!stays) {
    close(fd);
  }
}

void loop_run(int listener, enum peer_exchange exchange, bool edge) {
  struct loop loop = {.listener = listener, .exchange = exchange, .events = EPOLLIN};
  struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.fd = listener};
  if (edge) {
    loop.events |= EPOLLET;
  }
  loop.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (loop.epoll == -1 || epoll_ctl(loop.epoll, EPOLL_CTL_ADD, listener, &first) == -1) {
    peer_die("cannot use epoll");
  }
  for (;;) {
    int count = epoll_wait(loop.epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) {
        accept_one(&loop);
      } else {
        serve(&loop, events[i].data.fd);
      }
    }
  }
}
