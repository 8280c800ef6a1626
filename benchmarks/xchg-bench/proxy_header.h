/*
 * proxy_header: writes the PROXY header that --proxy sends first on each connection.
 *
 * xchg-bench acts as a proxy for many clients.  It announces a source address of the networks for
 * benchmarks, 198.18.0.0/15 or 2001:2::/48.  The number of the connection determines the address,
 * so no system call is needed.  The destination is the target, or 198.18.0.0:0 for a UNIX socket.
 * The header does not count as sent bytes.
 */
#ifndef BENCH_PROXY_HEADER_H
#define BENCH_PROXY_HEADER_H

#include "bench.h"

/* The longest header that is written, and the longest text of an option, its 0 included. */
#define PROXY_HEADER_SIZE_MAX 512
#define PROXY_HEADER_TEXT_MAX (BENCH_AUTHORITY_MAX + 48)

#define PROXY_HEADER_WANTED                                                             \
  "want none, v1, or v2 with any of ,crc32c ,unique-id ,authority=NAME; NAME has 1 to " \
  "255 printable characters without a comma"

/* What the connections of a run have in common. */
struct proxy_sender {
  const struct bench_proxy *proxy; /* borrows; NULL = no header */
  const char *run_id;              /* borrows */
  struct addr server;
};

/** Parse the value of --proxy. Return: 0, or -1 if it has another form. */
int proxy_header_parse(const char *text, struct bench_proxy *proxy);

/** Return: ${proxy} as the parser reads it, in ${text} or constant. */
const char *proxy_header_format(const struct bench_proxy *proxy, char text[PROXY_HEADER_TEXT_MAX]);

/**
 * proxy_header_write(sender, number, opened_ns, bytes):
 * Write the header of connection ${number}, which was opened at ${opened_ns}: together they make
 * the unique id.
 * Return: the size of the header.
 */
size_t proxy_header_write(const struct proxy_sender *sender, uint32_t number, uint64_t opened_ns,
                          uint8_t bytes[PROXY_HEADER_SIZE_MAX]);

/**
 * proxy_header_send(sender, fd, number, opened_ns):
 * Send the header over the new connection ${fd}, whose buffer is empty; nothing without --proxy.
 * Return: 0, or -1 with errno.
 */
int proxy_header_send(const struct proxy_sender *sender, int fd, uint32_t number,
                      uint64_t opened_ns);

#endif
