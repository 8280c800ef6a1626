/*
 * ping_clients: clients that ping a server at a fixed rate while it is replaced by another process.
 *
 *   ping_clients [-c N] [-n N] [-R RATE] [--begin TEXT] --message TEXT --end TEXT PORT
 *
 * Open loop on 127.0.0.1, one thread, level-triggered epoll.  A ping is a message and its answer.
 * RATE pings a second go round the N resident clients of -c, which keep their connection.  Every
 * 50th ping is one of the N new clients of -n: connect, message, answer, close.  The time of a ping
 * counts from its intended start, so a stall counts for every ping that it delays.  A ping whose
 * client still waits for the last answer is skipped.
 *
 * `{id}` in the message and in the end is replaced by 16 digits, which differ in every ping.  An
 * answer is complete with --end.  Without --begin it has no other byte; with it, the answer begins
 * with that text.
 *
 *   CLOSED --ping is due--> CONNECTING --> WAITING --answer--> IDLE --ping is due--> WAITING
 *
 *   the server ends the connection    IDLE: closed; WAITING: lost; CONNECTING: refused
 *
 * A client whose connection has ended connects again when its next ping is due.
 *
 * The program prints `running` when each client has had an answer.  Its standard input takes three
 * orders.  `s`: the replacement begins; `e`: it is over; `q`: no further ping, wait at most
 * UNTIL_LOST_MS for answers, and print the report, one line of JSON.
 */
#include "benchmarks/peers/peer.h"
#include "benchmarks/peers/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define UNTIL_LOST_MS 5000
#define STARTING_MAX 128 /* clients that connect at the same time at the start */
#define NEW_EVERY 50
#define TEXT_MAX 512
#define ID "{id}"
#define ID_SIZE 16
#define NS_PER_S UINT64_C(1000000000)

enum state { CLOSED, CONNECTING, IDLE, WAITING };
enum phase { BEFORE, MOVE, AFTER, PHASES };
static const char *const phase_names[PHASES] = {"before", "move", "after"};

struct client {
  int fd;
  enum state state;
  bool is_new;
  uint64_t id, due_ns;
  size_t got;
  char answer[TEXT_MAX];
};

/* A text with at most one id in it. */
struct text {
  char *bytes; /* owns; NULL = not given */
  size_t size;
  ptrdiff_t id; /* its offset; -1 = none */
};

/* The times of pings in us. */
struct times {
  uint32_t *us; /* owns */
  size_t count, room;
};

struct crowd {
  int epoll, timer, port;
  uint32_t residents, newcomers;
  uint64_t rate;
  struct client *clients; /* owns: the residents, then the new ones */
  struct text begin, message, end;
  bool started, ended;
  uint64_t id, start_ns, ticks, next_resident, next_newcomer, waiting;
  uint64_t marks_ns[PHASES - 1]; /* when the phases after BEFORE begin */
  struct times times[PHASES][2]; /* of residents, of new clients */
  uint64_t skipped[PHASES];
  uint64_t closed, reset, cut, unanswered, wrong, refused;
};

static uint64_t now_ns(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) == -1) {
    peer_die("there is no clock");
  }
  return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- texts ---- */

static struct text parse_text(const char *argument) {
  struct text text = {.id = -1};
  text.bytes = text_unescape(argument, &text.size);
  char *id = text.bytes == NULL ? NULL : memmem(text.bytes, text.size, ID, strlen(ID));
  size_t more = id == NULL ? 0 : ID_SIZE - strlen(ID);
  if (text.bytes == NULL || text.size == 0 || text.size + more > TEXT_MAX) {
    fprintf(stderr, "ping_clients: want a text of at most %d bytes\n", TEXT_MAX);
    exit(64);
  }
  if (id != NULL) {
    text.id = id - text.bytes;
  }
  return text;
}

/* Write ${text} with ${id} to the TEXT_MAX bytes at ${bytes}. Return: the size. */
static size_t put_text(const struct text *text, uint64_t id, char *bytes) {
  if (text->id == -1) {
    memcpy(bytes, text->bytes, text->size);
    return text->size;
  }
  char digits[ID_SIZE + 1];
  size_t before = (size_t)text->id, after = text->size - before - strlen(ID);
  snprintf(digits, sizeof(digits), "%016" PRIx64, id);
  memcpy(bytes, text->bytes, before);
  memcpy(bytes + before, digits, ID_SIZE);
  memcpy(bytes + before + ID_SIZE, text->bytes + before + strlen(ID), after);
  return before + ID_SIZE + after;
}

