/*
 * check_conn_input: what a connection receives: frames at every split, pipelining,
 * XCHG_MAX_PENDING, the end of the stream, and reads that must continue until EAGAIN.
 */
#include "tests/fixtures/conn_fixture.h"

#include "net/conn_input.h"

/* A stream of messages under a frame, and the messages that the handler must get. */
struct stream {
  struct xchg_frame frame;
  const char *bytes;
  size_t size;
  const char *got; /* '|' after each message */
  size_t got_size;
};

#define STREAM(kind_, n, bytes_, got_) \
  { {.kind = kind_, .size = n}, bytes_, sizeof(bytes_) - 1, got_, sizeof(got_) - 1 }

static const struct stream streams[] = {
    STREAM(XCHG_FRAME_DELIMITER, 0, "one\0\0three\r\n\0", "one||three\r\n|"),
    STREAM(XCHG_FRAME_LINE, 0, "one\n\r\nt\0o\r\n\rx\r\r\n", "one||t\0o|\rx\r|"),
    STREAM(XCHG_FRAME_PREFIX, 2, "\0\3one\0\0\0\4f\0ur", "one||f\0ur|"),
    STREAM(XCHG_FRAME_PREFIX, 4, "\0\0\0\3one\0\0\0\0\0\0\0\4f\0ur", "one||f\0ur|"),
    STREAM(XCHG_FRAME_FIXED, 3, "onet\0othr", "one|t\0o|thr|"),
};

static void expect_stream(int fd, const struct stream *stream) {
  char replies[64];
  ck_assert_uint_eq(client_recv(fd, replies, stream->size), stream->size);
  ck_assert_mem_eq(replies, stream->bytes, stream->size);
  ck_assert_uint_eq(fixture.got_size, stream->got_size);
  ck_assert_mem_eq(fixture.got, stream->got, stream->got_size);
}

static void run_stream(const struct stream *stream, size_t split, size_t step) {
  fixture.handler.frame = stream->frame;
  int fd = start_and_connect((split & 1) != 0);
  client_send(fd, stream->bytes, split);
  fixture_settle();
  for (size_t at = split; at < stream->size; at += step) {
    client_send(fd, stream->bytes + at, min_u64(step, stream->size - at));
    fixture_settle();
  }
  expect_stream(fd, stream);
  ck_assert_ptr_null(fixture_conn()->in);
  client_shutdown(fd);
  expect_end_then_close(fd, XCHG_FINISHED);
  conn_fixture_reset();
}

START_TEST(test_every_split_gives_the_same_messages) {
  for (size_t split = 0; split <= streams[_i].size; split++) {
    run_stream(&streams[_i], split, streams[_i].size);
  }
}
END_TEST

START_TEST(test_single_bytes_give_the_same_messages) { run_stream(&streams[_i], 0, 1); }
END_TEST

/* The stream ends at every position: an incomplete message is answered or counted as truncated. */
START_TEST(test_end_of_stream_everywhere) {
  const struct stream *stream = &streams[_i];
  bool ends = stream->frame.kind == XCHG_FRAME_DELIMITER || stream->frame.kind == XCHG_FRAME_LINE;
  for (size_t size = 0; size <= stream->size; size++) {
    fixture.handler.frame = stream->frame;
    int fd = start_and_connect((size & 1) != 0);
    client_send(fd, stream->bytes, size);
    client_shutdown(fd);
    char replies[64];
    size_t replied = client_recv(fd, replies, sizeof(replies));
    ck_assert_mem_eq(replies, stream->bytes, replied);
    fixture_expect_end(ends || replied == size ? XCHG_FINISHED : XCHG_TRUNCATED);
    ck_assert(!ends || replied == size);
    close(fd);
    conn_fixture_reset();
  }
}
END_TEST

