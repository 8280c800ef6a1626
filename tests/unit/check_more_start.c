/*
 * check_more_start: a server whose Nth call fails while it starts, for every N and each model.
 *
 * The linker directs the calls that a start makes to the system and the allocator to functions of
 * this program (see tests.mk). They fail the calling thread's Nth call, for N = 1, 2, 3, ... until
 * no call fails. Each time the start reports the failure or does without, no descriptor stays open,
 * and a server that has started serves and stops. The address sanitizer and valgrind find leaked
 * memory.
 */
#include "pool/server.h"

#include "pool/thread.h"
#include "pool/machine.h"
#include "pool/worker.h"
#include "tests/fixtures/server_fixture.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>

/* How many calls of this thread succeed before one fails; NEVER: all. */
static _Thread_local uint64_t well = NEVER;

/* Must this call fail? Sets errno. */
static bool fails(int error) {
  if (well == NEVER || well-- > 0) {
    return false;
  }
  well = NEVER;
  errno = error;
  return true;
}

/* Has the call failed? No call fails after this. */
static bool disarm(void) {
  bool hit = well == NEVER;
  well = NEVER;
  return hit;
}

/* Defines int f(...), which fails with ${error}. */
#define WRAP(name, error, parameters, arguments) \
  int __real_##name parameters;                  \
  int __wrap_##name parameters;                  \
  int __wrap_##name parameters { return fails(error) ? -1 : __real_##name arguments; }

WRAP(epoll_create1, EMFILE, (int flags), (flags))
WRAP(epoll_ctl, ENOSPC, (int fd, int how, int of, struct epoll_event *event), (fd, how, of, event))
WRAP(eventfd, EMFILE, (unsigned start, int flags), (start, flags))
WRAP(socket, EMFILE, (int family, int type, int protocol), (family, type, protocol))
WRAP(bind, EADDRINUSE, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
WRAP(listen, EADDRINUSE, (int fd, int backlog), (fd, backlog))
WRAP(getsockname, ENOBUFS, (int fd, struct sockaddr *to, socklen_t *size), (fd, to, size))
WRAP(setsockopt, ENOMEM, (int fd, int level, int name, const void *value, socklen_t size),
     (fd, level, name, value, size))

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return fails(ENOMEM) ? NULL : __real_malloc(size); }

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
  return fails(ENOMEM) ? NULL : __real_calloc(count, size);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  return fails(ENOMEM) ? NULL : __real_aligned_alloc(alignment, size);
}

FILE *__real_open_memstream(char **text, size_t *size);
FILE *__wrap_open_memstream(char **text, size_t *size);
FILE *__wrap_open_memstream(char **text, size_t *size) {
  return fails(ENOMEM) ? NULL : __real_open_memstream(text, size);
}

/* rules-ok: mmap has six parameters */
void *__real_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset) {
  return fails(ENOMEM) ? MAP_FAILED : __real_mmap(at, size, access, flags, fd, offset);
}

ssize_t __real_getrandom(void *data, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags) {
  return fails(EAGAIN) ? -1 : __real_getrandom(data, size, flags);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument) {
  return fails(EAGAIN) ? EAGAIN : __real_pthread_create(thread, attributes, run, argument);
}

/* The errno of sched_getaffinity; 0 = it succeeds. */
static atom_u32 affinity_error;

int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
  uint32_t error = atom_load_relaxed_u32(&affinity_error);
  if (error != 0) {
    errno = (int)error;
    return -1;
  }
  return fails(EPERM) ? -1 : __real_sched_getaffinity(pid, size, set);
}

/* ---- each model ---- */

static struct config config;
static struct log logger;

