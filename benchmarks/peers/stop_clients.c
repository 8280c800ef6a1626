/*
 * stop_clients: clients that connect again and again while a server is stopped, and a count of
 * those that the server lost.
 *
 *   stop_clients [-c N] [--greeting TEXT] [--message TEXT] [--answer TEXT] [--any FROM:COUNT] PORT
 *
 * Closed loop on 127.0.0.1, one thread, level-triggered epoll.  An exchange is: connect; the
 * server's greeting; our message; the server's answer; the end of the stream.  Odd clients send
 * the message as soon as they are connected, even ones after the greeting.  Every byte is compared
 * except those of --any FROM:COUNT (a date in the answer, counted from the exchange's first byte).
 *
 *   CLOSED --connect--> CONNECTING --handshake complete--> CONNECTED --exchange complete--> CLOSED
 *                           |                                  |
 *                 refused, timed out: AWAY            anything else: lost, then CLOSED
 *
 * A connected client is lost unless it gets its whole exchange.  The kinds of loss are a reset, an
 * early end of the stream, other bytes, and a wait that outlasts the server.  A client is not lost
 * if it was refused, or if its handshake was not complete when the server had gone: it would try
 * the next server.  It does not connect to this one again.
 *
 * The program prints `running` after as many exchanges as there are clients.  Its standard input
 * takes two orders.  `s`: the server is about to be stopped; the program counts the connected
 * clients and prints `counted`.  `e`: the server's process has ended; the program waits at most
 * UNTIL_LOST_MS for data in flight and prints its report, one line of JSON.
 */
#include "benchmarks/peers/peer.h"
#include "benchmarks/peers/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define UNTIL_LOST_MS 1000
#define NS_PER_MS 1000000U

enum state { CLOSED, CONNECTING, CONNECTED, AWAY };
enum loss { RESET, SHORT, WRONG, WAITING, LOSSES };
static const char *const loss_names[LOSSES] = {"reset", "short", "wrong", "waiting"};

struct client {
  int fd;
  enum state state;
  bool eager; /* sends its message before it has read the greeting */
  bool sent;
  size_t got;
};

struct crowd {
  int epoll, port, count;
  struct client *clients; /* owns */
  char *message, *wanted; /* owns; wanted: greeting and answer */
  size_t message_size, greeting_size, wanted_size;
  size_t any_from, any_count;
  bool stopping, ended;
  uint64_t exchanges, exchanges_stopping; /* in total; since the order `s` */
  uint64_t connected;                     /* when the order `s` came */
  uint64_t refused, gave_up;
  uint64_t lost[LOSSES];
};

static uint64_t now_ms(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) == -1) {
    peer_die("there is no clock");
  }
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static void leave(struct client *client, enum state state) {
  close(client->fd);
  client->fd = -1;
  client->state = state;
}

static void lose(struct crowd *crowd, struct client *client, enum loss loss) {
  crowd->lost[loss]++;
  leave(client, CLOSED);
}

/* Has the kernel completed the handshake, reported by epoll or not? */
static bool is_connected(const struct client *client) {
  struct tcp_info info;
  socklen_t size = sizeof(info);
  if (client->state == CONNECTED) {
    return true;
  }
  return client->state == CONNECTING &&
         getsockopt(client->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state != TCP_SYN_SENT && info.tcpi_state != TCP_CLOSE;
}

/* A failure is found by the next read. */
static void speak(const struct crowd *crowd, struct client *client) {
  if (!client->sent) {
    client->sent = send(client->fd, crowd->message, crowd->message_size, MSG_NOSIGNAL) ==
                   (ssize_t)crowd->message_size;
  }
}

static void begin(struct crowd *crowd, struct client *client) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
  client->state = CONNECTED;
  if (epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, client->fd, &event) == -1) {
    peer_die("cannot wait for a connection");
  }
  if (client->eager || crowd->greeting_size == 0) {
    speak(crowd, client);
  }
}

static void connect_client(struct crowd *crowd, struct client *client) {
  const int on = 1;
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons((uint16_t)crowd->port)};
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
  *client = (struct client){.state = CONNECTING, .eager = client->eager};
  client->sent = crowd->message_size == 0;
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (client->fd == -1 || setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
      epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, client->fd, &event) == -1) {
    peer_die("cannot make a connection");
  }
  if (connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) == -1 &&
      errno != EINPROGRESS) {
    if (errno != ECONNREFUSED) {
      peer_die("cannot connect");
    }
    crowd->refused++;
    leave(client, AWAY);
  }
}