/* Raw frames have no maximum: the limit bounds one read. */
START_TEST(test_raw_echoes_a_stream) {
  fixture.handler.frame.kind = XCHG_FRAME_RAW;
  fixture.handler.max_message = 7;
  int fd = start_and_connect(_i == 1);
  char sent[1000], back[1000];
  for (size_t i = 0; i < sizeof(sent); i++) {
    sent[i] = (char)(i * 31);
  }
  client_send(fd, sent, sizeof(sent));
  ck_assert_uint_eq(client_recv(fd, back, sizeof(back)), sizeof(back));
  ck_assert_mem_eq(back, sent, sizeof(sent));
  ck_assert_uint_ge(fixture.messages, sizeof(sent) / 7);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* One record is one write: all messages of a read are answered by one write. */
START_TEST(test_pipelined_messages_are_answered_by_one_write) {
  fixture_start(_i == 1);
  int fd = client_connect_pair(SOCK_SEQPACKET);
  CLIENT_SEND(fd, "one\0two\0three\0fo");
  fixture_settle();
  char record[64];
  ck_assert_int_eq(recv(fd, record, sizeof(record), 0), 14);
  ck_assert_mem_eq(record, "one\0two\0three\0", 14);
  CLIENT_SEND(fd, "ur\0five\0");
  fixture_settle();
  ck_assert_int_eq(recv(fd, record, sizeof(record), 0), 10);
  ck_assert_mem_eq(record, "four\0five\0", 10);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/*
 * A client asks and does not read: at XCHG_MAX_PENDING parsing and reading stop, and so does the
 * message timeout. When the client reads, every reply comes in order.
 */
START_TEST(test_max_pending_stops_parsing_and_reading) {
  enum { MESSAGES = 26, REPLY = 30000 };
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = REPLY;
  fixture.config.max_pending_bytes = 64 * 1024;
  fixture.config.write_timeout_ns = fixture.config.idle_timeout_ns = 0;
  int fd = start_and_connect(_i == 1);
  for (char c = 'a'; c < 'a' + MESSAGES; c++) {
    const char message[2] = {c, 0};
    client_send(fd, message, 2);
  }
  CLIENT_SEND(fd, "begun");
  fixture_settle();
  struct xchg_conn *conn = fixture_conn();
  ck_assert(conn->clock_stopped);
  ck_assert(!conn_input_readable(conn));
  ck_assert_uint_lt(fixture.messages, MESSAGES);
  uint64_t cut = fixture.messages;
  fixture_advance(10 * fixture.config.message_timeout_ns);
  fixture_settle();
  ck_assert_uint_eq(fixture.closes, 0);
  ck_assert_uint_eq(fixture.messages, cut);
  char *reply = malloc(REPLY);
  ck_assert_ptr_nonnull(reply);
  for (char c = 'a'; c < 'a' + MESSAGES; c++) {
    ck_assert_uint_eq(client_recv(fd, reply, REPLY), REPLY);
    ck_assert(all_bytes(reply, REPLY, c));
  }
  free(reply);
  fixture_settle();
  ck_assert_uint_eq(fixture.messages, MESSAGES);
  ck_assert(!conn->clock_stopped);
  ck_assert_uint_eq(buf_size(conn->in), 5);
  client_shutdown(fd);
  fixture_expect_end(XCHG_FINISHED); /* which completes the message that had begun */
  ck_assert_uint_eq(fixture.messages, MESSAGES + 1);
  close(fd);
}
END_TEST

/*
 * Many messages of one read, whose replies exceed XCHG_MAX_PENDING again and again without a stall.
 */
START_TEST(test_buffered_messages_continue_without_an_event) {
  enum { MESSAGES = 200, REPLY = 5000 };
  fixture.reply = FIXTURE_LONG;
  fixture.long_bytes = REPLY;
  fixture.config.max_pending_bytes = 4096;
  fixture_start((_i & 1) != 0);
  int fd = (_i & 2) != 0 ? client_connect_tcp() : client_connect();
  char asked[2 * MESSAGES];
  for (int i = 0; i < MESSAGES; i++) {
    asked[2 * i] = (char)('a' + i % 26);
    asked[2 * i + 1] = 0;
  }
  ck_assert_int_eq(send(fd, asked, sizeof(asked), 0), sizeof(asked));
  char reply[REPLY];
  for (int i = 0; i < MESSAGES; i++) {
    ck_assert_uint_eq(client_recv(fd, reply, REPLY), REPLY);
    ck_assert(all_bytes(reply, REPLY, asked[2 * i]));
  }
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_too_long_at_every_split) {
  static const struct stream longs[] = {
      STREAM(XCHG_FRAME_DELIMITER, 0,
             "12345\0"
             "123456",
             "12345|"),
      STREAM(XCHG_FRAME_LINE, 0,
             "12345\r\n"
             "1234567",
             "12345|"),
      STREAM(XCHG_FRAME_PREFIX, 2, "\0\00512345\0\006", "12345|"),
      STREAM(XCHG_FRAME_PREFIX, 4, "\0\0\0\00512345\377\377\377\377", "12345|"),
  };
  for (size_t split = 0; split < longs[_i].size; split++) {
    fixture.handler.frame = longs[_i].frame;
    fixture.handler.max_message = 5;
    int fd = start_and_connect(false);
    client_send(fd, longs[_i].bytes, split);
    client_send(fd, longs[_i].bytes + split, longs[_i].size - split);
    fixture_settle();
    ck_assert_uint_eq(fixture.got_size, longs[_i].got_size);
    ck_assert_mem_eq(fixture.got, longs[_i].got, fixture.got_size);
    close_and_expect_end(fd, XCHG_TOO_LONG);
    ck_assert_uint_lt(fixture.ctx.bufs.bytes_max, UINT64_MAX);
    conn_fixture_reset();
  }
}
END_TEST

/* The client ends before a counted exchange is complete. */
START_TEST(test_end_before_the_exchange_is_complete) {
  fixture.handler.messages = 3;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "one\0two\0");
  client_shutdown(fd);
  fixture_expect_end(XCHG_PEER);
  ck_assert_uint_eq(fixture.messages, 2);
  close(fd);
}
END_TEST

START_TEST(test_finish_drops_later_messages) {
  fixture.finish_after = 2;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "one\0two\0three\0");
  CLIENT_EXPECT(fd, "one\0two\0");
  client_expect_end(fd);
  close_and_expect_end(fd, XCHG_FINISHED);
  ck_assert_uint_eq(fixture.messages, 2);
}
END_TEST

