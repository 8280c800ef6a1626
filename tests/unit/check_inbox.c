/*
 * check_inbox: the connection ring and the task list with their one sleep flag, step by step in one
 * thread, then tasks from several threads.
 *
 * Wakes are counted as writes to the eventfd, whose counter the product never reads.
 */
#include "pool/inbox.h"

#include "core/sys.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#define SENDERS 3
#define LETTERS_EACH 2000

/* Writes to the eventfd since the last call. */
static uint64_t wakes(const struct inbox *inbox) {
  uint64_t count = 0;
  if (read(inbox->wake.fd, &count, sizeof(count)) == -1) {
    ck_assert_int_eq(errno, EAGAIN);
    return 0;
  }
  return count;
}

static int push(struct inbox *inbox, int fd) {
  struct accepted_conn accepted = {.fd = fd, .accepted_ns = (uint64_t)fd};
  return inbox_push_spsc(inbox, &accepted);
}

static void pop_expect(struct inbox *inbox, int fd) {
  struct accepted_conn accepted = {.fd = -1};
  ck_assert(inbox_pop(inbox, &accepted));
  ck_assert_int_eq(accepted.fd, fd);
}

static struct inbox *new_inbox(uint32_t capacity) {
  void *inbox = NULL;
  ck_assert_int_eq(posix_memalign(&inbox, CACHE_LINE, sizeof(struct inbox)), 0);
  ck_assert_int_eq(inbox_open(inbox, capacity), 0);
  return inbox;
}

static void free_inbox(struct inbox *inbox) {
  inbox_close(inbox);
  free(inbox);
}

START_TEST(test_new_inbox_is_empty_and_awake) {
  struct inbox *inbox = new_inbox(4);
  struct accepted_conn accepted;
  ck_assert(!inbox_pop(inbox, &accepted));
  ck_assert_ptr_null(inbox_take_all(inbox));
  ck_assert_int_eq(inbox_wake(inbox), 0);
  ck_assert_uint_eq(wakes(inbox), 0);
  const int fd = inbox->wake.fd;
  inbox_close(inbox);
  ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
  ck_assert_ptr_null(inbox->ring.slots);
  free_inbox(inbox); /* a second call does nothing */
}
END_TEST

START_TEST(test_open_without_descriptors) {
  struct rlimit old;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
  struct rlimit none = {.rlim_cur = 0, .rlim_max = old.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
  struct inbox inbox;
  errno = 0;
  const int result = inbox_open(&inbox, 4);
  const int error = errno;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(error, EMFILE);
  ck_assert_ptr_null(inbox.ring.slots); /* nothing is left open */
  inbox_close(&inbox);
}
END_TEST

START_TEST(test_push_to_an_owner_that_is_awake_costs_no_wake) {
  struct inbox *inbox = new_inbox(4);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(push(inbox, i), 0);
  }
  ck_assert_int_eq(push(inbox, 4), -1);
  ck_assert_uint_eq(wakes(inbox), 0);
  for (int i = 0; i < 4; i++) {
    pop_expect(inbox, i);
  }
  free_inbox(inbox);
}
END_TEST

START_TEST(test_burst_to_a_sleeper_costs_one_wake) {
  struct inbox *inbox = new_inbox(8);
  for (int round = 0; round < 3; round++) {
    ck_assert(inbox_prepare_wait(inbox));
    ck_assert_int_eq(push(inbox, 0), 1);
    for (int i = 1; i < 8; i++) {
      ck_assert_int_eq(push(inbox, i), 0);
    }
    ck_assert_int_eq(push(inbox, 8), -1);
    ck_assert_uint_eq(wakes(inbox), 1);
    inbox_finish_wait(inbox);
    for (int i = 0; i < 8; i++) {
      pop_expect(inbox, i);
    }
  }
  free_inbox(inbox);
}
END_TEST

START_TEST(test_finish_wait_withdraws_the_announcement) {
  struct inbox *inbox = new_inbox(2);
  ck_assert(inbox_prepare_wait(inbox));
  inbox_finish_wait(inbox); /* a socket ended the wait, not a sender */
  ck_assert_int_eq(push(inbox, 1), 0);
  ck_assert_int_eq(inbox_wake(inbox), 0);
  ck_assert_uint_eq(wakes(inbox), 0);
  free_inbox(inbox);
}
END_TEST

START_TEST(test_prepare_wait_finds_a_connection) {
  struct inbox *inbox = new_inbox(2);
  ck_assert_int_eq(push(inbox, 1), 0);
  ck_assert(!inbox_prepare_wait(inbox));
  ck_assert_int_eq(push(inbox, 2), 0); /* the announcement was withdrawn */
  pop_expect(inbox, 1);
  ck_assert(!inbox_prepare_wait(inbox));
  pop_expect(inbox, 2);
  ck_assert(inbox_prepare_wait(inbox));
  ck_assert_uint_eq(wakes(inbox), 0);
  free_inbox(inbox);
}
END_TEST

START_TEST(test_prepare_wait_finds_a_task) {
  struct inbox *inbox = new_inbox(2);
  struct task task = {.kind = TASK_DRAIN};
  inbox_push_mpsc(inbox, &task);
  ck_assert(!inbox_prepare_wait(inbox));
  ck_assert_int_eq(inbox_wake(inbox), 0);
  ck_assert_ptr_eq(inbox_take_all(inbox), &task);
  ck_assert(inbox_prepare_wait(inbox));
  ck_assert_uint_eq(wakes(inbox), 0);
  free_inbox(inbox);
}
END_TEST

