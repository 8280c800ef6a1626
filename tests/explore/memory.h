/*
 * memory: shared memory with every behaviour that release and acquire of C11 allow.
 *
 * An atomic object is a place with its modification order: a list of messages, each with a value
 * and the view that it released.  A view says which message of each place is the oldest that may
 * still be read, and up to which step the plain accesses of each thread have happened before.
 *
 *   load         any message that is not older than the thread's view; acquire joins its view
 *   store        after any such message, but not between a read-modify-write and what it read
 *   read-modify-write    a load, and a store right after what it read: the newest message, if every
 *                writer is one; passes on the view of what it read (a release sequence)
 *   failed compare-and-swap      a load (a spurious failure would only repeat the loop)
 *
 * Left out are values that are read before they are written (load buffering), and the release
 * sequence through a plain store of the same thread, which C++20 has removed.
 *
 * Plain memory is declared as objects.  A thread that accesses an object must know of its last
 * write, and a thread that writes it also of all reads; else there is a data race.  The compiler
 * reports the accesses: the product's files are compiled with -fsanitize=thread, and linked with
 * hooks.c in place of the sanitizer.
 *
 * An eventfd is a place whose value says whether an edge is pending.  A write to it is a
 * read-modify-write with release, the return from a wait one with acquire.
 */
#ifndef TESTS_EXPLORE_MEMORY_H
#define TESTS_EXPLORE_MEMORY_H

#include "tests/explore/hash.h"

#include <stdbool.h>
#include <stddef.h>

/* The writer of a place: the number of the only thread that writes it, or */
#define MEMORY_ANY_THREAD 255u
#define MEMORY_SWAPPED 254u /* any thread, and each accesses it by read-modify-write */
#define MEMORY_NOWHERE 16u  /* no place; also the largest number of places */

struct order {
  bool acquire, release;
};

/**
 * Forget everything. All shared memory is in these bytes; what belongs to no place or object is
 * private to a thread.
 */
void memory_init(void *base, size_t size);
/** Forget all messages and accesses; each place has the value that its memory holds now. */
void memory_reset(void);

/**
 * memory_place(address, size, name, writer):
 * Declare the atomic object at ${address}.  ${writer} is the only thread that ever writes it, which
 * is checked, or one of the constants above.
 */
void memory_place(const void *address, size_t size, const char *name, unsigned writer);
/** Declare the rest of these bytes, those not declared yet, as a plain object. */
void memory_object(const void *address, size_t size, const char *name);
/** The same; its only owner marks its content (explore_mark). */
void memory_private(const void *address, size_t size, const char *name);
/** Declare an eventfd, and the epoll set that waits for it alone. */
void memory_event(int fd, int epoll_fd);

/**
 * Whether MEMORY_SWAPPED is used, and checked: then only the newest message of such a place is part
 * of the state, because no thread can reach another one.
 */
void memory_swapped(bool believed);
/** Whether the kernel's writes and waits order anything; they do unless a mutant says otherwise. */
void memory_kernel_orders(bool orders);

/* Operations of a thread on a place; none of them gives up the turn. */

/** The place at ${address}, or MEMORY_NOWHERE: it is none, or the caller is no thread. */
unsigned memory_find(const void *address);
const char *memory_name(unsigned place);
/** Is the current thread the only one that writes it? */
bool memory_own(unsigned place);
uint64_t memory_load(unsigned place, bool acquire);
/** The oldest value that the thread may still read. */
uint64_t memory_known(unsigned place);
/** The value that the thread has read or written last. */
uint64_t memory_last(unsigned place);
void memory_store(unsigned place, uint64_t value, bool release);
uint64_t memory_exchange(unsigned place, uint64_t value, struct order order);
bool memory_cas(unsigned place, uint64_t *expected, uint64_t value, struct order order);

/** Write to an eventfd. */
void memory_signal(int fd);
/** Take a pending edge. Return: was there one? */
bool memory_poll(int epoll_fd);
/** Wait for an edge and take it. */
void memory_wait(int epoll_fd);

/** A plain access, reported by hooks.c. */
void memory_access(const void *address, size_t size, bool writes);

/** Add the current state. */
void memory_hash(struct hash *hash);

#endif
