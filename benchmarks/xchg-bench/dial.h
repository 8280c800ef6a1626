/*
 * dial: the socket of a connection to the server, and the choice among the addresses of a name.
 *
 * A name may have several addresses of which only some are served, such as ::1 and 127.0.0.1.  One
 * is chosen before the run: the first to which a connection can be made.  This connection is the
 * first one of the run, so the server sees no other connections than those of the run.
 */
#ifndef BENCH_DIAL_H
#define BENCH_DIAL_H

#include "bench.h"

/**
 * dial_socket(family, from, nodelay):
 * Return: a new non-blocking socket of ${family}, bound to the address of ${from} unless that is
 * NULL; or -1 with errno.
 */
int dial_socket(int family, const struct addr *from, bool nodelay);

/**
 * dial_choose(options, first):
 * If the target has several addresses, set options->address to the first that answers within the
 * time limit of an exchange, at most 2 s, and give its connection to ${first}.  If none answers, or
 * a signal comes, the first address stays, and first->fd stays -1.
 * Return: the number of the address, from 1; 0 if none was chosen.
 */
uint32_t dial_choose(struct options *options, struct first_connection *first);

/**
 * dial_take_first(first, fd, connect_ns):
 * Take the connection of ${first}.  Return: false if ${first} is NULL or has none.
 */
bool dial_take_first(struct first_connection *first, int *fd, uint64_t *connect_ns);

#endif
