/*
 * fuzz_conn_memory: a whole connection over a line in memory, below the seam of core/sys.h; see
 * conn_play.h.
 *
 *   client --put--> up: what the server has not read
 *   client <--get-- here: received, not read  <--carry-- flight: the server's send buffer
 *
 * It behaves like TCP where that matters for safe closing.  Bytes are acknowledged when they are
 * carried, which happens whenever the client acts.  A close with unread input, and input after a
 * close, cause a reset, which destroys what is in flight but not what was received.  Events have
 * the edges of epoll: input, its end, and room after a send that found none.
 */
#include "tests/fault/seam.h"
#include "tests/fuzz/conn_play.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <linux/sockios.h>

#define SERVER_FD 1000
#define EPOLL_FD 1001
#define PIPE_MAX ((size_t)1 << 20)

struct pipe {
  uint8_t bytes[PIPE_MAX];
  size_t begin, end;
};

static struct {
  struct pipe up, flight, here;
  size_t room;        /* of flight and of here, each */
  bool up_ended;      /* the client has half-closed or closed */
  bool reset;         /* the client has sent a reset */
  bool read_reset;    /* a call has reported that reset */
  bool down_ended;    /* the server has half-closed */
  bool server_closed; /* the server has closed its descriptor */
  bool client_reset;  /* the server has sent a reset */
  bool full;          /* a send was short: room is an edge */
  bool watched;
  uint32_t edges; /* raised and not reported yet */
  struct epoll_event event;
} line;

static size_t waiting(const struct pipe *pipe) { return pipe->end - pipe->begin; }

static void append(struct pipe *pipe, const uint8_t *bytes, size_t size) {
  fuzz_holds(size <= PIPE_MAX - pipe->end, "the pipe is long enough");
  memcpy(pipe->bytes + pipe->end, bytes, size);
  pipe->end += size;
}

static size_t take(struct pipe *pipe, uint8_t *bytes, size_t size) {
  size = min_u64(size, waiting(pipe));
  memcpy(bytes, pipe->bytes + pipe->begin, size);
  pipe->begin += size;
  if (pipe->begin == pipe->end) {
    pipe->begin = pipe->end = 0;
  }
  return size;
}

/* What is in flight arrives, as far as there is room for it. */
static void carry(void) {
  size_t size = min_u64(line.room - min_u64(line.room, waiting(&line.here)), waiting(&line.flight));
  append(&line.here, line.flight.bytes + line.flight.begin, size);
  line.flight.begin += size;
  if (waiting(&line.flight) == 0) {
    line.flight.begin = line.flight.end = 0;
  }
  if (line.full && size > 0) {
    line.full = false;
    line.edges |= EPOLLOUT;
  }
}

/* The server's kernel gives up: what is in flight is lost. */
static void break_off(void) {
  line.flight.begin = line.flight.end = 0;
  line.client_reset = true;
}

/* ---- the client ---- */

void line_open(size_t room, enum addr_family *family) {
  line.up.begin = line.up.end = line.flight.begin = line.flight.end = 0;
  line.here.begin = line.here.end = 0;
  line.room = room;
  line.up_ended = line.reset = line.read_reset = line.down_ended = false;
  line.server_closed = line.client_reset = line.full = line.watched = false;
  line.edges = 0;
  *family = ADDR_IPV4;
}

int line_server(void) { return SERVER_FD; }

int line_epoll(void) { return EPOLL_FD; }

size_t line_put(const uint8_t *bytes, size_t size) {
  carry();
  if (line.client_reset || line.up_ended) {
    return 0;
  }
  if (line.server_closed) {
    break_off();
    return size; /* the answer is a reset, which the next call meets */
  }
  append(&line.up, bytes, size);
  line.edges |= EPOLLIN;
  return size;
}

enum got line_get(uint8_t *bytes, size_t size, size_t *count) {
  carry();
  *count = take(&line.here, bytes, size);
  carry();
  if (*count > 0) {
    return GOT_BYTES;
  }
  if (line.client_reset) {
    return GOT_RESET;
  }
  bool end = (line.down_ended || line.server_closed) && waiting(&line.flight) == 0;
  return end ? GOT_END : GOT_NOTHING;
}

size_t line_unread(void) { return waiting(&line.up); }

void line_part(enum part part) {
  carry();
  if (part == PART_SILENCE || line.up_ended) {
    return;
  }
  line.up_ended = true;
  line.edges |= EPOLLIN | EPOLLRDHUP;
  bool unread = waiting(&line.here) > 0;
  if (part == PART_RESET || (part == PART_CLOSE && unread)) {
    line.reset = true;
    line.edges |= EPOLLERR | EPOLLHUP;
  }
}

void line_close(void) {
  if (line.up_ended && !line.server_closed && waiting(&line.flight) + waiting(&line.here) > 0) {
    line.reset = true; /* bytes for a client that has closed */
    line.edges |= EPOLLIN | EPOLLERR | EPOLLHUP;
  }
  line_part(PART_CLOSE);
}

/* ---- the server's calls ---- */

uint64_t sys_now_ns(void) { return NS_PER_S; }

