/* kernel: see kernel.h. */
#include "tests/sim/kernel.h"

#include "tests/sim/oracle.h"
#include "tests/sim/network.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define ALWAYS (EPOLLERR | EPOLLHUP)
#define PRETENDED_MAX 500 /* spurious events in a run: they keep a spinning worker awake */

static struct {
  struct file files[FILES_MAX];
  uint32_t pretended;
  int end; /* descriptors from here on were never open */
} kernel;

void kernel_reset(void) {
  memset(kernel.files, 0, (size_t)kernel.end * sizeof(kernel.files[0]));
  kernel.end = FILES_FIRST;
  kernel.pretended = 0;
}

/* ---- descriptors ---- */

int kernel_open(enum file_kind kind, void *object) {
  for (int fd = FILES_FIRST; fd < FILES_MAX; fd++) {
    if (kernel.files[fd].kind == FILE_NONE) {
      kernel.files[fd] = (struct file){.kind = kind, .object = object, .epoll_fd = -1};
      kernel.end = fd >= kernel.end ? fd + 1 : kernel.end;
      return fd;
    }
  }
  errno = EMFILE;
  return -1;
}

bool kernel_is_open(int fd) {
  return fd >= FILES_FIRST && fd < FILES_MAX && kernel.files[fd].kind != FILE_NONE;
}

struct file *kernel_file(int fd, enum file_kind kind) {
  static struct file nothing;
  if (!kernel_is_open(fd) || kernel.files[fd].kind != kind) {
    world_fail("descriptor %d is used but %s", fd,
               kernel_is_open(fd) ? "is of another kind" : "is not open");
    return &nothing;
  }
  return &kernel.files[fd];
}

void kernel_close(int fd) {
  if (kernel.files[fd].kind == FILE_EPOLL) {
    for (int i = 0; i < kernel.end; i++) {
      if (kernel.files[i].epoll_fd == fd) {
        kernel.files[i].epoll_fd = -1;
      }
    }
  }
  kernel.files[fd] = (struct file){.kind = FILE_NONE};
}

uint32_t kernel_open_count(void) {
  uint32_t count = 0;
  for (int fd = 0; fd < kernel.end; fd++) {
    count += kernel.files[fd].kind != FILE_NONE;
  }
  return count;
}

/* ---- readiness ---- */

uint32_t kernel_events(int fd) {
  struct file *file = &kernel.files[fd];
  switch (file->kind) {
    case FILE_EVENT:
      return EPOLLOUT | (file->count > 0 ? EPOLLIN : 0);
    case FILE_PORT:
      return port_events(file->object);
    case FILE_LINK:
      return link_events(file->object);
    default:
      return 0;
  }
}

void kernel_signal(int fd, uint32_t events) {
  if (fd == -1) {
    return;
  }
  struct file *file = &kernel.files[fd];
  world_wake(file); /* poll(2) */
  if (file->epoll_fd == -1 || (events != 0 && (events & (file->event.events | ALWAYS)) == 0)) {
    return;
  }
  if (world.mutant == MUTANT_EDGE && file->kind == FILE_LINK && prng_chance(&world.prng, 50)) {
    return;
  }
  file->ready = true;
  world_wake(&kernel.files[file->epoll_fd]);
}

void kernel_event_add(int fd) {
  kernel.files[fd].count++;
  if (world.mutant == MUTANT_WAKE && prng_chance(&world.prng, 100)) {
    return;
  }
  kernel_signal(fd, EPOLLIN);
}

/* ---- epoll ---- */

int kernel_control(int epoll_fd, int op, int fd, const struct epoll_event *event) {
  struct file *file = &kernel.files[fd];
  if (op == EPOLL_CTL_ADD ? file->epoll_fd != -1 : file->epoll_fd != epoll_fd) {
    return op == EPOLL_CTL_ADD ? EEXIST : ENOENT;
  }
  if (op == EPOLL_CTL_DEL) {
    file->epoll_fd = -1;
    file->ready = false;
    return 0;
  }
  file->epoll_fd = epoll_fd;
  file->event = *event;
  if ((kernel_events(fd) & (event->events | ALWAYS)) != 0) {
    file->ready = true;
    world_wake(&kernel.files[epoll_fd]);
  }
  return 0;
}

static void shuffle(int *fds, int count) {
  for (int i = count - 1; i > 0; i--) {
    int other = (int)prng_below(&world.prng, (uint64_t)i + 1);
    int fd = fds[i];
    fds[i] = fds[other];
    fds[other] = fd;
  }
}

/* Report a spurious event of a socket that is watched and not ready. */
static int pretend(int epoll_fd, struct epoll_event *events) {
  int fd = (int)prng_between(&world.prng, FILES_FIRST, (uint64_t)kernel.end - 1);
  const struct file *file = &kernel.files[fd];
  bool socket = file->kind == FILE_LINK || file->kind == FILE_PORT;
  if (!socket || file->epoll_fd != epoll_fd || file->ready) {
    return 0;
  }
  if (kernel.pretended++ > PRETENDED_MAX) {
    return 0;
  }
  events->events = file->event.events & (EPOLLIN | EPOLLOUT);
  events->data = file->event.data;
  world_trace("  ready: fd %d, spurious", fd);
  oracle_excuse();
  return 1;
}

int kernel_collect(int epoll_fd, struct epoll_event *events, int max) {
  int fds[FILES_MAX], count = 0, reported = 0;
  for (int fd = FILES_FIRST; fd < kernel.end; fd++) {
    if (kernel.files[fd].ready && kernel.files[fd].epoll_fd == epoll_fd) {
      fds[count++] = fd;
    }
  }
  shuffle(fds, count);
  for (int i = 0; i < count && reported < max; i++) {
    struct file *file = &kernel.files[fds[i]];
    uint32_t found = kernel_events(fds[i]) & (file->event.events | ALWAYS);
    file->ready = false;
    if (found != 0) {
      events[reported].events = found;
      events[reported++].data = file->event.data;
      file->ready =
          (file->event.events & EPOLLET) == 0; /* level-triggered: the next wait looks again */
      world_trace("  ready: fd %d events 0x%x", fds[i], found);
    }
  }
  if (reported < max && prng_chance(&world.prng, world.weather.spurious)) {
    reported += pretend(epoll_fd, events + reported);
  }
  return reported;
}
