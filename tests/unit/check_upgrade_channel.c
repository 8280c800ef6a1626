/*
 * check_upgrade_channel: packets and descriptors between two ends of a channel, and each refusal.
 *
 * No test leaves a descriptor open that was not open before.
 */
#include "pool/upgrade_channel.h"

#include "core/fields.h"
#include "tests/fixtures/run_suite.h"
#include "tests/fixtures/socket_fixture.h"
#include "tests/fixtures/upgrade_fixture.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- fixture ---- */

static struct upgrade_channel ours, theirs;
static struct upgrade_packet out, in;
static const char *why;
static unsigned before;
static int listener, client, server; /* sockets to pass */
static int file;                     /* of a batch */

static void set_up(void) {
  int other;
  before = count_descriptors();
  client = tcp_pair(&server);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  ck_assert_int_eq(listen(listener, 1), 0);
  uint64_t most;
  file = memory_file_make(&most);
  ck_assert_int_ne(file, -1);
  ck_assert_int_eq(upgrade_channel_pair(&ours, &other), 0);
  ck_assert_int_eq(upgrade_channel_open(&theirs, other), 0);
}

static void tear_down(void) {
  upgrade_channel_close(&ours);
  upgrade_channel_close(&theirs);
  close(client);
  close(server);
  close(listener);
  close(file);
  ck_assert_uint_eq(count_descriptors(), before);
}

static void send_packet(const struct upgrade_packet *packet) {
  ck_assert_int_eq(upgrade_channel_send(&ours, packet), CHANNEL_OK);
}

static enum channel_result receive(void) { return upgrade_channel_recv(&theirs, &in, &why); }

/* The next packet is refused for ${reason}: no descriptor comes, and the channel goes on. */
static void expect_refused(const char *reason, enum upgrade_kind kind) {
  unsigned open = count_descriptors();
  ck_assert_int_eq(receive(), CHANNEL_REFUSED);
  ck_assert_str_eq(why, reason);
  ck_assert_int_eq(in.kind, kind);
  ck_assert_uint_eq(count_descriptors(), open);
  upgrade_packet_close(&in); /* nothing */
  upgrade_sample(&out, UPGRADE_READY);
  send_packet(&out);
  ck_assert_int_eq(receive(), CHANNEL_OK);
  ck_assert_int_eq(in.kind, UPGRADE_READY);
}

/* Begin a batch in ${out}. */
static struct upgrade_batch *begin_batch(uint32_t number) {
  out = (struct upgrade_packet){.kind = UPGRADE_BATCH, .number = number};
  out.batch.file = file;
  return &out.batch;
}

static void add(struct upgrade_batch *batch, int fd) {
  batch->records[batch->count++] = (struct upgrade_record){.size = 10, .fd = fd};
}

/* ---- packets ---- */

/* Every kind that has no descriptor arrives in both directions. */
START_TEST(test_kinds_without_descriptors) {
  enum upgrade_kind kind = (enum upgrade_kind)(_i + 1);
  struct upgrade_image sent, got;
  if (kind == UPGRADE_LISTENER || kind == UPGRADE_BATCH) {
    return; /* below */
  }
  ck_assert_int_eq(receive(), CHANNEL_AGAIN);
  upgrade_sample(&out, kind);
  upgrade_image_of(&sent, &out);
  send_packet(&out);
  ck_assert_int_eq(receive(), CHANNEL_OK);
  upgrade_image_of(&got, &in);
  ck_assert(upgrade_image_same(&sent, &got));
  ck_assert_int_eq(receive(), CHANNEL_AGAIN);
  ck_assert_int_eq(upgrade_channel_send(&theirs, &out), CHANNEL_OK);
  ck_assert_int_eq(upgrade_channel_recv(&ours, &in, &why), CHANNEL_OK);
  ck_assert_int_eq(in.kind, kind);
}
END_TEST

