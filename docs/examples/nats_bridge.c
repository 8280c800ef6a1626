/*
 * nats_bridge, see nats_bridge.h:
 * publish  bridge_publish publishes here and puts a copy into a queue of at most QUEUE_MAX_BYTES.
 * thread   One thread owns the socket, sends the queue, and publishes here what NATS sends. Sending
 *          never stops reading, because NATS closes clients that do not read.
 * stop     The thread sends what is queued and waits at most LEAVE_MS until NATS has it.
 */
#include "nats_bridge.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_MAX_BYTES ((size_t)4 * 1024 * 1024)
#define PAYLOAD_MAX_BYTES ((size_t)1024 * 1024)
#define LINE_MAX_BYTES ((size_t)32 * 1024) /* a line of NATS without its payload */
#define INPUT_MAX_BYTES (LINE_MAX_BYTES + PAYLOAD_MAX_BYTES + 2)
enum { SENDS_MAX = 64 /* between two reads */, PINGS_MAX = 2, HUBS_MAX = 8, PREFIX_MAX = 64 };
enum { ANSWER_MS = 5000 /* to the first PONG */, PING_MS = 20000, MINUTE_MS = 60000 };
enum { LEAVE_MS = 1000 /* to send the rest */, BACK_OFF_MAX_MS = 5000, BACK_OFF_STEPS = 6 };

struct hub { /* a NATS server */
  struct sockaddr_storage address;
  socklen_t address_size;
  char name[80], login[256]; /* for the log; a part of CONNECT */
};

struct message { /* a publication on its way to NATS */
  struct message *next;
  size_t payload_size, size;
  char text[];
};

struct session { /* a connection to NATS */
  int fd;
  bool greeted, ready;           /* INFO has come; the first PONG has come */
  bool leaving, unsent, flushed; /* will end; output waits; the last PING is queued */
  unsigned pings;                /* without an answer */
  uint64_t ping_at, leave_at;
  char control[1024];                    /* lines that wait to be sent */
  size_t control_size, input_size, skip; /* skip: the rest of a payload that is too long */
};

static struct bridge {
  /* Constant while the thread runs. */
  struct xchg_server *server;
  char subject[PREFIX_MAX + 8]; /* "xchg.g." */
  struct hub hubs[HUBS_MAX];
  unsigned hubs_count;
  int wake; /* eventfd: the queue is no longer empty, or the bridge stops */
  pthread_t thread;

  atomic_bool stopping;
  atomic_size_t max_payload, queued_bytes; /* the latter with the current message */
  atomic_ullong dropped, too_long;         /* publications: the queue was full, over max_payload */
  pthread_mutex_t mutex;                   /* guards the queue: the next two */
  struct message *first, **last;

  /* The thread's own. */
  unsigned long long sent, received, discarded, sessions, errors;
  uint64_t report_at, error_at; /* the next lines of the log */
  const struct hub *hub;
  struct message *current; /* is being sent */
  size_t current_sent;
  struct session session;
} bridge = {.mutex = PTHREAD_MUTEX_INITIALIZER, .last = &bridge.first};
static char input[INPUT_MAX_BYTES]; /* of the session */

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Write a line to standard error, unless that would block. */
static void report(struct bridge *b, const char *level, const char *state, const char *reason) {
  char text[32];
  time_t now = time(NULL);
  struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
  strftime(text, sizeof(text), "%FT%TZ", gmtime_r(&now, &(struct tm){0}));
  if (poll(&out, 1, 0) == 1) {
    dprintf(
        STDERR_FILENO,
        "time=%s level=%s msg=nats state=%s hub=%s sent=%llu received=%llu queued_bytes=%zu "
        "dropped=%llu too_long=%llu discarded=%llu sessions=%llu errors=%llu reason=\"%.100s\"\n",
        text, level, state, b->hub != NULL ? b->hub->name : "none", b->sent, b->received,
        b->queued_bytes, b->dropped, b->too_long, b->discarded, b->sessions, b->errors, reason);
  }
}

/* ---- the queue ---- */

