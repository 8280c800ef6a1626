/* streams: see streams.h. */
#include "core/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int streams_reserve(void) {
  for (int fd = 0; fd <= STDERR_FILENO; fd++) {
    const int mode = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", mode) != fd) {
      return fd;
    }
  }
  return -1;
}

int streams_flush(FILE *out) {
  if (fflush(out) != 0) {
    return -1;
  }
  if (ferror(out) != 0) {
    errno = EIO;
    return -1;
  }
  return 0;
}