enum verdict { MORE, RIGHT, WRONG };

static enum verdict judge(const struct crowd *crowd, const struct client *client) {
  char end[TEXT_MAX];
  size_t size = put_text(&crowd->end, client->id, end), got = client->got;
  const struct text *begin = &crowd->begin;
  if (begin->bytes == NULL) {
    bool same = got <= size && memcmp(client->answer, end, got) == 0;
    return !same ? WRONG : got == size ? RIGHT : MORE;
  }
  if (memcmp(client->answer, begin->bytes, got < begin->size ? got : begin->size) != 0) {
    return WRONG;
  }
  bool ends = got >= begin->size + size && memcmp(client->answer + got - size, end, size) == 0;
  return ends ? RIGHT : got == TEXT_MAX ? WRONG : MORE;
}

/* ---- a client ---- */

static void leave(struct crowd *crowd, struct client *client) {
  crowd->waiting -= client->state == CONNECTING || client->state == WAITING;
  close(client->fd);
  client->fd = -1;
  client->state = CLOSED;
}

/* The connection has ended with ${error}; 0 = end of the stream. */
static void on_end(struct crowd *crowd, struct client *client, int error) {
  if (client->state == CONNECTING) {
    crowd->refused++;
  } else if (client->state == IDLE) {
    crowd->closed++;
  } else if (error != 0) {
    crowd->reset++;
  } else {
    crowd->cut++;
  }
  leave(crowd, client);
}

static void watch(struct crowd *crowd, struct client *client, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = client};
  if (epoll_ctl(crowd->epoll, operation, client->fd, &event) == -1) {
    peer_die("cannot wait for a connection");
  }
}

static void speak(struct crowd *crowd, struct client *client) {
  char message[TEXT_MAX];
  size_t size = put_text(&crowd->message, client->id, message);
  client->got = 0;
  if (send(client->fd, message, size, MSG_NOSIGNAL) == -1) { /* a new buffer has room for it */
    on_end(crowd, client, errno);
  }
}

static void open_client(struct crowd *crowd, struct client *client) {
  const int on = 1;
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons((uint16_t)crowd->port)};
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (client->fd == -1 || setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1) {
    peer_die("cannot open a client");
  }
  client->state = CONNECTING;
  if (connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) == -1 &&
      errno != EINPROGRESS) {
    on_end(crowd, client, errno);
    return;
  }
  watch(crowd, client, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Begin the ping that was due at ${due_ns}. */
static void ping(struct crowd *crowd, struct client *client, uint64_t due_ns) {
  client->id = ++crowd->id;
  client->due_ns = due_ns;
  crowd->waiting++;
  if (client->state == CLOSED) {
    open_client(crowd, client);
  } else {
    client->state = WAITING;
    speak(crowd, client);
  }
}

static enum phase phase_of(const struct crowd *crowd, uint64_t due_ns) {
  enum phase phase = BEFORE;
  while (phase < PHASES - 1 && crowd->marks_ns[phase] != 0 && due_ns >= crowd->marks_ns[phase]) {
    phase++;
  }
  return phase;
}

static void record(struct crowd *crowd, const struct client *client) {
  struct times *times = &crowd->times[phase_of(crowd, client->due_ns)][client->is_new];
  if (times->count == times->room) {
    times->room = times->room == 0 ? 4096 : times->room * 2;
    times->us = realloc(times->us, times->room * sizeof(*times->us));
    if (times->us == NULL) {
      peer_die("no memory");
    }
  }
  times->us[times->count++] = (uint32_t)((now_ns() - client->due_ns) / 1000);
}

static void on_answer(struct crowd *crowd, struct client *client) {
  if (crowd->started) {
    record(crowd, client);
  }
  if (client->is_new) {
    leave(crowd, client);
  } else {
    client->state = IDLE;
    crowd->waiting--;
  }
}

static void on_readable(struct crowd *crowd, struct client *client) {
  ssize_t size =
      recv(client->fd, client->answer + client->got, sizeof(client->answer) - client->got, 0);
  if (size == -1 && errno == EAGAIN) {
    return;
  }
  if (size <= 0) {
    on_end(crowd, client, size == 0 ? 0 : errno);
    return;
  }
  client->got += (size_t)size;
  enum verdict verdict = client->state == WAITING ? judge(crowd, client) : WRONG;
  if (verdict == RIGHT) {
    on_answer(crowd, client);
  } else if (verdict == WRONG) {
    crowd->wrong++;
    leave(crowd, client);
  }
}

static void on_connected(struct crowd *crowd, struct client *client) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1 || error != 0) {
    on_end(crowd, client, error);
    return;
  }
  client->state = WAITING;
  watch(crowd, client, EPOLL_CTL_MOD, EPOLLIN);
  speak(crowd, client);
}

