/*
 * memory: shared memory as C11's release and acquire allow it to look.
 *
 * An atomic object is a place with its modification order: a list of messages, each with a value
 * and the view that it released.  A view says, for each place, the oldest message that may still be
 * read, and for each thread, up to which of its steps its plain accesses have happened before.
 *
 *   load         any message that is not older than the thread's view; acquire joins its view
 *   store        behind any such message, but not between a read-modify-write and what that read
 *   read-modify-write    a load and a store right behind it: so the newest, where all who write are
 *                such; hands on the view of what it read (a release sequence), released or not
 *   failed compare-and-swap      a load (a spurious failure repeats the loop, and nothing else)
 *
 * Not there: values that are read before they are written (load buffering), and the release
 * sequence through a plain store of the same thread, which C++20 has given up.
 *
 * Plain memory is declared as objects.  Who accesses one must know of the last write, and who
 * writes it of all reads, too; else there is a data race.  The accesses come from the compiler:
 * the product's files are compiled with -fsanitize=thread, and linked with hooks.c in place of the
 * sanitizer.
 *
 * The kernel: an eventfd is a place whose value says whether an edge is pending. A write is a
 * read-modify-write with release, the return from a wait one with acquire.
 */
#ifndef TESTS_EXPLORE_MEMORY_H
#define TESTS_EXPLORE_MEMORY_H

#include "tests/explore/hash.h"

#include <stdbool.h>
#include <stddef.h>

/* Who writes a place: one thread by its number, or */
#define MEMORY_ANYBODY 255u
#define MEMORY_SWAPPED 254u /* anybody, and all who touch it do so by read-modify-write */
#define MEMORY_NOWHERE 16u  /* no place; as many there are at most */

struct order {
  bool acquire, release;
};

/**
 * Forget everything. All shared memory lies in these bytes; what is in no place or object is the
 * threads' own.
 */
void memory_init(void *base, size_t size);
/** Forget all messages and accesses; places have the values that their memory holds now. */
void memory_reset(void);

/**
 * memory_place(address, size, name, writer): ${address} is an atomic one; if only one thread
 * ever writes it, ${writer} is that (which is checked), else one of the above.
 */
void memory_place(const void *address, size_t size, const char *name, unsigned writer);
/** These bytes are a plain object, but for those that are declared already. */
void memory_object(const void *address, size_t size, const char *name);
/** The same; what it holds is told by the marks of its one owner (explore_mark). */
void memory_private(const void *address, size_t size, const char *name);
/** An eventfd, and the epoll set that waits for it alone. */
void memory_event(int fd, int epoll_fd);

/**
 * Whether MEMORY_SWAPPED is believed (and checked): of such a place only the newest message is part
 * of the state, since nobody can get at another one.
 */
void memory_swapped(bool believed);
/** Whether the kernel's writes and waits order anything (they do). */
void memory_kernel_orders(bool orders);

/* What a thread does to a place; none of these gives up the turn. */

/** The place at ${address}, or MEMORY_NOWHERE: it is none, or no thread asks. */
unsigned memory_find(const void *address);
const char *memory_name(unsigned place);
/** Is the current thread the only one that writes it? */
bool memory_own(unsigned place);
uint64_t memory_load(unsigned place, bool acquire);
/** The oldest value that the thread may still read. */
uint64_t memory_known(unsigned place);
/** The value that the thread has read or written last: what it knows without another look. */
uint64_t memory_last(unsigned place);
void memory_store(unsigned place, uint64_t value, bool release);
uint64_t memory_exchange(unsigned place, uint64_t value, struct order order);
bool memory_cas(unsigned place, uint64_t *expected, uint64_t value, struct order order);

/** A write to an eventfd. */
void memory_signal(int fd);
/** A look for an edge, which takes it. Return: was there one? */
bool memory_poll(int epoll_fd);
/** Wait for an edge and take it. */
void memory_wait(int epoll_fd);

/** A plain access, by hooks.c. */
void memory_access(const void *address, size_t size, bool writes);

/** What the current state consists of. */
void memory_hash(struct hash *hash);

#endif