/* The connect succeeded or failed.  A reset means that the connection was established before. */
static void on_connected(struct crowd *crowd, struct client *client) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) {
    peer_die("cannot ask for a connection's error");
  }
  if (error == 0) {
    begin(crowd, client);
  } else if (error == ECONNREFUSED || error == ETIMEDOUT) {
    crowd->refused++;
    leave(client, AWAY);
  } else {
    lose(crowd, client, RESET);
  }
}

/* Are ${size} bytes from offset ${at} of an exchange the expected ones? */
static bool matches(const struct crowd *crowd, size_t at, const char *data, size_t size) {
  if (at + size > crowd->wanted_size) {
    return false;
  }
  for (size_t i = 0; i < size; i++) {
    bool any = at + i >= crowd->any_from && at + i < crowd->any_from + crowd->any_count;
    if (!any && data[i] != crowd->wanted[at + i]) {
      return false;
    }
  }
  return true;
}

static void on_readable(struct crowd *crowd, struct client *client) {
  char buffer[4096];
  ssize_t size = recv(client->fd, buffer, sizeof(buffer), 0);
  if (size == -1 && errno == EAGAIN) {
    return;
  }
  if (size == -1) {
    lose(crowd, client, RESET);
  } else if (size == 0 && (client->got < crowd->wanted_size || !client->sent)) {
    lose(crowd, client, SHORT);
  } else if (size == 0) {
    crowd->exchanges++;
    crowd->exchanges_stopping += crowd->stopping;
    leave(client, CLOSED);
  } else if (!matches(crowd, client->got, buffer, (size_t)size)) {
    lose(crowd, client, WRONG);
  } else {
    client->got += (size_t)size;
    if (client->got >= crowd->greeting_size) {
      speak(crowd, client);
    }
  }
}

/* Read an order of the runner; end of file means `e`. */
static void on_order(struct crowd *crowd) {
  char order = 'e';
  if (read(STDIN_FILENO, &order, 1) == -1) {
    peer_die("cannot read the orders");
  }
  if (order == 's') {
    crowd->stopping = true;
    for (int i = 0; i < crowd->count; i++) {
      crowd->connected += is_connected(&crowd->clients[i]);
    }
    puts("counted");
    fflush(stdout);
  } else if (order == 'e') {
    crowd->ended = true;
  }
}

/* Handle the events within ${timeout_ms}; an order comes last, as it counts the clients. */
static void turn(struct crowd *crowd, int timeout_ms) {
  struct epoll_event events[EVENTS];
  bool ordered = false;
  int count = epoll_wait(crowd->epoll, events, EVENTS, timeout_ms);
  for (int i = 0; i < count; i++) {
    struct client *client = events[i].data.ptr;
    if (client == NULL) {
      ordered = true;
    } else if (client->state == CONNECTING) {
      on_connected(crowd, client);
    } else {
      on_readable(crowd, client);
    }
  }
  if (ordered) {
    on_order(crowd);
  }
}

static void run(struct crowd *crowd) {
  bool said = false;
  while (!crowd->ended) {
    for (int i = 0; i < crowd->count; i++) {
      if (crowd->clients[i].state == CLOSED) {
        connect_client(crowd, &crowd->clients[i]);
      }
    }
    turn(crowd, -1);
    if (!said && crowd->exchanges >= (uint64_t)crowd->count) {
      said = true;
      puts("running");
      fflush(stdout);
    }
  }
}

/* The server has gone: no client connects any more, and the connected ones get their last data. */
static void finish(struct crowd *crowd) {
  const uint64_t deadline_ms = now_ms() + UNTIL_LOST_MS;
  if (epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL) == -1) {
    peer_die("cannot leave the orders");
  }
  for (bool open = true; open && now_ms() < deadline_ms;) {
    turn(crowd, 1);
    open = false;
    for (int i = 0; i < crowd->count; i++) {
      struct client *client = &crowd->clients[i];
      open = open || is_connected(client);
      if (client->state == CONNECTING && !is_connected(client)) {
        crowd->gave_up++;
        leave(client, AWAY);
      }
    }
  }
  for (int i = 0; i < crowd->count; i++) {
    if (is_connected(&crowd->clients[i])) {
      lose(crowd, &crowd->clients[i], WAITING);
    }
  }
}