/* "PUB subject size\r\n", the data, "\r\n". */
static struct message *message_create(const char *subject, uint64_t group, const void *data,
                                      size_t size) {
  char line[PREFIX_MAX + 64];
  size_t line_size = (size_t)snprintf(line, sizeof(line), "PUB %s%016llx %zu\r\n", subject,
                                      (unsigned long long)group, size);
  struct message *message = malloc(sizeof(*message) + line_size + size + 2);
  if (message != NULL) {
    *message = (struct message){.payload_size = size, .size = line_size + size + 2};
    memcpy(message->text, line, line_size);
    memcpy(message->text + line_size, data, size);
    memcpy(message->text + line_size + size, "\r\n", 2);
  }
  return message;
}

int bridge_publish(uint64_t group, const void *data, size_t size) {
  struct bridge *b = &bridge;
  if (size > b->max_payload) {
    b->too_long++;
    errno = EMSGSIZE;
    return -1;
  }
  if (xchg_publish(b->server, group, data, size) == -1) {
    return -1;
  }
  struct message *message = message_create(b->subject, group, data, size);
  pthread_mutex_lock(&b->mutex);
  bool fits = message != NULL && message->size <= QUEUE_MAX_BYTES - b->queued_bytes;
  bool was_empty = b->first == NULL;
  if (fits) {
    *b->last = message;
    b->last = &message->next;
    b->queued_bytes += message->size;
  }
  pthread_mutex_unlock(&b->mutex);
  if (!fits) {
    b->dropped++;
    free(message);
  } else if (was_empty) {
    eventfd_write(b->wake, 1); /* fails only if the thread is awake */
  }
  return 0;
}

/* Make the oldest message the current one, unless there is one. */
static bool take_message(struct bridge *b) {
  pthread_mutex_lock(&b->mutex);
  if (b->current == NULL && b->first != NULL) {
    b->current = b->first;
    b->first = b->first->next;
    b->last = b->first != NULL ? b->last : &b->first;
  }
  pthread_mutex_unlock(&b->mutex);
  return b->current != NULL;
}

static void release_message(struct bridge *b) {
  b->queued_bytes -= b->current->size;
  free(b->current);
  b->current = NULL;
  b->current_sent = 0;
}

/* ---- what NATS sends: each function returns NULL, or why the session ends ---- */

static const char *control(struct session *s, const char *line) {
  size_t size = strlen(line);
  if (size > sizeof(s->control) - s->control_size) {
    return "it sends PINGs and reads no answer";
  }
  memcpy(s->control + s->control_size, line, size);
  s->control_size += size;
  return NULL;
}

static const char *ping(struct session *s) {
  s->pings++;
  s->ping_at = now_ms() + PING_MS;
  return control(s, "PING\r\n");
}

/* Send what is queued, at most LEAVE_MS long, and end the session. */
static void begin_leave(struct session *s) {
  s->leaving = true;
  s->leave_at = now_ms() + LEAVE_MS;
}

/* INFO is the first line, and comes again when something has changed. */
static const char *on_info(struct bridge *b, const char *line) {
  static const char key[] = "\"max_payload\":";
  struct session *s = &b->session;
  const char *value = strstr(line, key);
  size_t bytes = value != NULL ? strtoul(value + strlen(key), NULL, 10) : PAYLOAD_MAX_BYTES;
  b->max_payload = bytes < PAYLOAD_MAX_BYTES ? bytes : PAYLOAD_MAX_BYTES;
  if (strstr(line, "\"ldm\":true") != NULL && b->hubs_count > 1 && !s->leaving) {
    begin_leave(s); /* lame duck mode: NATS will stop, so the next hub is better */
  }
  if (s->greeted) {
    return NULL;
  }
  s->greeted = true;
  s->control_size = (size_t)snprintf(
      s->control, sizeof(s->control),
      "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":false,%s"
      "\"protocol\":1,\"lang\":\"c\",\"name\":\"xchg\",\"version\":\"%s\"}\r\nSUB %s> 1\r\n",
      b->hub->login, XCHG_VERSION, b->subject);
  return ping(s);
}

