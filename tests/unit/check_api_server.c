/*
 * check_api_server: a server within a program: its configuration, and failed creations, which must
 * leave nothing.
 */
#include "tests/fixtures/server_fixture.h"

#include <fcntl.h>
#include <sys/resource.h>

static const struct xchg_handler nothing = {.size = sizeof(nothing)};

/* ---- xchg_config_from_env ---- */

static char fault_text[4096];

/* The lines of the faults of ${environment}, which must have at least one. */
static const char *faults_of(char *const *environment) {
  FILE *out = fmemopen(fault_text, sizeof(fault_text), "w");
  ck_assert_ptr_nonnull(out);
  errno = 0;
  ck_assert_int_eq(xchg_config_from_env(&settings, sizeof(settings), environment, out), -1);
  ck_assert_int_eq(errno, EINVAL);
  fclose(out);
  return fault_text;
}

static unsigned lines_of(const char *text) {
  unsigned count = 0;
  for (; (text = strchr(text, '\n')) != NULL; text++) {
    count++;
  }
  return count;
}

static void check_defaults(void) {
  ck_assert_uint_eq(settings.size, sizeof(settings));
  ck_assert_str_eq(settings.listen, ":7000");
  ck_assert_uint_eq(settings.backlog, 4096);
  ck_assert_uint_eq(settings.workers, 0);
  ck_assert_uint_eq(settings.queue, 1024);
  ck_assert_uint_eq(settings.offload_threads, 4);
  ck_assert_uint_eq(settings.watchdog_ns, 100 * NS_PER_MS);
  ck_assert_uint_eq(settings.max_connections, 0);
  ck_assert_uint_eq(settings.max_message_bytes, 64 * 1024);
  ck_assert_uint_eq(settings.max_pending_bytes, 256 * 1024);
  ck_assert_uint_eq(settings.idle_timeout_ns, 60 * NS_PER_S);
  ck_assert_uint_eq(settings.drain_timeout_ns, 30 * NS_PER_S);
  ck_assert(settings.nodelay && settings.keepalive && !settings.pin && !settings.reuseport);
  ck_assert_int_eq(settings.log_level, XCHG_LOG_INFO);
  ck_assert_int_eq(settings.log_format, XCHG_LOG_LOGFMT);
  ck_assert(settings.log == NULL && settings.log_user == NULL);
}

START_TEST(defaults) {
  char *const *const environments[] = {NULL, ENVIRONMENT(),
                                       ENVIRONMENT("PATH=/bin", "XCHG_PORT=tcp://10.0.0.1:80")};
  for (size_t i = 0; i < count_of(environments); i++) {
    memset(&settings, 0xa5, sizeof(settings));
    ck_assert_int_eq(xchg_config_from_env(&settings, sizeof(settings), environments[i], stderr), 0);
    check_defaults();
  }
}
END_TEST

START_TEST(values) {
  char *const *environment =
      ENVIRONMENT("XCHG_LISTEN=[::1]:80,unix:/run/x", "XCHG_WORKERS=7", "XCHG_IDLE_TIMEOUT=250ms",
                  "XCHG_MAX_PENDING=1MiB", "XCHG_DISPATCH=round-robin", "XCHG_OVERLOAD=refuse",
                  "XCHG_LOG_FORMAT=json", "XCHG_DENY=10.0.0.0/8");
  ck_assert_int_eq(xchg_config_from_env(&settings, sizeof(settings), environment, NULL), 0);
  ck_assert_ptr_eq(settings.listen, environment[0] + strlen("XCHG_LISTEN="));
  ck_assert_uint_eq(settings.workers, 7);
  ck_assert_uint_eq(settings.idle_timeout_ns, 250 * NS_PER_MS);
  ck_assert_uint_eq(settings.max_pending_bytes, 1024 * 1024);
  ck_assert_int_eq(settings.dispatch, XCHG_DISPATCH_ROUND_ROBIN);
  ck_assert_int_eq(settings.overload, XCHG_OVERLOAD_REFUSE);
  ck_assert_int_eq(settings.log_format, XCHG_LOG_JSON);
  ck_assert_str_eq(settings.deny, "10.0.0.0/8");
}
END_TEST

