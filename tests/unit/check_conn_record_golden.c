/*
 * check_conn_record_golden: this version serves the connections that earlier versions have packed.
 *
 * tests/golden/record-1/STATE is a record as the first version wrote it, and then its CRC32C,
 * little-endian.  A file never changes once it was released.  With GOLDEN=write the
 * program writes the files that do not exist (`make golden`).
 */
#include "tests/fixtures/other_worker.h"

#include "core/fields.h"
#include "core/crc32c.h"

#define CRC_SIZE 4
#define RECORD_SIZE_MAX 4096
#define LONG_NS (NS_PER_S << 32) /* no time of this machine matters */
#define HEADER "PROXY TCP4 192.0.2.7"

static uint8_t bytes[RECORD_SIZE_MAX];
static size_t size;

/* ---- the states ---- */

enum state { IDLE, UNFINISHED, QUEUED, GROUPS, IN_HEADER, LINGERS, SAVED, STATES };

static const struct {
  const char *name;
  const char *sent;   /* by the client before it was packed */
  const char *more;   /* by the client afterwards; a '|' is the 0 at the end of a message */
  const char *answer; /* what it then receives */
  enum conn_state state;
  uint64_t messages;
  bool opens; /* on_open is called here */
} states[STATES] = {
    [IDLE] = {"idle", "one|", "two|", "two|", CONN_OPEN, 1, false},
    [UNFINISHED] = {"unfinished", "one|ab", "c|d|", "abc|d|", CONN_OPEN, 1, false},
    [QUEUED] = {"queued", "", "one|", "text|one|", CONN_OPEN, 0, false},
    [GROUPS] = {"groups", "", "one|", "one|", CONN_OPEN, 0, false},
    [IN_HEADER] = {"header", HEADER, " 198.51.100.1 12345 7000\r\none|", "one|", CONN_HEADER, 0,
                   true},
    [LINGERS] = {"lingers", "one|", "", "", CONN_LINGERING, 1, false},
    [SAVED] = {"saved", "one|", "two|", "two|", CONN_OPEN, 1, false},
};

/* Copy ${text} to ${to}, with 0 for '|'. Return: its size. */
static size_t convert(char to[64], const char *text) {
  size_t length = strlen(text);
  for (size_t i = 0; i < length; i++) {
    to[i] = text[i] == '|' ? '\0' : text[i];
  }
  return length;
}

#define STATE "state of a handler"

static ssize_t save(struct xchg_conn *conn, void *data, size_t room) {
  (void)conn, (void)room; /* XCHG_SAVE_MAX */
  memcpy(data, STATE, sizeof(STATE));
  return sizeof(STATE);
}

static int restore(struct xchg_conn *conn, uint32_t version, const void *data, size_t length) {
  (void)conn;
  ck_assert_uint_eq(version, 258);
  ck_assert_uint_eq(length, sizeof(STATE));
  ck_assert_mem_eq(data, STATE, sizeof(STATE));
  return 0;
}

static void start(enum state state) {
  conn_fixture_init();
  if (state == SAVED) {
    fixture.handler.state_version = 258;
    fixture.handler.on_save = save;
    fixture.handler.on_restore = restore;
  }
  fixture.config.idle_timeout_ns = fixture.config.message_timeout_ns = LONG_NS;
  fixture.config.write_timeout_ns = fixture.config.linger_ns = LONG_NS;
  fixture.config.proxy_timeout_ns = LONG_NS;
  fixture.config.listen_count = 1;
  fixture.config.listen[0].proxy = state == IN_HEADER ? ADDR_PROXY_ANY : ADDR_PROXY_OFF;
  fixture_start(false);
}

static const char *path_of(char path[64], enum state state) {
  snprintf(path, 64, "tests/golden/record-1/%s", states[state].name);
  return path;
}

/* ---- read ---- */

static void read_golden(enum state state) {
  char path[64];
  FILE *file = fopen(path_of(path, state), "rb");
  ck_assert_msg(file != NULL, "%s is missing: make golden", path);
  size = fread(bytes, 1, sizeof(bytes), file);
  fclose(file);
  ck_assert_msg(size > CRC_SIZE, "%s is empty", path);
  size -= CRC_SIZE;
  ck_assert_msg(fields_load(bytes + size, CRC_SIZE) == crc32c(0, bytes, size), "%s was changed",
                path);
}

