/*
 * fd_socket: see fd_socket.h.
 *
 * Each call passes MSG_DONTWAIT, so it never waits, even if the other process clears O_NONBLOCK of
 * an end that both have.
 */
#include "net/fd_socket.h"

#include "core/sys.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * MFD_NOEXEC_SEAL of Linux 6.3, which older headers do not have.  With vm.memfd_noexec=2 the kernel
 * refuses a file without it.
 */
#define MEMORY_FILE_NOEXEC 8U

/* The kernel takes a packet only if the buffer has room for the whole packet. */
#define SEND_BUFFER ((int)(2 * FD_PACKET_BYTES_MAX))

/* Control data of a packet, aligned for its head. */
union control {
  struct cmsghdr head;
  char bytes[CMSG_SPACE(FD_PACKET_FDS_MAX * sizeof(int))];
};

/* Make room to send the longest packet. */
static void enlarge(int fd) {
  int room = SEND_BUFFER;
  /* Where it fails, only packets longer than the kernel's default are refused, by send. */
  (void)sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

int fd_socket_make(void) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd != -1) {
    enlarge(fd);
  }
  return fd;
}

int fd_socket_pair(int fds[2]) {
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == -1) {
    return -1;
  }
  enlarge(fds[0]);
  enlarge(fds[1]);
  return 0;
}

int fd_socket_adopt(int fd) {
  int type = 0;
  socklen_t size = sizeof(type);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == -1) {
    return -1;
  }
  return type == SOCK_SEQPACKET ? fcntl(fd, F_SETFD, FD_CLOEXEC) : fail(EPROTOTYPE);
}

enum fd_io fd_socket_send(int fd, const void *bytes, size_t size, const int *fds,
                          unsigned fds_count) {
  assert(size > 0 && size <= FD_PACKET_BYTES_MAX);
  assert(fds_count <= FD_PACKET_FDS_MAX);
  union control control;
  /* The kernel only reads the bytes. */
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fds_count > 0) {
    memset(&control, 0, sizeof(control));
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(fds_count * sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds_count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, fds_count * sizeof(int));
  }
  ssize_t put;
  do {
    put = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (put == -1 && errno == EINTR);
  if (put != -1) {
    return FD_IO_OK; /* the kernel takes a packet as a whole */
  }
  if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED) {
    return FD_IO_GONE;
  }
  return errno == EAGAIN ? FD_IO_AGAIN : FD_IO_ERROR;
}

/* Collect all descriptors of ${message}. */
static void take_fds(struct msghdr *message, int fds[FD_PACKET_FDS_MAX], unsigned *count) {
  *count = 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
      size_t more = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      assert(more <= FD_PACKET_FDS_MAX - *count); /* the control data has no room for more */
      memcpy(fds + *count, CMSG_DATA(c), more * sizeof(int));
      *count += (unsigned)more;
    }
  }
}

static void close_all(const int *fds, unsigned *count) {
  for (unsigned i = 0; i < *count; i++) {
    sys_close(fds[i]);
  }
  *count = 0;
}

/*
 * Receive, also past the ECONNRESET which the kernel reports once if the other end was closed with
 * unread packets: those that it has sent come after it.
 */
static ssize_t receive(int fd, struct msghdr *message) {
  bool reset = false;
  for (;;) {
    ssize_t got = recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got != -1 || (errno != EINTR && (errno != ECONNRESET || reset))) {
      return got;
    }
    reset = reset || errno == ECONNRESET;
  }
}

enum fd_io fd_socket_recv(int fd, void *bytes, size_t *size, int fds[FD_PACKET_FDS_MAX],
                          unsigned *fds_count) {
  union control control;
  struct iovec part = {.iov_base = bytes, .iov_len = FD_PACKET_BYTES_MAX};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = CMSG_LEN(FD_PACKET_FDS_MAX * sizeof(int))};
  *size = 0;
  *fds_count = 0;
  ssize_t got = receive(fd, &message);
  if (got == -1) {
    if (errno == EAGAIN) {
      return FD_IO_AGAIN;
    }
    return errno == ECONNRESET || errno == ENOTCONN ? FD_IO_GONE : FD_IO_ERROR;
  }
  take_fds(&message, fds, fds_count);
  *size = (size_t)got;
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || got == 0) {
    close_all(fds, fds_count);
  }
  if (got == 0) {
    return FD_IO_GONE; /* no peer sends a packet without bytes */
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    errno = (message.msg_flags & MSG_TRUNC) != 0 ? EMSGSIZE : EMFILE;
    return FD_IO_REFUSED;
  }
  return FD_IO_OK;
}

bool fd_is_socket(int fd, int type, bool listens) {
  int has = 0, accepts = 0;
  socklen_t has_size = sizeof(has), accepts_size = sizeof(accepts);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &has, &has_size) == 0 && has == type &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &accepts_size) == 0 &&
         (accepts != 0) == listens;
}

/* ---- files in memory ---- */

int memory_file_make(uint64_t *most) {
  static const char name[] = "xchg-records";
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) == -1) {
    return -1;
  }
  *most = limit.rlim_cur;
  int fd = memfd_create(name, MFD_CLOEXEC | MEMORY_FILE_NOEXEC);
  return fd == -1 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC) : fd;
}

int memory_file_write(int fd, const void *bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t put = pwrite(fd, (const char *)bytes + done, size - done, (off_t)done);
    if (put == 0) {
      return fail(ENOSPC);
    }
    if (put == -1 && errno != EINTR) {
      return -1;
    }
    done += put == -1 ? 0 : (size_t)put;
  }
  return 0;
}

int memory_file_read(int fd, void *bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(fd, (char *)bytes + done, size - done, (off_t)done);
    if (got == 0) {
      return fail(EBADMSG);
    }
    if (got == -1 && errno != EINTR) {
      return -1;
    }
    done += got == -1 ? 0 : (size_t)got;
  }
  return 0;
}
