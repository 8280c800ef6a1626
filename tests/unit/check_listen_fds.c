/* check_listen_fds: what the environment of a service manager says about passed sockets. */
#include "core/listen_fds.h"

#include "tests/fixtures/run_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PID 77

/* What is expected: a letter a socket, in their order: d, a, 1, 2, 3 (any); NULL = refused. */
struct expected {
  const char *fds, *names, *sockets;
};

static const struct expected rows[] = {
    /* without names */
    {"LISTEN_FDS=1", "", "d"},
    {"LISTEN_FDS=3", "", "ddd"},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=", "dd"}, /* an empty value counts as not set */
    {"LISTEN_FDS=0", "LISTEN_FDNAMES=admin", ""},
    {"LISTEN_FDS=", "LISTEN_FDNAMES=admin", ""},
    {"LISTEN_FDS=x", "LISTEN_FDNAMES=admin", ""},
    {"LISTEN_FDS=-1", "LISTEN_FDNAMES=admin", ""},
    {"LISTEN_FDS=1 ", "LISTEN_FDNAMES=admin", ""},
    /* names */
    {"LISTEN_FDS=1", "LISTEN_FDNAMES=admin", "a"},
    {"LISTEN_FDS=1", "LISTEN_FDNAMES=data", "d"},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=data:admin", "da"},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=admin:data", "ad"},
    {"LISTEN_FDS=3", "LISTEN_FDNAMES=admin:xchgd.socket:admin", "ada"},
    {"LISTEN_FDS=4", "LISTEN_FDNAMES=data-proxy-v1:data-proxy-v2:data-proxy-any:unknown", "123d"},
    /* every other name is data */
    {"LISTEN_FDS=4", "LISTEN_FDNAMES=Admin:admin :admi:admin2", "dddd"},
    {"LISTEN_FDS=3", "LISTEN_FDNAMES=data-proxy-v3:data-proxy-:data-proxy-v", "ddd"},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=\xff\x01;\n:\\x61dmin", "dd"},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=:", "dd"},
    {"LISTEN_FDS=3", "LISTEN_FDNAMES=:admin:", "dad"},
    /* more names than sockets, or less */
    {"LISTEN_FDS=1", "LISTEN_FDNAMES=data:admin", NULL},
    {"LISTEN_FDS=1", "LISTEN_FDNAMES=data:", NULL},
    {"LISTEN_FDS=3", "LISTEN_FDNAMES=data:admin", NULL},
    {"LISTEN_FDS=2", "LISTEN_FDNAMES=admin", NULL},
    /* too many */
    {"LISTEN_FDS=64", "", "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"},
    {"LISTEN_FDS=65", "", NULL},
    {"LISTEN_FDS=18446744073709551615", "", NULL},
    {"LISTEN_FDS=8", "LISTEN_FDNAMES=admin:admin:admin:admin:admin:admin:admin:admin", "aaaaaaaa"},
    {"LISTEN_FDS=9", "LISTEN_FDNAMES=admin:admin:admin:admin:admin:admin:admin:admin:admin", NULL},
};

/* The sockets as in struct expected, and their descriptors from 3 on. */
static void check_sockets(const struct listen_fds *passed, const char *sockets) {
  uint32_t data = 0, admin = 0;
  for (int i = 0; sockets[i] != 0; i++) {
    const struct listen_fd *socket =
        sockets[i] == 'a' ? &passed->admin[admin++] : &passed->data[data++];
    int proxy = sockets[i] >= '1' && sockets[i] <= '3' ? sockets[i] - '0' : ADDR_PROXY_OFF;
    ck_assert_int_eq(socket->fd, 3 + i);
    ck_assert_int_eq(socket->proxy, proxy);
  }
  ck_assert_uint_eq(passed->data_count, data);
  ck_assert_uint_eq(passed->admin_count, admin);
  ck_assert_uint_eq(passed->count, strlen(sockets));
}

START_TEST(names_say_what_a_socket_is) {
  const struct expected *row = &rows[_i];
  const char *environment[] = {"LISTEN_PID=77", row->fds, row->names, NULL};
  struct listen_fds passed;
  listen_fds_read(&passed, environment, PID);
  ck_assert_msg(passed.invalid == (row->sockets == NULL), "%s %s", row->fds, row->names);
  if (row->sockets != NULL) {
    check_sockets(&passed, row->sockets);
  } else {
    ck_assert_uint_eq(passed.data_count, 0);
    ck_assert_uint_eq(passed.admin_count, 0);
  }
}
END_TEST

/* What is meant for another process, or says so, is left alone. */
START_TEST(other_processes) {
  static const char *const pids[] = {"LISTEN_PID=78",  "LISTEN_PID=",    "LISTEN_PID=77x",
                                     "LISTEN_PID=-77", "LISTEN_PID= 77", "LISTEN_PIDS=77"};
  struct listen_fds passed;
  const char *environment[] = {pids[_i], "LISTEN_FDS=1", "LISTEN_FDNAMES=a:b", NULL};
  listen_fds_read(&passed, environment, PID);
  ck_assert(!passed.invalid);
  check_sockets(&passed, "");
}
END_TEST

/* 64 sockets for clients and 8 for the admin endpoint fit, in any order. */
START_TEST(the_most) {
  char names[1024] = "LISTEN_FDNAMES=";
  char sockets[LISTEN_FDS_DATA_MAX + LISTEN_FDS_ADMIN_MAX + 1] = "";
  for (int i = 0; i < LISTEN_FDS_DATA_MAX + LISTEN_FDS_ADMIN_MAX; i++) {
    bool admin = i % 9 == 4;
    sockets[i] = admin ? 'a' : 'd';
    strcat(names, i == 0 ? "" : ":");
    strcat(names, admin ? "admin" : "d");
  }
  const char *environment[] = {"LISTEN_PID=77", "LISTEN_FDS=72", names, NULL};
  struct listen_fds passed;
  listen_fds_read(&passed, environment, PID);
  ck_assert(!passed.invalid);
  check_sockets(&passed, sockets);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {names_say_what_a_socket_is, (int)count_of(rows)}, {other_processes, 6}, {the_most, 1}};
  return run_suite("listen_fds", tests, count_of(tests));
}
