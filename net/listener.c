/*
 * listener: see listener.h.  The main thread and the acceptor call these functions, never at the
 * same time.
 */
#include "net/listener.h"

#include "core/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* The longest text of a line that a start refused, with its 0. */
#define TEXT_MAX 192

/* The longest wait of an accept, if another process has made the shared socket a blocking one. */
#define ACCEPT_WAIT_US 1000

/* An index that no network interface has: the kernel counts them up from 1. */
#define NO_INTERFACE 2147483632

/* What helps if a start fails with ${error} at a socket file. */
static const char *fix_of_path(int error) {
  switch (error) {
    case EADDRINUSE:
      return "end the server that listens there, remove a file that is no socket, or set "
             "XCHG_LISTEN to another path";
    case EACCES:
    case EROFS:
      return "let this user write to the folder, or set XCHG_LISTEN to another path";
    case ENOENT:
    case ENOTDIR:
      return "make the folder, or set XCHG_LISTEN to another path";
    case EEXIST:
      return "use a folder that other users may not write to";
    case EOPNOTSUPP:
      return "mount /proc, or start with a umask that leaves the mode";
    default:
      return NULL;
  }
}

/* What helps if a start fails with ${error} at ${addr}; NULL if that is unknown. */
static const char *fix_of(const struct addr_listen *addr, int error) {
  if (addr->addr.family == ADDR_UNIX) {
    return fix_of_path(error);
  }
  switch (error) {
    case EADDRINUSE:
      return "end the process that `ss -ltnp` shows there, or set XCHG_LISTEN to another port, "
             "such as :7001";
    case EADDRNOTAVAIL:
      return "set XCHG_LISTEN to an address that `ip address` shows, or to :PORT for all";
    case EAFNOSUPPORT:
      return "set XCHG_LISTEN to an IPv4 address";
    case EACCES:
      return "set XCHG_LISTEN to a port above 1023, or grant CAP_NET_BIND_SERVICE";
    case ENODEV:
      return "name an interface that `ip link` shows";
    case EINVAL:
      return "name the interface of a link-local address: [fe80::1%eth0]:7000";
    default:
      return NULL;
  }
}

/* The texts of this file name XCHG_LISTEN.  Copy ${text} with the variable of ${listener}. */
static const char *name_variable(const struct listener *listener, const char *text,
                                 char copy[TEXT_MAX]) {
  static const char name[] = "XCHG_LISTEN";
  static const char *const names[] = {NULL, "XCHG_ADMIN", "XCHG_UPGRADE"}; /* by use */
  const char *at = listener->use != USE_CLIENTS ? strstr(text, name) : NULL;
  if (at == NULL) {
    return text;
  }
  snprintf(copy, TEXT_MAX, "%.*s%s%s", (int)(at - text), text, names[listener->use],
           at + sizeof(name) - 1);
  return copy;
}

/* Log ${what} with the address and ${error}. Return: -1 with errno set to ${error}. */
static int log_listener(const struct listener *listener, enum log_level level,
                        const struct addr_listen *addr, const char *what, int error) {
  char text[sizeof(addr->path) + 16], copy[TEXT_MAX];
  struct log_line line;
  log_begin(&line, listener->log, level, name_variable(listener, what, copy));
  log_str(&line, "addr", addr_format_listen(addr, text, sizeof(text)));
  log_error(&line, error);
  const char *fix = level == LOG_ERROR ? fix_of(addr, error) : NULL;
  if (fix != NULL) {
    log_str(&line, "fix", name_variable(listener, fix, copy));
  }
  log_end(&line);
  return fail(error);
}

/* The server works without ${what}, but a promise does not hold. */
static void warn(const struct listener *listener, const char *what) {
  (void)log_listener(listener, LOG_WARN, &listener->addr, what, errno); /* it is always -1 */
}

/*
 * Set the options that accepted connections inherit; those of a UNIX listener inherit none, so each
 * gets its own.  And bound an accept that blocks.  The server also works without them.
 */