START_TEST(test_listener) {
  struct stat sent, got;
  unsigned open = count_descriptors();
  upgrade_sample(&out, UPGRADE_LISTENER);
  out.listener.fd = listener;
  send_packet(&out);
  ck_assert_int_eq(receive(), CHANNEL_OK);
  ck_assert_int_eq(fstat(listener, &sent), 0);
  ck_assert_int_eq(fstat(in.listener.fd, &got), 0);
  ck_assert_uint_eq(sent.st_ino, got.st_ino);
  ck_assert_int_eq(fcntl(in.listener.fd, F_GETFD), FD_CLOEXEC);
  ck_assert_str_eq(in.listener.addr.path, out.listener.addr.path);
  ck_assert_uint_eq(count_descriptors(), open + 1);
  upgrade_packet_close(&in);
  ck_assert_int_eq(in.listener.fd, -1);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

/* A full batch: each record has its own socket, and all have one file. */
START_TEST(test_full_batch) {
  int pairs[UPGRADE_BATCH_MAX][2];
  unsigned open = count_descriptors();
  struct upgrade_batch *batch = begin_batch(7);
  for (unsigned i = 0; i < UPGRADE_BATCH_MAX; i++) {
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
    add(batch, pairs[i][0]);
  }
  ck_assert_int_eq(memory_file_write(file, "records", 7), 0);
  send_packet(&out);
  ck_assert_int_eq(receive(), CHANNEL_OK);
  ck_assert_int_eq(in.kind, UPGRADE_BATCH);
  ck_assert_uint_eq(in.number, 7);
  ck_assert_uint_eq(in.batch.count, UPGRADE_BATCH_MAX);
  char text[8] = "";
  ck_assert_int_eq(memory_file_read(in.batch.file, text, 7), 0);
  ck_assert_str_eq(text, "records");
  ck_assert_int_eq(fcntl(in.batch.file, F_GETFD), FD_CLOEXEC);
  for (unsigned i = 0; i < UPGRADE_BATCH_MAX; i++) {
    struct upgrade_record *record = &in.batch.records[i];
    char byte = (char)i, got = 0;
    ck_assert_uint_eq(record->size, 10);
    ck_assert_int_eq(send(pairs[i][1], &byte, 1, 0), 1);
    ck_assert_int_eq(recv(record->fd, &got, 1, 0), 1);
    ck_assert_int_eq(got, byte);
    close(pairs[i][0]);
    close(pairs[i][1]);
    if (i % 2 == 0) { /* taken */
      close(record->fd);
      record->fd = -1;
    }
  }
  upgrade_packet_close(&in);
  upgrade_packet_close(&in);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

START_TEST(test_packet_too_long) {
  upgrade_sample(&out, UPGRADE_TOTALS);
  static const uint8_t lengthy[FD_PACKET_BYTES_MAX];
  out.account.totals = (struct upgrade_bytes){lengthy, sizeof(lengthy)};
  ck_assert_int_eq(upgrade_channel_send(&ours, &out), CHANNEL_ERROR);
  ck_assert_int_eq(errno, EMSGSIZE);
  ck_assert_int_eq(receive(), CHANNEL_AGAIN);
}
END_TEST

/* The queue is full: CHANNEL_AGAIN, and poll says when there is room. */
START_TEST(test_full_queue) {
  unsigned sent = 0;
  enum channel_result result;
  upgrade_sample(&out, UPGRADE_STATUS);
  while ((result = upgrade_channel_send(&ours, &out)) == CHANNEL_OK) {
    sent++;
  }
  ck_assert_int_eq(result, CHANNEL_AGAIN);
  struct pollfd pollfd = {.fd = ours.fd, .events = POLLOUT};
  ck_assert_int_eq(poll(&pollfd, 1, 0), 0);
  for (unsigned i = 0; i < sent; i++) {
    ck_assert_int_eq(receive(), CHANNEL_OK);
  }
  ck_assert_int_eq(poll(&pollfd, 1, 0), 1);
}
END_TEST

/* What the other process has sent before its end is read, with its descriptors. */
START_TEST(test_peer_gone) {
  add(begin_batch(1), server);
  send_packet(&out);
  if (_i == 1) { /* it has not read everything */
    upgrade_sample(&out, UPGRADE_STATUS);
    ck_assert_int_eq(upgrade_channel_send(&theirs, &out), CHANNEL_OK);
  }
  upgrade_channel_close(&ours);
  ck_assert_int_eq(receive(), CHANNEL_OK);
  ck_assert_int_eq(in.kind, UPGRADE_BATCH);
  upgrade_packet_close(&in);
  ck_assert_int_eq(receive(), CHANNEL_GONE);
  ck_assert_int_eq(in.kind, 0);
  upgrade_sample(&out, UPGRADE_TAKEN);
  ck_assert_int_eq(upgrade_channel_send(&theirs, &out), CHANNEL_GONE);
  upgrade_channel_close(&theirs); /* nor does a closed channel do anything */
  ck_assert_int_eq(upgrade_channel_send(&theirs, &out), CHANNEL_GONE);
  ck_assert_int_eq(receive(), CHANNEL_GONE);
}
END_TEST

/* ---- refusals ---- */

START_TEST(test_no_packet) {
  ck_assert_int_eq(send(ours.fd, "hello", 5, 0), 5);
  expect_refused("not a packet", 0);
}
END_TEST

START_TEST(test_wrong_descriptor) {
  int datagram = socket(AF_INET, SOCK_DGRAM, 0), unbound = socket(AF_INET, SOCK_STREAM, 0);
  const int no_listeners[] = {file, datagram, unbound, client, ours.fd};
  const int no_conns[] = {file, datagram, listener, ours.fd};
  for (size_t i = 0; i < count_of(no_listeners); i++) {
    upgrade_sample(&out, UPGRADE_LISTENER);
    out.listener.fd = no_listeners[i];
    send_packet(&out);
    expect_refused("a descriptor of another kind", UPGRADE_LISTENER);
    ck_assert_int_eq(in.number, UPGRADE_READY + 1000);
  }
  for (size_t i = 0; i < count_of(no_conns); i++) {
    struct upgrade_batch *batch = begin_batch(3);
    add(batch, server);
    add(batch, no_conns[i]);
    send_packet(&out);
    expect_refused("a descriptor of another kind", UPGRADE_BATCH);
  }
  close(datagram);
  close(unbound);
}
END_TEST

/* A packet with more or fewer descriptors than its head and its kind say. */
START_TEST(test_wrong_number_of_descriptors) {
  struct upgrade_image image;
  const int fds[] = {server, client, file, listener};
  for (unsigned count = 0; count <= 4; count++) {
    if (count == 3) {
      continue;
    }
    struct upgrade_batch *batch = begin_batch(3);
    add(batch, server);
    add(batch, client);
    upgrade_image_of(&image, &out);
    ck_assert_int_eq(fd_socket_send(ours.fd, image.bytes, image.size, fds, count), FD_IO_OK);
    expect_refused("lost descriptors", UPGRADE_BATCH);
    fields_store(image.bytes + 20, count, 4);
    ck_assert_int_eq(fd_socket_send(ours.fd, image.bytes, image.size, fds, count), FD_IO_OK);
    expect_refused("a wrong number of descriptors", UPGRADE_BATCH);
  }
}
END_TEST

/* RLIMIT_NOFILE has no room for a batch: it can be answered with a TAKEN without a bit. */
START_TEST(test_no_room_for_descriptors) {
  struct rlimit limit, low;
  struct upgrade_batch *batch = begin_batch(9);
  for (int i = 0; i < 5; i++) {
    add(batch, server);
  }
  send_packet(&out);
  unsigned open = count_descriptors();
  int next = dup(0);
  close(next);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  low = (struct rlimit){.rlim_cur = (rlim_t)next + (rlim_t)_i, .rlim_max = limit.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
  enum channel_result result = receive();
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ck_assert_int_eq(result, CHANNEL_REFUSED);
  ck_assert_str_eq(why, "no room for its descriptors");
  ck_assert_int_eq(in.kind, UPGRADE_BATCH);
  ck_assert_uint_eq(in.number, 9);
  ck_assert_uint_eq(count_descriptors(), open);
}
END_TEST

/* A packet longer than any: its head is read all the same. */
START_TEST(test_longer_than_a_packet) {
  static uint8_t lengthy[FD_PACKET_BYTES_MAX + 100];
  struct upgrade_image image;
  upgrade_sample(&out, UPGRADE_TOTALS);
  upgrade_image_of(&image, &out);
  memcpy(lengthy, image.bytes, image.size);
  ck_assert_int_eq(send(ours.fd, lengthy, sizeof(lengthy), 0), sizeof(lengthy));
  expect_refused("too long", UPGRADE_TOTALS);
}
END_TEST

/* ---- open and close ---- */

START_TEST(test_open) {
  struct upgrade_channel channel;
  ck_assert_int_eq(upgrade_channel_open(&channel, client), -1);
  ck_assert_int_eq(errno, EPROTOTYPE);
  ck_assert_int_eq(channel.fd, -1);
  upgrade_channel_close(&channel); /* nothing */
  ck_assert_int_eq(fcntl(ours.fd, F_GETFD), FD_CLOEXEC);
  ck_assert_int_eq(fcntl(theirs.fd, F_GETFD), FD_CLOEXEC);
  upgrade_channel_close(&ours);
  ck_assert_int_eq(ours.fd, -1);
  upgrade_channel_close(&ours);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_kinds_without_descriptors, UPGRADE_KINDS - 1},
      {test_listener, 1},
      {test_full_batch, 1},
      {test_packet_too_long, 1},
      {test_full_queue, 1},
      {test_peer_gone, 2},
      {test_no_packet, 1},
      {test_wrong_descriptor, 1},
      {test_wrong_number_of_descriptors, 1},
      {test_no_room_for_descriptors, 5},
      {test_longer_than_a_packet, 1},
      {test_open, 1},
  };
  return run_suite_fixture("upgrade_channel", tests, count_of(tests), set_up, tear_down);
}
