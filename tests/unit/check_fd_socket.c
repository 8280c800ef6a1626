/*
 * check_fd_socket: packets with descriptors, every refusal of them, and files in memory.
 *
 * The linker directs the system calls of the module to functions of this program (see tests.mk),
 * which can fail one of them.  No test leaves a descriptor open.
 */
#include "net/fd_socket.h"

#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- calls that fail ---- */

/* The call of this name fails with this error, this many times. */
static const char *failing = "";
static int failing_error, failing_times;

static void order(const char *name, int error, int times) {
  failing = name;
  failing_error = error;
  failing_times = times;
}

static bool fails(const char *name) {
  if (failing_times == 0 || strcmp(name, failing) != 0) {
    return false;
  }
  failing_times--;
  errno = failing_error;
  return true;
}

#define WRAP(type, name, parameters, arguments) \
  type __real_##name parameters;                \
  type __wrap_##name parameters;                \
  type __wrap_##name parameters { return fails(#name) ? -1 : __real_##name arguments; }

WRAP(int, socketpair, (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
     (fd, level, name, value, size))
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(int, getrlimit, (int resource, struct rlimit *limit), (resource, limit))

/* The most bytes that pread and pwrite transfer; 0: they return 0. */
static size_t most = SIZE_MAX;

ssize_t __real_pread(int fd, void *bytes, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at) {
  return fails("pread") ? -1 : __real_pread(fd, bytes, min_u64(size, most), at);
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at) {
  return fails("pwrite") ? -1 : most == 0 ? 0 : __real_pwrite(fd, bytes, min_u64(size, most), at);
}

/* ---- fixture ---- */

static int ends[2]; /* of a pair */
static unsigned before;
static uint8_t packet[FD_PACKET_BYTES_MAX], got[FD_PACKET_BYTES_MAX];
static size_t got_size;
static int fds[FD_PACKET_FDS_MAX];
static unsigned fds_count;

static void set_up(void) {
  order("", 0, 0);
  most = SIZE_MAX;
  before = count_descriptors();
  ck_assert_int_eq(fd_socket_pair(ends), 0);
  for (size_t i = 0; i < sizeof(packet); i++) {
    packet[i] = (uint8_t)(i * 7 + i / 251);
  }
}

static void tear_down(void) {
  for (int i = 0; i < 2; i++) {
    if (ends[i] != -1) {
      close(ends[i]);
    }
  }
  ck_assert_uint_eq(count_descriptors(), before);
}

static void close_end(int i) {
  close(ends[i]);
  ends[i] = -1;
}

static enum fd_io receive(void) { return fd_socket_recv(ends[1], got, &got_size, fds, &fds_count); }

/* A packet of ${size} bytes without descriptors arrives. */
static void expect_packet(size_t size) {
  ck_assert_int_eq(receive(), FD_IO_OK);
  ck_assert_uint_eq(got_size, size);
  ck_assert_mem_eq(got, packet, size);
  ck_assert_uint_eq(fds_count, 0);
}

/* ---- packets ---- */

START_TEST(test_packets_of_every_size) {
  static const size_t sizes[] = {1, 2, 4096, 96 * 1024, FD_PACKET_BYTES_MAX};
  ck_assert_int_eq(receive(), FD_IO_AGAIN);
  for (size_t i = 0; i < count_of(sizes); i++) {
    ck_assert_int_eq(fd_socket_send(ends[0], packet, sizes[i], NULL, 0), FD_IO_OK);
    expect_packet(sizes[i]);
  }
  ck_assert_int_eq(receive(), FD_IO_AGAIN);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_ne(fcntl(ends[i], F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_ne(fcntl(ends[i], F_GETFL) & O_NONBLOCK, 0);
  }
}
END_TEST

/* Descriptors arrive in their order, close-on-exec, and the sender keeps its own. */
START_TEST(test_descriptors) {
  static const unsigned counts[] = {1, 2, 3, 64, FD_PACKET_FDS_MAX};
  unsigned count = counts[_i];
  int files[FD_PACKET_FDS_MAX];
  for (unsigned i = 0; i < count; i++) {
    files[i] = memfd_create("check", 0);
    ck_assert_int_eq(ftruncate(files[i], i + 1), 0);
  }
  unsigned open = count_descriptors();
  ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, files, count), FD_IO_OK);
  ck_assert_int_eq(receive(), FD_IO_OK);
  ck_assert_uint_eq(fds_count, count);
  ck_assert_uint_eq(count_descriptors(), open + count);
  for (unsigned i = 0; i < count; i++) {
    ck_assert_int_eq(lseek(fds[i], 0, SEEK_END), i + 1);
    ck_assert_int_ne(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, 0);
    close(fds[i]);
    close(files[i]);
  }
}
END_TEST

