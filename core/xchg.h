/*
 * xchg: the public API of libxchg.
 *
 * A handler declares how bytes become messages and supplies callbacks. The engine accepts
 * connections, reads, parses, writes, times out and closes. An acceptor thread hands each
 * connection to one of a fixed number of workers. A worker is a thread that serves many
 * connections. A connection stays on its worker until it ends. These rules hold for all calls:
 *
 *   Threads    All callbacks of a connection run on its worker, one at a time. A call that takes a
 *              struct xchg_conn is allowed in any callback of that worker. On another thread it
 *              does nothing and fails with EPERM. Callbacks of different connections may run at
 *              the same time, so data that they share must be constant or locked. Other threads
 *              name a connection by its id, see xchg_id. They may make all other calls.
 *   Lifetime   A struct xchg_conn is valid from on_open or on_restore until on_close or on_gone
 *              returns. The bytes of a message are valid until on_message returns. An id never
 *              becomes invalid. It names no connection once its own has ended or gone.
 *   Ownership  The engine owns connections, descriptors and buffers. A handler makes requests such
 *              as xchg_send and xchg_finish. The engine carries them out after the callback has
 *              returned. All output of one turn leaves in one system call, up to 64 KiB.
 *   Blocking   A callback that blocks stops all connections of its worker. XCHG_WATCHDOG reports
 *              it in the log. Blocking work belongs in xchg_offload.
 *   Fork       A server belongs to one process: the one that created it, or a child that starts it
 *              first. So daemon(3) comes before xchg_server_start. In a child of the owner
 *              xchg_server_destroy frees the child's copy and closes its descriptors, which neither
 *              the owner nor a client notices. Calls that use a connection or the server's threads
 *              fail with EPERM or do nothing. A child that a callback or offloaded work has forked
 *              must not return from it, but call _exit or exec. Otherwise it ends with exit code
 *              70. A client sees the end of its connection when no child has a copy of it.
 *   Structs    A struct that the caller fills begins with its size. A program that was compiled
 *              with another version of this header is refused, not misread.
 *   Results    A call that returns int returns 0, or -1 with errno set. A failed call has changed
 *              nothing unless its comment says otherwise.
 *
 * The comments below list these errors by name only:
 *
 *   EPERM    the calling thread is not the connection's worker, or not in the process that owns it
 *   EPIPE    after xchg_finish or xchg_abort, and during on_close, on_save and on_gone
 *   EAGAIN   a bounded queue is full
 *   ENOMEM   out of memory
 *   EINVAL   an argument is invalid, or a struct has another size
 *   ENOTSUP  XCHG_MODEL is not pool
 *
 * Each section is a page of the manual, see docs/manual.py.
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
struct xchg_conn;   /* a connection */
struct xchg_server; /* a listening server with its threads */

/* ---- xchg_handler(3): declare how bytes become messages, and the callbacks ---- */

/*
 * Where a message ends. The end of the stream ends a DELIMITER or LINE message that has begun. It
 * truncates a FIXED, PREFIX or CUSTOM one: the connection ends with XCHG_TRUNCATED. The boundaries
 * of RAW messages have no meaning.
 */
enum xchg_frame_kind {
  XCHG_FRAME_RAW,       /* after the bytes that one read returned; max_message limits the read */
  XCHG_FRAME_DELIMITER, /* at the byte xchg_frame.delimiter */
  XCHG_FRAME_LINE,      /* at LF; a CR before it belongs to the terminator */
  XCHG_FRAME_FIXED,     /* after xchg_frame.size bytes */
  XCHG_FRAME_PREFIX,    /* after the length given by a prefix of xchg_frame.size bytes */
  XCHG_FRAME_CUSTOM,    /* where xchg_frame.parse says */
};

#define XCHG_PARSE_ERROR SIZE_MAX /* for an xchg_parse_fn: the bytes are no message */

