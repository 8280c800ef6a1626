/*
 * kernel: simulated descriptors, and epoll for them.
 *
 * A descriptor is an epoll set, an eventfd, a listening socket (struct port) or a connection
 * (struct link, see network.h).  A new descriptor gets the lowest free number, as in POSIX, so that
 * numbers are reused at once.
 *
 * epoll works as in Linux.  An item becomes ready by a wake-up with a wanted event, by being added
 * or modified while ready, or (level-triggered) by having been ready.  A wait asks each ready item
 * for its current events, reports the wanted ones, and skips an item without any.
 */
#ifndef TESTS_SIM_KERNEL_H
#define TESTS_SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define FILES_FIRST 3 /* after the three standard descriptors of a process */
#define FILES_MAX 512

enum file_kind { FILE_NONE, FILE_EPOLL, FILE_EVENT, FILE_PORT, FILE_LINK };

struct file {
  enum file_kind kind;
  void *object;             /* PORT, LINK: an object of network.h */
  uint64_t count;           /* EVENT */
  int epoll_fd;             /* the epoll set that contains it; -1 = none (one is enough here) */
  bool ready;               /* it is in the ready list of that set */
  struct epoll_event event; /* as registered */
};

void kernel_reset(void);

/** A new descriptor. Return: -1 with errno EMFILE where there are too many. */
int kernel_open(enum file_kind kind, void *object);

/**
 * The open file of ${fd}; NULL, and a failure of the run, where it is not an open one of ${kind}.
 */
struct file *kernel_file(int fd, enum file_kind kind);

/** Is ${fd} open? */
bool kernel_is_open(int fd);

/** Free the number, and remove its item from its set. */
void kernel_close(int fd);

/** Number of open descriptors. */
uint32_t kernel_open_count(void);

/**
 * Something happened to ${fd}: wake those who wait for any of ${events} (0 = for any event); ${fd}
 * -1: the connection has no descriptor.
 */
void kernel_signal(int fd, uint32_t events);

/** Add one to an eventfd. */
void kernel_event_add(int fd);

/** The current events of ${fd}. */
uint32_t kernel_events(int fd);

/** epoll_ctl(2). Return: 0 or an errno. */
int kernel_control(int epoll_fd, int op, int fd, const struct epoll_event *event);

/**
 * Report what is ready in the set, in an order that the prng chooses. Return: how many, ${max} at
 * most.
 */
int kernel_collect(int epoll_fd, struct epoll_event *events, int max);

#endif
