/*
 * xchg: the public interface of libxchg: bring your own exchange.
 *
 * A handler declares how bytes become messages and brings callbacks; the engine accepts, reads,
 * cuts, writes, times out and closes.  An acceptor hands each connection to one of a fixed number
 * of workers, where it stays; a worker serves many connections.  Conventions, once for all calls:
 *
 *   thread     every callback of a connection runs on its worker, one at a time; calls that take a
 *              struct xchg_conn belong there too, into any callback of that worker; from another
 *              thread they do nothing and fail with EPERM.  Different connections run on different
 *              threads at once: what they share is constant or the handler's own affair.  Any other
 *              thread knows a connection by its id alone
 *   lifetime   a struct xchg_conn is valid from on_open to the return of on_close, the bytes of a
 *              message until on_message returns; an id is valid for ever, and means nobody once the
 *              connection is gone
 *   ownership  a handler never writes to a socket and never frees a connection: it leaves wishes
 *              (send, finish, abort, ...), which the engine carries out when the callback has
 *              returned; what is sent in one turn leaves in one system call
 *   errors     0, or -1 with errno; a failed call has changed nothing but what it says
 *   blocking   a callback that blocks stops all connections of its worker: XCHG_WATCHDOG names it,
 *              xchg_offload is the way out
 *   structs    those that a caller fills begin with their size, so that a program which was
 *              compiled against another version is refused instead of misread
 */
#ifndef XCHG_H
#define XCHG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XCHG_VERSION "0.1.0"

/* What the largest struct xchg_handler.state_size and max_message may be. */
#define XCHG_STATE_MAX ((size_t)64 * 1024)
#define XCHG_MESSAGE_MAX ((size_t)1024 * 1024 * 1024)

/* Room for any address that xchg_address and xchg_server_address write, its end included. */
#define XCHG_ADDRESS_MAX 128

/* A time that never comes: cancels a connection's timer. */
#define XCHG_NEVER UINT64_MAX

struct xchg_conn;   /* a connection */
struct xchg_server; /* a listening server with its threads */

/* ---- how bytes become messages ----------------------------------------------------------- */

enum xchg_frame_kind {
  XCHG_FRAME_RAW,       /* whatever a read returned; the message limit bounds a read */
  XCHG_FRAME_DELIMITER, /* a message ends at the byte xchg_frame.delimiter */
  XCHG_FRAME_LINE,      /* ... at LF; a CR before it belongs to the terminator */
  XCHG_FRAME_FIXED,     /* every message has xchg_frame.size bytes */
  XCHG_FRAME_PREFIX,    /* its length stands before it, in xchg_frame.size bytes */
  XCHG_FRAME_CUSTOM,    /* xchg_frame.parse says where it ends */
};

/* What a cutting function returns where the bytes can be no message: closes, XCHG_ERROR. */
#define XCHG_PARSE_ERROR SIZE_MAX

/**
 * xchg_parse_fn(conn, data, size):
 * Where does the first message in the ${size} (1 at least) bytes at ${data} end?  Looks at the
 * bytes and at its connection's state, and makes no other call.
 * Return: 1..${size}: it has so many bytes; 0: more are needed; more than ${size}: so many are
 * needed, and it is not asked again before (over the limit: XCHG_TOO_LONG); or XCHG_PARSE_ERROR.
 */
typedef size_t xchg_parse_fn(struct xchg_conn *conn, const void *data, size_t size);

struct xchg_frame {
  enum xchg_frame_kind kind;
  size_t size;          /* FIXED: bytes of a message, 1 at least; PREFIX: 1, 2, 4 or 8; else 0 */
  uint8_t delimiter;    /* DELIMITER */
  bool little_endian;   /* PREFIX: the least significant byte comes first */
  xchg_parse_fn *parse; /* CUSTOM; else NULL */
};

/* One message, as on_message gets it. */
struct xchg_message {
  const void *data;  /* what the frame carried */
  size_t size;       /* bytes of it, may be 0 */
  const void *frame; /* the same with its prefix and terminator, as it came */
  size_t frame_size; /* a last message that the end of the stream ended has no terminator */
};

/*
 * Why a connection ended; each has a counter of its own, printed as closed_<name> (XCHG_FINISHED as
 * finished).
 */
