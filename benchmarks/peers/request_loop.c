/*
 * request_loop: a load generator for servers with their own protocols (memcached, Redis, nginx,
 * HAProxy), and for the baselines and xchgd with the same bytes.  It sends fixed bytes and expects
 * fixed bytes.  For everything else there is xchg-bench.
 *
 *   request_loop [-c N] [-p N] [-k] [-w S] [-d S] [-n N] [--pid N] [--json FILE]
 *                [--any FROM:COUNT] [--turn FROM:DIGITS:COUNT] --request TEXT --answer TEXT PORT
 *
 * Closed loop on 127.0.0.1, one thread, level-triggered epoll.  Every answer is compared byte by
 * byte.
 *
 *   --any    COUNT bytes from FROM may differ (a date)
 *   -p       N requests leave in one send; an exchange ends when its answer is complete, and its
 *            latency counts from that send
 *   -k       one exchange per connection: connect, request, answer, close; with an empty request
 *            the server closes, and the end of the stream completes the exchange
 *   --turn   DIGITS bytes from FROM of each request are a number that cycles from 0 to COUNT - 1 (a
 *            key)
 *
 * The report has those keys of xchg-bench's report that the runner reads.
 */
#include "benchmarks/xchg-bench/hdr_histogram.h"
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

#define EVENTS 256
#define NS 1000000000.0

struct plan {
  int connections, pipeline, port, pid;
  bool once;      /* one exchange per connection */
  uint64_t count; /* end after this many exchanges; 0 = by time */
  double warmup_s, seconds;
  const char *json;
  char *request, *answer; /* owns; the request is repeated pipeline times */
  size_t request_size, answer_size;
  size_t any_from, any_count; /* bytes of the answer that may differ */
  size_t turn_from, turn_digits;
  unsigned turn_count; /* 0 = all requests are equal */
};

struct client {
  int fd;
  size_t got;        /* bytes of the answers in flight */
  uint64_t start_ns; /* when these were requested */
};

struct load {
  struct plan plan;
  int epoll;
  struct client *clients;        /* owns */
  struct hdr_histogram *latency; /* owns */
  uint64_t exchanges, wrong, reset, bytes_in, bytes_out;
  unsigned turn; /* the number of the next request */
  char buffer[PEER_BUFFER_SIZE];
};

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now) == -1) {
    return 0;
  }
  return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void fatal(const char *what) {
  fprintf(stderr, "request_loop: %s\n", what);
  exit(1);
}

/* Write the next number into each request before it is sent. */
static void turn_requests(struct load *load) {
  struct plan *plan = &load->plan;
  for (int i = 0; i < plan->pipeline; i++) {
    char *digits = plan->request + (size_t)i * plan->request_size + plan->turn_from;
    unsigned number = load->turn;
    for (size_t at = plan->turn_digits; at > 0; at--, number /= 10) {
      digits[at - 1] = (char)('0' + number % 10);
    }
    load->turn = load->turn + 1 == plan->turn_count ? 0 : load->turn + 1;
  }
}

static void send_requests(struct load *load, struct client *client) {
  size_t size = load->plan.request_size * (size_t)load->plan.pipeline;
  client->got = 0;
  if (load->plan.turn_count > 0) {
    turn_requests(load);
  }
  if (size > 0 && send(client->fd, load->plan.request, size, MSG_NOSIGNAL) != (ssize_t)size) {
    load->reset++;
  }
  load->bytes_out += size;
}

static void open_client(struct load *load, struct client *client) {
  const int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)load->plan.port)};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
  client->start_ns = clock_ns(CLOCK_MONOTONIC);
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  /* On loopback, connect waits only for room in the server's backlog. */
  if (client->fd == -1 || setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
      connect(client->fd, (struct sockaddr *)&address, sizeof(address)) == -1 ||
      epoll_ctl(load->epoll, EPOLL_CTL_ADD, client->fd, &event) == -1) {
    fatal("cannot connect");
  }
  send_requests(load, client);
}

/* Compare ${size} bytes, from offset ${at} of the answers in flight. */
static bool matches(const struct plan *plan, size_t at, const char *data, size_t size) {
  while (size > 0) {
    size_t from = at % plan->answer_size, end = plan->answer_size;
    bool any = from >= plan->any_from && from < plan->any_from + plan->any_count;
    if (any) {
      end = plan->any_from + plan->any_count;
    } else if (from < plan->any_from) {
      end = plan->any_from;
    }
    size_t length = end - from < size ? end - from : size;
    if (!any && memcmp(data, plan->answer + from, length) != 0) {
      return false;
    }
    at += length;
    data += length;
    size -= length;
  }
  return true;
}