static void set_options(struct listener *listener, const struct config *config) {
  bool tcp = listener->addr.addr.family != ADDR_UNIX;
  int sndbuf = (int)min_u64(config->sndbuf_bytes, INT32_MAX);
  const struct {
    bool on;
    int level, name, value;
    const char *failure;
  } options[] = {
      {sndbuf > 0, SOL_SOCKET, SO_SNDBUF, sndbuf, "cannot set XCHG_SNDBUF"},
      {tcp && config->nodelay, IPPROTO_TCP, TCP_NODELAY, 1, "cannot set XCHG_NODELAY"},
      {tcp && config->keepalive, SOL_SOCKET, SO_KEEPALIVE, 1, "cannot set XCHG_KEEPALIVE"},
      {tcp && config->defer_accept_s > 0, IPPROTO_TCP, TCP_DEFER_ACCEPT,
       (int)config->defer_accept_s, "cannot set XCHG_DEFER_ACCEPT"},
      {tcp && config->fastopen > 0, IPPROTO_TCP, TCP_FASTOPEN, (int)config->fastopen,
       "cannot set XCHG_FASTOPEN"},
  };
  const struct timeval wait = {.tv_usec = ACCEPT_WAIT_US};
  for (size_t i = 0; i < count_of(options); i++) {
    if (options[i].on && sys_setsockopt(listener->fd, options[i].level, options[i].name,
                                        &options[i].value, sizeof(options[i].value)) == -1) {
      warn(listener, options[i].failure);
    }
  }
  listener->sndbuf = tcp ? 0 : sndbuf;
  if (sys_setsockopt(listener->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) == -1) {
    warn(listener, "cannot bound a blocking accept: a process that shares it can delay the stop");
  }
}

/*
 * Set the path to that of the ${size} bytes at ${bound}.  An abstract name, which begins with a 0,
 * is shown as ss(8) shows it: each 0 is an @.
 */
static void note_path(struct addr_listen *addr, const struct sockaddr_storage *bound,
                      socklen_t size) {
  const struct sockaddr_un *un = (const struct sockaddr_un *)bound;
  size_t length = sub_sat_u64(size, offsetof(struct sockaddr_un, sun_path));
  length = min_u64(length, sizeof(addr->path) - 1);
  memcpy(addr->path, un->sun_path, length);
  addr->path[length] = 0;
  for (size_t i = 0; i < length && un->sun_path[0] == 0; i++) {
    if (addr->path[i] == 0) {
      addr->path[i] = '@';
    }
  }
}

/* The mode of a socket file.  An abstract name has none: everyone may connect. */
static int mode_of(const char *path) {
  struct stat file;
  if (path[0] == '@') {
    return 0777;
  }
  return stat(path, &file) == 0 ? (int)(file.st_mode & 0777) : 0;
}

/* Set the interface of a link-local address to the one with index ${scope}; 0 = none. */
static void note_scope(struct addr_listen *addr, uint32_t scope) {
  char name[IF_NAMESIZE];
  if (scope != 0 && if_indextoname(scope, name) != NULL) {
    snprintf(addr->scope, sizeof(addr->scope), "%s", name);
  } else if (scope != 0) {
    snprintf(addr->scope, sizeof(addr->scope), "%u", scope);
  }
}

/* Set listener->addr to the address that the socket is bound to, with the real port. */
static void note_address(struct listener *listener) {
  struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
  socklen_t size = sizeof(bound);
  if (getsockname(listener->fd, (struct sockaddr *)&bound, &size) == -1) {
    return;
  }
  sock_addr_from(&listener->addr.addr, &bound);
  if (bound.ss_family == AF_UNIX) {
    note_path(&listener->addr, &bound, size);
  } else if (bound.ss_family == AF_INET6) {
    note_scope(&listener->addr, ((const struct sockaddr_in6 *)&bound)->sin6_scope_id);
  }
}

static int open_family(struct listener *listener, const struct config *config) {
  struct sockaddr_storage to;
  socklen_t size = sock_addr_to(&listener->addr, &to);
  int on = 1, off = 0;
  if (size == 0) {
    return -1;
  }
  int type = listener->use == USE_REQUESTS ? SOCK_SEQPACKET : SOCK_STREAM;
  listener->fd = socket(to.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener->fd == -1) {
    return -1;
  }
  if (to.ss_family != AF_UNIX &&
      setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1) {
    return -1;
  }
  if (to.ss_family != AF_UNIX && config->reuseport &&
      setsockopt(listener->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1) {
    return -1;
  }
  if (to.ss_family == AF_UNIX && listener->addr.mode != -1) {
    /* bind gives the file this mode less the umask; socket_file_claim adds what is missing */
    (void)fchmod(listener->fd, (mode_t)listener->addr.mode);
  }
  int *only = listener->addr.any ? &off : &on;
  if (to.ss_family == AF_INET6 &&
      setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, only, sizeof(*only)) == -1) {
    return -1;
  }
  return bind(listener->fd, (const struct sockaddr *)&to, size);
}

