/*
 * bad_successor: a program that lies at the path of a server's program when an upgrade begins.
 *
 *   BAD_SUCCESSOR=silent        says nothing, and does not end
 *   BAD_SUCCESSOR=garbage       a packet of 100 bytes that are none
 *   BAD_SUCCESSOR=empty         a packet without a byte
 *   BAD_SUCCESSOR=long          a packet of 150,000 bytes
 *   BAD_SUCCESSOR=descriptors   a packet of 100 bytes that are none, with ten descriptors
 *   BAD_SUCCESSOR=flood         packets of garbage until the channel is full
 *   BAD_SUCCESSOR=mirror        each packet goes back as it has come
 *   BAD_SUCCESSOR=version       the first packet goes back, as one of another version of the format
 *   BAD_SUCCESSOR=closes        closes the channel, and does not end
 *
 * It writes msg=bad with its id to standard error, and stays until it is killed.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONG = 150000, DESCRIPTORS = 10 };

static char bytes[LONG];

static void send_bytes(int channel, size_t size) {
  (void)send(channel, bytes, size, MSG_NOSIGNAL); /* a refusal is as good for the test */
}

static void send_descriptors(int channel) {
  int fds[DESCRIPTORS];
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {0};
  struct iovec part = {.iov_base = bytes, .iov_len = 100};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(fds));
  for (int i = 0; i < DESCRIPTORS; i++) {
    fds[i] = STDERR_FILENO;
  }
  memcpy(CMSG_DATA(header), fds, sizeof(fds));
  (void)sendmsg(channel, &message, MSG_NOSIGNAL); /* as above */
}

/* Wait for a packet: the channel does not block. */
static ssize_t receive(int channel) {
  struct pollfd ready = {.fd = channel, .events = POLLIN};
  (void)poll(&ready, 1, -1); /* a signal ends the process */
  return recv(channel, bytes, sizeof(bytes), 0);
}

static void mirror(int channel) {
  ssize_t size;
  while ((size = receive(channel)) > 0) {
    send_bytes(channel, (size_t)size);
  }
}

/* HELLO with the version, which follows the eight bytes of the magic, one higher. */
static void send_version(int channel) {
  ssize_t size = receive(channel);
  bytes[8]++;
  send_bytes(channel, size == -1 ? 0 : (size_t)size);
}

int main(void) {
  const char *kind = getenv("BAD_SUCCESSOR"), *number = getenv("XCHG_UPGRADE_CHANNEL");
  int channel = number == NULL ? -1 : atoi(number);
  for (size_t i = 0; i < sizeof(bytes); i++) {
    bytes[i] = (char)(i * 7 + 3);
  }
  if (strcmp(kind, "garbage") == 0) {
    send_bytes(channel, 100);
  } else if (strcmp(kind, "empty") == 0) {
    send_bytes(channel, 0);
  } else if (strcmp(kind, "long") == 0) {
    send_bytes(channel, LONG);
  } else if (strcmp(kind, "descriptors") == 0) {
    send_descriptors(channel);
  } else if (strcmp(kind, "flood") == 0) {
    while (send(channel, bytes, 1000, MSG_NOSIGNAL | MSG_DONTWAIT) == 1000) {
    }
  } else if (strcmp(kind, "mirror") == 0) {
    mirror(channel);
  } else if (strcmp(kind, "version") == 0) {
    send_version(channel);
  } else if (strcmp(kind, "closes") == 0) {
    close(channel);
  }
  dprintf(STDERR_FILENO, "msg=bad pid=%d\n", (int)getpid());
  while (pause() == -1) {
  }
}