START_TEST(test_task_wakes_a_sleeper_once) {
  struct inbox *inbox = new_inbox(2);
  struct task tasks[3] = {{.kind = TASK_DRAIN}, {.kind = TASK_DRAIN}, {.kind = TASK_NO_MORE_CONNS}};
  ck_assert(inbox_prepare_wait(inbox));
  for (int i = 0; i < 3; i++) {
    inbox_push_mpsc(inbox, &tasks[i]);
  }
  ck_assert_int_eq(push(inbox, 1), 0); /* ring and list share one flag */
  ck_assert_uint_eq(wakes(inbox), 1);
  inbox_finish_wait(inbox);
  pop_expect(inbox, 1);
  free_inbox(inbox);
}
END_TEST

START_TEST(test_wake_wakes_a_sleeper_once) {
  struct inbox *inbox = new_inbox(1);
  ck_assert(inbox_prepare_wait(inbox));
  ck_assert_int_eq(inbox_wake(inbox), 1);
  ck_assert_int_eq(inbox_wake(inbox), 0);
  ck_assert_uint_eq(wakes(inbox), 1);
  free_inbox(inbox);
}
END_TEST

START_TEST(test_tasks_come_oldest_first) {
  struct inbox *inbox = new_inbox(1);
  struct task tasks[5];
  memset(tasks, 0, sizeof(tasks));
  for (int round = 0; round < 2; round++) { /* tasks may be sent again once they were taken */
    for (int i = 0; i < 5; i++) {
      tasks[i].kind = i < 4 ? TASK_DRAIN : TASK_NO_MORE_CONNS;
      tasks[i].time_ns = (uint64_t)i;
      inbox_push_mpsc(inbox, &tasks[i]);
    }
    struct task *task = inbox_take_all(inbox);
    for (int i = 0; i < 5; i++, task = task->next) {
      ck_assert_ptr_eq(task, &tasks[i]);
      ck_assert_uint_eq(task->time_ns, i);
      ck_assert_int_eq(task->kind, i < 4 ? TASK_DRAIN : TASK_NO_MORE_CONNS);
    }
    ck_assert_ptr_null(task);
    ck_assert_ptr_null(inbox_take_all(inbox));
  }
  free_inbox(inbox);
}
END_TEST

START_TEST(test_writers_have_cache_lines_of_their_own) {
  ck_assert_uint_eq(offsetof(struct inbox, tasks) % CACHE_LINE, 0);
  ck_assert_uint_eq(offsetof(struct inbox, sleeping) % CACHE_LINE, 0);
  ck_assert_uint_ge(offsetof(struct inbox, sleeping), offsetof(struct inbox, tasks) + CACHE_LINE);
  ck_assert_uint_eq(sizeof(struct inbox) % CACHE_LINE, 0);
}
END_TEST

struct sender {
  struct inbox *inbox;
  struct task letters[LETTERS_EACH];
};

static void *send_tasks(void *context) {
  struct sender *sender = context;
  for (int i = 0; i < LETTERS_EACH; i++) {
    sender->letters[i].time_ns = (uint64_t)i;
    inbox_push_mpsc(sender->inbox, &sender->letters[i]);
  }
  return NULL;
}

/* The sender of ${letter}. */
static int sender_of(const struct sender *senders, const struct task *task) {
  for (int i = 0; i < SENDERS; i++) {
    if (task >= senders[i].letters && task < senders[i].letters + LETTERS_EACH) {
      return i;
    }
  }
  return -1;
}

/* Wait as a worker does until the inbox is not empty. */
static void wait_for_tasks(struct inbox *inbox, int epoll_fd) {
  if (inbox_prepare_wait(inbox)) {
    struct epoll_event event;
    ck_assert_int_eq(epoll_wait(epoll_fd, &event, 1, 60000), 1);
    inbox_finish_wait(inbox);
  }
}

START_TEST(test_tasks_of_each_sender_stay_in_order) {
  struct inbox *inbox = new_inbox(1);
  struct sender *senders = calloc(SENDERS, sizeof(*senders));
  ck_assert_ptr_nonnull(senders);
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, inbox->wake.fd, &event), 0);
  pthread_t threads[SENDERS];
  uint64_t next[SENDERS] = {0};
  for (int i = 0; i < SENDERS; i++) {
    senders[i].inbox = inbox;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, send_tasks, &senders[i]), 0);
  }
  for (int taken = 0; taken < SENDERS * LETTERS_EACH;) {
    struct task *task = inbox_take_all(inbox);
    if (task == NULL) {
      wait_for_tasks(inbox, epoll_fd);
    }
    for (; task != NULL; task = task->next, taken++) {
      const int sender = sender_of(senders, task);
      ck_assert_int_ne(sender, -1);
      ck_assert_uint_eq(task->time_ns, next[sender]++);
    }
  }
  for (int i = 0; i < SENDERS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(next[i], LETTERS_EACH);
  }
  ck_assert_ptr_null(inbox_take_all(inbox));
  sys_close(epoll_fd);
  free(senders);
  free_inbox(inbox);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_new_inbox_is_empty_and_awake, 1},
      {test_open_without_descriptors, 1},
      {test_push_to_an_owner_that_is_awake_costs_no_wake, 1},
      {test_burst_to_a_sleeper_costs_one_wake, 1},
      {test_finish_wait_withdraws_the_announcement, 1},
      {test_prepare_wait_finds_a_connection, 1},
      {test_prepare_wait_finds_a_task, 1},
      {test_task_wakes_a_sleeper_once, 1},
      {test_wake_wakes_a_sleeper_once, 1},
      {test_tasks_come_oldest_first, 1},
      {test_writers_have_cache_lines_of_their_own, 1},
      {test_tasks_of_each_sender_stay_in_order, 1},
  };
  return run_suite("inbox", tests, count_of(tests));
}
