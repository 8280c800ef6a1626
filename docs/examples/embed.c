/*
 * embed: two servers in a program that has a main thread, signals and a log of its own.
 *
 *   orders    Each line is an order for a machine that only one thread of the program may operate.
 *             An order holds the id of its connection, never the connection. When the machine is
 *             done, the answer is posted to that id, whether the client is still connected or not.
 *   numbers   Each client receives the number of open connections and orders of the first server.
 *
 *   worker of orders    on_message: pause, queue the order       ... deliver: send, resume, free
 *   machine's thread    take the order, work, xchg_post
 *   main thread         create, start; wait for a signal; drain, wait, destroy
 *
 * The machine reverses lines. XCHG_ variables configure both servers. The address of orders comes
 * from XCHG_LISTEN, the address of numbers from the first argument (default 127.0.0.1:0).
 */
#include <xchg.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

extern char **environ; /* no header declares it: environ(7) */

#define LINE_MAX_BYTES 1024

struct order {
  struct order *next;
  uint64_t id; /* of the connection that gets the answer */
  size_t size;
  char text[LINE_MAX_BYTES + 1];
};

struct machine {
  struct xchg_server *server; /* that the answers are posted to */
  pthread_t thread;
  pthread_mutex_t mutex; /* guards the fields below */
  pthread_cond_t arrived;
  struct order *first, **end; /* a queue with at most one order a connection */
  bool off;
};

/* ---- the machine, which uses no connection ---- */

/* Runs on the connection's worker. ${conn} is NULL if the connection has ended. */
static void deliver(struct xchg_conn *conn, void *argument) {
  struct order *order = argument;
  if (conn != NULL) {
    xchg_send(conn, order->text, order->size);
    xchg_resume(conn);
  }
  free(order);
}

static void work(struct order *order) {
  for (size_t i = 0; i < order->size / 2; i++) {
    char c = order->text[i];
    order->text[i] = order->text[order->size - 1 - i];
    order->text[order->size - 1 - i] = c;
  }
  order->text[order->size++] = '\n';
}

/* Wait for the next order. Return: NULL when the machine is switched off. */
static struct order *await_order(struct machine *machine) {
  pthread_mutex_lock(&machine->mutex);
  while (machine->first == NULL && !machine->off) {
    pthread_cond_wait(&machine->arrived, &machine->mutex);
  }
  struct order *order = machine->first;
  if (order != NULL) {
    machine->first = order->next;
    machine->end = order->next == NULL ? &machine->first : machine->end;
  }
  pthread_mutex_unlock(&machine->mutex);
  return order;
}

static void *operate(void *argument) {
  struct machine *machine = argument;
  struct order *order;
  while ((order = await_order(machine)) != NULL) {
    work(order);
    if (xchg_post(machine->server, order->id, deliver, order) == -1) {
      free(order); /* not posted: the client will time out */
    }
  }
  return NULL;
}

static int machine_start(struct machine *machine) {
  machine->end = &machine->first;
  pthread_mutex_init(&machine->mutex, NULL);
  pthread_cond_init(&machine->arrived, NULL);
  return pthread_create(&machine->thread, NULL, operate, machine);
}

static void machine_stop(struct machine *machine) {
  pthread_mutex_lock(&machine->mutex);
  machine->off = true;
  pthread_cond_signal(&machine->arrived);
  pthread_mutex_unlock(&machine->mutex);
  pthread_join(machine->thread, NULL);
  pthread_cond_destroy(&machine->arrived);
  pthread_mutex_destroy(&machine->mutex);
}

/* ---- the two handlers ---- */

static void on_order(struct xchg_conn *conn, const struct xchg_message *message) {
  struct machine *machine = xchg_user(conn);
  struct order *order = malloc(sizeof(*order));
  if (order == NULL) {
    xchg_abort(conn);
    return;
  }
  order->next = NULL;
  order->id = xchg_id(conn);
  order->size = message->size;
  memcpy(order->text, message->data, message->size);
  xchg_pause(conn); /* one order at a time: answers keep their order */
  pthread_mutex_lock(&machine->mutex);
  *machine->end = order;
  machine->end = &order->next;
  pthread_cond_signal(&machine->arrived);
  pthread_mutex_unlock(&machine->mutex);
}

static void on_visit(struct xchg_conn *conn) {
  const struct machine *machine = xchg_user(conn);
  struct xchg_stats stats = {.size = sizeof(stats)};
  char text[128];
  xchg_server_stats(machine->server, &stats);
  int size = snprintf(text, sizeof(text), "open %" PRIu64 ", orders %" PRIu64 "\n", stats.open,
                      stats.messages);
  xchg_send(conn, text, (size_t)size);
  xchg_finish(conn);
}

/* ---- the program ---- */

/* The log of the program names the server of each line. */
static void write_line(void *log_user, enum xchg_log_level level, const char *line) {
  static const char *const words[] = {"error", "warn", "info", "debug"};
  fprintf(stderr, "%s %s %s\n", (const char *)log_user, words[level], line);
}

/* Create the server ${name}. It listens at ${listen}, or at XCHG_LISTEN if that is NULL. */
static struct xchg_server *make(const char *name, const char *listen,
                                const struct xchg_handler *handler) {
  struct xchg_config config;
  if (xchg_config_from_env(&config, sizeof(config), environ, stderr) == -1) {
    return NULL;
  }
  config.listen = listen == NULL ? config.listen : listen;
  config.log = write_line;
  config.log_user = (void *)name;
  return xchg_server_create(&config, handler);
}

/* The daemon logs its addresses itself. Here the program prints them. */
static void announce(const char *name, struct xchg_server *server) {
  char address[XCHG_ADDRESS_MAX];
  for (unsigned i = 0; xchg_server_address(server, i, address, sizeof(address)) == 0; i++) {
    printf("%s listens at %s\n", name, address);
  }
  fflush(stdout);
}

/* Serve until a signal arrives, then drain. Return: 0, or -1. */
static int serve(struct xchg_server *orders, struct xchg_server *numbers, const sigset_t *signals) {
  int signal_number;
  if (xchg_server_start(orders) == -1 || xchg_server_start(numbers) == -1) {
    return -1;
  }
  announce("orders", orders);
  announce("numbers", numbers);
  sigwait(signals, &signal_number);
  xchg_server_drain(orders);
  xchg_server_wait(orders); /* numbers still answers during the drain */
  xchg_server_drain(numbers);
  return xchg_server_wait(numbers);
}

int main(int argc, char **argv) {
  struct machine machine = {.first = NULL};
  const struct xchg_handler orders_handler = {.size = sizeof(orders_handler),
                                              .frame = {.kind = XCHG_FRAME_LINE},
                                              .max_message = LINE_MAX_BYTES,
                                              .user = &machine,
                                              .on_message = on_order};
  const struct xchg_handler numbers_handler = {
      .size = sizeof(numbers_handler), .user = &machine, .on_open = on_visit};
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before the first thread starts */
  signal(SIGPIPE, SIG_IGN);

  struct xchg_server *orders = make("orders", NULL, &orders_handler);
  struct xchg_server *numbers =
      make("numbers", argc > 1 ? argv[1] : "127.0.0.1:0", &numbers_handler);
  int result = -1;
  machine.server = orders;
  if (orders != NULL && numbers != NULL && machine_start(&machine) == 0) {
    result = serve(orders, numbers, &signals);
    machine_stop(&machine); /* before the server to which it posts is destroyed */
  }
  xchg_server_destroy(numbers);
  xchg_server_destroy(orders);
  return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