static void await_finished(struct xchg_server *of) {
  uint64_t until_ns = sys_now_ns() + FIXTURE_TIMEOUT_NS;
  while (!server_finished(of)) {
    ck_assert_msg(sys_now_ns() < until_ns, "the server does not finish");
    struct pollfd pollfd = {.fd = server_done_fd(of), .events = POLLIN};
    if (poll(&pollfd, 1, 20) == 1) {
      uint64_t count;
      ck_assert_int_eq(read(pollfd.fd, &count, sizeof(count)), sizeof(count));
    }
    server_sigchld(of);
  }
}

/* The port from the socket itself, as the server may do without asking for it. */
static uint16_t bound_port(int fd) {
  struct sockaddr_in at;
  socklen_t size = sizeof(at);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &size), 0);
  return ntohs(at.sin_port);
}

/* Run a whole exchange to its end. */
static void exchange(int client) {
  char bytes[256];
  send_bytes(client, "hello", 6);
  ck_assert_int_gt(recv_bytes(client, bytes, sizeof(bytes)), 0);
  close(client);
}

/* Start with the Nth call failing, and stop. Return: did a call fail? */
static bool start_and_end(uint64_t nth) {
  const struct server_setup setup = {.config = &config, .log = &logger};
  size_t size = (sizeof(struct xchg_server) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  struct xchg_server *one = aligned_alloc(CACHE_LINE, size);
  ck_assert_ptr_nonnull(one);
  log_fixture_open(&logger);
  well = nth - 1;
  int code = server_open(one, &setup);
  if (code == 0) {
    code = server_start(one);
  }
  bool hit = disarm();
  if (code != 0) {
    ck_assert_msg(hit, "call %ju: the start fails although no call did", (uintmax_t)nth);
    ck_assert_msg(log_fixture_count(&logger, "level=error") > 0, "call %ju: no word",
                  (uintmax_t)nth);
  } else {
    exchange(connect_to_port(bound_port(one->listeners[0].fd)));
    server_drain(one);
    await_finished(one);
  }
  server_close(one);
  log_fixture_close(&logger);
  free(one);
  return hit;
}

static const char *const models[] = {"XCHG_MODEL=pool", "XCHG_MODEL=iterative", "XCHG_MODEL=fork",
                                     "XCHG_MODEL=thread"};

START_TEST(nth_call_of_a_start) {
  GOOD(&config, models[_i], "XCHG_LISTEN=127.0.0.1:0", "XCHG_WORKERS=2", "XCHG_STOP_GRACE=0",
       "XCHG_MAX_CONNECTIONS=100", "XCHG_REUSEPORT=on", "XCHG_FRAME=nul", "XCHG_REPLY=text:so",
       "XCHG_MAX_PER_IP=50");
  unsigned descriptors = count_descriptors();
  uint64_t nth = 1;
  for (; start_and_end(nth); nth++) {
    ck_assert_msg(count_descriptors() == descriptors, "call %ju: a descriptor stays open",
                  (uintmax_t)nth);
  }
  ck_assert_uint_gt(nth, 10);
  config_fini(&config);
}
END_TEST

/* ---- an embedded server ---- */

START_TEST(nth_call_of_an_embedded_start) {
  SETTINGS();
  unsigned descriptors = count_descriptors();
  bool hit = true;
  uint64_t nth = 1;
  for (; hit; nth++) {
    well = nth - 1;
    server = xchg_server_create(&settings, &echoes);
    int error = server == NULL ? errno : 0;
    hit = disarm();
    ck_assert_msg((server == NULL) == (error != 0), "call %ju", (uintmax_t)nth);
    ck_assert_msg(hit || server != NULL, "call %ju", (uintmax_t)nth);
    xchg_server_destroy(server);
    ck_assert_msg(count_descriptors() == descriptors, "call %ju: a descriptor stays open",
                  (uintmax_t)nth);
    lines_clear();
  }
  ck_assert_uint_gt(nth, 10);
}
END_TEST

/* A single worker, which the models fork and thread open on another thread or process. */
START_TEST(nth_call_of_a_single_worker) {
  struct wake stop = {.fd = -1};
  ck_assert_int_eq(wake_open(&stop), 0);
  GOOD(&config, "XCHG_MODEL=thread");
  const struct worker_setup setup = {.config = &config, .handler = &echoes};
  struct worker *worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
  ck_assert_ptr_nonnull(worker);
  int result = -1;
  uint64_t nth = 0;
  for (; result == -1; nth++) {
    well = nth;
    result = worker_open_single(worker, &setup, &stop);
    ck_assert_int_eq(result, disarm() ? -1 : 0);
  }
  ck_assert_uint_gt(nth, 1);
  worker_close(worker);
  free(worker);
  config_fini(&config);
  wake_close(&stop);
}
END_TEST

START_TEST(no_handler) {
  char name[] = "program";
  char *arguments[] = {name, NULL};
  ck_assert_int_eq(xchg_main(NULL, 1, arguments), 78);
}
END_TEST

START_TEST(no_memory_for_faults) {
  struct xchg_config of;
  well = 0;
  int result = xchg_config_from_env(&of, sizeof(of), ENVIRONMENT(), NULL);
  int error = errno;
  ck_assert(disarm());
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(error, ENOMEM);
}
END_TEST

/* ---- no memory for tasks ---- */

static void never_called(struct xchg_conn *conn, void *argument) {
  (void)conn;
  (void)argument;
  ck_abort_msg("a refused call is run");
}

static void no_work(void *argument) { (void)argument; }

/* Every allocation of xchg_offload fails in turn. Then it succeeds. */
static void offload_in_vain(struct xchg_conn *conn, const struct xchg_message *message) {
  for (uint64_t nth = 0; nth < 2; nth++) {
    well = nth;
    int result = xchg_offload(conn, no_work, never_called, NULL);
    int error = errno;
    ck_assert(disarm());
    ck_assert_int_eq(result, -1);
    ck_assert_int_eq(error, ENOMEM);
  }
  ck_assert_int_eq(xchg_send(conn, message->frame, message->frame_size), 0);
}

START_TEST(no_memory_for_tasks) {
  static const struct xchg_handler offloads = {
      .size = sizeof(offloads), .frame = {.kind = XCHG_FRAME_LINE}, .on_message = offload_in_vain};
  SETTINGS();
  start_server(&offloads);
  close(connect_and_ping(server));
  well = 0;
  int result = xchg_post(server, 1, never_called, NULL);
  int error = errno;
  ck_assert(disarm());
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(error, ENOMEM);
  well = 0;
  result = xchg_publish(server, 1, "x", 1);
  error = errno;
  ck_assert(disarm());
  ck_assert_int_eq(result, -1);
  ck_assert_int_eq(error, ENOMEM);
  xchg_server_stop(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}
END_TEST

/* ---- affinity ---- */

START_TEST(no_affinity) {
  SETTINGS("XCHG_PIN=on", "XCHG_WORKERS=2");
  atom_store_relaxed_u32(&affinity_error, EPERM);
  start_server(&echoes);
  close(connect_and_ping(server));
  ck_assert_uint_eq(lines_count("cannot pin worker "), 2);
  xchg_server_stop(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  xchg_server_destroy(server);
}
END_TEST

/* The search for the size of the CPU set ends, although no size is enough. */
START_TEST(endless_affinity) {
  bool from_cgroup;
  atom_store_relaxed_u32(&affinity_error, EINVAL);
  uint32_t usable = machine_usable_cpus(&from_cgroup);
  ck_assert_uint_eq(usable, 1);
  ck_assert_int_eq(thread_set_affinity(0), -1);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {nth_call_of_a_start, count_of(models)},
      {nth_call_of_an_embedded_start, 1},
      {nth_call_of_a_single_worker, 1},
      {no_handler, 1},
      {no_memory_for_faults, 1},
      {no_memory_for_tasks, 1},
      {no_affinity, 1},
      {endless_affinity, 1},
  };
  return run_suite("more_start", tests, count_of(tests));
}