START_TEST(test_abort_drops_later_messages) {
  fixture.abort_after = 2;
  int fd = start_and_connect(_i == 1);
  CLIENT_SEND(fd, "one\0two\0three\0");
  fixture_expect_end(XCHG_ERROR);
  ck_assert_uint_eq(fixture.messages, 2);
  close(fd);
}
END_TEST

/* The handler aborts in a message that the end of the stream completes. */
START_TEST(test_abort_at_the_end_of_stream) {
  fixture.abort_after = 1;
  int fd = start_and_connect(false);
  CLIENT_SEND(fd, "one");
  close_and_expect_end(fd, XCHG_ERROR);
}
END_TEST

/* Out of memory for input or for a reply: the connection ends as memory, the others live on. */
START_TEST(test_no_memory_for_bytes) {
  bool reply = _i == 1;
  fixture_start(false);
  int other = client_connect();
  int fd = client_connect();
  fixture_without_staging();
  fixture.ctx.bufs.bytes_max = 0;
  client_send(fd, "one\0", reply ? 4 : 3);
  FIXTURE_UNTIL(fixture.closes == 1);
  ck_assert_uint_eq(fixture_ended(XCHG_MEMORY), 1);
  fixture.ctx.bufs.bytes_max = UINT64_MAX;
  CLIENT_SEND(other, "two\0");
  CLIENT_EXPECT(other, "two\0");
  close(fd);
  close(other);
  FIXTURE_UNTIL(fixture.closes == 2);
  ck_assert_uint_eq(fixture_ended(XCHG_FINISHED), 1);
}
END_TEST

/* TCP urgent data ends a read early without another event: the bytes after it are served. */
START_TEST(test_bytes_after_urgent_data_are_served) {
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  for (int i = 0; i < 5; i++) {
    CLIENT_WRITE(fd, "on");
    ck_assert_int_eq(send(fd, "!", 1, MSG_OOB), 1);
    CLIENT_WRITE(fd, "e\0two\0");
    CLIENT_EXPECT(fd, "one\0two\0");
  }
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

/* Input of many reads is served before the end of the stream takes effect. */
START_TEST(test_input_before_the_end_is_served) {
  fixture.reply = FIXTURE_SILENT;
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  char block[10000];
  for (size_t i = 0; i < sizeof(block); i++) {
    block[i] = i % 100 == 99 ? 0 : 'x';
  }
  size_t sent = 0;
  for (ssize_t put; sent < 3000000;) {
    put = send(fd, block + sent % 100, sizeof(block) - sent % 100, 0);
    if (put == -1) {
      break;
    }
    sent += (size_t)put;
  }
  close_and_expect_end(fd, XCHG_FINISHED);
  ck_assert_uint_eq(fixture.messages, (sent + 99) / 100); /* the last one may be incomplete */
}
END_TEST

/*
 * A descriptor passed over a UNIX socket ends a read early. The bytes are read, the descriptor is
 * not.
 */
START_TEST(test_passed_descriptor_is_ignored) {
  int fd = start_and_connect(_i == 1);
  unsigned before = count_descriptors();
  for (int i = 0; i < 4; i++) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = (char[]){'o', 'n'}, .iov_len = 2};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof(int));
    CLIENT_WRITE(fd, "f");
    ck_assert_int_eq(sendmsg(fd, &message, 0), 2);
    CLIENT_WRITE(fd, "e\0");
    CLIENT_EXPECT(fd, "fone\0");
  }
  ck_assert_uint_eq(count_descriptors(), before);
  close_and_expect_end(fd, XCHG_FINISHED);
}
END_TEST

START_TEST(test_reset_while_a_message_is_incomplete) {
  fixture_start(_i == 1);
  int fd = client_connect_tcp();
  CLIENT_SEND(fd, "one");
  struct linger hard = {.l_onoff = 1};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  close_and_expect_end(fd, XCHG_RESET);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_every_split_gives_the_same_messages, count_of(streams)},
      {test_single_bytes_give_the_same_messages, count_of(streams)},
      {test_end_of_stream_everywhere, count_of(streams)},
      {test_raw_echoes_a_stream, 2},
      {test_pipelined_messages_are_answered_by_one_write, 2},
      {test_max_pending_stops_parsing_and_reading, 2},
      {test_buffered_messages_continue_without_an_event, 4},
      {test_too_long_at_every_split, 4},
      {test_end_before_the_exchange_is_complete, 2},
      {test_finish_drops_later_messages, 2},
      {test_abort_drops_later_messages, 2},
      {test_abort_at_the_end_of_stream, 1},
      {test_no_memory_for_bytes, 2},
      {test_bytes_after_urgent_data_are_served, 2},
      {test_input_before_the_end_is_served, 2},
      {test_passed_descriptor_is_ignored, 2},
      {test_reset_while_a_message_is_incomplete, 2},
  };
  return run_suite_fixture("conn_input", tests, count_of(tests), conn_fixture_init,
                           conn_fixture_fini);
}