/**
 * xchg_parse_fn(conn, data, size):
 * Find the end of the first message in the ${size} bytes at ${data}. ${size} is at least 1. The
 * function may read these bytes and the connection's state. It must make no other call. It returns:
 *
 *   1 to ${size}       the message has that many bytes
 *   0                  more bytes are needed
 *   more than ${size}  that many bytes are needed; the next call comes once they have arrived; the
 *                      connection ends with XCHG_TOO_LONG if they exceed max_message
 *   XCHG_PARSE_ERROR   the connection ends with XCHG_ERROR
 */
typedef size_t xchg_parse_fn(struct xchg_conn *conn, const void *data, size_t size);

/* A field that the kind does not use is 0. */
struct xchg_frame {
  enum xchg_frame_kind kind; /* where a message ends */
  size_t size;               /* FIXED: bytes of a message, at least 1; PREFIX: 1, 2, 4 or 8 */
  uint8_t delimiter;         /* DELIMITER */
  bool little_endian;        /* PREFIX: the least significant byte comes first */
  xchg_parse_fn *parse;      /* CUSTOM: max_message then limits all bytes that it counts */
};

struct xchg_message {
  const void *data;  /* the content, without prefix and terminator */
  size_t size;       /* bytes of data, may be 0 */
  const void *frame; /* the same with prefix and terminator, as received */
  size_t frame_size; /* a message that the end of the stream has ended has no terminator */
};

/* Why a connection ended. Each reason has a counter. */
enum xchg_reason {
  XCHG_FINISHED, /* the exchange is complete; if it is endless, the client ended between messages */
  XCHG_PEER,     /* the client ended before the exchange was complete */
  XCHG_RESET,    /* ECONNRESET, EPIPE, ECONNABORTED, ETIMEDOUT or EHOSTUNREACH */
  XCHG_TOO_LONG, /* a message was longer than the limit */
  XCHG_TRUNCATED, /* the stream ended within a FIXED, PREFIX or CUSTOM message */
  XCHG_IDLE,      /* XCHG_IDLE_TIMEOUT */
  XCHG_MESSAGE,   /* XCHG_MESSAGE_TIMEOUT */
  XCHG_WRITE,     /* XCHG_WRITE_TIMEOUT, or XCHG_SLOW_DROP */
  XCHG_LIFETIME,  /* XCHG_MAX_LIFETIME */
  XCHG_DENIED,    /* refused by XCHG_ALLOW or XCHG_DENY; on_open was not called */
  XCHG_PER_IP,    /* over XCHG_MAX_PER_IP; on_open was not called */
  XCHG_OVERLOAD,  /* over a limit with XCHG_OVERLOAD=refuse; on_open was not called */
  XCHG_MEMORY,    /* no memory for the connection or its bytes */
  XCHG_DRAIN,     /* the server stopped */
  XCHG_ERROR,     /* any other errno, XCHG_PARSE_ERROR, or xchg_abort */
  XCHG_PROXY,     /* no valid PROXY header; on_open was not called */
  XCHG_REASONS    /* the number of reasons */
};

/**
 * The word for ${reason} in the log: "finished", "peer" and so on.
 * Return: a constant string, or NULL if ${reason} is no reason.
 */
const char *xchg_reason_name(enum xchg_reason reason);

#define XCHG_STATE_MAX ((size_t)64 * 1024)            /* 64 KiB, the largest state_size */
#define XCHG_SAVE_MAX ((size_t)64 * 1024)             /* 64 KiB, the most that on_save writes */
#define XCHG_MESSAGE_MAX ((size_t)1024 * 1024 * 1024) /* 1 GiB, the largest max_message */

/*
 * What a program supplies. Fields and callbacks may be 0 or NULL: a handler with only its size
 * counts raw messages and drops them. xchg_server_create and xchg_main copy the handler. They
 * refuse one that is invalid.
 * Thread: a connection's callbacks run on its worker, on_start on the thread that creates the
 * server, on_stop on the thread that destroys it.
 * Note: All messages of one read are delivered before the engine writes the answers.
 */
