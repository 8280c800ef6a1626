/*
 * config_table: THE table of all variables.
 *
 * A variable exists once it has a row here (and an enum config_var): the parser, the faults, the
 * help, --explain, docs/configuration.md and the manual page all come from this file, so that none
 * of them can tell another story.  Constant; any thread may read it.
 *
 * Ends of ranges that no rule outside gives are generous on purpose: a time-out may be a year, what
 * a person types by mistake seldom is.  None is so large that a sum of two overflows.
 */
#include "core/config_table.h"

#include <assert.h>

#define YEAR_NS (UINT64_C(365) * 24 * 3600 * NS_PER_S)
#define KIB UINT64_C(1024)
#define GIB (KIB * KIB * KIB)

#define SIZE_OF(type, member) sizeof(((struct type *)0)->member)

/* 0, where the member has one size in both structs: the same bytes are copied between them. */
#define SAME_SIZE(member)                                                                        \
  (0 * sizeof(struct {                                                                           \
     static_assert(SIZE_OF(config, member) == SIZE_OF(xchg_config, member), "one size: copied"); \
     char unused;                                                                                \
   }))

/* A number of struct config alone, one of struct xchg_config too, and a list, there a text. */
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
static const char *const format_names[] = {"logfmt", "json", NULL};

/* What the presets greet, line, echo and discard say, in this order. */
static const char *const greetings[] = {"Message from server", "none", "none", "none"};
static const char *const frames[] = {"nul", "line", "raw", "raw"};
static const char *const replies[] = {"none", "echo", "echo", "none"};
static const char *const messages[] = {"1", "1", "0", "0"};