/* The queue is full: poll says when there is room again. */
START_TEST(test_full_queue) {
  unsigned sent = 0;
  enum fd_io result;
  while ((result = fd_socket_send(ends[0], packet, 4096, NULL, 0)) == FD_IO_OK) {
    sent++;
  }
  ck_assert_int_eq(result, FD_IO_AGAIN);
  ck_assert_uint_gt(sent, 1);
  struct pollfd pollfd = {.fd = ends[0], .events = POLLOUT};
  ck_assert_int_eq(poll(&pollfd, 1, 0), 0);
  for (unsigned i = 0; i < sent; i++) {
    expect_packet(4096);
  }
  ck_assert_int_eq(receive(), FD_IO_AGAIN);
  ck_assert_int_eq(poll(&pollfd, 1, 0), 1);
  ck_assert_int_eq(pollfd.revents, POLLOUT);
  ck_assert_int_eq(fd_socket_send(ends[0], packet, 5, NULL, 0), FD_IO_OK);
}
END_TEST

/* What a process has sent before its end arrives, even if it has not read what it got. */
START_TEST(test_peer_gone) {
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, NULL, 0), FD_IO_OK);
  }
  if (_i == 1) { /* the kernel reports ECONNRESET before the packets */
    ck_assert_int_eq(fd_socket_send(ends[1], packet, 10, NULL, 0), FD_IO_OK);
  }
  close_end(0);
  for (int i = 0; i < 3; i++) {
    expect_packet(10);
  }
  ck_assert_int_eq(receive(), FD_IO_GONE);
  ck_assert_int_eq(receive(), FD_IO_GONE);
  ck_assert_int_eq(fd_socket_send(ends[1], packet, 10, NULL, 0), FD_IO_GONE); /* no SIGPIPE */
}
END_TEST

/* Descriptors in a queue that is never read are closed with it. */
START_TEST(test_descriptors_of_unread_packets) {
  int file[2];
  ck_assert_int_eq(pipe(file), 0);
  ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, &file[1], 1), FD_IO_OK);
  close(file[1]);
  close_end(1);
  ck_assert_int_eq(read(file[0], got, 1), 0); /* the end: no writer is left */
  close(file[0]);
}
END_TEST

/* Send ${size} bytes and ${count} times the end 0 of the pair, without the checks of the module. */
static void send_raw(size_t size, unsigned count) {
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(100 * sizeof(int))];
  } control = {.bytes = {0}};
  static uint8_t zeros[FD_PACKET_BYTES_MAX + 1];
  struct iovec part = {zeros, size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (unsigned i = 0; i < count; i++) {
      memcpy(CMSG_DATA(rights) + i * sizeof(int), &ends[0], sizeof(int));
    }
  }
  ck_assert_int_eq(__real_sendmsg(ends[0], &message, 0), (ssize_t)size);
}

START_TEST(test_too_long) {
  unsigned open = count_descriptors();
  send_raw(FD_PACKET_BYTES_MAX + 1, _i == 0 ? 0 : 3);
  ck_assert_int_eq(receive(), FD_IO_REFUSED);
  ck_assert_int_eq(errno, EMSGSIZE);
  ck_assert_uint_eq(fds_count, 0);
  ck_assert_uint_eq(count_descriptors(), open);
  ck_assert_int_eq(receive(), FD_IO_AGAIN);
}
END_TEST

START_TEST(test_too_many_descriptors) {
  unsigned open = count_descriptors();
  send_raw(10, FD_PACKET_FDS_MAX + 1);
  ck_assert_int_eq(receive(), FD_IO_REFUSED);
  ck_assert_int_eq(errno, EMFILE);
  ck_assert_uint_eq(got_size, 10); /* its first bytes are there */
  ck_assert_uint_eq(fds_count, 0);
  ck_assert_uint_eq(count_descriptors(), open);
  send_raw(10, FD_PACKET_FDS_MAX);
  ck_assert_int_eq(receive(), FD_IO_OK);
  for (unsigned i = 0; i < fds_count; i++) {
    close(fds[i]);
  }
}
END_TEST