enum xchg_reason {
  XCHG_FINISHED,  /* the exchange is complete; endless: the client ended between messages */
  XCHG_PEER,      /* the client ended before the exchange was complete */
  XCHG_RESET,     /* ECONNRESET, EPIPE, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH */
  XCHG_TOO_LONG,  /* a message over the limit */
  XCHG_TRUNCATED, /* the stream ended within a message of declared length */
  XCHG_IDLE,      /* XCHG_IDLE_TIMEOUT */
  XCHG_MESSAGE,   /* XCHG_MESSAGE_TIMEOUT */
  XCHG_WRITE,     /* XCHG_WRITE_TIMEOUT, or a slow member of a group that drops such */
  XCHG_LIFETIME,  /* XCHG_MAX_LIFETIME */
  XCHG_DENIED,    /* not admitted by XCHG_ALLOW, XCHG_DENY; never opened */
  XCHG_PER_IP,    /* over XCHG_MAX_PER_IP; never opened */
  XCHG_OVERLOAD,  /* over a limit under XCHG_OVERLOAD=refuse; never opened */
  XCHG_MEMORY,    /* no memory for the connection or its bytes */
  XCHG_DRAIN,     /* the server stopped */
  XCHG_ERROR,     /* any other errno, XCHG_PARSE_ERROR, or xchg_abort */
  XCHG_REASONS
};

/* ---- the handler --------------------------------------------------------------------------- */

/* All that is left out (0, NULL) has a meaning: raw messages that are counted and dropped. */
struct xchg_handler {
  size_t size;             /* sizeof(struct xchg_handler) */
  struct xchg_frame frame; /* how bytes become messages */
  size_t max_message; /* bytes, prefix and terminator apart; a longer one: XCHG_TOO_LONG; at most
                         XCHG_MESSAGE_MAX; 0 = what the configuration says */
  uint64_t messages;  /* a connection, then the engine finishes it; 0 = until the client ends */
  size_t state_size;  /* bytes of zeroed state for each connection, XCHG_STATE_MAX at most */
  void *user;         /* see xchg_user; borrowed for as long as the server lives */

  /*
   * The server has been prepared, no connection is open yet: the place to keep ${server} for other
   * threads.  Return: 0, or -1 to end the start.
   */
  int (*on_start)(struct xchg_server *server);
  /*
   * Once after an on_start that said 0: no connection is left, the server's threads have come to
   * their end.  From its return on no thread may use ${server}: those that the handler has told of
   * it end here.
   */
  void (*on_stop)(struct xchg_server *server);
  /* The connection was accepted. May send. */
  void (*on_open)(struct xchg_conn *conn);
  /* A message is complete.  Not called after xchg_finish or xchg_abort, nor while paused. */
  void (*on_message)(struct xchg_conn *conn, const struct xchg_message *message);
  /*
   * The kernel has taken everything that was queued: whoever has much to send goes on here.  Called
   * once a turn at most, and only where something was sent.
   */
  void (*on_drain)(struct xchg_conn *conn);
  /* The time of xchg_timer has come. */
  void (*on_timer)(struct xchg_conn *conn);
  /* The connection ends, once for every on_open; too late to send. */
  void (*on_close)(struct xchg_conn *conn, enum xchg_reason reason);
};

/* ---- on a connection's worker ------------------------------------------------------------ */

/**
 * xchg_send(conn, data, size): queue a copy of ${size} bytes.
 * xchg_sendv(conn, parts, count): the same of ${count} parts, one behind the other.
 * Errors: EPIPE after xchg_finish or xchg_abort or within on_close; ENOMEM (the connection then
 * ends as XCHG_MEMORY); EINVAL for ${count} below 0; EPERM.
 */
int xchg_send(struct xchg_conn *conn, const void *data, size_t size);
int xchg_sendv(struct xchg_conn *conn, const struct iovec *parts, int count);

/**
 * xchg_send_ref(conn, data, size, release, argument):
 * Queue ${size} bytes without copying them.
 * Own: ${data} is lent, and must not change, until ${release}(${argument}) is called, which may be
 * NULL: once, on the connection's worker, when the kernel has taken all of it
 * or the connection has ended (then after on_close).  On -1 nothing was lent and ${release} is not
 * called.  ${release} makes no call that takes a connection: on_drain is the place to go on.
 * Of 0 bytes, and beyond 64 loans that wait for one connection, which are copied, ${release} is
 * called at once.
 * Errors: as xchg_send; EINVAL over XCHG_MESSAGE_MAX.
 */
int xchg_send_ref(struct xchg_conn *conn, const void *data, size_t size,
                  void (*release)(void *argument), void *argument);

/** Bytes that are queued and not yet taken by the kernel; 0 from another thread. */
size_t xchg_pending(const struct xchg_conn *conn);