const struct config_row config_rows[VAR_COUNT] = {
    [VAR_EXCHANGE] = {.name = "XCHG_EXCHANGE",
                      .kind = KIND_ENUM,
                      FIELD(exchange),
                      .names = exchange_names,
                      .standard = "greet",
                      .what = "the message exchange: sets the defaults of the next four",
                      .more =
                          "greet says \"Message from server\" and takes one message; line echoes "
                          "one line; echo is RFC 862, discard RFC 863."},
    [VAR_GREETING] = {.name = "XCHG_GREETING",
                      .kind = KIND_GREETING,
                      .by_exchange = greetings,
                      .what = "what the server says first, framed as a message",
                      .more = "text:none is the word none. A text that the frame cannot carry is a "
                              "fault."},
    [VAR_FRAME] = {.name = "XCHG_FRAME",
                   .kind = KIND_FRAME,
                   .min = 1,
                   .max = GIB,
                   .by_exchange = frames,
                   .what = "how bytes become messages",
                   .more =
                       "raw: whatever a read returned; nul: up to a 0 byte; line: up to LF, a CR "
                       "before it belongs to the terminator; u16, u32: behind a big-endian length; "
                       "fixed:N: always N bytes."},
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
                      .what = "messages of a connection, then the server closes; 0 = no end"},
    [VAR_MAX_MESSAGE] = {.name = "XCHG_MAX_MESSAGE",
                         .kind = KIND_SIZE,
                         BOTH(max_message_bytes),
                         .min = 1,
                         .max = GIB,
                         .standard = "64KiB",
                         .what = "longest message, terminator or length apart; a longer one closes",
                         .more = "Under XCHG_FRAME=raw it bounds a read, and nothing is too long."},
    [VAR_HANDLER] = {.name = "XCHG_HANDLER",
                     .kind = KIND_PATH,
                     FIELD(handler),
                     .standard = "",
                     .what = "a handler in a shared object, in place of the exchange; empty = none",
                     .more = "With it XCHG_EXCHANGE, XCHG_GREETING, XCHG_FRAME, XCHG_REPLY and "
                             "XCHG_MESSAGES are faults; XCHG_MAX_MESSAGE holds where the handler "
                             "sets no limit."},
    [VAR_LISTEN] = {.name = "XCHG_LISTEN",
                    .kind = KIND_LISTEN,
                    TEXT(listen),
                    .standard = ":7000",
                    .what = "where to listen: a list; port 0 = any, the log says which",
                    .more =
                        ":port is every address, IPv6 and IPv4. Addresses are numeric. A stale "
                        "socket file is replaced. Sockets passed by LISTEN_FDS replace the list."},
    [VAR_BACKLOG] = {.name = "XCHG_BACKLOG",
                     .kind = KIND_INTEGER,
                     BOTH(backlog),
                     .min = 1,
                     .max = INT32_MAX,
                     .standard = "4096",
                     .what = "connections that may wait to be accepted",
                     .more = "The kernel clamps it to net.core.somaxconn; a warning says so."},
    [VAR_REUSEPORT] = {.name = "XCHG_REUSEPORT",
                       .kind = KIND_SWITCH,
                       BOTH(reuseport),
                       .standard = "off",
                       .what = "let several servers listen on one address (SO_REUSEPORT)"},
    [VAR_NODELAY] = {.name = "XCHG_NODELAY",
                     .kind = KIND_SWITCH,
                     BOTH(nodelay),
                     .standard = "on",
                     .what = "send small segments at once (TCP_NODELAY)"},
    [VAR_KEEPALIVE] = {.name = "XCHG_KEEPALIVE",
                       .kind = KIND_SWITCH,
                       BOTH(keepalive),
                       .standard = "on",
                       .what = "let the kernel probe silent peers (SO_KEEPALIVE)"},
    [VAR_DEFER_ACCEPT] =
        {.name = "XCHG_DEFER_ACCEPT",
         .kind = KIND_INTEGER,
         BOTH(defer_accept_s),
         .max = 86400,
         .standard = "0",
         .what = "seconds to wait for a client's first bytes before accepting; 0 = off",
         .more = "TCP_DEFER_ACCEPT of tcp(7). A fault with a greeting: the client "
                 "would wait for it."},
    [VAR_FASTOPEN] = {.name = "XCHG_FASTOPEN",
                      .kind = KIND_INTEGER,
                      BOTH(fastopen),
                      .max = 65535,
                      .standard = "0",
                      .what = "TCP Fast Open requests that may wait; 0 = off"},
    [VAR_SNDBUF] = {.name = "XCHG_SNDBUF",
                    .kind = KIND_SIZE,
                    BOTH(sndbuf_bytes),
                    .max = GIB,
                    .standard = "0",
                    .what =
                        "the kernel's send buffer of a connection (SO_SNDBUF); 0 = its own choice"},
    [VAR_MODEL] = {.name = "XCHG_MODEL",
                   .kind = KIND_ENUM,
                   FIELD(model),
                   .names = model_names,
                   .standard = "pool",
                   .what = "where connections run",
                   .more =
                       "pool: many on each of a fixed number of threads; iterative: one at a time; "
                       "fork: a process each; thread: a thread each."},
    [VAR_WORKERS] = {.name = "XCHG_WORKERS",
                     .kind = KIND_INTEGER,
                     .pool_only = true,
                     BOTH(workers),
                     .min = 1,
                     .max = CONFIG_WORKERS_MAX,
                     .derived = "the CPUs this process may use",
                     .what = "threads that run connections",
                     .more =
                         "The default regards the CPU affinity and a cgroup's quota, rounded up."},
    [VAR_QUEUE] = {.name = "XCHG_QUEUE",
                   .kind = KIND_INTEGER,
                   .pool_only = true,
                   BOTH(queue),
                   .min = 1,
                   .max = 1048576,
                   .standard = "1024",
                   .what = "capacity of a worker's hand-off queue, rounded up to a power of two"},
    [VAR_DISPATCH] = {.name = "XCHG_DISPATCH",
                      .kind = KIND_ENUM,
                      .pool_only = true,
                      BOTH(dispatch),
                      .names = dispatch_names,
                      .standard = "least",
                      .what = "which worker gets a connection",
                      .more = "least: among those with an empty queue the one with the fewest live "
                              "connections. round-robin: in turn, past a worker whose queue is not "
                              "empty while another's is."},
    [VAR_PIN] = {.name = "XCHG_PIN",
                 .kind = KIND_SWITCH,
                 .pool_only = true,
                 BOTH(pin),
                 .standard = "off",
                 .what = "pin each worker to a CPU"},
    [VAR_SPIN] = {.name = "XCHG_SPIN",
                  .kind = KIND_TIME,
                  .pool_only = true,
                  BOTH(spin_ns),
                  .max = NS_PER_S,
                  .standard = "0",
                  .what = "how long an idle worker polls before it sleeps"},
    [VAR_OFFLOAD_THREADS] = {.name = "XCHG_OFFLOAD_THREADS",
                             .kind = KIND_INTEGER,
                             BOTH(offload_threads),
                             .max = 1024,
                             .standard = "4",
                             .what = "threads for a handler's blocking work; 0 = none",
                             .more = "Started when a handler first asks for one."},
    [VAR_WATCHDOG] = {.name = "XCHG_WATCHDOG",
                      .kind = KIND_TIME,
                      BOTH(watchdog_ns),
                      .max = YEAR_NS,
                      .standard = "100ms",
                      .what = "longest time that a handler may hold its worker unnamed; 0 = off",
                      .more = "A longer one is named in the log, once an episode, and new "
                              "connections avoid its worker meanwhile."},
    [VAR_MAX_CONNECTIONS] =
        {.name = "XCHG_MAX_CONNECTIONS",
         .kind = KIND_INTEGER,
         BOTH(max_connections),
         .min = 1,
         .max = CONFIG_CONNECTIONS_MAX,
         .derived = "what RLIMIT_NOFILE holds, less a reserve",
         .what = "live connections at a time",
         .more = "RLIMIT_NOFILE is raised to its hard limit first; the reserve is what the server "
                 "itself needs: 20, one a listener and two a worker. More is a fault. Outside "
                 "XCHG_MODEL=pool the default is 1024, or what the limit holds."},
    [VAR_OVERLOAD] = {.name = "XCHG_OVERLOAD",
                      .kind = KIND_ENUM,
                      BOTH(overload),
                      .names = overload_names,
                      .standard = "wait",
                      .what =
                          "at the limit or with all queues full: leave clients waiting, or close",
                      .more = "wait leaves them in the backlog; refuse accepts and closes."},
    [VAR_MAX_PER_IP] = {.name = "XCHG_MAX_PER_IP",
                        .kind = KIND_INTEGER,
                        BOTH(max_per_ip),
                        .max = INT32_MAX,
                        .standard = "0",
                        .what =
                            "live connections of one client address (IPv6: one /64); 0 = no limit",
                        .more = "Not for UNIX sockets."},
    [VAR_ALLOW] = {.name = "XCHG_ALLOW",
                   .kind = KIND_BLOCKS,
                   TEXT(allow),
                   .standard = "",
                   .what = "who may connect; empty = everybody",
                   .more =
                       "Host bits are masked, IPv4-mapped addresses match as IPv4. Not for UNIX "
                       "sockets."},
    [VAR_DENY] = {.name = "XCHG_DENY",
                  .kind = KIND_BLOCKS,
                  TEXT(deny),
                  .standard = "",
                  .what = "who may not connect; wins over XCHG_ALLOW",
                  .more = "Not for UNIX sockets."},
    [VAR_MAX_PENDING] = {.name = "XCHG_MAX_PENDING",
                         .kind = KIND_SIZE,
                         BOTH(max_pending_bytes),
                         .min = 4 * KIB,
                         .max = GIB,
                         .standard = "256KiB",
                         .what = "output queued for a peer before reading from it stops",
                         .more = "The bound is this plus one reply."},
    [VAR_IDLE_TIMEOUT] = {.name = "XCHG_IDLE_TIMEOUT",
                          .kind = KIND_TIME,
                          BOTH(idle_timeout_ns),
                          .max = YEAR_NS,
                          .standard = "60s",
                          .what = "longest silence of a connection; 0 = off",
                          .more =
                              "From the last byte read or written; prolonged only while output is "
                              "unacknowledged and keeps being acknowledged."},
    [VAR_MESSAGE_TIMEOUT] =
        {.name = "XCHG_MESSAGE_TIMEOUT",
         .kind = KIND_TIME,
         BOTH(message_timeout_ns),
         .max = YEAR_NS,
         .standard = "10s",
         .what = "longest time from a message's first byte to its last; 0 = off",
         .more = "For the first message of a counted exchange, from the accept. The "
                 "clock stands while the server itself does not read."},
    [VAR_WRITE_TIMEOUT] = {.name = "XCHG_WRITE_TIMEOUT",
                           .kind = KIND_TIME,
                           BOTH(write_timeout_ns),
                           .max = YEAR_NS,
                           .standard = "10s",
                           .what =
                               "longest time that output waits while the peer takes none; 0 = off"},
    [VAR_MAX_LIFETIME] = {.name = "XCHG_MAX_LIFETIME",
                          .kind = KIND_TIME,
                          BOTH(max_lifetime_ns),
                          .max = YEAR_NS,
                          .standard = "0",
                          .what = "age at which a connection ends as at a stop; 0 = off",
                          .more =
                              "Shortened at random by up to 10 %. What has begun is finished and "
                              "answered; cut after XCHG_DRAIN_TIMEOUT."},
    [VAR_LINGER] = {.name = "XCHG_LINGER",
                    .kind = KIND_TIME,
                    BOTH(linger_ns),
                    .max = YEAR_NS,
                    .standard = "2s",
                    .what = "longest drain of a peer's input at a close; 0 = close at once",
                    .more =
                        "So that unread input cannot turn the close into a reset that destroys the "
                        "last reply. 0 is for clients known to send nothing more."},
    [VAR_STOP_GRACE] = {.name = "XCHG_STOP_GRACE",
                        .kind = KIND_TIME,
                        BOTH(stop_grace_ns),
                        .max = 60 * NS_PER_S,
                        .standard = "100ms",
                        .what = "at a stop, how long handshakes in flight may complete",
                        .more = "Set it to the clients' worst round trip."},
    [VAR_DRAIN_TIMEOUT] =
        {.name = "XCHG_DRAIN_TIMEOUT",
         .kind = KIND_TIME,
         BOTH(drain_timeout_ns),
         .max = YEAR_NS,
         .standard = "30s",
         .what = "at a stop, how long live exchanges may take to finish",
         .more = "Counted from the signal. 0: once XCHG_STOP_GRACE is over everything "
                 "live is closed."},
    [VAR_LOG_LEVEL] = {.name = "XCHG_LOG_LEVEL",
                       .kind = KIND_ENUM,
                       BOTH(log_level),
                       .names = level_names,
                       .standard = "info",
                       .what = "the least urgent line that is logged",
                       .more =
                           "Nothing is logged per connection at info. The lines listening, stats "
                           "and stopped are written at every level."},
    [VAR_LOG_FORMAT] = {.name = "XCHG_LOG_FORMAT",
                        .kind = KIND_ENUM,
                        BOTH(log_format),
                        .names = format_names,
                        .standard = "logfmt",
                        .what = "how lines are written to standard error"},
};