/* -ERR: logged at most once a minute. */
static void on_err(struct bridge *b, char *text) {
  b->errors++;
  if (now_ms() >= b->error_at) {
    b->error_at = now_ms() + MINUTE_MS;
    for (char *c = text; *c != '\0'; c++) {
      *c = *c >= ' ' && *c <= '~' && *c != '"' && *c != '\\' ? *c : '?';
    }
    report(b, "warn", "error", text);
  }
}

/* "MSG subject sid [reply-to] size", then ${available} bytes. ${used} += the payload, or = 0. */
static const char *on_msg(struct bridge *b, const char *line, size_t available, size_t *used) {
  const char *subject = line + strlen("MSG "), *last = strrchr(line, ' ') + 1;
  const char *data = line + *used, *group = subject + strlen(b->subject);
  size_t digits = strspn(last, "0123456789"), size = strtoul(last, NULL, 10);
  if (digits == 0 || digits > 9 || last[digits] != '\0') {
    return "a MSG has no size";
  }
  if (size > PAYLOAD_MAX_BYTES) {
    b->session.skip = size + 2;
    b->discarded++;
    return NULL;
  }
  if (available < size + 2) {
    *used = 0;
    return NULL;
  }
  if (data[size] != '\r' || data[size + 1] != '\n') {
    return "a MSG has another size";
  }
  *used += size + 2;
  bool ours = strncmp(subject, b->subject, strlen(b->subject)) == 0 &&
              strspn(group, "0123456789abcdef") == 16 && group[16] == ' ';
  bool taken = ours && xchg_publish(b->server, strtoull(group, NULL, 16), data, size) == 0;
  b->received += taken;
  b->discarded += !taken; /* also if a worker's queue is full, because reading must go on */
  return NULL;
}

/* Handle what ${size} bytes begin with. ${used} = its bytes, or 0 if more are needed. */
static const char *on_line(struct bridge *b, char *line, size_t size, size_t *used) {
  struct session *s = &b->session;
  const char *why = NULL;
  if (s->skip > 0) {
    *used = size < s->skip ? size : s->skip;
    s->skip -= *used;
    return NULL;
  }
  char *end = memchr(line, '\n', size < LINE_MAX_BYTES ? size : LINE_MAX_BYTES);
  *used = end != NULL ? (size_t)(end + 1 - line) : 0;
  if (end == NULL || end == line || end[-1] != '\r') {
    return end != NULL || size >= LINE_MAX_BYTES ? "a line has no end" : NULL;
  }
  end[-1] = '\0';
  if (strncmp(line, "INFO ", 5) == 0) {
    why = on_info(b, line);
  } else if (!s->greeted) {
    why = "it does not begin with INFO";
  } else if (strncmp(line, "MSG ", 4) == 0) {
    why = on_msg(b, line, size - *used, used);
  } else if (strcmp(line, "PING") == 0) {
    why = control(s, "PONG\r\n");
  } else if (strcmp(line, "PONG") == 0) {
    s->pings -= s->pings > 0;
    if (!s->ready) {
      s->ready = true;
      b->sessions++;
      report(b, "info", "connected", "");
    }
  } else if (strncmp(line, "-ERR ", 5) == 0) {
    on_err(b, line + 5);
  } else if (strcmp(line, "+OK") != 0) {
    why = "an unknown line";
  }
  end[-1] = '\r'; /* a MSG without its whole payload is read again */
  return why;
}

static const char *receive(struct bridge *b) {
  struct session *s = &b->session;
  ssize_t count = recv(s->fd, input + s->input_size, INPUT_MAX_BYTES - s->input_size, 0);
  if (count <= 0) {
    return count == -1 && (errno == EAGAIN || errno == EINTR) ? NULL : "the connection has ended";
  }
  s->input_size += (size_t)count;
  const char *why = NULL;
  size_t done = 0, used = 1;
  for (; why == NULL && used > 0 && done < s->input_size; done += used) {
    why = on_line(b, input + done, s->input_size - done, &used);
  }
  s->input_size -= done;
  memmove(input, input + done, s->input_size);
  return why;
}