struct xchg_handler {
  size_t size;             /* sizeof(struct xchg_handler) */
  struct xchg_frame frame; /* how bytes become messages */
  size_t max_message; /* bytes without prefix and terminator; 0 = XCHG_MAX_MESSAGE; a longer message
                          ends the connection with XCHG_TOO_LONG before memory is taken for it */
  uint64_t messages;  /* messages a connection, then the engine finishes it; 0 = unlimited */
  size_t state_size;  /* bytes of zeroed state for each connection, see xchg_state */
  void *user;         /* for xchg_user; borrowed until the server is destroyed */
  bool proxy_tlvs;    /* keep PROXY headers for xchg_proxy_tlv: up to 8 KiB a connection */

  /* The server is ready, no connection is open yet. Return 0, or -1 to make the start fail. */
  int (*on_start)(struct xchg_server *server);
  /* The server's threads have ended. Other threads must stop using ${server} before it returns. */
  void (*on_stop)(struct xchg_server *server);
  /* The connection was accepted. The callback may send, for example a greeting. */
  void (*on_open)(struct xchg_conn *conn);
  /* A message is complete. Not called while paused, or after xchg_finish or xchg_abort. */
  void (*on_message)(struct xchg_conn *conn, const struct xchg_message *message);
  /* The kernel has taken all queued output: a long answer continues. At most once a turn. */
  void (*on_drain)(struct xchg_conn *conn);
  /* The time set by xchg_timer has come. */
  void (*on_timer)(struct xchg_conn *conn);
  /* The connection ends. Called once, unless on_gone is called. Nothing can be sent any more. */
  void (*on_close)(struct xchg_conn *conn, enum xchg_reason reason);

  /*
   * For a live upgrade, see docs/library.md. With state_version 0 connections stay, and the members
   * below are 0. Else on_save and on_restore are set. From on_save to on_gone, or until the
   * connection comes back, calls that change ${conn} fail or are lost. ${data} is not aligned.
   */
  uint32_t state_version; /* of what on_save writes */
  /* Write the state to ${data}. Return its bytes, at most ${size}, or -1: the connection stays. */
  ssize_t (*on_save)(struct xchg_conn *conn, void *data, size_t size);
  /* In place of on_open. Return 0, or free the state and return -1: the connection goes back. */
  int (*on_restore)(struct xchg_conn *conn, uint32_t version, const void *data, size_t size);
  /* Another process serves the connection. In place of on_close. */
  void (*on_gone)(struct xchg_conn *conn);
  bool together; /* all connections move at the same moment, or none moves */
};

/* ---- xchg_send(3): send to a connection, and end it ---- */

/**
 * xchg_send(conn, data, size):
 * Queue a copy of ${size} bytes. The engine adds no prefix and no terminator.
 * xchg_sendv(conn, parts, count):
 * Queue copies of ${count} parts, one after the other.
 * Errors: EPIPE, ENOMEM (the connection ends with XCHG_MEMORY), EPERM, EINVAL (${count} < 0).
 * Note: The result may be ignored. After ENOMEM the connection ends and on_close gets the reason. A
 * callback of ${conn} itself needs memory only for what the kernel does not take after it. If that
 * is missing, the connection ends in the same way, without an error of a call.
 */
int xchg_send(struct xchg_conn *conn, const void *data, size_t size);
int xchg_sendv(struct xchg_conn *conn, const struct iovec *parts, int count);

/**
 * xchg_send_ref(conn, data, size, release, argument):
 * Queue ${size} bytes without a copy. ${release}(${argument}) is called once on the connection's
 * worker: when the kernel has taken all bytes, or before that after on_close or on_gone. It may be
 * NULL. It must make no call that takes a connection: use on_drain to continue sending. If
 * ${size} is 0, or 64 references are queued already, the bytes are copied and ${release} is called
 * at once: check xchg_pending where a client chooses how much is sent.
 * Own: ${data} must not change until ${release} is called. If the call fails, the caller keeps
 * ${data} and ${release} is not called.
 * Errors: EPIPE, ENOMEM (the connection ends with XCHG_MEMORY), EPERM, EINVAL (${size} is
 * over XCHG_MESSAGE_MAX).
 */
int xchg_send_ref(struct xchg_conn *conn, const void *data, size_t size,
                  void (*release)(void *argument), void *argument);

/**
 * Count the queued bytes that the kernel has not taken. At XCHG_MAX_PENDING the engine stops
 * parsing and reading this connection until the client has read.
 * Return: a number of bytes, 0 on another thread.
 */
