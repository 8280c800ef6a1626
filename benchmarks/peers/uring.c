/*
 * uring: io_uring through liburing (2.3, Debian 12): completions instead of readiness.
 *
 *   accept   one multishot request for all connections
 *   echo     one multishot receive per connection, with buffers from one ring of provided buffers;
 *            a buffer is sent in place and returned to the ring when its send has completed
 *   greet    greeting and receive are submitted together; the receive is not multishot, because a
 *            multishot receive would keep the socket open after its close
 *
 * One system call per iteration submits all requests and waits.  Sends of one connection must keep
 * their order, so only the first of its waiting buffers is in flight.  The others are chained by
 * number.  Needs Linux 6.1 (DEFER_TASKRUN, multishot receive).
 */
#include "benchmarks/peers/peer.h"

#include <liburing.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SUBMISSIONS 4096
#define COMPLETIONS 32768
#define BUFFERS 4096 /* a power of two */
#define BUFFER_SIZE 4096
#define GROUP 0
#define NONE UINT16_MAX

/* The kind of a request; it shares the request's 64 bits with the buffer and the descriptor. */
enum operation { ACCEPT, RECEIVE, SEND, GREETING, CLOSE };

/* The buffers that a connection must send; the first is in flight. */
struct queue {
  uint16_t first, last;
  bool ended; /* close once it is empty */
};

struct server {
  struct io_uring ring;
  struct io_uring_buf_ring *provided;
  char *buffers;          /* owns */
  uint16_t next[BUFFERS]; /* the chains of all queues */
  uint32_t size[BUFFERS]; /* bytes in each buffer */
  struct queue *queues;   /* owns; by descriptor */
  size_t queues_count;
  enum peer_exchange exchange;
  int listener;
};

static uint64_t tag(enum operation operation, uint16_t buffer, int fd) {
  return (uint64_t)operation << 56 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *request(struct server *server) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);
  if (sqe != NULL) {
    return sqe;
  }
  io_uring_submit(&server->ring);
  sqe = io_uring_get_sqe(&server->ring);
  if (sqe == NULL) {
    peer_die("no room for a request");
  }
  return sqe;
}

static char *buffer_at(const struct server *server, uint16_t buffer) {
  return server->buffers + (size_t)buffer * BUFFER_SIZE;
}

static void give_back(struct server *server, uint16_t buffer) {
  io_uring_buf_ring_add(server->provided, buffer_at(server, buffer), BUFFER_SIZE, buffer,
                        io_uring_buf_ring_mask(BUFFERS), 0);
  io_uring_buf_ring_advance(server->provided, 1);
}

static void ask_accept(struct server *server) {
  struct io_uring_sqe *sqe = request(server);
  io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
  sqe->user_data = tag(ACCEPT, 0, server->listener);
}

static void ask_receive(struct server *server, int fd) {
  struct io_uring_sqe *sqe = request(server);
  if (server->exchange == PEER_ECHO) {
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
  } else {
    io_uring_prep_recv(sqe, fd, NULL, BUFFER_SIZE, 0);
  }
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = GROUP;
  sqe->user_data = tag(RECEIVE, 0, fd);
}

static void ask_send(struct server *server, int fd, uint16_t buffer) {
  struct io_uring_sqe *sqe = request(server);
  /* WAITALL: a short send is continued by the kernel. */
  io_uring_prep_send(sqe, fd, buffer_at(server, buffer), server->size[buffer],
                     MSG_NOSIGNAL | MSG_WAITALL);
  sqe->user_data = tag(SEND, buffer, fd);
}

static void ask_close(struct server *server, int fd) {
  struct io_uring_sqe *sqe = request(server);
  io_uring_prep_close(sqe, fd);
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
  sqe->user_data = tag(CLOSE, 0, fd);
}