/* Send the rest of a message, then lines, then messages, until the kernel takes no more. */
static const char *send_queued(struct bridge *b) {
  struct session *s = &b->session;
  for (unsigned i = 0; i < SENDS_MAX; i++) {
    bool lines = b->current_sent == 0 && s->control_size > 0;
    bool messages = s->ready && (b->current_sent > 0 || !s->leaving || b->stopping);
    s->unsent = lines || (messages && take_message(b));
    if (!s->unsent && (!s->leaving || s->flushed)) {
      return NULL;
    }
    if (!s->unsent) {
      s->flushed = true;
      ping(s); /* there is room; its answer comes after NATS has read everything */
      continue;
    }
    if (!lines && b->current_sent == 0 && b->current->payload_size > b->max_payload) {
      b->too_long++; /* NATS would close the connection */
      release_message(b);
      continue;
    }
    const char *data = lines ? s->control : b->current->text + b->current_sent;
    size_t size = lines ? s->control_size : b->current->size - b->current_sent;
    ssize_t count = send(s->fd, data, size, MSG_NOSIGNAL);
    if (count == -1) {
      return errno == EAGAIN || errno == EINTR ? NULL : "the connection is broken";
    }
    if (lines) {
      s->control_size -= (size_t)count;
      memmove(s->control, s->control + count, s->control_size);
    } else if ((b->current_sent += (size_t)count) == b->current->size) {
      b->sent++;
      release_message(b);
    }
  }
  return NULL;
}

/* Wait for ${events} of the socket, for a wake, or until ${until_ms}. Return: the events. */
static int wait_until(struct bridge *b, short events, uint64_t until_ms) {
  struct pollfd fds[] = {{b->session.fd, events, 0}, {b->wake, POLLIN, 0}};
  uint64_t now = now_ms();
  if (now >= b->report_at) {
    report(b, "info", b->session.ready ? "connected" : "waiting", "");
    b->report_at = now + MINUTE_MS;
  }
  until_ms = until_ms < b->report_at ? until_ms : b->report_at;
  poll(fds, 2, until_ms > now ? (int)(until_ms - now) : 0); /* a failure changes no event */
  if (fds[1].revents != 0) {
    eventfd_read(b->wake, &(eventfd_t){0});
  }
  return fds[0].revents;
}

/* Why the session ends now, or NULL. ${until_ms} becomes the time of the next decision. */
static const char *decide(struct bridge *b, uint64_t begun_ms, uint64_t *until_ms) {
  struct session *s = &b->session;
  uint64_t now = now_ms();
  if (!s->leaving && b->stopping) {
    begin_leave(s);
  }
  *until_ms = !s->ready ? begun_ms + ANSWER_MS : s->leaving ? s->leave_at : s->ping_at;
  if (!s->ready) {
    return s->leaving ? "stop" : now >= *until_ms ? "it does not answer" : NULL;
  }
  if (!s->leaving) {
    return now < s->ping_at ? NULL : s->pings >= PINGS_MAX ? "it answers no PING" : ping(s);
  }
  return now >= s->leave_at || (s->flushed && s->pings == 0) ? "it will stop" : NULL;
}

/* Connect to ${b->hub} and serve the connection. Return: why it has ended. */
static const char *run_session(struct bridge *b) {
  struct session *s = &b->session;
  const struct sockaddr *address = (const struct sockaddr *)&b->hub->address;
  const char *why = NULL;
  uint64_t begun_ms = now_ms(), until_ms = 0;
  memset(s, 0, sizeof(*s));
  s->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* if it fails: slower */
  if (connect(s->fd, address, b->hub->address_size) == -1 && errno != EINPROGRESS) {
    why = "it cannot be reached"; /* or there is no socket */
  }
  b->current_sent = 0; /* NATS has not taken a part of a message */
  while (why == NULL && (why = decide(b, begun_ms, &until_ms)) == NULL &&
         (why = send_queued(b)) == NULL) {
    short events = s->unsent ? POLLIN | POLLOUT : POLLIN;
    if ((wait_until(b, events, until_ms) & ~POLLOUT) != 0) {
      why = receive(b);
    }
  }
  close(s->fd);
  s->fd = -1;
  return why;
}

