/*
 * in_flight: see in_flight.h.
 *
 * Two things keep bytes from their reader.
 *
 * A packet over the loopback is queued for its processor, and a busy kernel leaves the queue to a
 * thread of its own, which must get its turn first.  The queue is first in, first out: whatever was
 * sent before a datagram of ours has arrived when that has.  What a packet has sent in answer lies
 * behind the datagram, hence several of them, one after the other.  All of it needs one processor.
 *
 * And TCP waits by real clocks: Nagle's algorithm for the acknowledgement that the other side
 * delays, a sender for a window that opens again.  Then one side has bytes that it has not sent,
 * while the other has nothing to read, so that its window is open: they will come, and are waited
 * for.
 */
#include "tests/fail_nth/in_flight.h"

#include "core/base.h"
#include "tests/fail_nth/clients.h"
#include "tests/fail_nth/ledger.h"
#include "tests/fail_nth/real.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LIMIT_MS 60000 /* for what must come: only a run that fails gets there */
#define ANSWERS 4      /* of packets to packets; the longest row is a handshake's: three */
#define MARK_FD 100    /* or behind it: apart from the server's descriptors */

static struct { int fd; /* owns: a socket that is connected to itself */ } mark = {.fd = -1};

void in_flight_open(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr *address = (struct sockaddr *)&at;
  socklen_t size = sizeof(at);
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET((size_t)sched_getcpu(), &here);
  int pinned = sched_setaffinity(0, sizeof(here), &here);
  int fd = real_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  mark.fd = fcntl(fd, F_DUPFD_CLOEXEC, MARK_FD);
  int closed = close(fd);
  assert(pinned == 0 && closed == 0 && mark.fd != -1);
  int named = real_bind(mark.fd, address, size);
  int known = real_getsockname(mark.fd, address, &size);
  int connected = real_connect(mark.fd, address, size);
  assert(named == 0 && known == 0 && connected == 0);
}

/* Let arrive what was sent by now. */
static void pass_mark(void) {
  struct pollfd fds = {.fd = mark.fd, .events = POLLIN};
  char byte = 0;
  bool arrived = send(mark.fd, &byte, 1, 0) == 1 && poll(&fds, 1, LIMIT_MS) == 1 &&
                 recv(mark.fd, &byte, 1, MSG_DONTWAIT) == 1;
  if (!arrived) {
    ledger_fault("the kernel does not deliver: %s", strerror(errno));
  }
}

/* Will something come to ${to}, which sees nothing now, because ${from} has not sent all? */
static bool owes(int from, int to) {
  int unsent = 0;
  struct pollfd fds = {.fd = to, .events = POLLIN | POLLRDHUP};
  return ioctl(from, SIOCOUTQNSD, &unsent) == 0 && unsent > 0 && poll(&fds, 1, 0) == 0;
}

void in_flight_settle(void) {
  struct pollfd fds[2 * CLIENTS_MAX];
  unsigned count = 0;
  for (int i = 0; i < ANSWERS; i++) {
    pass_mark();
  }
  for (unsigned i = 0; i < clients_count(); i++) {
    int theirs = clients_at(i)->fd, ours = ledger_find_client((int)i);
    if (theirs == -1 || ours == -1) {
      continue;
    }
    if (owes(ours, theirs)) {
      fds[count++] = (struct pollfd){.fd = theirs, .events = POLLIN | POLLRDHUP};
    }
    if (owes(theirs, ours)) {
      fds[count++] = (struct pollfd){.fd = ours, .events = POLLIN | POLLRDHUP};
    }
  }
  if (count > 0 && poll(fds, count, LIMIT_MS) < 1) {
    ledger_fault("the kernel keeps bytes that it was given");
  }
}