size_t xchg_pending(const struct xchg_conn *conn);

/**
 * xchg_finish(conn):
 * Close the connection after the queued output has been sent. Unread input cannot turn the close
 * into a reset that destroys it. Further messages are discarded. The reason is XCHG_FINISHED. A
 * second call does nothing.
 * xchg_abort(conn):
 * Close the connection after the callback has returned. Queued output may be lost. The reason is
 * XCHG_ERROR.
 * Errors: EPERM.
 */
int xchg_finish(struct xchg_conn *conn);
int xchg_abort(struct xchg_conn *conn);

/* ---- xchg_pause(3): stop and resume a connection's messages ---- */

/**
 * xchg_pause(conn):
 * Stop parsing and reading this connection, including messages that have already arrived. Output,
 * on_drain and on_timer continue. The last message of a counted exchange and the client's end do
 * not end a paused connection, so that an answer may come later. XCHG_MESSAGE_TIMEOUT does not run
 * meanwhile, XCHG_IDLE_TIMEOUT does. A reset ends the connection at once; with XCHG_MODEL=thread or
 * fork, after xchg_resume.
 * xchg_resume(conn):
 * Continue. One call undoes any number of pauses.
 * Errors: EPERM.
 * Note: If XCHG_IDLE_TIMEOUT is 0, nothing ends a connection that is never resumed. Set a timer.
 */
int xchg_pause(struct xchg_conn *conn);
int xchg_resume(struct xchg_conn *conn);

/* ---- xchg_timer(3): call on_timer later ---- */

#define XCHG_NEVER UINT64_MAX /* for xchg_timer: cancel */

/**
 * Call on_timer once, ${after_ns} nanoseconds from now, never early. The resolution is about 1 ms.
 * A connection has one timer: a call replaces the earlier one, XCHG_NEVER cancels it. on_timer is
 * not called once the connection is ending.
 * Errors: EINVAL (the handler has no on_timer), ENOMEM, EPERM.
 * Note: The timeouts of the configuration run independently of this timer.
 */
int xchg_timer(struct xchg_conn *conn, uint64_t after_ns);

/* ---- xchg_conn(3): address, state and id of a connection ---- */

#define XCHG_ADDRESS_MAX 128 /* bytes that hold any address, its NUL included */

/**
 * Write the peer's address to the ${size} bytes at ${text}: "192.0.2.1:5000",
 * "[2001:db8::1]:5000" or "unix". XCHG_ADDRESS_MAX bytes are always enough. An address that a PROXY
 * header announces replaces that of the proxy. A path is "unix:/path": bytes that are not
 * printable become \xNN, and "..." ends a path that is too long.
 * Errors: ENOSPC (the address does not fit), EPERM.
 */
int xchg_address(const struct xchg_conn *conn, char *text, size_t size);

/**
 * The connection's own state_size bytes, aligned for any type and zeroed before on_open.
 * Return: the state, or NULL if state_size is 0 or on another thread.
 * Note: The engine frees the state after on_close. The handler frees what the state points to.
 */
void *xchg_state(const struct xchg_conn *conn);

/**
 * The number that names the connection in xchg_post. It is not used again for 2^40 - 1 further
 * connections of the worker. With over 16 workers or a limit of over 2^20 connections, the exponent
 * is 64 less the bits that number both, and at least 30.
 * Return: the id, which is never 0, or 0 on another thread.
 */
uint64_t xchg_id(const struct xchg_conn *conn);

/** The handler's ${user}. Thread: any, while ${conn} is valid. */
void *xchg_user(const struct xchg_conn *conn);

/** The connection's server. Thread: any, while ${conn} is valid. */
struct xchg_server *xchg_server_of(const struct xchg_conn *conn);

/* ---- xchg_proxy(3): the contents of the PROXY header of a connection ---- */

enum xchg_command {
  XCHG_COMMAND_PROXY,   /* the connection of a client */
  XCHG_COMMAND_LOCAL,   /* of the proxy itself, such as a health check */
  XCHG_COMMAND_UNKNOWN, /* version 1: a client without an address */
};

