/*
 * check_dial: of several addresses the first that accepts is used, and its connection is the first
 * one of the run.
 */
#include "xchg-bench/dial.h"

#include "tests/fixtures/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static struct options options;
static struct first_connection first;

/* A listener on 127.0.0.${host}. Return: it; its port is in ${*port}. */
static int listen_on(uint8_t host, uint16_t *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port)};
  socklen_t size = sizeof(address);
  address.sin_addr.s_addr = htonl(0x7f000000u + host);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
  ck_assert_int_eq(listen(fd, 8), 0);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  *port = ntohs(address.sin_port);
  return fd;
}

/* Let the name have 127.0.0.2, 127.0.0.3 and 127.0.0.4. */
static void name_three(uint16_t port) {
  options = (struct options){.timeout_ns = NS_PER_S, .addresses_count = 3};
  first.fd = -1;
  for (uint8_t i = 0; i < 3; i++) {
    addr_from_ipv4(&options.addresses[i], (const uint8_t[]){127, 0, 0, (uint8_t)(2 + i)}, port);
  }
  options.address = (struct addr_listen){.addr = options.addresses[0], .mode = -1};
}

START_TEST(the_first_that_accepts_is_chosen) {
  char text[ADDR_TEXT_MAX];
  uint16_t port = 0;
  int fd = -2;
  uint64_t connect_ns;
  const int listener = listen_on((uint8_t)(2 + _i), &port);
  name_three(port);
  ck_assert_uint_eq(dial_choose(&options, &first), (uint32_t)_i + 1);
  ck_assert_str_eq(addr_format(&options.address.addr, text),
                   addr_format(&options.addresses[_i], (char[ADDR_TEXT_MAX]){""}));
  const int accepted = accept(listener, NULL, NULL);
  ck_assert_int_ne(accepted, -1);
  ck_assert(dial_take_first(&first, &fd, &connect_ns));
  ck_assert_int_eq(write(fd, "x", 1), 1); /* it is this connection */
  char byte = 0;
  ck_assert_int_eq(read(accepted, &byte, 1), 1);
  ck_assert_int_eq(byte, 'x');
  ck_assert(!dial_take_first(&first, &fd, &connect_ns)); /* once only */
  close(accepted);
  close(listener);
  close(fd);
}
END_TEST

START_TEST(none_answers) {
  uint16_t port = 0;
  close(listen_on(2, &port));
  name_three(port);
  ck_assert_uint_eq(dial_choose(&options, &first), 0);
  ck_assert_int_eq(first.fd, -1);
  ck_assert_mem_eq(&options.address.addr, &options.addresses[0], sizeof(struct addr));
}
END_TEST

/* With one address there is nothing to choose, so no connection is made. */
START_TEST(one_address_is_not_tried) {
  uint16_t port = 0;
  const int listener = listen_on(2, &port);
  name_three(port);
  options.addresses_count = (uint32_t)_i;
  ck_assert_uint_eq(dial_choose(&options, &first), 0);
  ck_assert_int_eq(first.fd, -1);
  close(listener);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {the_first_that_accepts_is_chosen, 3},
      {none_answers, 1},
      {one_address_is_not_tried, 2},
  };
  return run_suite("dial", tests, count_of(tests));
}
