/*
 * socket_file: see socket_file.h.  The main thread and the acceptor call it, never at the same
 * time.
 *
 * Between a check of a name and its removal someone with the right to write to the folder may put
 * another file there.  Then that entry of the same folder is removed, which they could do
 * themselves.
 */
#include "net/socket_file.h"

#include "core/sys.h"
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long a start waits for another one in the same folder. */
#define LOCK_TRIES 200
#define LOCK_WAIT_MS 10

#define MODE_BITS 07777

/* The last part of the path, which is absolute. */
static const char *name_of(const struct addr_listen *addr) { return strrchr(addr->path, '/') + 1; }

/* Return: 0, or -1 with errno. */
static int open_folder(struct socket_file *file, const struct addr_listen *addr) {
  char folder[sizeof(addr->path)];
  size_t size = (size_t)(name_of(addr) - addr->path);
  memcpy(folder, addr->path, size); /* with its last slash */
  folder[size] = 0;
  file->folder = openat(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file->folder == -1 && errno == EACCES) { /* unreadable: no lock */
    file->folder = openat(AT_FDCWD, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  file->open = file->folder != -1;
  return file->open ? 0 : -1;
}

int socket_file_attach(struct socket_file *file, const struct addr_listen *addr) {
  *file = (struct socket_file){.open = false};
  return open_folder(file, addr);
}

static void lock_folder(const struct socket_file *file) {
  for (int i = 0; i < LOCK_TRIES; i++) {
    if (flock(file->folder, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
      return;
    }
    (void)sys_poll(NULL, 0, LOCK_WAIT_MS); /* it only waits, and a shorter wait does no harm */
  }
}

static void note(struct socket_file *file, const struct stat *st) {
  file->inode = st->st_ino;
  file->device = st->st_dev;
}

/* Does a server listen on the socket file? */
static bool alive(const struct addr_listen *addr) {
  struct sockaddr_storage to;
  socklen_t size = sock_addr_to(addr, &to);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd == -1) {
    return true; /* unknown: do not take an address that may be in use */
  }
  bool refused = connect(fd, (const struct sockaddr *)&to, size) == -1 && errno == ECONNREFUSED;
  sys_close(fd);
  return !refused;
}

/* Remove the socket file of a dead server. Any other file stays, and the bind fails. */
static void remove_stale(struct socket_file *file, const struct addr_listen *addr) {
  struct stat st;
  if (fstatat(file->folder, name_of(addr), &st, AT_SYMLINK_NOFOLLOW) == -1 ||
      !S_ISSOCK(st.st_mode)) {
    return;
  }
  note(file, &st);
  if (alive(addr)) {
    file->inode = 0;
  }
  (void)socket_file_remove(file, addr); /* if it stays, the bind fails and is logged */
}

int socket_file_prepare(struct socket_file *file, const struct addr_listen *addr) {
  *file = (struct socket_file){.open = false};
  if (open_folder(file, addr) == -1) {
    return -1;
  }
  lock_folder(file);
  remove_stale(file, addr);
  return 0;
}

/*
 * Set the mode of the file of ${fd}, opened with O_PATH, unless bind has already given it.  The
 * link in /proc leads to this file only.
 * Return: NULL, or what failed.
 */
static const char *set_mode(int fd, mode_t have, int want) {
  char link[32];
  if (want == -1 || (have & MODE_BITS) == (mode_t)want) {
    return NULL;
  }
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  if (chmod(link, (mode_t)want) == 0) {
    return NULL;
  }
  if (errno != ENOENT) {
    return "cannot set the mode of a socket file of XCHG_LISTEN";
  }
  errno = EOPNOTSUPP; /* ENOENT would say that the folder is missing */
  return "cannot set the mode of a socket file of XCHG_LISTEN: /proc is not mounted";
}

const char *socket_file_claim(struct socket_file *file, const struct addr_listen *addr) {
  const char *failed = "cannot find a socket file of XCHG_LISTEN after bind";
  struct stat st;
  int fd = openat(file->folder, name_of(addr), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1) {
    return failed;
  }
  if (fstatat(fd, "", &st, AT_EMPTY_PATH) == 0) {
    if (S_ISSOCK(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1) {
      note(file, &st);
      failed = set_mode(fd, st.st_mode, addr->mode);
    } else {
      failed = "another file has replaced a socket file of XCHG_LISTEN";
      errno = EEXIST;
    }
  }
  int error = errno;
  sys_close(fd);
  errno = error;
  return failed;
}

int socket_file_give(const struct socket_file *file, const struct addr_listen *addr, uint32_t uid,
                     uint32_t gid) {
  struct stat st;
  int fd = openat(file->folder, name_of(addr), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1) {
    return -1;
  }
  int result = fstatat(fd, "", &st, AT_EMPTY_PATH);
  if (result == 0 && (st.st_ino != file->inode || st.st_dev != file->device)) {
    result = fail(ENOENT);
  }
  if (result == 0) {
    result = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
  }
  int error = errno;
  sys_close(fd);
  return result == 0 ? 0 : fail(error);
}

void socket_file_unlock(const struct socket_file *file) {
  if (file->open) {
    (void)flock(file->folder, LOCK_UN); /* it fails only without a lock: an unreadable folder */
  }
}

int socket_file_remove(struct socket_file *file, const struct addr_listen *addr) {
  struct stat st;
  bool own = file->inode != 0 &&
             fstatat(file->folder, name_of(addr), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
             st.st_ino == file->inode && st.st_dev == file->device;
  file->inode = 0;
  return own ? unlinkat(file->folder, name_of(addr), 0) : 0;
}

void socket_file_close(struct socket_file *file) {
  if (file->open) {
    sys_close(file->folder);
    file->open = false;
  }
}
