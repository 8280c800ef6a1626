/*
 * fd_socket: packets with descriptors between two processes (SOCK_SEQPACKET, SCM_RIGHTS).
 *
 * No call waits.  A packet is sent and received as a whole, with all its descriptors or not at all.
 * A received descriptor is close-on-exec.  The sender keeps its own.  Descriptors of a packet that
 * is refused are closed.
 *
 * It also writes and reads files in memory (memfd) for what is too long for a packet.  A process
 * copies its bytes out of such a file, so a later writer does no harm.
 */
#ifndef NET_FD_SOCKET_H
#define NET_FD_SOCKET_H

#include "core/base.h"

#include <stdbool.h>

/* Most bytes and descriptors of a packet. */
#define FD_PACKET_BYTES_MAX ((size_t)128 * 1024)
#define FD_PACKET_FDS_MAX 65

enum fd_io {
  FD_IO_OK,
  FD_IO_AGAIN,   /* no packet, or no room for one: poll says when */
  FD_IO_GONE,    /* the other end is closed, and all its packets were received */
  FD_IO_REFUSED, /* a packet came and was discarded: too long (EMSGSIZE), or descriptors were lost
                    (EMFILE), most often at RLIMIT_NOFILE; its first bytes are in the buffer */
  FD_IO_ERROR,   /* errno; nothing was sent or received */
};

/** Make a socket, close-on-exec and nonblocking. Return: its descriptor, or -1 with errno. */
int fd_socket_make(void);

/** Make a connected pair, both close-on-exec and nonblocking. Return: 0, or -1 with errno. */
int fd_socket_pair(int fds[2]);

/**
 * fd_socket_adopt(fd):
 * Check that ${fd}, which was inherited, is a socket of this kind, and make it close-on-exec.
 * Return: 0, or -1 with errno; the caller owns ${fd} in both cases.
 */
int fd_socket_adopt(int fd);

/** Send ${size} bytes and ${fds_count} ${fds}, which stay the caller's. Never FD_IO_REFUSED. */
enum fd_io fd_socket_send(int fd, const void *bytes, size_t size, const int *fds,
                          unsigned fds_count);

/**
 * fd_socket_recv(fd, bytes, size, fds, fds_count):
 * Receive a packet into ${bytes}, which has room for FD_PACKET_BYTES_MAX; ${*size} is its size.
 * Own: the ${*fds_count} descriptors in ${fds} are the caller's.
 */
enum fd_io fd_socket_recv(int fd, void *bytes, size_t *size, int fds[FD_PACKET_FDS_MAX],
                          unsigned *fds_count);

/** Is ${fd} a socket of ${type} that listens (${listens}), or one that does not? */
bool fd_is_socket(int fd, int type, bool listens);

/**
 * memory_file_make(most):
 * Make an empty file in memory.  It may get ${*most} bytes (RLIMIT_FSIZE).  More would raise
 * SIGXFSZ.
 * Return: its descriptor, close-on-exec, or -1 with errno.
 */
int memory_file_make(uint64_t *most);

/** Write ${size} bytes at the start of ${fd}. Return: 0, or -1 with errno. */
int memory_file_write(int fd, const void *bytes, size_t size);

/** Read the first ${size} bytes of ${fd}. Return: 0, or -1 with errno: EBADMSG if it has fewer. */
int memory_file_read(int fd, void *bytes, size_t size);

#endif
