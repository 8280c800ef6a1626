/*
 * upgrade_channel: the two processes of a live upgrade send each other packets and descriptors.
 *
 *   server     upgrade_channel_pair, then a spawn that leaves the successor's end open
 *   successor  upgrade_channel_open with the number that its environment names
 *   both       HELLO, then the other packets of pool/upgrade_packet.h
 *
 * No call waits: the caller polls channel->fd, POLLIN for a packet and POLLOUT after CHANNEL_AGAIN
 * of a send, and keeps the deadlines.  One thread at a time uses a channel.
 *
 * The rule of a batch: a record belongs to its sender until TAKEN names it.  The sender keeps its
 * descriptor and its bytes until then.  The successor sends TAKEN before it touches the socket.  A
 * batch that it refuses is answered with TAKEN and no bit.
 */
#ifndef POOL_UPGRADE_CHANNEL_H
#define POOL_UPGRADE_CHANNEL_H

#include "pool/upgrade_packet.h"

struct upgrade_channel {
  int fd;            /* owns; -1 = closed */
  uint8_t *input;    /* owns: the last packet, to which its struct points */
  uint8_t *output;   /* owns */
  int error;         /* errno of the last CHANNEL_ERROR; 0 = there was none */
  uint64_t retry_ns; /* until then it rests after a CHANNEL_ERROR */
  bool logged;       /* the log has said so */
};

enum channel_result {
  CHANNEL_OK,
  CHANNEL_AGAIN,   /* not now: poll says when */
  CHANNEL_GONE,    /* this end is closed; or the other process has closed its end or ended, and all
                      packets were read */
  CHANNEL_REFUSED, /* a packet came that breaks the rules, or whose descriptors found no room: its
                      kind and number are set if its head is valid.  The next one can be read */
  CHANNEL_ERROR,   /* errno; nothing was sent or received.  Try again after a rest */
};

/**
 * upgrade_channel_pair(channel, other):
 * Open a channel whose other end is the descriptor ${*other}, the caller's.  Both are
 * close-on-exec.
 * Return: 0, or -1 with errno.
 */
int upgrade_channel_pair(struct upgrade_channel *channel, int *other);

/**
 * upgrade_channel_open(channel, fd):
 * Open a channel on ${fd}, which it owns from now on if the result is 0.
 * Return: 0, or -1 with errno: ENOTSOCK or EPROTOTYPE if it is no such socket.
 */
int upgrade_channel_open(struct upgrade_channel *channel, int fd);

/** The descriptor to poll; -1 while the channel rests, or if it is closed. */
int upgrade_channel_fd(const struct upgrade_channel *channel);

/** Close ${channel} and free its memory.  It can be closed again, and send and receive nothing. */
void upgrade_channel_close(struct upgrade_channel *channel);

/**
 * upgrade_channel_send(channel, packet):
 * Send ${packet}.  Its descriptors stay the caller's.  CHANNEL_ERROR with EMSGSIZE: it is too long.
 */
enum channel_result upgrade_channel_send(struct upgrade_channel *channel,
                                         const struct upgrade_packet *packet);

/**
 * upgrade_channel_recv(channel, packet, why):
 * Receive a packet.  What it points to is valid until the next call.  Every descriptor is of the
 * kind that its place needs.  ${*why} says for CHANNEL_REFUSED what is wrong.
 * Own: its descriptors are the caller's; upgrade_packet_close closes those that it has not taken.
 */
enum channel_result upgrade_channel_recv(struct upgrade_channel *channel,
                                         struct upgrade_packet *packet, const char **why);

/** Close every descriptor of a received ${packet} that is not -1, and set it to -1. */
void upgrade_packet_close(struct upgrade_packet *packet);

#endif