static void report(const struct crowd *crowd) {
  uint64_t lost = 0;
  for (int i = 0; i < LOSSES; i++) {
    lost += crowd->lost[i];
  }
  printf(
      "{\"exchanges\": %llu, \"exchanges_stopping\": %llu, \"connected\": %llu, "
      "\"refused\": %llu, \"gave_up\": %llu, \"lost\": %llu, \"kinds\": {",
      (unsigned long long)crowd->exchanges, (unsigned long long)crowd->exchanges_stopping,
      (unsigned long long)crowd->connected, (unsigned long long)crowd->refused,
      (unsigned long long)crowd->gave_up, (unsigned long long)lost);
  for (int i = 0; i < LOSSES; i++) {
    printf("%s\"%s\": %llu", i > 0 ? ", " : "", loss_names[i], (unsigned long long)crowd->lost[i]);
  }
  puts("}}");
}

enum { GREETING = 256, MESSAGE, ANSWER, ANY };
static const struct option long_options[] = {{"greeting", required_argument, NULL, GREETING},
                                             {"message", required_argument, NULL, MESSAGE},
                                             {"answer", required_argument, NULL, ANSWER},
                                             {"any", required_argument, NULL, ANY},
                                             {NULL, 0, NULL, 0}};

struct texts {
  char *greeting, *answer; /* owns */
  size_t answer_size;
};

static bool parse_option(struct crowd *crowd, struct texts *texts, int option) {
  switch (option) {
    case 'c':
      crowd->count = (int)strtol(optarg, NULL, 10);
      return crowd->count > 0;
    case GREETING:
      texts->greeting = text_unescape(optarg, &crowd->greeting_size);
      return texts->greeting != NULL;
    case MESSAGE:
      crowd->message = text_unescape(optarg, &crowd->message_size);
      return crowd->message != NULL;
    case ANSWER:
      texts->answer = text_unescape(optarg, &texts->answer_size);
      return texts->answer != NULL;
    case ANY:
      return sscanf(optarg, "%zu:%zu", &crowd->any_from, &crowd->any_count) == 2;
    default:
      return false;
  }
}

static void join_texts(struct crowd *crowd, struct texts *texts) {
  crowd->wanted_size = crowd->greeting_size + texts->answer_size;
  crowd->wanted = malloc(crowd->wanted_size + 1);
  if (crowd->wanted == NULL) {
    peer_die("no memory");
  }
  if (crowd->greeting_size > 0) {
    memcpy(crowd->wanted, texts->greeting, crowd->greeting_size);
  }
  if (texts->answer_size > 0) {
    memcpy(crowd->wanted + crowd->greeting_size, texts->answer, texts->answer_size);
  }
  free(texts->greeting);
  free(texts->answer);
}

int main(int argc, char **argv) {
  struct crowd crowd = {.count = 16};
  struct texts texts = {0};
  struct epoll_event orders = {.events = EPOLLIN, .data.ptr = NULL};
  int option;
  while ((option = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
    if (!parse_option(&crowd, &texts, option)) {
      return 64;
    }
  }
  crowd.port = optind + 1 == argc ? (int)strtol(argv[optind], NULL, 10) : 0;
  join_texts(&crowd, &texts);
  if (crowd.port <= 0 || crowd.wanted_size == 0) {
    fprintf(stderr, "stop_clients: see the head of its source for its options\n");
    return 64;
  }
  crowd.clients = calloc((size_t)crowd.count, sizeof(*crowd.clients));
  crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (crowd.clients == NULL || crowd.epoll == -1 ||
      epoll_ctl(crowd.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &orders) == -1) {
    peer_die("cannot start");
  }
  for (int i = 0; i < crowd.count; i++) {
    crowd.clients[i].eager = i % 2 == 1;
  }
  run(&crowd);
  finish(&crowd);
  report(&crowd);
  free(crowd.wanted);
  free(crowd.message);
  free(crowd.clients);
  return 0;
}