static void reopen(struct load *load, struct client *client) {
  close(client->fd);
  open_client(load, client);
}

static void complete(struct load *load, struct client *client, uint64_t now_ns, size_t count) {
  load->exchanges += count;
  for (size_t i = 0; i < count; i++) {
    hdr_record(load->latency, now_ns - client->start_ns);
  }
}

/* The end of the stream; expected only after the answer to an empty request. */
static void on_end(struct load *load, struct client *client, ssize_t size) {
  const struct plan *plan = &load->plan;
  if (size == 0 && plan->once && plan->request_size == 0 && client->got == plan->answer_size) {
    complete(load, client, clock_ns(CLOCK_MONOTONIC), 1);
  } else {
    load->reset++;
  }
  if (load->reset > 1000) {
    fatal("the server ends connections");
  }
  reopen(load, client);
}

static void on_readable(struct load *load, struct client *client) {
  const struct plan *plan = &load->plan;
  size_t wanted = plan->answer_size * (size_t)plan->pipeline;
  ssize_t size = recv(client->fd, load->buffer, sizeof(load->buffer), 0);
  if (size <= 0) {
    on_end(load, client, size);
    return;
  }
  size_t got = client->got + (size_t)size;
  load->bytes_in += (size_t)size;
  if (got > wanted || !matches(plan, client->got, load->buffer, (size_t)size)) {
    load->wrong++;
    fatal("a wrong answer");
  }
  size_t before = client->got / plan->answer_size;
  client->got = got;
  if (plan->once && plan->request_size == 0) {
    return; /* the end of the stream completes the exchange */
  }
  uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
  complete(load, client, now_ns, got / plan->answer_size - before);
  if (got < wanted) {
    return;
  }
  if (plan->once) {
    reopen(load, client);
  } else {
    client->start_ns = now_ns;
    send_requests(load, client);
  }
}

static void run_until(struct load *load, uint64_t end_ns) {
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(load->epoll, events, EVENTS, 100);
    for (int i = 0; i < count; i++) {
      on_readable(load, events[i].data.ptr);
    }
    if (clock_ns(CLOCK_MONOTONIC) >= end_ns ||
        (load->plan.count > 0 && load->exchanges >= load->plan.count)) {
      return;
    }
  }
}

static void report(const struct load *load, double seconds, double client_s, double server_s) {
  double exchanges = load->exchanges > 0 ? (double)load->exchanges : 1;
  const struct hdr_histogram *hist = load->latency;
  FILE *out = load->plan.json == NULL ? stdout : fopen(load->plan.json, "w");
  if (out == NULL) {
    fatal("cannot write the report");
  }
  fprintf(out,
          "{\"schema\": 1, \"target\": \"127.0.0.1:%d\", \"seconds\": %.6f, \"exchanges\": %llu, "
          "\"rate\": %.3f, \"bytes_in\": %llu, \"bytes_out\": %llu, "
          "\"errors\": {\"reset\": %llu, \"wrong\": %llu}, "
          "\"latency_us\": {\"count\": %llu, \"mean\": %.3f, \"p50\": %.3f, \"p90\": %.3f, "
          "\"p99\": %.3f, \"p99_9\": %.3f, \"max\": %.3f}, ",
          load->plan.port, seconds, (unsigned long long)load->exchanges,
          (double)load->exchanges / seconds, (unsigned long long)load->bytes_in,
          (unsigned long long)load->bytes_out, (unsigned long long)load->reset,
          (unsigned long long)load->wrong, (unsigned long long)hist->count, hdr_mean(hist) / 1e3,
          (double)hdr_percentile(hist, 50) / 1e3, (double)hdr_percentile(hist, 90) / 1e3,
          (double)hdr_percentile(hist, 99) / 1e3, (double)hdr_percentile(hist, 99.9) / 1e3,
          (double)hdr_percentile(hist, 100) / 1e3);
  fprintf(out, "\"client\": {\"cpu_us_per_exchange\": %.4f, \"utilisation\": %.4f}, ",
          client_s * 1e6 / exchanges, client_s / seconds);
  if (load->plan.pid > 0) {
    fprintf(out, "\"server\": {\"cpu_us_per_exchange\": %.4f, \"utilisation\": %.4f}, ",
            server_s * 1e6 / exchanges, server_s / seconds);
  }
  fprintf(out, "\"harness_bound\": %s}\n", client_s / seconds > 0.95 ? "true" : "false");
  if (ferror(out) || (out != stdout && fclose(out) == EOF)) {
    fatal("cannot write the report");
  }
}