/**
 * Close the connection safely once everything queued has been sent; further messages are thrown
 * away.  Counted as XCHG_FINISHED.  Repeated: nothing happens.  Errors: EPERM.
 */
int xchg_finish(struct xchg_conn *conn);

/**
 * Close the connection when the callback has returned; what is queued need not arrive.  Counted as
 * XCHG_ERROR.  Errors: EPERM.
 */
int xchg_abort(struct xchg_conn *conn);

/**
 * xchg_pause(conn): cut and read no more messages; the last one of a counted exchange, or the
 * client's end, does not end the connection meanwhile, so that an answer may come later.  The
 * message's clock stands, XCHG_IDLE_TIMEOUT runs, and a reset ends it at once (under
 * XCHG_MODEL=thread or fork when it is read again).
 * xchg_resume(conn): go on.  Neither counts: one resume undoes any number of pauses.
 * Errors: EPERM.
 */
int xchg_pause(struct xchg_conn *conn);
int xchg_resume(struct xchg_conn *conn);

/**
 * Call on_timer once, ${after_ns} from now, never early; a later call replaces an earlier one,
 * XCHG_NEVER cancels.  Resolution is that of the reactor's wheel, about 1 ms; no call comes once
 * the connection is ending.  Errors: EINVAL without an on_timer; ENOMEM; EPERM.
 */
int xchg_timer(struct xchg_conn *conn, uint64_t after_ns);

/**
 * Write the peer's address ("192.0.2.1:5000", "[2001:db8::1]:5000", "unix") into ${text}.
 * Errors: ENOSPC where it does not fit (XCHG_ADDRESS_MAX always does); EPERM.
 */
int xchg_address(const struct xchg_conn *conn, char *text, size_t size);

/**
 * The connection's own state_size bytes, zeroed before on_open, gone after on_close; aligned for
 * any type; NULL without a state or from another thread.
 */
void *xchg_state(const struct xchg_conn *conn);

/**
 * What other threads call the connection, within its server; never 0, and not given again within
 * 2^30 - 1 further connections of its worker.  0 from another thread.
 */
uint64_t xchg_id(const struct xchg_conn *conn);

/** The handler's user, and the server that serves ${conn}. Thread: any that may hold ${conn}. */
void *xchg_user(const struct xchg_conn *conn);
struct xchg_server *xchg_server_of(const struct xchg_conn *conn);

/**
 * xchg_offload(conn, work, done, argument):
 * Run ${work}(${argument}) on one of XCHG_OFFLOAD_THREADS threads, then ${done}(${conn},
 * ${argument}) on the connection's worker; conn is NULL where the connection has ended meanwhile.
 * Until then no further message is cut, as under xchg_pause, so that answers keep their order.
 * Each is called once, but for ${work} not begun when the server ends, of which ${done} alone is
 * called, with NULL, on the thread that ends it.
 * Own: ${argument} is the library's until ${done} is called; on -1 it stays the caller's.
 * Errors: EAGAIN, the queue of 1,024 is full or no thread could be started; ENOTSUP with
 * XCHG_OFFLOAD_THREADS=0 or outside XCHG_MODEL=pool; EPIPE as xchg_send; EINVAL; ENOMEM; EPERM.
 */
int xchg_offload(struct xchg_conn *conn, void (*work)(void *argument),
                 void (*done)(struct xchg_conn *conn, void *argument), void *argument);

/* ---- groups ---------------------------------------------------------------------------------- */

/* What becomes of a member whose queue is over XCHG_MAX_PENDING when something is published. */
enum xchg_slow {
  XCHG_SLOW_SKIP, /* this message does not reach it */
  XCHG_SLOW_DROP, /* it is closed, counted as XCHG_WRITE */
};

/**
 * xchg_join(conn, group, slow): let what is published to ${group}, a number of the handler's
 * choice, be sent to ${conn}; joined again, ${slow} is replaced.  A group exists while it has
 * members, and a connection leaves its groups when it ends.
 * xchg_leave(conn, group): no more of it.
 * Errors: xchg_join: EPIPE as xchg_send; ENOMEM; EINVAL.  xchg_leave: ENOENT, not a member.  EPERM.
 */
int xchg_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow);
int xchg_leave(struct xchg_conn *conn, uint64_t group);

/* ---- from any thread --------------------------------------------------------------------- */