ssize_t sys_recv(int fd, void *data, size_t size, int flags) {
  (void)flags;
  fuzz_holds(fd == SERVER_FD && !line.server_closed && size > 0,
             "the server reads from its own descriptor");
  if (waiting(&line.up) > 0) {
    return (ssize_t)take(&line.up, data, size);
  }
  if (line.reset && !line.read_reset) {
    line.read_reset = true;
    errno = ECONNRESET;
    return -1;
  }
  if (line.up_ended) {
    return 0;
  }
  errno = EAGAIN;
  return -1;
}

ssize_t sys_send(int fd, const void *data, size_t size, int flags) {
  (void)flags;
  fuzz_holds(fd == SERVER_FD && !line.server_closed && size > 0,
             "the server writes to its own descriptor");
  fuzz_holds(!line.down_ended, "nothing is sent after a half-close");
  if (line.reset) {
    errno = line.read_reset ? EPIPE : ECONNRESET;
    line.read_reset = true;
    return -1;
  }
  size = min_u64(size, line.room - min_u64(line.room, waiting(&line.flight)));
  if (size == 0) {
    line.full = true;
    errno = EAGAIN;
    return -1;
  }
  append(&line.flight, data, size);
  line.full = waiting(&line.flight) >= line.room;
  return (ssize_t)size;
}

int sys_shutdown(int fd, int how) {
  fuzz_holds(fd == SERVER_FD && how == SHUT_WR && !line.down_ended, "there is one half-close");
  line.down_ended = true;
  return 0;
}

int sys_close(int fd) {
  if (fd == EPOLL_FD) {
    return 0;
  }
  fuzz_holds(fd == SERVER_FD && !line.server_closed, "the descriptor is closed once");
  line.server_closed = true;
  line.watched = false;
  if (waiting(&line.up) > 0) {
    break_off();
  }
  return 0;
}

int sys_ioctl(int fd, unsigned long request, int *value) {
  fuzz_holds(fd == SERVER_FD && request == SIOCOUTQ, "the ioctl asks for unacknowledged bytes");
  bool end = line.down_ended && waiting(&line.flight) > 0; /* TCP numbers the FIN like a byte */
  *value = (int)waiting(&line.flight) + end;
  return 0;
}

/* The current events, as a level. */
static uint32_t level(void) {
  bool in = waiting(&line.up) > 0 || line.up_ended;
  bool out = line.reset || waiting(&line.flight) < line.room; /* a send would not wait */
  return (in ? (uint32_t)EPOLLIN : 0) | (line.up_ended ? (uint32_t)EPOLLRDHUP : 0) |
         (out ? (uint32_t)EPOLLOUT : 0) | (line.reset ? (uint32_t)(EPOLLERR | EPOLLHUP) : 0);
}

int sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event) {
  fuzz_holds(epoll_fd == EPOLL_FD && fd == SERVER_FD && op != EPOLL_CTL_DEL,
             "the connection is watched");
  line.watched = true;
  line.event = *event;
  line.edges = level();
  return 0;
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms) {
  (void)timeout_ms;
  fuzz_holds(epoll_fd == EPOLL_FD && max > 0, "the server waits for its own events");
  uint32_t asked = line.event.events | EPOLLERR | EPOLLHUP;
  if (!line.watched || (line.edges & asked) == 0) {
    return 0;
  }
  /* As in the kernel, an edge of one kind reports the level of all. */
  events[0] = (struct epoll_event){.events = level() & asked, .data = line.event.data};
  line.edges = 0;
  return events[0].events == 0 ? 0 : 1;
}

int sys_poll(struct pollfd *fds, unsigned count, int timeout_ms) {
  (void)timeout_ms;
  fuzz_holds(count >= 1, "a descriptor is polled");
  fds[0].revents = 0;
  if (fds[0].fd == -1) {
    return 0;
  }
  fuzz_holds(fds[0].fd == SERVER_FD && !line.server_closed, "the server polls its own descriptor");
  uint32_t asked = (uint32_t)(unsigned short)fds[0].events | EPOLLERR | EPOLLHUP;
  fds[0].revents = (short)(level() & asked);
  return fds[0].revents != 0;
}

void *sys_map(size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
              0);
}

void *sys_remap(void *old, size_t old_size, size_t new_size) {
  void *moved = sys_map(new_size);
  if (moved != MAP_FAILED) {
    memcpy(moved, old, min_u64(old_size, new_size));
    munmap(old, old_size);
  }
  return moved;
}

int sys_unmap(void *memory, size_t size) { return munmap(memory, size); }

int sys_discard(void *memory, size_t size) {
  (void)memory;
  (void)size;
  return 0; /* memory that stays mapped may keep its content */
}

/* ---- calls that a connection never makes ---- */

int sys_accept4(int fd, struct sockaddr *addr, unsigned *size, int flags) {
  (void)fd, (void)addr, (void)size, (void)flags;
  abort();
}
ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
  (void)fd, (void)message, (void)flags;
  abort();
}
ssize_t sys_write(int fd, const void *data, size_t size) {
  (void)fd, (void)data, (void)size;
  abort();
}
/* A timeout ends in a reset, because the peer has stopped reading. */
int sys_setsockopt(int fd, int level_, int name, const void *value, unsigned size) {
  (void)fd, (void)value, (void)size;
  fuzz_holds(level_ == SOL_SOCKET && name == SO_LINGER, "the option belongs to the close");
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  conn_play(data, size);
  return 0;
}
