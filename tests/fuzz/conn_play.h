/*
 * conn_play: a connection of the built-in exchanges under an input's script, and what its client
 * must have received.
 *
 * The connection, its reactor and its framing are the real ones.  What lies between it and the
 * client is the line, of which there are two: a pair of sockets (fuzz_conn_socket) and memory under
 * core/sys.h's seam (fuzz_conn_memory), which is faster and behaves like TCP where a pair of UNIX
 * sockets does not.
 */
#ifndef TESTS_FUZZ_CONN_PLAY_H
#define TESTS_FUZZ_CONN_PLAY_H

#include "core/addr.h"

#include <stdbool.h>

/* How a client parts. */
enum part { PART_HALF_CLOSE, PART_CLOSE, PART_RESET, PART_SILENCE };

/* What a client's read brought. */
enum got { GOT_BYTES, GOT_NOTHING, GOT_END, GOT_RESET };

/* The line; the target that is linked has the bodies. */

/** Make a new one, on which about ${room} bytes wait for a client that does not read. */
void line_open(size_t room, enum addr_family *family);

/** The descriptor of the server's end, which the server closes. */
int line_server(void);

/** A descriptor for the reactor's epoll_fd where the line brings its own, else -1. */
int line_epoll(void);

/** The client sends; how many bytes were taken. */
size_t line_put(const uint8_t *bytes, size_t size);

/** The client reads up to ${size} bytes; on GOT_BYTES their number is in ${*count}. */
enum got line_get(uint8_t *bytes, size_t size, size_t *count);

/** Bytes that lie before the server, which has not closed, and that it has not read. */
size_t line_unread(void);

/** The client parts; after PART_CLOSE and PART_RESET it neither sends nor reads. */
void line_part(enum part part);

/** The client is gone, whatever it did before; the line's own memory stays. */
void line_close(void);

/** Play ${size} bytes of ${data}; aborts where a property does not hold. */
void conn_play(const uint8_t *data, size_t size);

#endif