START_TEST(every_fault_is_a_line) {
  char *const *environment = ENVIRONMENT("XCHG_WORKERS=none", "XCHG_QUEUE=0", "XCHG_WORKRES=2");
  ck_assert_uint_eq(lines_of(faults_of(environment)), 3);
  ck_assert_ptr_nonnull(strstr(fault_text, "XCHG_WORKERS"));
  ck_assert_ptr_nonnull(strstr(fault_text, "XCHG_QUEUE"));
  ck_assert_ptr_nonnull(strstr(fault_text, "XCHG_WORKRES"));
  unsigned descriptors = count_descriptors();
  ck_assert_int_eq(xchg_config_from_env(&settings, sizeof(settings), environment, NULL), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_uint_eq(count_descriptors(), descriptors);
}
END_TEST

/* Variables of the handler or of the daemon, which a program sets itself. */
static const char *const foreign[] = {
    "XCHG_MODEL=pool", "XCHG_HANDLER=/x/y.so", "XCHG_EXCHANGE=echo", "XCHG_GREETING=hello",
    "XCHG_FRAME=line", "XCHG_REPLY=echo",      "XCHG_MESSAGES=1",
};

START_TEST(foreign_variables_are_faults) {
  char entry[64], name[64];
  char *const *environment = ENVIRONMENT(entry);
  snprintf(entry, sizeof(entry), "%s", foreign[_i]);
  snprintf(name, sizeof(name), "%.*s", (int)strcspn(entry, "="), entry);
  ck_assert_uint_eq(lines_of(faults_of(environment)), 1);
  ck_assert_ptr_nonnull(strstr(fault_text, name));
}
END_TEST

START_TEST(another_size) {
  char *const *environment = ENVIRONMENT("XCHG_WORKERS=none");
  static const size_t sizes[] = {0, 8, sizeof(settings) - 8, sizeof(settings) + 8};
  for (size_t i = 0; i < count_of(sizes); i++) {
    memset(&settings, 0xa5, sizeof(settings));
    errno = 0;
    ck_assert_int_eq(xchg_config_from_env(&settings, sizes[i], environment, stderr), -1);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_uint_eq(((const unsigned char *)&settings)[0], 0xa5); /* the struct is unchanged */
  }
  ck_assert_int_eq(xchg_config_from_env(NULL, sizeof(settings), NULL, NULL), -1);
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* ---- failed creations ---- */

/*
 * Creation must fail with ${error}, write one log line that contains ${text} (NULL: none), and
 * leave nothing.
 */
static void refused(const struct xchg_handler *handler, int error, const char *line) {
  unsigned descriptors = count_descriptors();
  lines_clear();
  errno = 0;
  ck_assert_ptr_null(xchg_server_create(&settings, handler));
  ck_assert_msg(errno == error, "%s, not %s: %s", strerror(errno), strerror(error), lines.text);
  ck_assert_uint_eq(count_descriptors(), descriptors);
  ck_assert_uint_eq(lines_count("\n"), line == NULL ? 0 : 1);
  ck_assert_msg(line == NULL || lines_count(line) == 1, "no '%s' in: %s", line, lines.text);
}

START_TEST(no_config) {
  ck_assert_ptr_null(xchg_server_create(NULL, &nothing));
  ck_assert_int_eq(errno, EINVAL);
  SETTINGS();
  settings.size -= 8;
  ck_assert_ptr_null(xchg_server_create(&settings, &nothing));
  ck_assert_int_eq(errno, EINVAL);
  settings = (struct xchg_config){0};
  ck_assert_ptr_null(xchg_server_create(&settings, &nothing));
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

#define HANDLER(...) (&(const struct xchg_handler){.size = sizeof(nothing), __VA_ARGS__})

START_TEST(invalid_handlers_are_refused) {
  SETTINGS();
  struct xchg_handler other = {.size = sizeof(other) - 8};
  refused(NULL, EINVAL, "there is no handler");
  refused(&other, EINVAL, "built against another version");
  other.size = 0;
  refused(&other, EINVAL, "built against another version");
  refused(HANDLER(.state_size = XCHG_STATE_MAX + 1), EINVAL, "state_size");
  refused(HANDLER(.state_size = SIZE_MAX), EINVAL, "state_size");
  refused(HANDLER(.max_message = XCHG_MESSAGE_MAX + 1), EINVAL, "max_message");
}
END_TEST

static ssize_t save(struct xchg_conn *conn, void *data, size_t size) {
  (void)conn, (void)data, (void)size;
  return 0;
}

static int restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t size) {
  (void)conn, (void)version, (void)data, (void)size;
  return 0;
}

static void gone(struct xchg_conn *conn) { (void)conn; }

START_TEST(handlers_of_an_upgrade_are_whole) {
  static const char lacks[] = "state_version 0 allows no on_save, on_restore, on_gone and together";
  SETTINGS();
  refused(HANDLER(.on_save = save), EINVAL, lacks);
  refused(HANDLER(.on_restore = restore), EINVAL, lacks);
  refused(HANDLER(.on_gone = gone), EINVAL, lacks);
  refused(HANDLER(.together = true), EINVAL, lacks);
  refused(HANDLER(.state_version = 2), EINVAL, "state_version 2 needs on_save and on_restore");
  refused(HANDLER(.state_version = 2, .on_save = save), EINVAL, "needs on_save");
  refused(HANDLER(.state_version = 2, .on_restore = restore), EINVAL, "needs on_save");
  create_server(HANDLER(.state_version = 2, .on_save = save, .on_restore = restore));
  xchg_server_destroy(server);
}
END_TEST

static size_t cut_nothing(struct xchg_conn *conn, const void *data, size_t size) {
  (void)conn, (void)data, (void)size;
  return 0;
}

START_TEST(invalid_frames_are_refused) {
  SETTINGS();
  const struct {
    struct xchg_frame frame;
    const char *said;
  } bad[] = {
      {{.kind = (enum xchg_frame_kind)99}, "kind 99"},
      {{.kind = (enum xchg_frame_kind) - 1}, "kind 4294967295"},
      {{.kind = XCHG_FRAME_FIXED}, "size 0 for FIXED, want 1 to max_message"},
      {{.kind = XCHG_FRAME_FIXED, .size = 64 * 1024 + 1}, "size 65537 for FIXED"},
      {{.kind = XCHG_FRAME_PREFIX}, "size 0 for PREFIX, want 1, 2, 4 or 8"},
      {{.kind = XCHG_FRAME_PREFIX, .size = 3}, "size 3 for PREFIX, want 1, 2, 4 or 8"},
      {{.kind = XCHG_FRAME_PREFIX, .size = 16}, "size 16 for PREFIX"},
      {{.kind = XCHG_FRAME_RAW, .size = 1}, "size 1 for RAW, want 0"},
      {{.kind = XCHG_FRAME_CUSTOM}, "parse is NULL for CUSTOM"},
      {{.kind = XCHG_FRAME_LINE, .parse = cut_nothing}, "parse is set for LINE"},
  };
  for (size_t i = 0; i < count_of(bad); i++) {
    char said_of_frame[96];
    snprintf(said_of_frame, sizeof(said_of_frame), "handler: invalid frame: %s", bad[i].said);
    refused(HANDLER(.frame = bad[i].frame), EINVAL, said_of_frame);
  }
}
END_TEST

/* Numbers out of range, as a program may set them. */
START_TEST(values_out_of_range_are_refused) {
  SETTINGS();
  const struct xchg_config good = settings;
#define OUT_OF_RANGE(field, value)     \
  do {                                 \
    settings = good;                   \
    settings.field = value;            \
    refused(&nothing, EINVAL, #field); \
  } while (0)
  OUT_OF_RANGE(backlog, 0);
  OUT_OF_RANGE(workers, 1025);
  OUT_OF_RANGE(queue, 0);
  OUT_OF_RANGE(queue, (1U << 20) + 1);
  OUT_OF_RANGE(dispatch, (enum xchg_dispatch)7);
  OUT_OF_RANGE(overload, (enum xchg_overload) - 1);
  OUT_OF_RANGE(log_level, (enum xchg_log_level)4);
  OUT_OF_RANGE(log_level, (enum xchg_log_level) - 1);
  OUT_OF_RANGE(log_format, (enum xchg_log_format)2);
  OUT_OF_RANGE(offload_threads, 1025);
  OUT_OF_RANGE(spin_ns, 2 * NS_PER_S);
  OUT_OF_RANGE(stop_grace_ns, 61 * NS_PER_S);
  OUT_OF_RANGE(max_pending_bytes, 4095);
  OUT_OF_RANGE(max_message_bytes, 0);
  OUT_OF_RANGE(max_connections, UINT64_MAX);
  OUT_OF_RANGE(listen, "localhost:80");
  OUT_OF_RANGE(listen, "127.0.0.1:70000");
  OUT_OF_RANGE(allow, "10.0.0.0/33");
  OUT_OF_RANGE(deny, "nobody");
  settings = good;
  settings.backlog = 0;
  settings.queue = 0;
  ck_assert_ptr_null(xchg_server_create(&settings, &nothing));
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_uint_eq(lines_count("\n"), 3); /* the lines of the last case and these two */
}
END_TEST

START_TEST(an_address_in_use_is_refused) {
  SETTINGS();
  create_server(&nothing);
  char listen[128];
  snprintf(listen, sizeof(listen), "127.0.0.1:0,127.0.0.1:%u", port_of(server));
  settings.listen = listen;
  refused(&nothing, EADDRINUSE, strrchr(listen, ',') + 1);
  settings.listen = "unix:/nonexistent/folder/socket";
  refused(&nothing, ENOENT, "/nonexistent/folder/socket");
  xchg_server_destroy(server);
}
END_TEST

static struct xchg_server *started;
static unsigned called;

static void count_call(struct xchg_conn *conn, void *argument) {
  ck_assert_ptr_null(conn);
  ck_assert_ptr_eq(argument, &called);
  called++;
}

/* on_start may post before it declines. */
static int decline(struct xchg_server *of) {
  started = of;
  ck_assert_int_eq(xchg_post(of, 1, count_call, &called), 0);
  ck_assert_int_eq(xchg_publish(of, 1, "nobody", 6), 0);
  return -1;
}

START_TEST(on_start_may_decline) {
  SETTINGS();
  refused(HANDLER(.on_start = decline), ECANCELED, "handler: on_start failed");
  ck_assert_ptr_nonnull(started);
  ck_assert_uint_eq(called, 1);
}
END_TEST

static int agree(struct xchg_server *of) {
  started = of;
  ck_assert_ptr_null(server);
  return 0;
}

START_TEST(on_start_gets_the_server) {
  SETTINGS();
  create_server(HANDLER(.on_start = agree));
  ck_assert_ptr_eq(started, server);
  xchg_server_destroy(server);
}
END_TEST

/* Use up all descriptors but ${left}. Return: how many were opened. */
static unsigned fill_descriptors(int *fds, unsigned left) {
  unsigned count = 0;
  while ((fds[count] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) != -1) {
    count++;
  }
  ck_assert_int_eq(errno, EMFILE);
  ck_assert_uint_ge(count, left);
  for (; left > 0; left--) {
    close(fds[--count]);
  }
  return count;
}

/* Whichever descriptor is refused, all others are closed. */
START_TEST(every_descriptor_can_fail) {
  SETTINGS("XCHG_LISTEN=127.0.0.1:0,127.0.0.1:0");
  int fds[256];
  struct rlimit limit;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = 200;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  unsigned left = 0;
  for (server = NULL; server == NULL; left++) {
    unsigned count = fill_descriptors(fds, left);
    server = xchg_server_create(&settings, &nothing);
    ck_assert_msg(server != NULL || errno == EMFILE, "%u left: %s", left, strerror(errno));
    if (server == NULL) {
      int more[256];
      unsigned again = fill_descriptors(more, 0);
      ck_assert_uint_eq(again, left);
      while (again > 0) {
        close(more[--again]);
      }
    }
    while (count > 0) {
      close(fds[--count]);
    }
  }
  ck_assert_uint_gt(left, 8); /* two listeners, and two for each of two workers and the acceptor */
  xchg_server_destroy(server);
}
END_TEST

/* ---- successful creations ---- */

/* With an empty handler all input is counted and dropped. */
START_TEST(an_empty_handler_discards) {
  SETTINGS();
  start_server(&nothing);
  int client = connect_to_port(port_of(server));
  send_bytes(client, "to nobody", 9);
  ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
  expect_end(client);
  close(client);
  xchg_server_drain(server);
  ck_assert_int_eq(xchg_server_wait(server), 0);
  struct xchg_stats stats = read_stats();
  check_sums(&stats);
  ck_assert_uint_eq(stats.bytes_in, 9);
  ck_assert_uint_eq(stats.bytes_out, 0);
  ck_assert_uint_eq(stats.ended[XCHG_FINISHED], 1);
  xchg_server_destroy(server);
}
END_TEST

static void greet_with_state(struct xchg_conn *conn) {
  const unsigned char *state = xchg_state(conn);
  ck_assert_uint_eq(state[0], 0);
  ck_assert_uint_eq(state[XCHG_STATE_MAX - 1], 0);
  memset(xchg_state(conn), 0xff, XCHG_STATE_MAX);
  ck_assert_int_eq(xchg_send(conn, "hi", 2), 0);
  ck_assert_int_eq(xchg_finish(conn), 0);
}

START_TEST(the_largest_state) {
  SETTINGS("XCHG_WORKERS=1");
  start_server(HANDLER(.state_size = XCHG_STATE_MAX, .on_open = greet_with_state));
  for (int i = 0; i < 20; i++) { /* reused memory is zeroed */
    int client = connect_to_port(port_of(server));
    expect_bytes(client, "hi", 2);
    expect_end(client);
    close(client);
  }
  xchg_server_destroy(server);
}
END_TEST

/* Strings and structs are copied, and 0 means the default. */
START_TEST(strings_and_structs_are_copied) {
  SETTINGS();
  char listen[] = "127.0.0.1:0", allow[] = "127.0.0.0/8";
  struct xchg_handler handler = {
      .size = sizeof(handler), .on_open = greet_with_state, .state_size = XCHG_STATE_MAX};
  settings.listen = listen;
  settings.allow = allow;
  settings.workers = 0;
  create_server(&handler);
  memset(listen, 'x', sizeof(listen) - 1);
  memset(allow, 'x', sizeof(allow) - 1);
  memset(&handler, 0xa5, sizeof(handler));
  struct log_lines *user = settings.log_user;
  memset(&settings, 0xa5, sizeof(settings));
  ck_assert_ptr_eq(user, &lines);
  ck_assert_int_eq(xchg_server_start(server), 0);
  int client = connect_to_port(port_of(server));
  expect_bytes(client, "hi", 2);
  expect_end(client);
  close(client);
  xchg_server_destroy(server);
}
END_TEST

START_TEST(addresses_are_reported) {
  char folder[] = "/tmp/xchg-embed-XXXXXX", path[64], listen[256], text[XCHG_ADDRESS_MAX];
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(path, sizeof(path), "unix:%s/s", folder);
  snprintf(listen, sizeof(listen), "127.0.0.1:0,%s;mode=0600,127.0.0.2:0", path);
  SETTINGS();
  settings.listen = listen;
  create_server(&nothing);
  ck_assert_int_eq(xchg_server_address(server, 0, text, sizeof(text)), 0);
  ck_assert_int_eq(strncmp(text, "127.0.0.1:", 10), 0);
  ck_assert_uint_ne(strtoul(text + 10, NULL, 10), 0);
  size_t room = strlen(text) + 1;
  ck_assert_int_eq(xchg_server_address(server, 0, text, room), 0);
  ck_assert_int_eq(xchg_server_address(server, 0, text, room - 1), -1);
  ck_assert_int_eq(errno, ENOSPC);
  ck_assert_int_eq(xchg_server_address(server, 0, text, 0), -1);
  ck_assert_int_eq(errno, ENOSPC);
  ck_assert_int_eq(xchg_server_address(server, 1, text, sizeof(text)), 0);
  ck_assert_str_eq(text, path);
  ck_assert_int_eq(xchg_server_address(server, 2, text, sizeof(text)), 0);
  ck_assert_int_eq(strncmp(text, "127.0.0.2:", 10), 0);
  ck_assert_int_eq(xchg_server_address(server, 3, text, sizeof(text)), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(xchg_server_address(server, UINT32_MAX, text, sizeof(text)), -1);
  ck_assert_int_eq(errno, ENOENT);
  xchg_server_destroy(server);
  ck_assert_int_eq(access(path + 5, F_OK), -1); /* the socket file is removed at the end */
  ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {defaults, 1},
      {values, 1},
      {every_fault_is_a_line, 1},
      {foreign_variables_are_faults, count_of(foreign)},
      {another_size, 1},
      {no_config, 1},
      {invalid_handlers_are_refused, 1},
      {handlers_of_an_upgrade_are_whole, 1},
      {invalid_frames_are_refused, 1},
      {values_out_of_range_are_refused, 1},
      {an_address_in_use_is_refused, 1},
      {on_start_may_decline, 1},
      {on_start_gets_the_server, 1},
      {every_descriptor_can_fail, 1},
      {an_empty_handler_discards, 1},
      {the_largest_state, 1},
      {strings_and_structs_are_copied, 1},
      {addresses_are_reported, 1},
  };
  return run_suite("api_server", tests, count_of(tests));
}
