/*
 * in_flight: see in_flight.h.
 *
 * Two things delay bytes.
 *
 * A packet over the loopback is queued for its processor.  A busy kernel leaves that queue to a
 * thread of its own, which has to be scheduled first.  The queue is first in, first out: once a
 * datagram of ours has arrived, everything sent before it has arrived as well.  Packets that answer
 * other packets are queued after the datagram, hence several datagrams, one after the other.  All
 * of this needs a single processor.
 *
 * TCP also waits by real clocks: Nagle's algorithm waits for an acknowledgement that the other side
 * delays, and a sender waits for a window to open again.  Then one side holds unsent bytes while
 * the other has nothing to read, so that its window is open.  Such bytes will arrive, and are
 * waited for.
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

#define LIMIT_MS 60000 /* for bytes that must come; reached only by a run that fails */
#define ANSWERS 4      /* of packets to packets; the longest chain is a handshake's: three */
#define MARK_FD 100    /* or higher: apart from the server's descriptors */

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
  mark.fd = real_fcntl(fd, F_DUPFD_CLOEXEC, MARK_FD);
  int closed = close(fd);
  assert(pinned == 0 && closed == 0 && mark.fd != -1);
  int named = real_bind(mark.fd, address, size);
  int known = real_getsockname(mark.fd, address, &size);
  int connected = real_connect(mark.fd, address, size);
  assert(named == 0 && known == 0 && connected == 0);
}

/* Wait until everything that was sent has arrived. */
static void pass_mark(void) {
  struct pollfd fds = {.fd = mark.fd, .events = POLLIN};
  char byte = 0;
  bool arrived = send(mark.fd, &byte, 1, 0) == 1 && poll(&fds, 1, LIMIT_MS) == 1 &&
                 recv(mark.fd, &byte, 1, MSG_DONTWAIT) == 1;
  if (!arrived) {
    ledger_fault("the kernel does not deliver: %s", strerror(errno));
  }
}

/* Has ${from} bytes unsent that will come to ${to}, which has nothing to read now? */
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
    ledger_fault("the kernel does not deliver bytes that it has taken");
  }
}
