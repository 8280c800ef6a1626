/*
 * check_upgrade_channel_nth: a whole session of the upgrade channel in which the Nth call fails.
 *
 * The linker directs system calls and malloc to functions of this program (see tests.mk).  They
 * fail the Nth call, for N = 1, 2, 3 ... until no call fails.  Each time the session reports it,
 * and no descriptor stays open.  The address sanitizer and valgrind find leaked memory.
 */
#include "pool/upgrade_channel.h"

#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"
#include "tests/fixtures/upgrade_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* How many calls succeed before one fails; NEVER: all. */
static uint64_t well = NEVER;

static bool fails(int error) {
  if (well == NEVER || well-- > 0) {
    return false;
  }
  well = NEVER;
  errno = error;
  return true;
}

#define WRAP(type, name, error, parameters, arguments) \
  type __real_##name parameters;                       \
  type __wrap_##name parameters;                       \
  type __wrap_##name parameters { return fails(error) ? -1 : __real_##name arguments; }

WRAP(int, socketpair, EMFILE, (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))
WRAP(ssize_t, sendmsg, ENOBUFS, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(ssize_t, recvmsg, ENOMEM, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, getsockopt, ENOBUFS, (int fd, int level, int name, void *value, socklen_t *size),
     (fd, level, name, value, size))
WRAP(int, memfd_create, EMFILE, (const char *name, unsigned flags), (name, flags))
WRAP(int, getrlimit, EPERM, (int resource, struct rlimit *limit), (resource, limit))
WRAP(ssize_t, pread, EIO, (int fd, void *bytes, size_t size, off_t at), (fd, bytes, size, at))
WRAP(ssize_t, pwrite, ENOSPC, (int fd, const void *bytes, size_t size, off_t at),
     (fd, bytes, size, at))

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return fails(ENOMEM) ? NULL : __real_malloc(size); }

static struct upgrade_channel ours, theirs;
static struct upgrade_packet out, in;
static const char *why;
static int listener, client, server; /* sockets to pass */
static uint8_t bytes[100];

/* Receive from ${channel}, and take what a successor takes. Return: did every call succeed? */
static bool take(struct upgrade_channel *channel) {
  bool good = upgrade_channel_recv(channel, &in, &why) == CHANNEL_OK;
  if (good && in.kind == UPGRADE_BATCH) {
    good = memory_file_read(in.batch.file, bytes, sizeof(bytes)) == 0;
  }
  upgrade_packet_close(&in);
  return good;
}

static bool hand_over(void) {
  upgrade_sample(&out, UPGRADE_LISTENER);
  out.listener.fd = listener;
  if (upgrade_channel_send(&ours, &out) != CHANNEL_OK || !take(&theirs)) {
    return false;
  }
  uint64_t most;
  int file = memory_file_make(&most);
  if (file == -1) {
    return false;
  }
  out = (struct upgrade_packet){.kind = UPGRADE_BATCH, .number = 1};
  out.batch.file = file;
  out.batch.records[out.batch.count++] = (struct upgrade_record){.size = 10, .fd = server};
  out.batch.records[out.batch.count++] = (struct upgrade_record){.size = 90, .fd = client};
  bool good = memory_file_write(file, bytes, sizeof(bytes)) == 0 &&
              upgrade_channel_send(&ours, &out) == CHANNEL_OK;
  close(file);
  if (!good || !take(&theirs)) {
    return false;
  }
  upgrade_sample(&out, UPGRADE_TAKEN);
  return upgrade_channel_send(&theirs, &out) == CHANNEL_OK && take(&ours);
}

/* Open, pass a listener and a batch, close. Return: did every call succeed? */
static bool session(void) {
  int other;
  if (upgrade_channel_pair(&ours, &other) == -1) {
    return false;
  }
  bool good = upgrade_channel_open(&theirs, other) == 0;
  if (!good) {
    close(other);
  }
  good = good && hand_over();
  upgrade_channel_close(&ours);
  upgrade_channel_close(&theirs);
  return good;
}

START_TEST(test_nth_call_fails) {
  unsigned open = count_descriptors();
  client = tcp_pair(&server);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_eq(listen(listener, 1), 0);
  unsigned passed = count_descriptors();
  uint64_t nth = 0;
  for (bool hit = true; hit; nth++) {
    well = nth;
    bool good = session();
    hit = well == NEVER;
    well = NEVER;
    ck_assert_msg(good == !hit, "call %ju", (uintmax_t)nth);
    ck_assert_msg(count_descriptors() == passed, "call %ju: a descriptor", (uintmax_t)nth);
  }
  ck_assert_uint_gt(nth, 20);
  close(client);
  close(server);
  close(listener);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

/* After a failure poll does not look at the channel for a while, and nothing is lost. */
START_TEST(test_rest_after_a_failure) {
  int other;
  ck_assert_int_eq(upgrade_channel_pair(&ours, &other), 0);
  ck_assert_int_eq(upgrade_channel_open(&theirs, other), 0);
  upgrade_sample(&out, UPGRADE_TAKEN);
  ck_assert_int_eq(upgrade_channel_send(&ours, &out), CHANNEL_OK);
  ck_assert_int_eq(upgrade_channel_fd(&theirs), theirs.fd);
  well = 0;
  ck_assert_int_eq(upgrade_channel_recv(&theirs, &in, &why), CHANNEL_ERROR);
  ck_assert_int_eq(theirs.error, ENOMEM);
  ck_assert_uint_gt(theirs.retry_ns, 0);
  theirs.retry_ns = NEVER;
  ck_assert_int_eq(upgrade_channel_fd(&theirs), -1);
  theirs.retry_ns = 0;
  ck_assert_int_eq(upgrade_channel_fd(&theirs), theirs.fd);
  ck_assert_int_eq(upgrade_channel_recv(&theirs, &in, &why), CHANNEL_OK);
  upgrade_channel_close(&ours);
  upgrade_channel_close(&theirs);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {{test_nth_call_fails, 1}, {test_rest_after_a_failure, 1}};
  return run_suite("upgrade_channel_nth", tests, count_of(tests));
}