/* Bytes of a header. The proxy may have copied them from a client unchecked: escape them. */
struct xchg_bytes {
  const void *data; /* NULL = the header has none; valid until on_close returns */
  size_t size;      /* bytes of data, may be 0 */
};

struct xchg_proxy {
  size_t size;                /* sizeof(struct xchg_proxy), set by the caller */
  unsigned version;           /* of the protocol: 1 or 2 */
  enum xchg_command command;  /* the kind of connection */
  char via[XCHG_ADDRESS_MAX]; /* the proxy, as xchg_address writes it */
  /* The client, and the address that it connected to, in the same form; "" = not announced. */
  char source[XCHG_ADDRESS_MAX], destination[XCHG_ADDRESS_MAX];
  /* The name that the client asked for, its protocol, the proxy's id of the connection. */
  struct xchg_bytes authority, alpn, unique_id;
  bool tls;            /* the header describes TLS: the next five are set */
  uint8_t tls_bits;    /* 1: over TLS; 2, 4: a certificate in this connection, in this session */
  uint32_t tls_verify; /* 0 = the certificate was verified */
  /* The version of TLS, the name in the certificate, the cipher. */
  struct xchg_bytes tls_version, tls_cn, tls_cipher;
};

/**
 * xchg_proxy(conn, proxy):
 * Fill ${proxy} with the contents of the connection's PROXY header.
 * xchg_proxy_tlv(conn, type, data, size):
 * Find the value of the first TLV of ${type}. It is valid until on_close returns.
 * Errors: ENOENT (the listener has no ;proxy=; xchg_proxy_tlv: no such TLV, or proxy_tlvs is not
 * set), EINVAL (the size of ${proxy} is not set), EPERM.
 * Note: Without proxy_tlvs, ${proxy} has the version, the command and the addresses only.
 */
int xchg_proxy(const struct xchg_conn *conn, struct xchg_proxy *proxy);
int xchg_proxy_tlv(const struct xchg_conn *conn, uint8_t type, const void **data, size_t *size);

/* ---- xchg_offload(3): run blocking work on another thread ---- */

#define XCHG_OFFLOAD_CANCEL 1u /* for xchg_offload_flags: no work for an ended connection */

/**
 * xchg_offload(conn, work, done, argument):
 * Run ${work}(${argument}) on one of XCHG_OFFLOAD_THREADS threads, then ${done}(${conn},
 * ${argument}) on the connection's worker. ${done} receives NULL if the connection has ended. No
 * further message is parsed until then, as with xchg_pause, so answers keep their order. Each
 * function is called once. If the server ends before ${work} has begun, only ${done} is called,
 * with NULL, on the thread that ends the server. xchg_main ends the process when the drain timeout
 * is over: work that still runs ends with it, and its ${done} is not called. The work of a
 * connection that has ended is run, and its address keeps its place in XCHG_MAX_PER_IP meanwhile.
 * xchg_offload_flags(conn, work, done, argument, flags):
 * The same with ${flags}, 0 or XCHG_OFFLOAD_CANCEL. With this flag ${work} is not run if the
 * connection ends before it has begun: ${done} is called with NULL on the worker. ${done} can tell
 * by a field of ${argument} that ${work} sets. The flag suits work that only makes an answer. Work
 * such as storing a message needs 0.
 * Own: ${argument} belongs to the library until ${done} is called. If the call fails, it stays the
 * caller's. Bytes of the message that ${work} needs must be copied.
 * Errors: EAGAIN (1,024 jobs are queued, or no thread could be started), ENOTSUP
 * (XCHG_OFFLOAD_THREADS is 0, or XCHG_MODEL is not pool), EPIPE, EINVAL (a function is NULL, or a
 * flag is unknown), ENOMEM, EPERM.
 * Note: The threads start at the first call and serve all connections. Work that never returns
 * occupies one permanently. ${work} must not use the connection.
 */
int xchg_offload(struct xchg_conn *conn, void (*work)(void *argument),
                 void (*done)(struct xchg_conn *conn, void *argument), void *argument);
