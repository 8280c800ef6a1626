/*
 * conn_play: runs a connection of the built-in exchanges with the script of an input, and checks
 * what its client receives.
 *
 * The connection, its reactor and its framing are the real ones.  Between it and the client is the
 * line.  There are two lines: a pair of sockets (fuzz_conn_socket), and memory below the seam of
 * core/sys.h (fuzz_conn_memory).  The latter is faster, and behaves like TCP where UNIX sockets do
 * not.
 */
#ifndef TESTS_FUZZ_CONN_PLAY_H
#define TESTS_FUZZ_CONN_PLAY_H

#include "core/addr.h"

#include <stdbool.h>

/* How a client ends. */
enum part { PART_HALF_CLOSE, PART_CLOSE, PART_RESET, PART_SILENCE };

/* What a read of the client returned. */
enum got { GOT_BYTES, GOT_NOTHING, GOT_END, GOT_RESET };

/* The line; each target has its own bodies. */

/** Make a new line, which holds about ${room} bytes for a client that does not read. */
void line_open(size_t room, enum addr_family *family);

/** The server's descriptor, which the server closes. */
int line_server(void);

/** A descriptor for the reactor's epoll_fd if the line has its own, else -1. */
int line_epoll(void);

/** The client sends. Return: how many bytes were taken. */
size_t line_put(const uint8_t *bytes, size_t size);

/** The client reads up to ${size} bytes; on GOT_BYTES ${*count} is their number. */
enum got line_get(uint8_t *bytes, size_t size, size_t *count);

/** Bytes that the server, which has not closed, has not read yet. */
size_t line_unread(void);

/** End the client; after PART_CLOSE and PART_RESET it neither sends nor reads. */
void line_part(enum part part);

/** Close the client in any case; the line's own memory stays. */
void line_close(void);

/** Run ${size} bytes of ${data}; aborts where a property does not hold. */
void conn_play(const uint8_t *data, size_t size);

#endif
