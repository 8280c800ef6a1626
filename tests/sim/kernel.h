/*
 * kernel: the simulated descriptors, and epoll upon them.
 *
 * A descriptor is an epoll set, an eventfd, a listening socket (struct port) or a connection
 * (struct link, see network.h). The lowest free number is given, as POSIX has it, so that numbers
 * are used again at once.  epoll is what Linux does: an item becomes ready by a wake-up whose
 * events it wants, by being added or modified while ready, or (level-triggered) by having been
 * ready; a wait asks each ready item for its events of now, reports those that are wanted, and
 * leaves out those that have none.
 */
#ifndef TESTS_SIM_KERNEL_H
#define TESTS_SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define FILES_FIRST 3 /* as in a process with its three standard ones */
#define FILES_MAX 512

enum file_kind { FILE_NONE, FILE_EPOLL, FILE_EVENT, FILE_PORT, FILE_LINK };

struct file {
  enum file_kind kind;
  void *object;             /* PORT, LINK: the other module's */
  uint64_t count;           /* EVENT */
  int epoll_fd;             /* the set in which it is; -1 = none (one is enough here) */
  bool ready;               /* ... and it is in its ready list */
  struct epoll_event event; /* ... with this */
};

void kernel_reset(void);

/** A new descriptor. Return: -1 with errno EMFILE where there are too many. */
int kernel_open(enum file_kind kind, void *object);

/** The open file behind ${fd}; NULL (and a failure of the run) where there is none of ${kind}. */
struct file *kernel_file(int fd, enum file_kind kind);

/** Is ${fd} open? */
bool kernel_is_open(int fd);

/** The number is free again; its item in a set is gone. */
void kernel_close(int fd);

/** Open descriptors. */
uint32_t kernel_open_count(void);

/**
 * Something happened to ${fd}: wake who waits for any of ${events} (0 = for whatever) of it. -1:
 * nobody has it.
 */
void kernel_signal(int fd, uint32_t events);

/** Add one to an eventfd. */
void kernel_event_add(int fd);

/** What epoll would find at ${fd} now. */
uint32_t kernel_events(int fd);

/** epoll_ctl(2). Return: 0 or an errno. */
int kernel_control(int epoll_fd, int op, int fd, const struct epoll_event *event);

/** What is ready in the set, in an order that the prng choose. Return: how many, ${max} at most. */
int kernel_collect(int epoll_fd, struct epoll_event *events, int max);

#endif