int xchg_offload_flags(struct xchg_conn *conn, void (*work)(void *argument),
                       void (*done)(struct xchg_conn *conn, void *argument), void *argument,
                       unsigned flags);

/* ---- xchg_join(3): send to a group of connections ---- */

/* What happens to a member with more than XCHG_MAX_PENDING bytes queued. */
enum xchg_slow {
  XCHG_SLOW_SKIP, /* it does not receive this publication */
  XCHG_SLOW_DROP, /* it is closed with XCHG_WRITE */
};

#define XCHG_GROUPS_MAX 256 /* groups of a connection */
/**
 * xchg_join(conn, group, slow):
 * Receive what is published to ${group}. The handler chooses the number. A group exists while it
 * has members. A connection leaves its groups when it ends. A second call replaces ${slow}.
 * Errors: EPIPE, EMLINK (the connection is in XCHG_GROUPS_MAX groups), ENOMEM, EINVAL, EPERM.
 */
int xchg_join(struct xchg_conn *conn, uint64_t group, enum xchg_slow slow);

/** Leave ${group}. Errors: ENOENT (the connection is not a member), EPERM. */
int xchg_leave(struct xchg_conn *conn, uint64_t group);

/**
 * Send ${size} bytes to each connection that is in ${group} when its worker handles the
 * publication. The bytes are copied once for all members. Each worker receives one task and sends
 * without a lock. Publications of one thread keep their order at each member.
 * Return: 0 even if the group has no members, or -1.
 * Errors: EAGAIN (65,536 tasks or 64 MiB are queued at a worker), EMSGSIZE (${size} exceeds
 * XCHG_MESSAGE_MAX), ENOMEM, ENOTSUP, EPERM, EINVAL (${server} is NULL).
 * Note: A member that publishes receives its own publication.
 */
int xchg_publish(struct xchg_server *server, uint64_t group, const void *data, size_t size);

/* ---- xchg_post(3): call a function on a connection's worker, from any thread ---- */

/**
 * Call ${call}(conn, ${argument}) once, on the worker of the connection named ${id}. conn is NULL
 * if that connection has ended. Calls from one thread to one worker keep their order. Calls that
 * are left when the server ends are made with NULL, on the thread that ends the server.
 * Own: ${call} always runs, so that it can free ${argument}. If xchg_post fails, it does not run.
 * Errors: EINVAL (${id} is invalid, or ${call} is NULL), EAGAIN (as xchg_publish), ENOMEM, ENOTSUP,
 * EPERM.
 * Note: A thread of the program learns the server in on_start and stops using it in on_stop.
 */
int xchg_post(struct xchg_server *server, uint64_t id,
              void (*call)(struct xchg_conn *conn, void *argument), void *argument);

/* ---- xchg_config_from_env(3): configure a server ---- */

enum xchg_dispatch { XCHG_DISPATCH_LEAST, XCHG_DISPATCH_ROUND_ROBIN };
enum xchg_overload { XCHG_OVERLOAD_WAIT, XCHG_OVERLOAD_REFUSE };
enum xchg_log_level { XCHG_LOG_ERROR, XCHG_LOG_WARN, XCHG_LOG_INFO, XCHG_LOG_DEBUG };
enum xchg_log_format { XCHG_LOG_LOGFMT, XCHG_LOG_JSON };

/*
 * A server's configuration. Fields have the names, ranges and meanings of the variables in
 * docs/configuration.md and xchgd(8): max_per_ip is XCHG_MAX_PER_IP. Sizes are bytes, times are
 * nanoseconds, and 0 switches a timeout off.
 * Note: xchg_config_from_env fills in the defaults. Without it, a field that is 0 means 0.
 */
struct xchg_config {
  size_t size; /* sizeof(struct xchg_config) */
  /* Borrowed until xchg_server_create returns. */
  const char *listen, *allow, *deny, *proxy_trust;
  /* Socket options. */
  uint32_t backlog;
  bool reuseport, nodelay, keepalive;
  uint64_t defer_accept_s;
  uint32_t fastopen;
  uint64_t sndbuf_bytes;