static void *run(void *argument) {
  struct bridge *b = argument;
  unsigned failures = 0;
  for (unsigned tries = 0; !b->stopping; tries++) {
    uint64_t begun_ms = now_ms();
    b->hub = &b->hubs[tries % b->hubs_count];
    const char *why = run_session(b);
    if (!b->stopping && (b->session.ready || tries == 0)) {
      report(b, "warn", "waiting", why);
    }
    failures = b->session.ready && now_ms() - begun_ms > ANSWER_MS ? 0 : failures + 1;
    b->session.ready = false;
    failures = failures < BACK_OFF_STEPS ? failures : BACK_OFF_STEPS;
    uint64_t most_ms = BACK_OFF_MAX_MS >> (BACK_OFF_STEPS - failures); /* 78, 156 ... 5000 */
    uint64_t until_ms = now_ms() + most_ms / 2 + begun_ms * 7919 % (most_ms / 2);
    while (!b->stopping && now_ms() < until_ms) {
      wait_until(b, 0, until_ms);
    }
  }
  report(b, "info", "stopped", "");
  return NULL;
}

/* nats://[user:password@]address:port, with numbers only. */
static int parse_hub(struct hub *hub, const char *url) {
  const struct addrinfo wanted = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                  .ai_socktype = SOCK_STREAM};
  struct addrinfo *found;
  char user[101], password[101], host[64], port[8];
  if (sscanf(url, "nats://%100[^:@\"\\]:%100[^@\"\\]@%79s", user, password, hub->name) == 3) {
    snprintf(hub->login, sizeof(hub->login), "\"user\":\"%s\",\"pass\":\"%s\",", user, password);
  } else if (sscanf(url, "nats://%79[^@]", hub->name) != 1) {
    return -1;
  }
  bool has_port = sscanf(hub->name, "[%63[^]]]:%7s", host, port) == 2 ||
                  sscanf(hub->name, "%63[^:]:%7s", host, port) == 2;
  if (!has_port || atoi(port) > 65535 || getaddrinfo(host, port, &wanted, &found) != 0) {
    return -1;
  }
  memcpy(&hub->address, found->ai_addr, found->ai_addrlen);
  hub->address_size = found->ai_addrlen;
  freeaddrinfo(found);
  return 0;
}

static const char *parse_environment(struct bridge *b) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  const char *urls = getenv("NATS_URL"), *prefix = getenv("NATS_PREFIX");
  char text[HUBS_MAX * 320], *rest = text;
  prefix = prefix != NULL ? prefix : "xchg";
  snprintf(text, sizeof(text), "%s", urls != NULL ? urls : "nats://127.0.0.1:4222");
  size_t size = strspn(prefix, allowed);
  if (size == 0 || size > PREFIX_MAX || prefix[size] != '\0') {
    return "NATS_PREFIX wants 1 to 64 letters, digits, - and _";
  }
  snprintf(b->subject, sizeof(b->subject), "%s.g.", prefix);
  for (char *url; (url = strsep(&rest, ",")) != NULL; b->hubs_count++) {
    if (b->hubs_count == HUBS_MAX || parse_hub(&b->hubs[b->hubs_count], url) == -1) {
      return "NATS_URL wants nats://[user:password@]ADDRESS:PORT, up to 8 of them";
    }
  }
  return NULL;
}

int bridge_start(struct xchg_server *server) {
  struct bridge *b = &bridge;
  sigset_t all, before;
  const char *why = parse_environment(b);
  b->server = server;
  b->max_payload = PAYLOAD_MAX_BYTES;
  b->report_at = now_ms() + MINUTE_MS;
  b->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread takes no signals */
  if (why == NULL && (b->wake == -1 || pthread_create(&b->thread, NULL, run, b) != 0)) {
    why = "there is no thread or no descriptor";
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (why != NULL) {
    report(b, "error", "refused", why);
  }
  return why == NULL ? 0 : -1;
}

/* No callback runs any more, so the queue does not grow. */
void bridge_stop(struct xchg_server *server) {
  struct bridge *b = &bridge;
  (void)server;
  b->stopping = true;
  eventfd_write(b->wake, 1);
  pthread_join(b->thread, NULL);
  while (take_message(b)) {
    release_message(b);
  }
  close(b->wake);
}