/* ---- all clients ---- */

/* Begin the pings that are due. */
static void on_timer(struct crowd *crowd) {
  uint64_t due = 0;
  if (read(crowd->timer, &due, sizeof(due)) != sizeof(due)) {
    return; /* EAGAIN */
  }
  for (; due > 0; due--) {
    uint64_t due_ns = crowd->start_ns + ++crowd->ticks * NS_PER_S / crowd->rate;
    bool is_new = crowd->newcomers > 0 && crowd->ticks % NEW_EVERY == 0;
    struct client *client =
        is_new ? &crowd->clients[crowd->residents + crowd->next_newcomer++ % crowd->newcomers]
               : &crowd->clients[crowd->next_resident++ % crowd->residents];
    if (client->state == CONNECTING || client->state == WAITING) {
      crowd->skipped[phase_of(crowd, due_ns)]++;
    } else {
      ping(crowd, client, due_ns);
    }
  }
}

/* Read an order of the runner; end of file means `q`. */
static void on_order(struct crowd *crowd) {
  char order = 'q';
  if (read(STDIN_FILENO, &order, 1) == -1) {
    peer_die("cannot read the orders");
  }
  if (order == 's') {
    crowd->marks_ns[0] = now_ns();
  } else if (order == 'e') {
    crowd->marks_ns[1] = now_ns();
  }
  crowd->ended = order == 'q';
}

/* Handle the events within ${timeout_ms}. */
static void turn(struct crowd *crowd, int timeout_ms) {
  struct epoll_event events[EVENTS];
  int count = epoll_wait(crowd->epoll, events, EVENTS, timeout_ms);
  for (int i = 0; i < count; i++) {
    struct client *client = events[i].data.ptr;
    if (client == NULL) {
      on_order(crowd);
    } else if ((void *)client == (void *)crowd) {
      on_timer(crowd);
    } else if (client->state == CONNECTING) {
      on_connected(crowd, client);
    } else if (client->state != CLOSED) { /* else a ping before this event has found the end */
      on_readable(crowd, client);
    }
  }
}

/* Wait until at most ${most} answers are missing, or until ${deadline_ns}. */
static void settle(struct crowd *crowd, uint64_t most, uint64_t deadline_ns) {
  while (crowd->waiting > most && now_ns() < deadline_ns) {
    turn(crowd, 10);
  }
}

/* Each client has an answer; then the schedule begins. */
static void start(struct crowd *crowd) {
  const uint32_t count = crowd->residents + crowd->newcomers;
  const uint64_t step_ns = NS_PER_S / crowd->rate;
  const struct itimerspec interval = {
      .it_interval = {(time_t)(step_ns / NS_PER_S), (long)(step_ns % NS_PER_S)},
      .it_value = {(time_t)(step_ns / NS_PER_S), (long)(step_ns % NS_PER_S)}};
  for (uint32_t i = 0; i < count; i++) {
    crowd->clients[i].fd = -1;
    crowd->clients[i].is_new = i >= crowd->residents;
    ping(crowd, &crowd->clients[i], 0);
    settle(crowd, STARTING_MAX, UINT64_MAX);
  }
  settle(crowd, 0, UINT64_MAX);
  if (crowd->closed + crowd->reset + crowd->cut + crowd->wrong + crowd->refused > 0) {
    fprintf(stderr, "ping_clients: the server does not serve all clients\n");
    exit(1);
  }
  crowd->started = true;
  crowd->start_ns = now_ns();
  if (timerfd_settime(crowd->timer, 0, &interval, NULL) == -1) {
    peer_die("cannot set the timer");
  }
  puts("running");
  fflush(stdout);
}