  uint32_t workers;            /* 0 = the number of CPUs that this process may use */
  uint32_t queue;              /* capacity of a worker's hand-off queue */
  enum xchg_dispatch dispatch; /* how a worker is chosen */
  bool pin;                    /* pin each worker to a CPU */
  uint64_t spin_ns;            /* how long an idle worker polls before it sleeps */
  uint32_t offload_threads;    /* 0 = none */
  uint64_t watchdog_ns;        /* a callback that blocks its worker for longer is logged */

  uint64_t max_connections;    /* 0 = what the soft RLIMIT_NOFILE allows; it is not raised */
  enum xchg_overload overload; /* at the limit: leave clients waiting, or refuse them */
  uint64_t max_per_ip;         /* connections of one client address; 0 = unlimited */
  uint64_t max_pending_bytes;  /* queued output at which reading stops */
  uint64_t max_message_bytes;  /* for a handler whose max_message is 0 */
  /* Time limits of a connection, and of its close. */
  uint64_t idle_timeout_ns, message_timeout_ns, write_timeout_ns, max_lifetime_ns, linger_ns;
  uint64_t proxy_timeout_ns;
  /* Time limits of xchg_server_drain. */
  uint64_t stop_grace_ns, drain_timeout_ns;

  enum xchg_log_level log_level;   /* the least urgent level that is logged */
  enum xchg_log_format log_format; /* of the lines on standard error */
  uint64_t slow_log_ns;            /* slower exchanges are logged; 0 = off, else 1 ms or more */
  /*
   * Receives each line of the log, without a line feed. Called by several threads at once. Must not
   * block and must not call the library. NULL = standard error: no thread waits for it, and a write
   * raises no SIGPIPE, SIGXFSZ or SIGTTOU.
   */
  void (*log)(void *log_user, enum xchg_log_level level, const char *line);
  void *log_user; /* passed to log */
};

/**
 * Fill ${config} of ${size} bytes with the defaults, then with the XCHG_ variables of
 * ${environment}, an array that ends with NULL, such as environ. NULL = the defaults alone.
 * XCHG_MODEL, XCHG_HANDLER, the variables of the built-in exchanges, XCHG_ADMIN, XCHG_STALL and
 * XCHG_DRAIN_DELAY are faults here. Each fault is one line in ${faults}, which may be NULL.
 * xchg_server_create checks the result again.
 * Own: strings in ${config} point into ${environment}.
 * Errors: EINVAL (a variable is at fault, or ${size} is another), ENOMEM.
 */
int xchg_config_from_env(struct xchg_config *config, size_t size, char *const *environment,
                         FILE *faults);

/* ---- xchg_server(3): run a server within a program ---- */

/**
 * Bind the addresses of ${config} and prepare the server. Clients may connect from now on, and
 * wait. The call changes no signal, no resource limit and no environment. Servers of one process
 * are independent.
 * Own: the library copies ${config} and ${handler}.
 * Return: the server, or NULL with errno set, after a line in the log.
 * Errors: EINVAL (the configuration or the handler is invalid), EADDRINUSE (or another error of
 * bind(2)), EMFILE (no descriptors left), ENOMEM, ECANCELED (on_start returned -1).
 * Note: Lines for a file, or for a terminal that cannot be opened again, wait for the next call.
 */
struct xchg_server *xchg_server_create(const struct xchg_config *config,
                                       const struct xchg_handler *handler);

/**
 * Start the threads and serve. The threads block all signals that come from outside. If standard
 * error can block, one of them, xchg-log, writes the log.
 * Return: 0 when all threads run, or -1 with errno set, after a line in the log.
 * Errors: EALREADY (the second call, no line is logged; or another process has started the server),
 * EAGAIN (no thread could be started).
 */
int xchg_server_start(struct xchg_server *server);

/**
 * xchg_server_drain(server):
 * End as the daemon does on SIGTERM: accept only clients that are already in the accept queue,
 * complete what has begun, and close the rest after drain_timeout_ns.
 * xchg_server_stop(server):
 * Close everything now, with XCHG_DRAIN. Allowed during a drain. With XCHG_MODEL=thread or
 * iterative it is a drain.
 * Note: Neither waits. A second call does nothing. In a process that does not own the server, such
 * as a child of XCHG_MODEL=fork, both do nothing.
 */
