/*
 * config_vars: the table of all variables.
 *
 * A variable needs a row here and an enum config_var, nothing else.  The parser, the fault
 * messages, --help, --explain, docs/configuration.md and the manual page xchgd.8 all use this
 * table.  It is constant, so any thread may read it.
 *
 * A range limit that no outside rule gives is generous: a timeout may be a year long.  All limits
 * are small enough that the sum of two values does not overflow.
 */
#include "core/config_vars.h"

#include <assert.h>

#define YEAR_NS (UINT64_C(365) * 24 * 3600 * NS_PER_S)
#define KIB UINT64_C(1024)
#define GIB (KIB * KIB * KIB)

#define SIZE_OF(type, member) sizeof(((struct type *)0)->member)

/* 0. The member must have the same size in both structs, because its bytes are copied. */
#define SAME_SIZE(member)                                                                        \
  (0 * sizeof(struct {                                                                           \
     static_assert(SIZE_OF(config, member) == SIZE_OF(xchg_config, member), "one size: copied"); \
     char unused;                                                                                \
   }))

/*
 * FIELD: a number in struct config only.  BOTH: a number in struct xchg_config, too.  TEXT: a list,
 * which is a text in struct xchg_config.
 */
#define FIELD(member) .offset = offsetof(struct config, member), .size = SIZE_OF(config, member)
#define BOTH(member)               \
  FIELD(member), .field = #member, \
                 .public_offset = offsetof(struct xchg_config, member) + SAME_SIZE(member)
#define TEXT(member)                                                               \
  .offset = offsetof(struct config, member), .size = SIZE_OF(xchg_config, member), \
  .field = #member, .public_offset = offsetof(struct xchg_config, member)

static const char *const exchange_names[] = {"greet", "line", "echo", "discard", NULL};
static const char *const model_names[] = {"pool", "iterative", "fork", "thread", NULL};
static const char *const dispatch_names[] = {"least", "round-robin", NULL};
static const char *const overload_names[] = {"wait", "refuse", NULL};
static const char *const level_names[] = {"error", "warn", "info", "debug", NULL};
static const char *const sandbox_names[] = {"off", "auto", "on", "trap", NULL};
static const char *const format_names[] = {"logfmt", "json", NULL};

/* The defaults of the presets greet, line, echo and discard, in this order. */
static const char *const greetings[] = {"Message from server", "none", "none", "none"};
static const char *const frames[] = {"nul", "line", "raw", "raw"};
static const char *const replies[] = {"none", "echo", "echo", "none"};
static const char *const messages[] = {"1", "1", "0", "0"};