/* RLIMIT_NOFILE has room for some of the descriptors only: none stays open. */
START_TEST(test_no_room_for_descriptors) {
  struct rlimit limit, low;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  send_raw(10, 5);
  unsigned open = count_descriptors();
  int next = dup(0);
  low = (struct rlimit){.rlim_cur = (rlim_t)next + (rlim_t)_i, .rlim_max = limit.rlim_max};
  close(next);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
  ck_assert_int_eq(receive(), FD_IO_REFUSED);
  ck_assert_int_eq(errno, EMFILE);
  ck_assert_uint_eq(got_size, 10);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

START_TEST(test_packet_without_bytes) {
  unsigned open = count_descriptors();
  send_raw(0, (unsigned)_i);
  ck_assert_int_eq(receive(), FD_IO_GONE);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

START_TEST(test_failing_calls) {
  static const int gone[] = {EPIPE, ECONNRESET, ENOTCONN, ECONNREFUSED};
  static const int errors[] = {EMSGSIZE, ENOMEM, ENOBUFS, ETOOMANYREFS, EBADF};
  for (size_t i = 0; i < count_of(gone); i++) {
    order("sendmsg", gone[i], 1);
    ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, NULL, 0), FD_IO_GONE);
  }
  for (size_t i = 0; i < count_of(errors); i++) {
    order("sendmsg", errors[i], 1);
    ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, NULL, 0), FD_IO_ERROR);
    ck_assert_int_eq(errno, errors[i]);
    order("recvmsg", errors[i], 1);
    ck_assert_int_eq(receive(), FD_IO_ERROR);
    ck_assert_int_eq(errno, errors[i]);
    ck_assert_uint_eq(got_size, 0);
    ck_assert_uint_eq(fds_count, 0);
  }
  order("sendmsg", EINTR, 3);
  ck_assert_int_eq(fd_socket_send(ends[0], packet, 10, NULL, 0), FD_IO_OK);
  order("recvmsg", EINTR, 3);
  expect_packet(10);
  order("recvmsg", ECONNRESET, 2); /* once is not the end, twice is */
  ck_assert_int_eq(receive(), FD_IO_GONE);
  order("socketpair", EMFILE, 1);
  int pair[2];
  ck_assert_int_eq(fd_socket_pair(pair), -1);
  ck_assert_int_eq(errno, EMFILE);
}
END_TEST