static void on_accept(struct server *server, const struct io_uring_cqe *cqe) {
  int fd = cqe->res;
  if (!(cqe->flags & IORING_CQE_F_MORE)) {
    ask_accept(server);
  }
  if (fd < 0) {
    return;
  }
  if ((size_t)fd >= server->queues_count) {
    close(fd);
    return;
  }
  server->queues[fd] = (struct queue){.first = NONE, .last = NONE};
  if (server->exchange != PEER_ECHO) {
    struct io_uring_sqe *sqe = request(server);
    io_uring_prep_send(sqe, fd, PEER_GREETING, PEER_GREETING_SIZE, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    if (server->exchange == PEER_HELLO) {
      sqe->flags |= IOSQE_IO_HARDLINK; /* the close waits for the send */
    }
    sqe->user_data = tag(GREETING, 0, fd);
  }
  if (server->exchange == PEER_HELLO) {
    ask_close(server, fd);
  } else {
    ask_receive(server, fd);
  }
}

/* The input has ended: close the connection once its last buffer has been sent. */
static void end(struct server *server, int fd) {
  struct queue *queue = &server->queues[fd];
  queue->ended = true;
  if (queue->first == NONE) {
    ask_close(server, fd);
  }
}

static void enqueue(struct server *server, int fd, uint16_t buffer) {
  struct queue *queue = &server->queues[fd];
  server->next[buffer] = NONE;
  if (queue->first == NONE) {
    queue->first = buffer;
    ask_send(server, fd, buffer);
  } else {
    server->next[queue->last] = buffer;
  }
  queue->last = buffer;
}

static void on_receive(struct server *server, const struct io_uring_cqe *cqe, int fd) {
  if (cqe->res == -ENOBUFS) { /* all are in flight; some are returned in this iteration */
    ask_receive(server, fd);
    return;
  }
  if (cqe->res <= 0) {
    if (cqe->flags & IORING_CQE_F_BUFFER) {
      give_back(server, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
    }
    end(server, fd);
    return;
  }
  uint16_t buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
  server->size[buffer] = (uint32_t)cqe->res;
  if (server->exchange == PEER_ECHO) {
    enqueue(server, fd, buffer);
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
      ask_receive(server, fd);
    }
    return;
  }
  bool complete = memchr(buffer_at(server, buffer), 0, (size_t)cqe->res) != NULL;
  give_back(server, buffer);
  if (complete) {
    ask_close(server, fd);
  } else {
    ask_receive(server, fd);
  }
}

static void on_sent(struct server *server, int fd, uint16_t buffer) {
  struct queue *queue = &server->queues[fd];
  queue->first = server->next[buffer];
  give_back(server, buffer);
  if (queue->first != NONE) {
    ask_send(server, fd, queue->first);
  } else if (queue->ended) {
    ask_close(server, fd);
  }
}

static void on_completion(struct server *server, const struct io_uring_cqe *cqe) {
  int fd = (int)(uint32_t)cqe->user_data;
  uint16_t buffer = (uint16_t)(cqe->user_data >> 32);
  switch ((enum operation)(cqe->user_data >> 56)) {
    case ACCEPT:
      on_accept(server, cqe);
      break;
    case RECEIVE:
      on_receive(server, cqe, fd);
      break;
    case SEND:
      on_sent(server, fd, buffer); /* after a failure the receive ends too */
      break;
    case GREETING: /* only a failure is reported, and the receive then ends too */
    case CLOSE:
      break;
  }
}

static void prepare(struct server *server, size_t descriptors) {
  struct io_uring_params parameters = {
      .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
      .cq_entries = COMPLETIONS};
  int error = io_uring_queue_init_params(SUBMISSIONS, &server->ring, &parameters);
  if (error < 0) {
    errno = -error;
    peer_die("cannot use io_uring (Linux 6.1 and its permission are needed)");
  }
  void *memory = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                      MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  server->buffers = malloc((size_t)BUFFERS * BUFFER_SIZE);
  server->queues = calloc(descriptors, sizeof(*server->queues));
  server->queues_count = descriptors;
  if (memory == MAP_FAILED || server->buffers == NULL || server->queues == NULL) {
    peer_die("no memory");
  }
  struct io_uring_buf_reg registration = {
      .ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = BUFFERS, .bgid = GROUP};
  server->provided = memory;
  error = io_uring_register_buf_ring(&server->ring, &registration, 0);
  if (error < 0) {
    errno = -error;
    peer_die("cannot register buffers");
  }
  io_uring_buf_ring_init(server->provided);
  for (uint16_t i = 0; i < BUFFERS; i++) {
    give_back(server, i);
  }
}

int main(int argc, char **argv) {
  static struct server server;
  struct peer_options options = peer_parse(argc, argv);
  size_t descriptors = peer_raise_descriptors();
  server.exchange = options.exchange;
  server.listener = peer_listen(options.port, false);
  prepare(&server, descriptors);
  ask_accept(&server);
  peer_announce(server.listener);
  for (;;) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    int error = io_uring_submit_and_wait(&server.ring, 1);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
      return 1;
    }
    io_uring_for_each_cqe(&server.ring, head, cqe) {
      on_completion(&server, cqe);
      count++;
    }
    io_uring_cq_advance(&server.ring, count);
  }
}