static void finish(struct crowd *crowd) {
  if (epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL) == -1 ||
      epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, crowd->timer, NULL) == -1) {
    peer_die("cannot leave the orders");
  }
  settle(crowd, 0, now_ns() + UNTIL_LOST_MS * (NS_PER_S / 1000));
  crowd->unanswered = crowd->waiting;
}

/* ---- the report ---- */

static int compare(const void *a, const void *b) {
  const uint32_t *left = a, *right = b;
  return (*left > *right) - (*left < *right);
}

static void print_times(const char *name, struct times *times) {
  const size_t count = times->count;
  if (count > 0) {
    qsort(times->us, count, sizeof(*times->us), compare);
  }
#define QUANTILE(percent) (count == 0 ? 0 : times->us[(count * (percent) + 99) / 100 - 1])
  printf("\"%s\": {\"answered\": %zu, \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u}, ", name,
         count, QUANTILE(50), QUANTILE(99), QUANTILE(100));
#undef QUANTILE
  free(times->us);
}

static void report(struct crowd *crowd) {
  putchar('{');
  for (int i = 0; i < PHASES; i++) {
    printf("\"%s\": {", phase_names[i]);
    print_times("residents", &crowd->times[i][0]);
    print_times("newcomers", &crowd->times[i][1]);
    printf("\"skipped\": %" PRIu64 "}, ", crowd->skipped[i]);
  }
  printf("\"closed\": %" PRIu64 ", \"reset\": %" PRIu64 ", \"cut\": %" PRIu64
         ", \"unanswered\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"refused\": %" PRIu64 "}\n",
         crowd->closed, crowd->reset, crowd->cut, crowd->unanswered, crowd->wrong, crowd->refused);
}

/* ---- arguments ---- */

enum { BEGIN = 256, MESSAGE, END };
static const struct option long_options[] = {{"begin", required_argument, NULL, BEGIN},
                                             {"message", required_argument, NULL, MESSAGE},
                                             {"end", required_argument, NULL, END},
                                             {NULL, 0, NULL, 0}};

static bool parse_option(struct crowd *crowd, int option) {
  switch (option) {
    case 'c':
      crowd->residents = (uint32_t)strtoul(optarg, NULL, 10);
      return crowd->residents > 0;
    case 'n':
      crowd->newcomers = (uint32_t)strtoul(optarg, NULL, 10);
      return true;
    case 'R':
      crowd->rate = strtoul(optarg, NULL, 10);
      return crowd->rate > 0 && crowd->rate <= NS_PER_S;
    case BEGIN:
      crowd->begin = parse_text(optarg);
      return true;
    case MESSAGE:
      crowd->message = parse_text(optarg);
      return true;
    case END:
      crowd->end = parse_text(optarg);
      return true;
    default:
      return false;
  }
}

static void open_crowd(struct crowd *crowd) {
  struct epoll_event orders = {.events = EPOLLIN, .data.ptr = NULL};
  struct epoll_event timer = {.events = EPOLLIN, .data.ptr = crowd};
  (void)peer_raise_descriptors(); /* too few are found by the first socket that fails */
  crowd->clients = calloc((size_t)crowd->residents + crowd->newcomers, sizeof(*crowd->clients));
  crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
  crowd->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (crowd->clients == NULL || crowd->epoll == -1 || crowd->timer == -1 ||
      epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &orders) == -1 ||
      epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, crowd->timer, &timer) == -1) {
    peer_die("cannot start");
  }
}

int main(int argc, char **argv) {
  struct crowd crowd = {.residents = 100, .rate = 1000};
  int option;
  while ((option = getopt_long(argc, argv, "c:n:R:", long_options, NULL)) != -1) {
    if (!parse_option(&crowd, option)) {
      return 64;
    }
  }
  crowd.port = optind + 1 == argc ? (int)strtol(argv[optind], NULL, 10) : 0;
  if (crowd.port <= 0 || crowd.message.bytes == NULL || crowd.end.bytes == NULL) {
    fprintf(stderr, "ping_clients: see the head of its source for its options\n");
    return 64;
  }
  open_crowd(&crowd);
  start(&crowd);
  while (!crowd.ended) {
    turn(&crowd, -1);
  }
  finish(&crowd);
  report(&crowd);
  free(crowd.begin.bytes);
  free(crowd.message.bytes);
  free(crowd.end.bytes);
  free(crowd.clients);
  return 0;
}
