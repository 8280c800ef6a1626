/*
 * loop: the floor that everything else is measured against: the fewest system calls with which
 * epoll can serve.
 *
 *   echo     2 + 1/k a message: recv, send, and an epoll_wait for the k connections that it reports
 *   greet    5 + 2/k an exchange: accept4, send, epoll_ctl, recv, close
 *   hello    3 + 1/k: accept4, send, close
 *
 * It keeps no state a connection: no timers, limits, framing beyond looking for the 0 byte, no
 * output buffer and no counters.  What a send does not take at once ends the connection (a client
 * that does not read is no part of any measured work), and greet closes at once even where that
 * turns unread input into a reset.  One accept an event: accepting until EAGAIN costs a failing
 * accept4, dearer than the wait that it saves.
 *
 * Edge-triggered, it reads until a read comes back short instead of until EAGAIN, so that the count
 * of system calls is the same; what differs is that the kernel does not put a socket back on the
 * ready list, which shows from some thousand connections on.
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

static void welcome(struct loop *loop) {
  int fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd == -1)
    return;
  struct epoll_event event = {.events = loop->events, .data.fd = fd};
  if ((loop->exchange != PEER_ECHO &&
       send(fd, PEER_GREETING, PEER_GREETING_SIZE, MSG_NOSIGNAL) != (ssize_t)PEER_GREETING_SIZE) ||
      loop->exchange == PEER_HELLO || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == -1)
    close(fd);
}

/* Echo what one read brings; false at the end. */
static bool echo(struct loop *loop, int fd, ssize_t *size) {
  *size = recv(fd, loop->buffer, sizeof loop->buffer, 0);
  return *size > 0 && send(fd, loop->buffer, (size_t)*size, MSG_NOSIGNAL) == *size;
}

/* Is there more to come of the one message? */
static bool receive(struct loop *loop, int fd, ssize_t *size) {
  *size = recv(fd, loop->buffer, sizeof loop->buffer, 0);
  return *size > 0 && memchr(loop->buffer, 0, (size_t)*size) == NULL;
}

static void serve(struct loop *loop, int fd) {
  ssize_t size;
  bool stays;
  do {
    stays = loop->exchange == PEER_ECHO ? echo(loop, fd, &size) : receive(loop, fd, &size);
  } while (stays && (loop->events & EPOLLET) && size == (ssize_t)sizeof loop->buffer);
  if (!stays)
    close(fd);
}

void loop_run(int listener, enum peer_exchange exchange, bool edge) {
  struct loop loop = {.listener = listener, .exchange = exchange, .events = EPOLLIN};
  struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.fd = listener};
  if (edge)
    loop.events |= EPOLLET;
  loop.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (loop.epoll == -1 || epoll_ctl(loop.epoll, EPOLL_CTL_ADD, listener, &first) == -1)
    peer_die("cannot use epoll");
  for (;;) {
    int count = epoll_wait(loop.epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++)
      if (events[i].data.fd == listener)
        welcome(&loop);
      else
        serve(&loop, events[i].data.fd);
  }
}