/* Bind; ":port" means IPv4 on a machine without IPv6. */
static int open_bound(struct listener *listener, const struct config *config) {
  if (listener->addr.any) {
    listener->addr.addr.family = ADDR_IPV6;
  }
  int result = open_family(listener, config);
  if (result == 0 || !listener->addr.any || (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)) {
    return result;
  }
  if (listener->fd != -1) {
    sys_close(listener->fd);
  }
  listener->addr.addr.family = ADDR_IPV4;
  return open_family(listener, config);
}

/* Bind to a UNIX address. Return: 0, or -1 with errno and, in ${*what}, what failed. */
static int open_local(struct listener *listener, const struct config *config, const char **what) {
  if (socket_file_prepare(&listener->file, &listener->addr) == -1 ||
      open_family(listener, config) == -1) {
    return -1;
  }
  const char *failed = socket_file_claim(&listener->file, &listener->addr);
  if (failed == NULL && listener->use == USE_REQUESTS && config->user.set &&
      socket_file_give(&listener->file, &listener->addr, config->user.uid, config->user.gid) ==
          -1) {
    failed = "cannot give a socket file of XCHG_LISTEN to XCHG_USER";
  }
  *what = failed != NULL ? failed : *what;
  return failed == NULL ? 0 : -1;
}

/* Return: 0, or -1 with errno and, in ${*what}, what failed. */
static int open_listening(struct listener *listener, const struct config *config,
                          const char **what) {
  bool local = listener->addr.addr.family == ADDR_UNIX;
  *what = "cannot bind an address of XCHG_LISTEN";
  if (local ? open_local(listener, config, what) == -1 : open_bound(listener, config) == -1) {
    return -1;
  }
  set_options(listener, config);
  *what = "cannot listen at an address of XCHG_LISTEN";
  /* No client can connect before this, so the mode is in force. */
  return listen(listener->fd, (int)config->backlog);
}

int listener_open(struct listener *listener, const struct addr_listen *addr,
                  const struct config *config, struct log *log) {
  *listener = (struct listener){.fd = -1, .log = log, .addr = *addr, .use = config->use};
  const char *what;
  int result = open_listening(listener, config, &what);
  int error = errno;
  socket_file_unlock(&listener->file);
  if (result == -1) {
    listener_close(listener);
  } else if (addr->addr.family != ADDR_UNIX) {
    note_address(listener);
  }
  return result == 0 ? 0 : log_listener(listener, LOG_ERROR, addr, what, error);
}

/* Log why a passed descriptor cannot be used. Return: -1. */
static int refuse_passed(const struct listener *listener, const char *what) {
  struct log_line line;
  log_begin(&line, listener->log, LOG_ERROR, what);
  log_u64(&line, "fd", (uint64_t)listener->fd);
  log_end(&line);
  return -1;
}

/* Was the socket bound to a network interface that does not exist? It accepts no client then. */
static bool is_bound_to_nothing(int fd) {
  char name[IFNAMSIZ];
  socklen_t size = sizeof(name);
  return getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &size) == -1 && errno == ENODEV;
}

int listener_adopt(struct listener *listener, int fd, const struct config *config,
                   struct log *log) {
  *listener = (struct listener){.fd = fd, .log = log, .use = config->use, .inherited = true};
  int listening = 0, type = 0;
  const struct linger off = {.l_onoff = 0};
  socklen_t size = sizeof(int);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == -1 ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == -1 || listening == 0 ||
      type != SOCK_STREAM) {
    return refuse_passed(listener,
                         "a descriptor passed by LISTEN_FDS is no listening stream socket");
  }
  if (is_bound_to_nothing(fd)) {
    return refuse_passed(listener,
                         "a descriptor passed by LISTEN_FDS is bound to a network "
                         "interface that does not exist; pass a new socket");
  }
  int flags = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1) {
    return refuse_passed(listener, "a descriptor passed by LISTEN_FDS cannot be set nonblocking");
  }
  note_address(listener);
  listener->addr.mode = listener->addr.addr.family == ADDR_UNIX ? mode_of(listener->addr.path) : -1;
  if (sys_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &listening, sizeof(listening)) == -1 &&
      errno != ENOENT) {
    warn(listener, "cannot remove the filter of a passed socket: it can keep clients out");
  }
  /* Connections inherit it, and a close would wait for the peer. */
  if (sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) == -1) {
    warn(listener, "cannot clear SO_LINGER of a passed socket: a close can wait for its client");
  }
  set_options(listener, config);
  return 0;
}

