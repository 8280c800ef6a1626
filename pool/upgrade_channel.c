/* upgrade_channel: see upgrade_channel.h. */
#include "pool/upgrade_channel.h"

#include "core/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

/* How long a channel rests after an error, which poll would report again at once. */
#define REST_NS (100 * NS_PER_MS)

/* ---- open and close ---- */

/* Make ${channel} own ${fd}. Return: 0, or -1 with ENOMEM, and the caller still owns it. */
static int own_socket(struct upgrade_channel *channel, int fd) {
  *channel = (struct upgrade_channel){.fd = -1};
  uint8_t *memory = malloc(2 * FD_PACKET_BYTES_MAX);
  if (memory == NULL) {
    return fail(ENOMEM);
  }
  channel->input = memory;
  channel->output = memory + FD_PACKET_BYTES_MAX;
  channel->fd = fd;
  return 0;
}

int upgrade_channel_pair(struct upgrade_channel *channel, int *other) {
  int fds[2];
  *channel = (struct upgrade_channel){.fd = -1};
  if (fd_socket_pair(fds) == -1) {
    return -1;
  }
  if (own_socket(channel, fds[0]) == -1) {
    sys_close(fds[0]);
    sys_close(fds[1]);
    return fail(ENOMEM);
  }
  *other = fds[1];
  return 0;
}

int upgrade_channel_open(struct upgrade_channel *channel, int fd) {
  *channel = (struct upgrade_channel){.fd = -1};
  return fd_socket_adopt(fd) == -1 ? -1 : own_socket(channel, fd);
}

void upgrade_channel_close(struct upgrade_channel *channel) {
  if (channel->fd != -1) {
    sys_close(channel->fd);
  }
  free(channel->input); /* and output: one block */
  *channel = (struct upgrade_channel){.fd = -1};
}

int upgrade_channel_fd(const struct upgrade_channel *channel) {
  return channel->retry_ns > sys_now_ns() ? -1 : channel->fd;
}

/* ---- packets ---- */

static enum channel_result result_of(struct upgrade_channel *channel, enum fd_io io) {
  static const enum channel_result results[] = {[FD_IO_OK] = CHANNEL_OK,
                                                [FD_IO_AGAIN] = CHANNEL_AGAIN,
                                                [FD_IO_GONE] = CHANNEL_GONE,
                                                [FD_IO_REFUSED] = CHANNEL_REFUSED,
                                                [FD_IO_ERROR] = CHANNEL_ERROR};
  if (io == FD_IO_ERROR && errno != EMSGSIZE) {
    channel->error = errno;
    channel->retry_ns = sys_now_ns() + REST_NS;
  }
  return results[io];
}

enum channel_result upgrade_channel_send(struct upgrade_channel *channel,
                                         const struct upgrade_packet *packet) {
  int fds[FD_PACKET_FDS_MAX];
  unsigned fds_count;
  if (channel->fd == -1) {
    return CHANNEL_GONE;
  }
  size_t size = upgrade_encode(packet, channel->output, fds, &fds_count);
  if (size == 0) {
    errno = EMSGSIZE;
    return CHANNEL_ERROR;
  }
  return result_of(channel, fd_socket_send(channel->fd, channel->output, size, fds, fds_count));
}

/* Is each descriptor of ${packet} what its place needs? */
static bool has_right_fds(const struct upgrade_packet *packet) {
  if (packet->kind == UPGRADE_LISTENER) {
    int type = packet->listener.use == USE_REQUESTS ? SOCK_SEQPACKET : SOCK_STREAM;
    return fd_is_socket(packet->listener.fd, type, true);
  }
  for (uint32_t i = 0; packet->kind == UPGRADE_BATCH && i < packet->batch.count; i++) {
    if (!fd_is_socket(packet->batch.records[i].fd, SOCK_STREAM, false)) {
      return false;
    }
  }
  return true;
}

enum channel_result upgrade_channel_recv(struct upgrade_channel *channel,
                                         struct upgrade_packet *packet, const char **why) {
  int fds[FD_PACKET_FDS_MAX];
  struct upgrade_received received = {.bytes = channel->input, .fds = fds};
  *packet = (struct upgrade_packet){.number = 0};
  if (channel->fd == -1) {
    return CHANNEL_GONE;
  }
  enum fd_io io =
      fd_socket_recv(channel->fd, channel->input, &received.size, fds, &received.fds_count);
  if (io != FD_IO_OK && io != FD_IO_REFUSED) {
    return result_of(channel, io);
  }
  int error = errno; /* of FD_IO_REFUSED */
  *why = upgrade_decode(packet, &received);
  if (io == FD_IO_REFUSED) {
    *why = error == EMFILE ? "no room for its descriptors" : "too long";
  } else if (*why == NULL && !has_right_fds(packet)) {
    *why = "a descriptor of another kind";
  }
  if (*why == NULL) {
    return CHANNEL_OK;
  }
  upgrade_packet_clear(packet);
  for (unsigned i = 0; i < received.fds_count; i++) {
    sys_close(fds[i]);
  }
  return CHANNEL_REFUSED;
}

static void close_fd(int *fd) {
  if (*fd != -1) {
    sys_close(*fd);
    *fd = -1;
  }
}

void upgrade_packet_close(struct upgrade_packet *packet) {
  if (packet->kind == UPGRADE_LISTENER) {
    close_fd(&packet->listener.fd);
  } else if (packet->kind == UPGRADE_BATCH) {
    for (uint32_t i = 0; i < packet->batch.count; i++) {
      close_fd(&packet->batch.records[i].fd);
    }
    close_fd(&packet->batch.file);
  }
}