const struct config_var_def config_var_defs[VAR_COUNT] = {
    [VAR_EXCHANGE] = {.name = "XCHG_EXCHANGE",
                      .kind = KIND_ENUM,
                      FIELD(exchange),
                      .names = exchange_names,
                      .default_text = "greet",
                      .what = "the preset that sets the defaults of the next four variables",
                      .more =
                          "greet sends \"Message from server\", reads one message and closes. line "
                          "echoes one line and closes. echo is RFC 862, discard is RFC 863."},
    [VAR_GREETING] =
        {.name = "XCHG_GREETING",
         .kind = KIND_GREETING,
         .by_exchange = greetings,
         .what = "what the server sends first, framed as a message",
         .more = "text:none sends the word none. A text that the frame cannot carry is a fault."},
    [VAR_FRAME] = {.name = "XCHG_FRAME",
                   .kind = KIND_FRAME,
                   .min = 1,
                   .max = GIB,
                   .by_exchange = frames,
                   .what = "how the byte stream is split into messages",
                   .more = "raw: the bytes that one read returns. nul: up to a 0 byte. line: up to "
                           "LF; a CR before the LF belongs to the terminator. u16, u32: after a "
                           "big-endian length. fixed:N: always N bytes."},
    [VAR_REPLY] = {.name = "XCHG_REPLY",
                   .kind = KIND_REPLY,
                   .by_exchange = replies,
                   .what = "the answer to each message, framed as the message was",
                   .more = "A text that the frame cannot carry is a fault."},
    [VAR_MESSAGES] = {.name = "XCHG_MESSAGES",
                      .kind = KIND_INTEGER,
                      FIELD(messages),
                      .max = INT64_MAX,
                      .by_exchange = messages,
                      .what = "close after this many messages; 0 = unlimited"},
    [VAR_MAX_MESSAGE] =
        {.name = "XCHG_MAX_MESSAGE",
         .kind = KIND_SIZE,
         BOTH(max_message_bytes),
         .min = 1,
         .max = GIB,
         .default_text = "64KiB",
         .what = "longest message, without terminator or length prefix; a longer one closes the "
                 "connection",
         .more = "Under XCHG_FRAME=raw it limits one read, and no message is too long."},
    [VAR_HANDLER] =
        {.name = "XCHG_HANDLER",
         .kind = KIND_PATH,
         FIELD(handler),
         .default_text = "",
         .what = "shared object whose handler replaces the built-in exchange; empty = none",
         .more =
             "With a handler, setting XCHG_EXCHANGE, XCHG_GREETING, XCHG_FRAME, XCHG_REPLY or "
             "XCHG_MESSAGES is a fault. XCHG_MAX_MESSAGE applies if the handler sets no limit."},
    [VAR_LISTEN] = {.name = "XCHG_LISTEN",
                    .kind = KIND_LISTEN,
                    TEXT(listen),
                    .default_text = ":7000",
                    .what = "addresses to listen on; port 0 = any free port, which the log shows",
                    .more =
                        ":port is every address, IPv6 and IPv4. Addresses are numeric. A "
                        "link-local one names its interface: [fe80::1%eth0]:7000. A stale "
                        "socket file is replaced. Sockets for clients that are passed in "
                        "LISTEN_FDS replace the list. With ;proxy=v1, v2 or any, each connection "
                        "must begin with a PROXY header of this version, see docs/proxy.md. A "
                        "passed socket gets the option of the item with its address, unless its "
                        "name is data-proxy-v1, -v2 or -any."},
    [VAR_ADMIN] = {.name = "XCHG_ADMIN",
                   .kind = KIND_ADMIN,
                   .daemon_only = true,
                   .default_text = "",
                   .what = "addresses of the admin endpoint, which speaks HTTP; empty = none",
                   .more =
                       "TCP offers health checks and metrics. Commands and addresses of clients "
                       "need a UNIX socket, which has the mode 0600 unless ;mode= changes it. "
                       "Addresses have the form of XCHG_LISTEN and must differ from those. "
                       "XCHG_REUSEPORT does not apply. Sockets that are passed with the name "
                       "admin (LISTEN_FDNAMES) replace the list."},
    [VAR_BACKLOG] =
        {.name = "XCHG_BACKLOG",
         .kind = KIND_INTEGER,
         BOTH(backlog),
         .min = 1,
         .max = INT32_MAX,
         .default_text = "4096",
         .what = "how many connections may wait to be accepted",
         .more =
             "The kernel limits it to net.core.somaxconn. A warning is logged if that is lower."},
    [VAR_REUSEPORT] = {.name = "XCHG_REUSEPORT",
                       .kind = KIND_SWITCH,
                       BOTH(reuseport),
                       .default_text = "off",
                       .what = "let several servers listen on one address (SO_REUSEPORT)"},
    [VAR_NODELAY] = {.name = "XCHG_NODELAY",
                     .kind = KIND_SWITCH,
                     BOTH(nodelay),
                     .default_text = "on",
                     .what = "send small segments at once (TCP_NODELAY)"},
    [VAR_KEEPALIVE] = {.name = "XCHG_KEEPALIVE",
                       .kind = KIND_SWITCH,
                       BOTH(keepalive),
                       .default_text = "on",
                       .what = "let the kernel probe silent peers (SO_KEEPALIVE)"},
    [VAR_DEFER_ACCEPT] =
        {.name = "XCHG_DEFER_ACCEPT",
         .kind = KIND_INTEGER,
         BOTH(defer_accept_s),
         .max = 86400,
         .default_text = "0",
         .what = "seconds to wait for a client's first bytes before accepting; 0 = off",
         .more = "It sets TCP_DEFER_ACCEPT, see tcp(7). With a greeting it is a fault, because the "
                 "client would wait for the greeting, unless all TCP listeners have ;proxy=."},
    [VAR_FASTOPEN] = {.name = "XCHG_FASTOPEN",
                      .kind = KIND_INTEGER,
                      BOTH(fastopen),
                      .max = 65535,
                      .default_text = "0",
                      .what = "length of the queue of TCP Fast Open requests; 0 = off"},
    [VAR_SNDBUF] =
        {.name = "XCHG_SNDBUF",
         .kind = KIND_SIZE,
         BOTH(sndbuf_bytes),
         .max = GIB,
         .default_text = "0",
         .what = "send buffer of a connection in the kernel (SO_SNDBUF); 0 = the kernel decides"},
    [VAR_MODEL] = {.name = "XCHG_MODEL",
                   .kind = KIND_ENUM,
                   FIELD(model),
                   .names = model_names,
                   .default_text = "pool",
                   .what = "which thread or process runs a connection",
                   .more = "pool: a fixed number of threads, each with many connections. "
                           "iterative: one connection at a time. fork: a process for each "
                           "connection. thread: a thread for each connection."},
    [VAR_WORKERS] = {.name = "XCHG_WORKERS",
                     .kind = KIND_INTEGER,
                     .pool_only = true,
                     BOTH(workers),
                     .min = 1,
                     .max = CONFIG_WORKERS_MAX,
                     .derived = "the CPUs this process may use",
                     .what = "number of worker threads",
                     .more = "The default counts the CPUs in the affinity mask, limited by the "
                             "cgroup's CPU quota, rounded up."},
    [VAR_QUEUE] = {.name = "XCHG_QUEUE",
                   .kind = KIND_INTEGER,
                   .pool_only = true,
                   BOTH(queue),
                   .min = 1,
                   .max = 1048576,
                   .default_text = "1024",
                   .what = "capacity of a worker's hand-off queue, rounded up to a power of two"},
    [VAR_DISPATCH] = {.name = "XCHG_DISPATCH",
                      .kind = KIND_ENUM,
                      .pool_only = true,
                      BOTH(dispatch),
                      .names = dispatch_names,
                      .default_text = "least",
                      .what = "how the worker for a new connection is chosen",
                      .more = "least: among the workers with an empty queue, the one with the "
                              "fewest live connections. round-robin: each worker in turn; one "
                              "whose queue is not empty is skipped while another's is empty."},
    [VAR_PIN] = {.name = "XCHG_PIN",
                 .kind = KIND_SWITCH,
                 .pool_only = true,
                 BOTH(pin),
                 .default_text = "off",
                 .what = "pin each worker to a CPU"},
    [VAR_SPIN] = {.name = "XCHG_SPIN",
                  .kind = KIND_TIME,
                  .pool_only = true,
                  BOTH(spin_ns),
                  .max = NS_PER_S,
                  .default_text = "0",
                  .what = "how long an idle worker polls before it sleeps"},
    [VAR_OFFLOAD_THREADS] = {.name = "XCHG_OFFLOAD_THREADS",
                             .kind = KIND_INTEGER,
                             BOTH(offload_threads),
                             .max = 1024,
                             .default_text = "4",
                             .what = "number of threads for a handler's blocking work; 0 = none",
                             .more = "They start when a handler first offloads work."},
    [VAR_WATCHDOG] =
        {.name = "XCHG_WATCHDOG",
         .kind = KIND_TIME,
         BOTH(watchdog_ns),
         .max = YEAR_NS,
         .default_text = "100ms",
         .what = "log a warning when a callback blocks its worker for longer than this; 0 = off",
         .more = "One warning is logged per episode, and at most one a second for each worker. "
                 "New connections avoid the worker until the callback returns."},
    [VAR_STALL] = {.name = "XCHG_STALL",
                   .kind = KIND_TIME,
                   .pool_only = true,
                   .daemon_only = true,
                   FIELD(stall_ns),
                   .max = 3600 * NS_PER_S,
                   .default_text = "30s",
                   .what = "/livez returns 503 if a turn of a thread lasts longer; 0 = off",
                   .more =
                       "The value is 0 or at least 1s. Load and limits never change the response "
                       "of /livez. While it returns 503, WATCHDOG=1 is not sent to a service "
                       "manager (WATCHDOG_USEC)."},
    [VAR_MAX_CONNECTIONS] =
        {.name = "XCHG_MAX_CONNECTIONS",
         .kind = KIND_INTEGER,
         BOTH(max_connections),
         .min = 1,
         .max = CONFIG_CONNECTIONS_MAX,
         .derived = "RLIMIT_NOFILE less a reserve",
         .what = "limit on live connections",
         .more =
             "RLIMIT_NOFILE is first raised to its hard limit. The reserve is what the server "
             "itself needs: 20 descriptors, one for each listener, another one for each UNIX "
             "listener, and two for each worker. XCHG_ADMIN adds 30, and one or two for each of "
             "its addresses in the same way, and XCHG_UPGRADE adds 9. A higher value is a fault. "
             "Outside XCHG_MODEL=pool the default is 1024, or less if RLIMIT_NOFILE is lower."},
    [VAR_OVERLOAD] = {.name = "XCHG_OVERLOAD",
                      .kind = KIND_ENUM,
                      BOTH(overload),
                      .names = overload_names,
                      .default_text = "wait",
                      .what =
                          "what to do with new clients at the limit, or while all queues are full",
                      .more = "wait leaves them in the backlog. refuse accepts and closes them."},
    [VAR_MAX_PER_IP] =
        {.name = "XCHG_MAX_PER_IP",
         .kind = KIND_INTEGER,
         BOTH(max_per_ip),
         .max = INT32_MAX,
         .default_text = "0",
         .what = "limit on live connections from one client address (IPv6: one /64); 0 = unlimited",
         .more = "It does not apply to UNIX sockets or to listeners with ;proxy=."},
    [VAR_ALLOW] = {.name = "XCHG_ALLOW",
                   .kind = KIND_BLOCKS,
                   TEXT(allow),
                   .default_text = "",
                   .what = "client addresses that may connect; empty = all",
                   .more = "Host bits are masked. IPv4-mapped addresses match as IPv4. It does not "
                           "apply to UNIX sockets. On a listener with ;proxy= it applies to the "
                           "announced address."},
    [VAR_DENY] = {.name = "XCHG_DENY",
                  .kind = KIND_BLOCKS,
                  TEXT(deny),
                  .default_text = "",
                  .what = "client addresses that may not connect; overrides XCHG_ALLOW",
                  .more = "It applies where XCHG_ALLOW does."},
    [VAR_PROXY_TRUST] = {.name = "XCHG_PROXY_TRUST",
                         .kind = KIND_BLOCKS,
                         TEXT(proxy_trust),
                         .default_text = "",
                         .what = "addresses of the trusted proxies for TCP listeners with ;proxy=",
                         .more = "Other peers are closed. A TCP listener with ;proxy= and without "
                                 "this list is a fault. "
                                 "UNIX sockets do not need it."},
    [VAR_MAX_PENDING] = {.name = "XCHG_MAX_PENDING",
                         .kind = KIND_SIZE,
                         BOTH(max_pending_bytes),
                         .min = 4 * KIB,
                         .max = GIB,
                         .default_text = "256KiB",
                         .what = "stop reading from a peer while this much output is queued for it",
                         .more = "Queued output is at most this plus one reply."},
    [VAR_IDLE_TIMEOUT] =
        {.name = "XCHG_IDLE_TIMEOUT",
         .kind = KIND_TIME,
         BOTH(idle_timeout_ns),
         .max = YEAR_NS,
         .default_text = "60s",
         .what = "close a connection on which no byte was read or written for this long; 0 = off",
         .more = "The timeout is extended only while output is unacknowledged and the peer keeps "
                 "acknowledging it."},
    [VAR_MESSAGE_TIMEOUT] = {.name = "XCHG_MESSAGE_TIMEOUT",
                             .kind = KIND_TIME,
                             BOTH(message_timeout_ns),
                             .max = YEAR_NS,
                             .default_text = "10s",
                             .what =
                                 "longest time from a message's first byte to its last; 0 = off",
                             .more =
                                 "The first message of a counted exchange is timed from the "
                                 "accept. The clock stops while the server itself does not read."},
    [VAR_PROXY_TIMEOUT] = {.name = "XCHG_PROXY_TIMEOUT",
                           .kind = KIND_TIME,
                           BOTH(proxy_timeout_ns),
                           .min = 3 * NS_PER_S,
                           .max = 60 * NS_PER_S,
                           .default_text = "5s",
                           .what = "longest time from the accept to the end of a PROXY header",
                           .more = "The other timeouts of a connection start after the header."},
    [VAR_WRITE_TIMEOUT] = {.name = "XCHG_WRITE_TIMEOUT",
                           .kind = KIND_TIME,
                           BOTH(write_timeout_ns),
                           .max = YEAR_NS,
                           .default_text = "10s",
                           .what = "close a connection whose peer takes none of the waiting output "
                                   "for this long; 0 = off"},
    [VAR_MAX_LIFETIME] =
        {.name = "XCHG_MAX_LIFETIME",
         .kind = KIND_TIME,
         BOTH(max_lifetime_ns),
         .max = YEAR_NS,
         .default_text = "0",
         .what = "end a connection after this long, shortened at random by up to 10 %; 0 = off",
         .more = "It ends as at a stop: messages that have begun are finished and answered. It "
                 "is closed after XCHG_DRAIN_TIMEOUT at the latest."},
    [VAR_LINGER] = {.name = "XCHG_LINGER",
                    .kind = KIND_TIME,
                    BOTH(linger_ns),
                    .max = YEAR_NS,
                    .default_text = "2s",
                    .what = "at a close, how long to read and discard what the peer still sends; 0 "
                            "= close at once",
                    .more = "Unread input would turn the close into a reset, which can destroy the "
                            "last reply. Use 0 only for clients known to send nothing more."},
    [VAR_DRAIN_DELAY] =
        {.name = "XCHG_DRAIN_DELAY",
         .kind = KIND_TIME,
         .daemon_only = true,
         FIELD(drain_delay_ns),
         .max = 600 * NS_PER_S,
         .default_text = "0",
         .what = "drain delay: how long a stop continues to serve while /readyz returns 503",
         .more =
             "A load balancer must notice the 503 within this time: its check interval times its "
             "number of failures, plus the timeout of one check. The other time limits of a stop "
             "start after the delay. SIGINT skips it if standard error is a terminal."},
    [VAR_STOP_GRACE] = {.name = "XCHG_STOP_GRACE",
                        .kind = KIND_TIME,
                        BOTH(stop_grace_ns),
                        .max = 60 * NS_PER_S,
                        .default_text = "100ms",
                        .what = "at a stop, how long handshakes in progress may take to complete",
                        .more = "Set it to the longest round-trip time of the clients."},
    [VAR_DRAIN_TIMEOUT] = {.name = "XCHG_DRAIN_TIMEOUT",
                           .kind = KIND_TIME,
                           BOTH(drain_timeout_ns),
                           .max = YEAR_NS,
                           .default_text = "30s",
                           .what = "at a stop, how long live connections may take to finish",
                           .more = "It counts from the signal. 0: every live connection is closed "
                                   "once XCHG_STOP_GRACE is over."},
    [VAR_LOG_LEVEL] = {.name = "XCHG_LOG_LEVEL",
                       .kind = KIND_ENUM,
                       BOTH(log_level),
                       .names = level_names,
                       .default_text = "info",
                       .what = "the least urgent level that is logged",
                       .more = "Nothing is logged per connection at info, except by XCHG_SLOW_LOG. "
                               "The lines listening, "
                               "stats and stopped are written at every level."},
    [VAR_LOG_FORMAT] = {.name = "XCHG_LOG_FORMAT",
                        .kind = KIND_ENUM,
                        BOTH(log_format),
                        .names = format_names,
                        .default_text = "logfmt",
                        .what = "format of the log lines on standard error"},
    [VAR_SLOW_LOG] =
        {.name = "XCHG_SLOW_LOG",
         .kind = KIND_TIME,
         BOTH(slow_log_ns),
         .max = 3600 * NS_PER_S,
         .default_text = "0",
         .what = "log an exchange, or a message of an endless one, that took longer; 0 = off",
         .more =
             "The value is 0 or at least 1ms. A worker logs at most 10 such lines a second. The "
             "counter slow counts all. The slow log costs 16 bytes for each connection."},
    [VAR_USER] =
        {.name = "XCHG_USER",
         .kind = KIND_USER,
         .daemon_only = true,
         .offset = offsetof(struct config, user),
         .default_text = "",
         .what = "user that the server becomes after it has bound its addresses; empty = "
                 "no change",
         .more = "A name is looked up in /etc/passwd. A number alone is also the group. "
                 "The server keeps no supplementary group. Only root can become another user."},
    [VAR_SANDBOX] =
        {.name = "XCHG_SANDBOX",
         .kind = KIND_ENUM,
         .daemon_only = true,
         FIELD(sandbox),
         .names = sandbox_names,
         .default_text =
             "auto",
         .what = "give up capabilities, files, programs and connections to other servers before "
                 "serving",
         .more =
             "auto: as far as the kernel supports it, and one warning names what is missing. on: "
             "the start fails if a part is missing. trap: as on, and a forbidden system call "
             "aborts the process, for tests. With a handler, only programs and a list of system "
             "calls are forbidden. Under a model other than pool, auto gives up capabilities only, "
             "and on and trap are faults. See docs/SECURITY.md."},
    [VAR_CORE] = {.name = "XCHG_CORE",
                  .kind = KIND_SWITCH,
                  .daemon_only = true,
                  FIELD(core),
                  .default_text = "off",
                  .what =
                      "after a change to XCHG_USER, allow core dumps, and debuggers of that user",
                  .more = "A core contains data of clients. Without XCHG_USER this variable has no "
                          "effect, and the limits of the system decide (ulimit -c)."},
    [VAR_UPGRADE] =
        {.name = "XCHG_UPGRADE",
         .kind = KIND_UPGRADE,
         .pool_only = true,
         .daemon_only = true,
         .default_text =
             "off",
         .what = "let a new process take over all connections, see docs/upgrade.md",
         .more = "off: SIGUSR2 is ignored. on: SIGUSR2 starts an upgrade. unix:/path: xchgd "
                 "--upgrade starts one, too, through this socket. It has the mode 0600 and belongs "
                 "to the user of the server. Unless off, the main thread stays outside of the "
                 "sandbox, and XCHG_SANDBOX=on and trap are faults."},
    [VAR_UPGRADE_TIMEOUT] =
        {.name = "XCHG_UPGRADE_TIMEOUT",
         .kind = KIND_TIME,
         .pool_only = true,
         .daemon_only = true,
         FIELD(upgrade_timeout_ns),
         .min = NS_PER_S,
         .max = 3600 * NS_PER_S,
         .default_text = "30s",
         .what = "how long the new process of an upgrade may take to be ready, and for a batch"},
};

const char *config_exchange_name(const struct config *config) {
  return exchange_names[config->exchange];
}

const char *config_model_name(const struct config *config) { return model_names[config->model]; }