void listener_inherit(struct listener *listener, int fd, const struct addr_listen *addr,
                      const struct config *config, struct log *log) {
  *listener = (struct listener){
      .fd = fd, .log = log, .addr = *addr, .use = config->use, .handed_over = true, .shared = true};
  if (addr->addr.family != ADDR_UNIX) {
    note_address(listener);
  } else if (socket_file_attach(&listener->file, addr) == -1) {
    warn(listener, "cannot remove the socket file later");
  }
}

void listener_configure(struct listener *listener, const struct config *config) {
  if (!listener->handed_over) {
    return;
  }
  set_options(listener, config);
  if (listen(listener->fd, (int)config->backlog) == -1) {
    warn(listener, "cannot change XCHG_BACKLOG");
  }
}

void listener_own(struct listener *listener, uint64_t inode, uint64_t device, bool sets_mode) {
  listener->shared = false;
  socket_file_own(&listener->file, inode, device);
  const char *failed = sets_mode ? socket_file_claim(&listener->file, &listener->addr) : NULL;
  if (failed != NULL) {
    warn(listener, failed);
  }
}

enum sock_accepted listener_accept(const struct listener *listener,
                                   struct accepted_conn *accepted) {
  enum sock_accepted result = sock_accept(listener->fd, &accepted->fd, &accepted->addr);
  if (result != ACCEPTED) {
    bool shut = listener->stopped && listener->addr.addr.family == ADDR_UNIX && errno == EINVAL;
    return result == ACCEPT_BROKEN && shut ? ACCEPT_NONE : result;
  }
  accepted->accepted_ns = sys_now_ns();
  if (listener->sndbuf > 0) {
    (void)sys_setsockopt(accepted->fd, SOL_SOCKET, SO_SNDBUF, &listener->sndbuf,
                         sizeof(listener->sndbuf)); /* refused: the start has said so */
  }
  return ACCEPTED;
}

static void remove_file(struct listener *listener) {
  if (socket_file_remove(&listener->file, &listener->addr) == -1) {
    warn(listener, "cannot remove the socket file");
  }
}

/* Let no TCP handshake begin; see listener.h. Return: 0, or -1 with errno. */
static int stop_handshakes(int fd) {
  /* Byte 13 of a TCP header holds the flags, 0x02 is SYN: drop the segments that have it. */
  static const struct sock_filter drop_syn[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
  };
  const struct sock_fprog program = {.len = count_of(drop_syn),
                                     .filter = (struct sock_filter *)drop_syn};
  const int none = NO_INTERFACE;
  if (sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0) {
    return 0;
  }
  return sys_setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none));
}

void listener_stop(struct listener *listener) {
  listener->stopped = true;
  if (listener->inherited || listener->shared) {
    listener_close(listener);
  } else if (listener->addr.addr.family == ADDR_UNIX) {
    remove_file(listener);
    if (sys_shutdown(listener->fd, SHUT_RD) == -1) {
      warn(listener, "cannot shut the socket down: a client that connects now can be lost");
    }
  } else if (stop_handshakes(listener->fd) == -1) {
    warn(listener,
         "cannot refuse new clients: one that connects now can be lost; "
         "CAP_NET_ADMIN permits it");
  }
}

void listener_close(struct listener *listener) {
  if (atom_exchange_acq_rel_u32(&listener->closed, 1) != 0) {
    return;
  }
  remove_file(listener);
  socket_file_close(&listener->file);
  if (listener->fd != -1) {
    sys_close(listener->fd);
    listener->fd = -1;
  }
}

void listener_abandon(struct listener *listener) {
  listener->file.inode = 0;
  listener_close(listener);
}