/**
 * xchg_post(server, id, call, argument):
 * Call ${call}(conn, ${argument}) on the worker of the connection that ${id} names, once; conn is
 * NULL where it is gone.  Calls of one thread to one worker keep their order.  What is left when
 * the server ends is called with NULL on the thread that ends it.
 * Thread: any.  Errors: EINVAL, 0 or an id of no worker; EAGAIN as xchg_publish; ENOMEM;
 * ENOTSUP outside XCHG_MODEL=pool.
 */
int xchg_post(struct xchg_server *server, uint64_t id,
              void (*call)(struct xchg_conn *conn, void *argument), void *argument);

/**
 * xchg_publish(server, group, data, size):
 * Send ${size} bytes to every connection that is in ${group} when its worker comes to it.  Copied
 * once, whatever the number of members; one letter a worker; no lock is held while it is sent.
 * Publications of one thread keep their order at each member.
 * Thread: any.  Errors: EAGAIN, 65,536 letters or 64 MiB wait at a worker; EMSGSIZE over
 * XCHG_MESSAGE_MAX; ENOMEM; ENOTSUP as xchg_post.
 */
int xchg_publish(struct xchg_server *server, uint64_t group, const void *data, size_t size);

/* What a server has counted. */
struct xchg_stats {
  size_t size;                  /* sizeof(struct xchg_stats); set by the caller */
  uint64_t accepted;            /* connections accepted */
  uint64_t open;                /* ... of which live now */
  uint64_t ended[XCHG_REASONS]; /* ... and which ended so; accepted == open + their sum */
  uint64_t messages;            /* complete messages received */
  uint64_t bytes_in, bytes_out; /* read from and given to the kernel */
  uint64_t posts;               /* calls of xchg_post that were made */
  uint64_t published;           /* messages queued to members of groups */
  uint64_t skipped;             /* ... and not, since the member was slow */
  uint64_t offloads;            /* works that were queued */
  uint64_t offloads_refused;    /* works that were refused with EAGAIN */
  uint64_t blocked;             /* times that a handler held its worker over XCHG_WATCHDOG */
};

/** Fill ${stats}. Thread: any. Errors: EINVAL, another size. */
int xchg_server_stats(struct xchg_server *server, struct xchg_stats *stats);

/* ---- a server within a program ------------------------------------------------------------ */

enum xchg_dispatch { XCHG_DISPATCH_LEAST, XCHG_DISPATCH_ROUND_ROBIN };
enum xchg_overload { XCHG_OVERLOAD_WAIT, XCHG_OVERLOAD_REFUSE };
enum xchg_log_level { XCHG_LOG_ERROR, XCHG_LOG_WARN, XCHG_LOG_INFO, XCHG_LOG_DEBUG };
enum xchg_log_format { XCHG_LOG_LOGFMT, XCHG_LOG_JSON };

/*
 * The configuration of a server, by the names of docs/configuration.md: XCHG_MAX_PER_IP is
 * max_per_ip.  Sizes are bytes, times nanoseconds with 0 = off.  Ranges are those of that page;
 * xchg_config_from_env fills in the defaults.
 */
struct xchg_config {
  size_t size; /* sizeof(struct xchg_config) */

  const char *listen;       /* a list, as XCHG_LISTEN; borrowed until xchg_server_create returns */
  const char *allow, *deny; /* lists of address blocks; borrowed likewise */
  uint32_t backlog;
  bool reuseport, nodelay, keepalive;
  uint64_t defer_accept_s;
  uint32_t fastopen;
  uint64_t sndbuf_bytes;

  uint32_t workers; /* 0 = the CPUs that this process may use */
  uint32_t queue;
  enum xchg_dispatch dispatch;
  bool pin;
  uint64_t spin_ns;
  uint32_t offload_threads;
  uint64_t watchdog_ns;

  uint64_t max_connections; /* 0 = what RLIMIT_NOFILE (soft, which is left alone) holds */
  enum xchg_overload overload;
  uint64_t max_per_ip;
  uint64_t max_pending_bytes;
  uint64_t max_message_bytes; /* where the handler's max_message is 0 */

  uint64_t idle_timeout_ns, message_timeout_ns, write_timeout_ns, max_lifetime_ns;
  uint64_t linger_ns, stop_grace_ns, drain_timeout_ns;

  enum xchg_log_level log_level;
  enum xchg_log_format log_format;
  /*
   * Takes each line of the log, without a line feed; NULL = standard error.  Thread: any of the
   * server's and the caller's; must not block and not call the library.
   */
  void (*log)(void *log_user, enum xchg_log_level level, const char *line);
  void *log_user;
};