START_TEST(test_adopt) {
  int file = memfd_create("check", 0), pair[2];
  ck_assert_int_eq(fd_socket_adopt(file), -1);
  ck_assert_int_eq(errno, ENOTSOCK);
  ck_assert_int_eq(fd_socket_adopt(-1), -1);
  ck_assert_int_eq(errno, EBADF);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  ck_assert_int_eq(fd_socket_adopt(pair[0]), -1);
  ck_assert_int_eq(errno, EPROTOTYPE);
  ck_assert_int_eq(fcntl(pair[0], F_GETFD), 0);
  ck_assert_int_eq(fcntl(ends[0], F_SETFD, 0), 0);
  ck_assert_int_eq(fd_socket_adopt(ends[0]), 0);
  ck_assert_int_eq(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
  close(pair[0]);
  close(pair[1]);
  close(file);
}
END_TEST

/* An end that blocks, because the other process has made it so, does not wait. */
START_TEST(test_blocking_end) {
  ck_assert_int_eq(fcntl(ends[1], F_SETFL, 0), 0);
  ck_assert_int_eq(receive(), FD_IO_AGAIN);
}
END_TEST

START_TEST(test_kinds_of_sockets) {
  int server, client = tcp_pair(&server), file = memfd_create("check", 0);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert(!fd_is_socket(listener, SOCK_STREAM, true));
  ck_assert_int_eq(listen(listener, 1), 0);
  ck_assert(fd_is_socket(listener, SOCK_STREAM, true));
  ck_assert(!fd_is_socket(listener, SOCK_STREAM, false));
  ck_assert(fd_is_socket(client, SOCK_STREAM, false));
  ck_assert(!fd_is_socket(client, SOCK_STREAM, true));
  for (int i = 0; i < 2; i++) {
    ck_assert(!fd_is_socket(file, SOCK_STREAM, i == 0));
    ck_assert(!fd_is_socket(ends[0], SOCK_STREAM, i == 0));
    ck_assert(!fd_is_socket(-1, SOCK_STREAM, i == 0));
  }
  order("getsockopt", ENOBUFS, 1);
  ck_assert(!fd_is_socket(client, SOCK_STREAM, false));
  close(client);
  close(server);
  close(file);
  close(listener);
}
END_TEST

/* ---- files in memory ---- */

static const size_t sizes[] = {0, 1, 4096, 100000};
#define STEP 1009 /* most bytes of a call */

static int make_file(void) {
  uint64_t room;
  int fd = memory_file_make(&room);
  ck_assert_int_ne(fd, -1);
  return fd;
}

/* What was written is read, in one call or in many that are interrupted. */
START_TEST(test_files) {
  size_t size = sizes[_i / 2];
  int fd = make_file();
  ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
  most = _i % 2 == 0 ? SIZE_MAX : STEP;
  order("pwrite", EINTR, size > 0 ? 2 : 0);
  ck_assert_int_eq(memory_file_write(fd, packet, size), 0);
  ck_assert_int_eq(failing_times, 0);
  order("pread", EINTR, size > 0 ? 2 : 0);
  ck_assert_int_eq(memory_file_read(fd, got, size), 0);
  ck_assert_int_eq(failing_times, 0);
  ck_assert_mem_eq(got, packet, size);
  close(fd);
}
END_TEST

/* The next bytes begin at the start of the file. */
START_TEST(test_file_is_written_again) {
  int fd = make_file();
  ck_assert_int_eq(memory_file_write(fd, packet, 5000), 0);
  ck_assert_int_eq(memory_file_write(fd, packet + 1000, 3000), 0);
  ck_assert_int_eq(memory_file_read(fd, got, 5000), 0);
  ck_assert_mem_eq(got, packet + 1000, 3000);
  ck_assert_mem_eq(got + 3000, packet + 3000, 2000);
  close(fd);
}
END_TEST

/* A file that is shorter than was said, from the start or later. */
START_TEST(test_short_file) {
  int fd = make_file();
  ck_assert_int_eq(memory_file_write(fd, packet, 5000), 0);
  ck_assert_int_eq(memory_file_read(fd, got, 5001), -1);
  ck_assert_int_eq(errno, EBADMSG);
  ck_assert_int_eq(ftruncate(fd, 4000), 0);
  ck_assert_int_eq(memory_file_read(fd, got, 5000), -1);
  ck_assert_int_eq(errno, EBADMSG);
  close(fd);
}
END_TEST

START_TEST(test_no_file) {
  ck_assert_int_eq(memory_file_read(ends[0], got, 1), -1);
  ck_assert_int_eq(errno, ESPIPE);
  ck_assert_int_eq(memory_file_write(-1, got, 1), -1);
  ck_assert_int_eq(errno, EBADF);
}
END_TEST

START_TEST(test_files_that_fail) {
  static const struct {
    const char *call;
    int error, times;
  } orders[] = {{"getrlimit", EFAULT, 1}, {"memfd_create", EMFILE, 1}, {"memfd_create", EINVAL, 2}};
  uint64_t room;
  for (size_t i = 0; i < count_of(orders); i++) {
    order(orders[i].call, orders[i].error, orders[i].times);
    ck_assert_int_eq(memory_file_make(&room), -1);
    ck_assert_int_eq(errno, orders[i].error);
    ck_assert_int_eq(failing_times, 0);
  }
  order("memfd_create", EINVAL, 1); /* a kernel that does not know the flag */
  int fd = make_file();
  order("pwrite", ENOSPC, 1);
  ck_assert_int_eq(memory_file_write(fd, packet, 100), -1);
  ck_assert_int_eq(errno, ENOSPC);
  most = 0;
  ck_assert_int_eq(memory_file_write(fd, packet, 100), -1);
  ck_assert_int_eq(errno, ENOSPC);
  most = SIZE_MAX;
  order("pread", EIO, 1);
  ck_assert_int_eq(memory_file_read(fd, got, 100), -1);
  ck_assert_int_eq(errno, EIO);
  close(fd);
}
END_TEST

/* The caller learns RLIMIT_FSIZE. A write of as many bytes raises no signal. */
START_TEST(test_limit_of_files) {
  pid_t child = fork();
  ck_assert_int_ne(child, -1);
  if (child == 0) {
    struct rlimit limit, low;
    uint64_t room = 0;
    bool holds = signal(SIGXFSZ, SIG_DFL) != SIG_ERR && getrlimit(RLIMIT_FSIZE, &limit) == 0;
    low = (struct rlimit){.rlim_cur = 1000, .rlim_max = limit.rlim_max};
    holds = holds && setrlimit(RLIMIT_FSIZE, &low) == 0;
    int fd = memory_file_make(&room);
    holds = holds && room == 1000 && memory_file_write(fd, packet, 1000) == 0;
    holds = holds && setrlimit(RLIMIT_FSIZE, &limit) == 0; /* for what the build writes at exit */
    _exit(holds ? 0 : 1);
  }
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_packets_of_every_size, 1},
      {test_descriptors, 5},
      {test_full_queue, 1},
      {test_peer_gone, 2},
      {test_descriptors_of_unread_packets, 1},
      {test_too_long, 2},
      {test_too_many_descriptors, 1},
      {test_no_room_for_descriptors, 5},
      {test_packet_without_bytes, 2},
      {test_failing_calls, 1},
      {test_adopt, 1},
      {test_blocking_end, 1},
      {test_kinds_of_sockets, 1},
      {test_files, 2 * count_of(sizes)},
      {test_file_is_written_again, 1},
      {test_short_file, 1},
      {test_no_file, 1},
      {test_files_that_fail, 1},
      {test_limit_of_files, 1},
  };
  return run_suite_fixture("fd_socket", tests, count_of(tests), set_up, tear_down);
}
