/*
 * check_model_fork: a child for each connection: counted, waited for, crashed, refused, stopped.
 *
 * The module is compiled into this program, so that fork can be made to fail and children can be
 * found. SIGCHLD is not handled here: the tests call settle until it has found the ended children.
 */
#include <unistd.h>

static pid_t test_fork(void);
#define fork test_fork
#include "pool/model_fork.c"
#undef fork

#include "net/builtin.h"
#include "tests/fixtures/pool_fixture.h"

static struct config config;
static struct builtin builtin;
static struct admission admission;
static struct wake freed = {.fd = -1}, done = {.fd = -1};
static struct model *model;
static struct model_fork *all;
static bool refuse_fork;

static pid_t test_fork(void) {
  if (refuse_fork) {
    errno = EAGAIN;
    return -1;
  }
  return fork();
}

static void set_up(const char *const *entries) {
  ck_assert_msg(load(&config, entries, &plenty) == 0, "%s", said);
  ck_assert_int_eq(wake_open(&freed), 0);
  ck_assert_int_eq(wake_open(&done), 0);
  ck_assert_int_eq(builtin_init(&builtin, &config), 0);
  ck_assert_int_eq(admission_init(&admission, &config, &freed), 0);
  const struct model_setup setup = {
      .config = &config, .handler = &builtin.handler, .admission = &admission, .done = &done};
  model = model_fork_create(&setup);
  ck_assert_ptr_nonnull(model);
  all = fork_of(model);
  ck_assert_ptr_null(model->ops->start); /* nothing runs before the first connection */
}

#define SET_UP(...)                               \
  set_up((const char *const[]){"XCHG_MODEL=fork", \
                               "XCHG_MAX_CONNECTIONS=3" __VA_OPT__(, ) __VA_ARGS__, NULL})

static void tear_down(void) {
  model->ops->destroy(model);
  admission_fini(&admission);
  builtin_fini(&builtin);
  wake_close(&freed);
  wake_close(&done);
  config_fini(&config);
}

static struct stats sum_up(void) {
  struct stats sum = {0};
  model->ops->add_totals(model, &sum);
  return sum;
}

static uint64_t ended(enum xchg_reason reason) {
  struct stats sum = sum_up();
  return atom_load_relaxed_u64(&sum.ended[reason]);
}

/* Admit and dispatch a new connection. Return: the client's end. */
static int place_new(void) {
  struct accepted_conn accepted;
  enum xchg_reason refused;
  int client = accept_tcp(&accepted);
  ck_assert(admission_check(&admission, &accepted, &refused));
  ck_assert(model->ops->free_places(model));
  ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
  ck_assert_int_eq(fcntl(accepted.fd, F_GETFD), -1); /* only the child has it now */
  return client;
}

/* Settle until ${count} children are live. */
static void settle_to(uint32_t count) {
  AWAIT((model->ops->reap(model), model->ops->live(model) <= count));
  ck_assert_uint_eq(model->ops->live(model), count);
}

START_TEST(children_are_counted) {
  SET_UP();
  int clients[3];
  for (uint32_t i = 0; i < 3; i++) {
    ck_assert_uint_eq(model->ops->live(model), i);
    clients[i] = place_new();
  }
  ck_assert_uint_eq(model->ops->live(model), 3);
  ck_assert(!model->ops->free_places(model));
  for (int i = 2; i >= 0; i--) {
    greet_and_close(clients[i]); /* at the same time: each child waits for its client */
    settle_to((uint32_t)i);
    ck_assert(model->ops->free_places(model));
  }
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), 3);
  ck_assert_uint_eq(stats_ended(&sum), 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.messages), 3);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.bytes_in), 3 * 6);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.bytes_out), 3 * sizeof(GREETING));
  ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no zombie, no child */
  ck_assert_int_eq(errno, ECHILD);
  tear_down();
}
END_TEST

/* The parent releases the admission once it has waited for the child. */
START_TEST(admissions_are_released) {
  SET_UP("XCHG_MAX_PER_IP=1");
  for (int i = 0; i < 5; i++) {
    greet_and_close(place_new());
    settle_to(0);
  }
  ck_assert_uint_eq(ended(XCHG_FINISHED), 5);
  tear_down();
}
END_TEST

START_TEST(a_crash_counts_as_error_and_affects_no_other) {
  SET_UP("XCHG_EXCHANGE=echo", "XCHG_MAX_PER_IP=3");
  int lives = place_new(), dies = place_new();
  send_bytes(dies, "ping", 4);
  expect_bytes(dies, "ping", 4);
  ck_assert_int_eq(kill(all->children[1].pid, SIGKILL), 0);
  settle_to(1);
  close(dies);
  ck_assert_uint_eq(ended(XCHG_ERROR), 1);
  send_bytes(lives, "ping", 4);
  expect_bytes(lives, "ping", 4);
  int next = place_new(); /* in the slot of the crashed child */
  send_bytes(next, "ping", 4);
  expect_bytes(next, "ping", 4);
  close(lives);
  close(next);
  settle_to(0);
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_FINISHED]), 2);
  ck_assert_uint_eq(stats_ended(&sum), 3);
  tear_down();
}
END_TEST