/**
 * xchg_config_from_env(config, size, environment, faults):
 * Fill ${config} (of ${size} bytes, sizeof(struct xchg_config)) with the defaults and with what the
 * XCHG_ variables of ${environment} (environ; NULL = none) say.  Variables of the built-in
 * exchanges, of XCHG_HANDLER and of XCHG_MODEL are faults here.  Each fault is one line to
 * ${faults} (NULL = nowhere).
 * Lifetime: strings in ${config} point into ${environment}.
 * Return: 0, or -1 with EINVAL: there were faults, or another size; or with ENOMEM.
 */
int xchg_config_from_env(struct xchg_config *config, size_t size, char *const *environment,
                         FILE *faults);

/**
 * xchg_server_create(config, handler):
 * Bind ${config}'s addresses and prepare everything; clients may connect and wait. Touches no
 * signal, no limit, no environment, and knows no other server of the process. Ignore SIGPIPE where
 * standard error, to which it logs, may be a pipe.
 * Lifetime: ${config} and ${handler} are copied.
 * Return: the server, or NULL with errno after a line in the log: EINVAL, a value that is out of
 * range or contradicts another, a handler that cannot be; EADDRINUSE and what bind(2) says; ENOMEM,
 * EMFILE; ECANCELED, on_start said -1.
 */
struct xchg_server *xchg_server_create(const struct xchg_config *config,
                                       const struct xchg_handler *handler);

/**
 * Start the threads and serve. Once. Return: 0 when all run, or -1 with errno after a line in the
 * log (EALREADY: it was called before, no line).
 */
int xchg_server_start(struct xchg_server *server);

/**
 * xchg_server_drain(server): end as the daemon ends: accept nobody who is not in the queue yet,
 * finish what has begun, cut the rest after drain_timeout_ns.
 * xchg_server_stop(server): close everything now, counted as XCHG_DRAIN; also after a drain.
 * Under xchg_main with XCHG_MODEL=thread or iterative it is a drain, in a child of fork neither
 * does anything.
 * Neither waits, both may be repeated.  Thread: any.
 */
void xchg_server_drain(struct xchg_server *server);
void xchg_server_stop(struct xchg_server *server);

/**
 * Wait until a drain or stop is complete and all threads of the server have come to their end. One
 * thread at a time, and none of the server's. Return: 0; -1 with EIO where a listener broke, which
 * has stopped the server; -1 with EINVAL where it was not started.
 */
int xchg_server_wait(struct xchg_server *server);

/**
 * Stop, wait, free; then nobody may use the server, and every other call on it has returned. Every
 * post that is left is called with NULL. NULL: nothing happens.
 */
void xchg_server_destroy(struct xchg_server *server);

/**
 * xchg_server_address(server, index, text, size):
 * Where listener ${index} listens, with the port that was found for port 0, as xchg_address writes
 * it ("unix:/path").
 * Thread: any.  Errors: ENOENT, there are not so many; ENOSPC.
 */
int xchg_server_address(const struct xchg_server *server, unsigned index, char *text, size_t size);

/**
 * xchg_main(handler, argc, argv):
 * The whole daemon: configuration from the environment, --help, --check, --explain, --version,
 * signals, log, drain.  For the main thread of a program that has started no other.
 * The variables of the built-in exchanges (XCHG_EXCHANGE, XCHG_GREETING, XCHG_FRAME, XCHG_REPLY,
 * XCHG_MESSAGES) and XCHG_HANDLER are faults here.
 * Return: the exit code, as docs/configuration.md lists them; 78 where the handler cannot be, 71
 * where on_start said -1.
 */
int xchg_main(const struct xchg_handler *handler, int argc, char **argv);

/** "finished", "peer", ... : the counter's word; constant. NULL for what is no reason. */
const char *xchg_reason_name(enum xchg_reason reason);

/*
 * ---- plug-ins ----------------------------------------------------------------------------------
 */

/*
 * A handler in a shared object, for XCHG_HANDLER=/path/handler.so: XCHG_PLUGIN(handler) at file
 * level names it.  The object links nothing: xchgd exports the calls above.  The entry's name
 * carries the interface's version, so that another one is told apart by name.
 */
#define XCHG_PLUGIN(handler)                                 \
  XCHG_ENTRY const struct xchg_handler *xchg_plugin_0(void); \
  const struct xchg_handler *xchg_plugin_0(void) { return &(handler); }
#ifdef __cplusplus
#define XCHG_ENTRY extern "C" __attribute__((visibility("default")))
#else
#define XCHG_ENTRY extern __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
}
#endif

#endif