static void check_record(const struct conn_record *record, enum state state) {
  ck_assert_int_eq(record->conn.state, states[state].state);
  ck_assert_uint_eq(record->conn.messages, states[state].messages);
  ck_assert_int_eq(record->addr.family, ADDR_UNIX);
  ck_assert_int_eq(record->proxied, state == IN_HEADER);
  ck_assert_uint_eq(record->groups.size, state == GROUPS ? 2 * CONN_RECORD_GROUP : 0);
  ck_assert_uint_eq(record->output.size, state == QUEUED ? 5 : 0);
  ck_assert_uint_eq(record->input.size, state == UNFINISHED  ? 2
                                        : state == IN_HEADER ? strlen(HEADER)
                                                             : 0);
}

/* The client of a golden record goes on as if nothing had happened. */
START_TEST(test_golden_records) {
  enum state state = (enum state)_i;
  struct conn_record record;
  char text[64], got[64];
  int fds[2];
  start(state);
  read_golden(state);
  const char *why = conn_record_read(&record, bytes, size);
  ck_assert_msg(why == NULL, "%s: %s", states[state].name, why);
  check_record(&record, state);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  size_t more = convert(text, states[state].more);
  ck_assert_int_eq(send(fds[0], text, more, 0), (ssize_t)more);
  record.owned = (struct conn_owned){.fd = fds[1], .ip_slot = NO_IP_SLOT};
  struct xchg_conn *conn = conn_unpack(&fixture.ctx, &record);
  ck_assert_ptr_nonnull(conn);
  conn_resume(conn);
  fixture.accepted++;
  fixture.opens += states[state].opens ? 0 : 1;
  size_t answer = convert(text, states[state].answer);
  ck_assert_uint_eq(client_recv(fds[0], got, answer), answer);
  ck_assert_mem_eq(got, text, answer);
  if (state == GROUPS) {
    ck_assert_uint_eq(conn->cold->memberships->count, 2);
  }
  close_and_expect_end(fds[0], XCHG_FINISHED);
  conn_fixture_fini();
}
END_TEST

/* ---- write ---- */

/* Bring a connection into ${state} and pack it into the buffer. */
static void make_record(enum state state) {
  char text[64];
  start(state);
  int fd = client_connect();
  size_t sent = convert(text, states[state].sent);
  client_send(fd, text, sent);
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  if (state == QUEUED) {
    ck_assert_int_eq(xchg_send(conn, "text", 5), 0);
  } else if (state == GROUPS) {
    ck_assert_int_eq(xchg_join(conn, 1, XCHG_SLOW_SKIP), 0);
    ck_assert_int_eq(xchg_join(conn, UINT64_MAX, XCHG_SLOW_DROP), 0);
  } else if (state == LINGERS) {
    xchg_finish(conn);
    fixture_settle();
  }
  struct packed packed = pack(conn);
  ck_assert_uint_le(packed.size, sizeof(bytes) - CRC_SIZE);
  memcpy(bytes, packed.bytes, packed.size);
  size = packed.size;
  packed_free(&packed);
  close(packed.owned.fd);
  close(fd);
}

/* Write the file unless it exists. */
START_TEST(write_golden) {
  enum state state = (enum state)_i;
  char path[64];
  make_record(state);
  fields_store(bytes + size, crc32c(0, bytes, size), CRC_SIZE);
  FILE *file = fopen(path_of(path, state), "wbx");
  if (file == NULL && errno == EEXIST) {
    return;
  }
  ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
  ck_assert_uint_eq(fwrite(bytes, size + CRC_SIZE, 1, file), 1);
  ck_assert_int_eq(fclose(file), 0);
}
END_TEST

int main(void) {
  const struct suite_test reads[] = {{test_golden_records, STATES}};
  const struct suite_test writes[] = {{write_golden, STATES}};
  const char *golden = getenv("GOLDEN");
  bool write = golden != NULL && strcmp(golden, "write") == 0;
  return run_suite("conn_record_golden", write ? writes : reads, 1);
}