static int way;

/* End the process from within the handler, with the exit code of success. */
static void leave(struct xchg_conn *conn, const struct xchg_message *message) {
  (void)conn;
  (void)message;
  switch (way) {
    case 0:
      exit(0);
    case 1:
      _exit(0);
    case 2:
      execl("/bin/true", "true", (char *)NULL);
      abort();
    default:
      kill(getpid(), SIGKILL);
  }
}

/* Whatever its exit code is, a child that has not counted its connection has failed. */
START_TEST(a_handler_that_ends_its_process_counts_as_error) {
  SET_UP("XCHG_EXCHANGE=echo", "XCHG_MAX_PER_IP=1");
  way = _i;
  builtin.handler.on_message = leave;
  for (uint32_t i = 1; i <= 2; i++) { /* the second child has the place of the first */
    int client = place_new();
    send_bytes(client, "ping", 4);
    settle_to(0);
    close(client);
    struct stats sum = sum_up();
    ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_ERROR]), i);
    ck_assert_uint_eq(stats_ended(&sum), i);
  }
  tear_down();
}
END_TEST

/* After a failed fork the connection stays the caller's, unchanged, and can be dispatched later. */
START_TEST(a_refused_fork_leaves_the_connection_to_the_caller) {
  SET_UP();
  struct accepted_conn accepted;
  int client = accept_tcp(&accepted);
  refuse_fork = true;
  errno = 0;
  ck_assert_int_eq(model->ops->dispatch(model, &accepted), -1);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_uint_eq(model->ops->live(model), 0);
  ck_assert_int_ne(fcntl(accepted.fd, F_GETFD), -1);
  refuse_fork = false;
  ck_assert_int_eq(model->ops->dispatch(model, &accepted), 0);
  greet_and_close(client);
  settle_to(0);
  ck_assert_uint_eq(ended(XCHG_FINISHED), 1);
  tear_down();
}
END_TEST

/* A child has only its connection, the standard descriptors and the one for the stop. */
START_TEST(a_child_has_no_other_descriptor) {
  SET_UP("XCHG_EXCHANGE=echo");
  int first = place_new();
  int second = place_new();
  send_bytes(second, "ping", 4);
  expect_bytes(second, "ping", 4);
  close(first); /* would not end the first child if the second had the client's end */
  settle_to(1);
  close(second);
  settle_to(0);
  ck_assert_uint_eq(ended(XCHG_FINISHED), 2);
  tear_down();
}
END_TEST

START_TEST(a_stop_reaches_the_children) {
  SET_UP("XCHG_EXCHANGE=echo");
  int before = place_new();
  send_bytes(before, "ping", 4);
  expect_bytes(before, "ping", 4);
  model->ops->stop(model, sys_now_ns());
  expect_end(before);
  close(before);
  int after = place_new(); /* from the backlog: gets the stop at once */
  send_bytes(after, "ping", 4);
  expect_bytes(after, "ping", 4);
  expect_end(after);
  close(after);
  AWAIT(model->ops->finish(model));
  ck_assert_uint_eq(model->ops->live(model), 0);
  ck_assert_ptr_null(model->ops->running); /* no threads */
  ck_assert_uint_eq(ended(XCHG_FINISHED), 2);
  tear_down();
}
END_TEST

START_TEST(a_child_closes_at_the_drain_timeout) {
  SET_UP("XCHG_EXCHANGE=line", "XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  int client = place_new();
  send_bytes(client, "begun", 5);
  model->ops->stop(model, sys_now_ns());
  AWAIT(model->ops->finish(model));
  close(client);
  struct stats sum = sum_up();
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.ended[XCHG_DRAIN]), 1);
  ck_assert_uint_eq(atom_load_relaxed_u64(&sum.cut), 1);
  tear_down();
}
END_TEST

/* A child that does not react to the drain timeout is killed and counted. */
START_TEST(a_stuck_child_is_killed) {
  SET_UP("XCHG_EXCHANGE=echo", "XCHG_DRAIN_TIMEOUT=0", "XCHG_STOP_GRACE=0");
  int client = place_new();
  send_bytes(client, "ping", 4);
  expect_bytes(client, "ping", 4);
  ck_assert_int_eq(kill(all->children[0].pid, SIGSTOP), 0);
  model->ops->stop(model, sys_now_ns());
  AWAIT(model->ops->finish(model));
  close(client);
  ck_assert_uint_eq(ended(XCHG_ERROR), 1);
  ck_assert_uint_eq(model->ops->live(model), 0);
  tear_down();
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {children_are_counted, 1},
      {admissions_are_released, 1},
      {a_crash_counts_as_error_and_affects_no_other, 1},
      {a_handler_that_ends_its_process_counts_as_error, 4},
      {a_refused_fork_leaves_the_connection_to_the_caller, 1},
      {a_child_has_no_other_descriptor, 1},
      {a_stop_reaches_the_children, 1},
      {a_child_closes_at_the_drain_timeout, 1},
      {a_stuck_child_is_killed, 1},
  };
  return run_suite("model_fork", tests, count_of(tests));
}