void xchg_server_drain(struct xchg_server *server);
void xchg_server_stop(struct xchg_server *server);

/**
 * Wait until a drain or stop is complete and all threads of the server have ended. Offloaded work
 * that has begun may take longer than drain_timeout_ns.
 * Thread: one at a time, none of the server's own.
 * Errors: EIO (a listener failed, which has stopped the server), EINVAL (it was not started),
 * EPERM.
 */
int xchg_server_wait(struct xchg_server *server);

/**
 * Stop, wait and free. Posted calls that are left are made with NULL. NULL is ignored. The call
 * waits until offloaded work that has begun ends, however long that takes. In a process that does
 * not own the server it frees and closes only: nothing is called, and no socket file is removed.
 * Thread: none of the server's own, after all other calls with ${server} have returned.
 */
void xchg_server_destroy(struct xchg_server *server);

/**
 * Write the address of listener ${index}, counted from 0, to the ${size} bytes at ${text}, as
 * xchg_address does or as unix:/path. Port 0 is replaced by the actual port.
 * Errors: ENOENT (there is no such listener), ENOSPC (the address does not fit).
 */
int xchg_server_address(const struct xchg_server *server, unsigned index, char *text, size_t size);

struct xchg_stats {
  size_t size;                  /* sizeof(struct xchg_stats), set by the caller */
  uint64_t accepted;            /* connections accepted: open and the sum of ended */
  uint64_t open;                /* connections that are open now */
  uint64_t ended[XCHG_REASONS]; /* connections that have ended, by reason */
  uint64_t messages;            /* complete messages received */
  uint64_t bytes_in, bytes_out; /* bytes read from and written to the kernel */
  uint64_t posts;               /* calls made for xchg_post */
  uint64_t published;           /* publications queued to members */
  uint64_t skipped;             /* publications not queued because the member was slow */
  uint64_t offloads;            /* jobs that xchg_offload queued */
  uint64_t offloads_refused;    /* jobs that xchg_offload refused with EAGAIN */
  uint64_t blocked;             /* times that a callback exceeded XCHG_WATCHDOG */
};

/** Fill ${stats}. Errors: EINVAL (its size is not set). */
int xchg_server_stats(struct xchg_server *server, struct xchg_stats *stats);

/* ---- xchg_main(3): run a handler as a daemon ---- */

/**
 * Run as xchgd(8) does: configuration from the environment, --help, --version, --check, --explain,
 * signals, log and drain. XCHG_HANDLER and the variables that describe a built-in exchange are
 * faults, except XCHG_MAX_MESSAGE.
 * Return: the exit code, see xchgd(8): 78 if the handler is invalid, 71 if on_start returned -1.
 * If a handler forks, the child must close its copy of the connection, for example with
 * close_range(3, ~0U, 0), or call exec. Only then does the client see the end of the connection.
 * If work or a callback outlasts the drain timeout, the call logs that and ends the process. It
 * then does not return, and on_stop is not called.
 * Thread: the main thread, before it has started another, which would not inherit blocked signals.
 * Note: A program that has signals of its own uses xchg_server_create instead.
 * Note: Children of the process are not reaped: the first process of a container needs an init.
 */
int xchg_main(const struct xchg_handler *handler, int argc, char **argv);

/*
 * XCHG_PLUGIN(handler), at file level without a semicolon, makes a shared object a plug-in that
 * xchgd(8) loads from the path in XCHG_HANDLER. The object links no library: xchgd exports all
 * calls. The name xchg_plugin_1 contains the version of the API: xchgd loads 0 and 1. XCHG_ENTRY
 * makes it visible and gives it C linkage, also in C++.
 */
#define XCHG_PLUGIN(handler)                                 \
  XCHG_ENTRY const struct xchg_handler *xchg_plugin_1(void); \
  const struct xchg_handler *xchg_plugin_1(void) { return &(handler); }
#ifdef __cplusplus
}
#define XCHG_ENTRY extern "C" __attribute__((visibility("default")))
#else
#define XCHG_ENTRY extern __attribute__((visibility("default")))
#endif

#endif