static void run(struct load *load) {
  const struct plan *plan = &load->plan;
  clockid_t server = CLOCK_PROCESS_CPUTIME_ID;
  if (plan->pid > 0 && clock_getcpuclockid(plan->pid, &server) != 0) {
    fatal("there is no such process");
  }
  for (int i = 0; i < plan->connections; i++) {
    open_client(load, &load->clients[i]);
  }
  uint64_t begin = clock_ns(CLOCK_MONOTONIC);
  run_until(load, begin + (uint64_t)(plan->warmup_s * NS));
  hdr_reset(load->latency);
  load->exchanges = load->reset = load->bytes_in = load->bytes_out = 0;
  begin = clock_ns(CLOCK_MONOTONIC);
  uint64_t client_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), server_ns = clock_ns(server);
  run_until(load, begin + (uint64_t)(plan->seconds * NS));
  uint64_t end = clock_ns(CLOCK_MONOTONIC);
  report(load, (double)(end - begin) / NS,
         (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_ns) / NS,
         (double)(clock_ns(server) - server_ns) / NS);
}

static void multiply_request(struct plan *plan) {
  char *one = plan->request;
  plan->request = malloc(plan->request_size * (size_t)plan->pipeline + 1);
  if (plan->request == NULL) {
    fatal("no memory");
  }
  for (int i = 0; i < plan->pipeline; i++) {
    memcpy(plan->request + (size_t)i * plan->request_size, one, plan->request_size);
  }
  free(one);
}

enum { PID = 256, JSON, REQUEST, ANSWER, ANY, TURN };
static const struct option long_options[] = {{"pid", required_argument, NULL, PID},
                                             {"json", required_argument, NULL, JSON},
                                             {"request", required_argument, NULL, REQUEST},
                                             {"answer", required_argument, NULL, ANSWER},
                                             {"any", required_argument, NULL, ANY},
                                             {"turn", required_argument, NULL, TURN},
                                             {NULL, 0, NULL, 0}};

static bool parse_option(struct plan *plan, int option) {
  switch (option) {
    case 'c':
      plan->connections = atoi(optarg);
      return plan->connections > 0;
    case 'p':
      plan->pipeline = atoi(optarg);
      return plan->pipeline > 0;
    case 'k':
      plan->once = true;
      return true;
    case 'w':
      plan->warmup_s = atof(optarg);
      return plan->warmup_s >= 0;
    case 'd':
      plan->seconds = atof(optarg);
      return plan->seconds > 0;
    case 'n':
      plan->count = strtoull(optarg, NULL, 10);
      return plan->count > 0;
    case PID:
      plan->pid = atoi(optarg);
      return plan->pid > 0;
    case JSON:
      plan->json = optarg;
      return true;
    case REQUEST:
      plan->request = text_unescape(optarg, &plan->request_size);
      return plan->request != NULL;
    case ANSWER:
      plan->answer = text_unescape(optarg, &plan->answer_size);
      return plan->answer != NULL && plan->answer_size > 0;
    case ANY:
      return sscanf(optarg, "%zu:%zu", &plan->any_from, &plan->any_count) == 2;
    case TURN:
      return sscanf(optarg, "%zu:%zu:%u", &plan->turn_from, &plan->turn_digits,
                    &plan->turn_count) == 3;
    default:
      return false;
  }
}

int main(int argc, char **argv) {
  static struct load load;
  struct plan *plan = &load.plan;
  int option;
  *plan = (struct plan){.connections = 1, .pipeline = 1, .warmup_s = 0.2, .seconds = 1};
  while ((option = getopt_long(argc, argv, "c:p:kw:d:n:", long_options, NULL)) != -1) {
    if (!parse_option(plan, option)) {
      return 64;
    }
  }
  plan->port = optind + 1 == argc ? atoi(argv[optind]) : 0;
  if (plan->port == 0 || plan->request == NULL || plan->answer == NULL ||
      (plan->request_size == 0 && !plan->once) || (plan->once && plan->pipeline > 1) ||
      plan->turn_from + plan->turn_digits > plan->request_size) {
    return fatal("see the head of its source for its options"), 64;
  }
  multiply_request(plan);
  peer_raise_descriptors();
  load.epoll = epoll_create1(EPOLL_CLOEXEC);
  load.clients = calloc((size_t)plan->connections, sizeof(*load.clients));
  load.latency = malloc(sizeof(*load.latency));
  if (load.epoll == -1 || load.clients == NULL || load.latency == NULL) {
    fatal("no memory");
  }
  hdr_reset(load.latency);
  run(&load);
  return load.exchanges > 0 ? 0 : 1;
}
