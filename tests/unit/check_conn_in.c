/*
 * check_conn_in: what a connection receives: framings however they are split, pipelining, the mark
 * at which reading stops, the end of the stream, and reads that must go to the end.
 */
#include "tests/fixtures/run_suite.h"
#include "tests/unit/rig.h"

#include "net/conn_in.h"

/* A stream of messages under a frame, and what the handler must have got. */
struct stream {
  struct xchg_frame frame;
  const char *bytes;
  size_t size;
  const char *got; /* with '|' behind each message */
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

static void expect_stream(struct rig *rig, int fd, const struct stream *stream) {
  char replies[64];
  ck_assert_uint_eq(rig_get(rig, fd, replies, stream->size), stream->size);
  ck_assert_mem_eq(replies, stream->bytes, stream->size);
  ck_assert_uint_eq(rig->got_size, stream->got_size);
  ck_assert_mem_eq(rig->got, stream->got, stream->got_size);
}

static void run_stream(const struct stream *stream, size_t split, size_t step) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.frame = stream->frame;
  rig_start(&rig, (split & 1) != 0);
  int fd = rig_connect(&rig);
  rig_put(&rig, fd, stream->bytes, split);
  rig_settle(&rig);
  for (size_t at = split; at < stream->size; at += step) {
    rig_put(&rig, fd, stream->bytes + at, min_u64(step, stream->size - at));
    rig_settle(&rig);
  }
  expect_stream(&rig, fd, stream);
  ck_assert_ptr_null(rig_conn(&rig)->in);
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  rig_over(&rig, XCHG_FINISHED);
  close(fd);
  rig_fini(&rig);
}

START_TEST(test_every_split) {
  for (size_t split = 0; split <= streams[_i].size; split++) {
    run_stream(&streams[_i], split, streams[_i].size);
  }
}
END_TEST

START_TEST(test_byte_by_byte) { run_stream(&streams[_i], 0, 1); }
END_TEST

/* The end of the stream at every point: what has begun is answered, or truncated, or nothing. */
START_TEST(test_end_of_stream_everywhere) {
  const struct stream *stream = &streams[_i];
  bool ends = stream->frame.kind == XCHG_FRAME_DELIMITER || stream->frame.kind == XCHG_FRAME_LINE;
  for (size_t size = 0; size <= stream->size; size++) {
    struct rig rig;
    rig_init(&rig);
    rig.handler.frame = stream->frame;
    rig_start(&rig, (size & 1) != 0);
    int fd = rig_connect(&rig);
    rig_put(&rig, fd, stream->bytes, size);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    char replies[64];
    size_t replied = rig_get(&rig, fd, replies, sizeof(replies));
    ck_assert_mem_eq(replies, stream->bytes, replied);
    rig_over(&rig, ends || replied == size ? XCHG_FINISHED : XCHG_TRUNCATED);
    ck_assert(!ends || replied == size);
    close(fd);
    rig_fini(&rig);
  }
}
END_TEST

/* Raw is a stream: the limit bounds a read, nothing is too long. */
START_TEST(test_raw_echoes_a_stream) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.frame.kind = XCHG_FRAME_RAW;
  rig.handler.max_message = 7;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  char sent[1000], back[1000];
  for (size_t i = 0; i < sizeof(sent); i++) {
    sent[i] = (char)(i * 31);
  }
  rig_put(&rig, fd, sent, sizeof(sent));
  ck_assert_uint_eq(rig_get(&rig, fd, back, sizeof(back)), sizeof(back));
  ck_assert_mem_eq(back, sent, sizeof(sent));
  ck_assert_uint_ge(rig.messages, sizeof(sent) / 7);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* A record is a write: all messages of a read are answered by one. */
START_TEST(test_pipelined_messages_are_answered_by_one_write) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect_pair(&rig, SOCK_SEQPACKET);
  RIG_PUT(&rig, fd, "one\0two\0three\0fo");
  rig_settle(&rig);
  char record[64];
  ck_assert_int_eq(recv(fd, record, sizeof(record), 0), 14);
  ck_assert_mem_eq(record, "one\0two\0three\0", 14);
  RIG_PUT(&rig, fd, "ur\0five\0");
  rig_settle(&rig);
  ck_assert_int_eq(recv(fd, record, sizeof(record), 0), 10);
  ck_assert_mem_eq(record, "four\0five\0", 10);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/*
 * A peer that asks and does not read: cutting stops at XCHG_MAX_PENDING, reading too, the message's
 * clock stands, and once the peer reads everything comes, in order.
 */
START_TEST(test_output_over_the_mark_stops_cutting_and_reading) {
  enum { MESSAGES = 26, REPLY = 30000 };
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = REPLY;
  rig.config.max_pending_bytes = 64 * 1024;
  rig.config.write_timeout_ns = rig.config.idle_timeout_ns = 0;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  for (char c = 'a'; c < 'a' + MESSAGES; c++) {
    const char message[2] = {c, 0};
    rig_put(&rig, fd, message, 2);
  }
  RIG_PUT(&rig, fd, "begun");
  rig_settle(&rig);
  struct xchg_conn *conn = rig_conn(&rig);
  ck_assert(conn->paused);
  ck_assert(!conn_in_readable(conn));
  ck_assert_uint_lt(rig.messages, MESSAGES);
  uint64_t cut = rig.messages;
  rig_advance(&rig, 10 * rig.config.message_timeout_ns);
  rig_settle(&rig);
  ck_assert_uint_eq(rig.closes, 0);
  ck_assert_uint_eq(rig.messages, cut);
  char *reply = malloc(REPLY);
  ck_assert_ptr_nonnull(reply);
  for (char c = 'a'; c < 'a' + MESSAGES; c++) {
    ck_assert_uint_eq(rig_get(&rig, fd, reply, REPLY), REPLY);
    ck_assert(rig_all(reply, REPLY, c));
  }
  free(reply);
  rig_settle(&rig);
  ck_assert_uint_eq(rig.messages, MESSAGES);
  ck_assert(!conn->paused);
  ck_assert_uint_eq(buf_size(conn->in), 5);
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  rig_over(&rig, XCHG_FINISHED); /* the begun one is ended by the end of the stream */
  ck_assert_uint_eq(rig.messages, MESSAGES + 1);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* Many messages of one read, whose replies go over the mark again and again without a stall. */
START_TEST(test_kept_messages_go_on_without_an_event) {
  enum { MESSAGES = 200, REPLY = 5000 };
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_LONG;
  rig.long_bytes = REPLY;
  rig.config.max_pending_bytes = 4096;
  rig_start(&rig, (_i & 1) != 0);
  int fd = (_i & 2) != 0 ? rig_connect_tcp(&rig) : rig_connect(&rig);
  char asked[2 * MESSAGES];
  for (int i = 0; i < MESSAGES; i++) {
    asked[2 * i] = (char)('a' + i % 26);
    asked[2 * i + 1] = 0;
  }
  ck_assert_int_eq(send(fd, asked, sizeof(asked), 0), sizeof(asked));
  char reply[REPLY];
  for (int i = 0; i < MESSAGES; i++) {
    ck_assert_uint_eq(rig_get(&rig, fd, reply, REPLY), REPLY);
    ck_assert(rig_all(reply, REPLY, asked[2 * i]));
  }
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_too_long) {
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
    struct rig rig;
    rig_init(&rig);
    rig.handler.frame = longs[_i].frame;
    rig.handler.max_message = 5;
    rig_start(&rig, false);
    int fd = rig_connect(&rig);
    rig_put(&rig, fd, longs[_i].bytes, split);
    rig_put(&rig, fd, longs[_i].bytes + split, longs[_i].size - split);
    rig_settle(&rig);
    ck_assert_uint_eq(rig.got_size, longs[_i].got_size);
    ck_assert_mem_eq(rig.got, longs[_i].got, rig.got_size);
    close(fd);
    rig_over(&rig, XCHG_TOO_LONG);
    ck_assert_uint_lt(rig.host.bufs.bytes_max, UINT64_MAX);
    rig_fini(&rig);
  }
}
END_TEST

/* A client that ends before a counted exchange is complete. */
START_TEST(test_end_before_the_exchange_is_complete) {
  struct rig rig;
  rig_init(&rig);
  rig.handler.messages = 3;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "one\0two\0");
  ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
  rig_over(&rig, XCHG_PEER);
  ck_assert_uint_eq(rig.messages, 2);
  close(fd);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_handler_finishes) {
  struct rig rig;
  rig_init(&rig);
  rig.finish_after = 2;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "one\0two\0three\0");
  RIG_GET(&rig, fd, "one\0two\0");
  rig_get_end(&rig, fd);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  ck_assert_uint_eq(rig.messages, 2);
  rig_fini(&rig);
}
END_TEST

START_TEST(test_handler_aborts) {
  struct rig rig;
  rig_init(&rig);
  rig.abort_after = 2;
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "one\0two\0three\0");
  rig_over(&rig, XCHG_ERROR);
  ck_assert_uint_eq(rig.messages, 2);
  close(fd);
  rig_fini(&rig);
}
END_TEST

/* The last message, ended by the end of the stream, may abort as well. */
START_TEST(test_handler_aborts_at_the_end_of_stream) {
  struct rig rig;
  rig_init(&rig);
  rig.abort_after = 1;
  rig_start(&rig, false);
  int fd = rig_connect(&rig);
  RIG_PUT(&rig, fd, "one");
  close(fd);
  rig_over(&rig, XCHG_ERROR);
  rig_fini(&rig);
}
END_TEST

/* No memory to keep a message, or to queue a reply: closed as memory, the others live. */
START_TEST(test_no_memory_for_bytes) {
  bool reply = _i == 1;
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, false);
  int other = rig_connect(&rig);
  int fd = rig_connect(&rig);
  rig.host.bufs.bytes_max = 0;
  rig_put(&rig, fd, "one\0", reply ? 4 : 3);
  RIG_UNTIL(&rig, rig.closes == 1);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_MEMORY), 1);
  rig.host.bufs.bytes_max = UINT64_MAX;
  RIG_PUT(&rig, other, "two\0");
  RIG_GET(&rig, other, "two\0");
  close(fd);
  close(other);
  RIG_UNTIL(&rig, rig.closes == 2);
  ck_assert_uint_eq(rig_ended(&rig, XCHG_FINISHED), 1);
  rig_fini(&rig);
}
END_TEST

/* TCP urgent data cuts a read short and raises no further event: what lies behind is served. */
START_TEST(test_urgent_data) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect_tcp(&rig);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(send(fd, "on", 2, 0), 2);
    ck_assert_int_eq(send(fd, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(send(fd, "e\0two\0", 6, 0), 6);
    RIG_GET(&rig, fd, "one\0two\0");
  }
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* What came before the end is served before the end is acted upon, many reads long. */
START_TEST(test_end_behind_much_input) {
  struct rig rig;
  rig_init(&rig);
  rig.reply = RIG_SILENT;
  rig_start(&rig, _i == 1);
  int fd = rig_connect_tcp(&rig);
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
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  ck_assert_uint_eq(rig.messages, (sent + 99) / 100); /* the last one perhaps cut short */
  rig_fini(&rig);
}
END_TEST

/* A descriptor passed over a UNIX socket cuts a read short; it is not taken, the bytes are. */
START_TEST(test_passed_descriptor) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect(&rig);
  unsigned before = rig_descriptors();
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
    ck_assert_int_eq(send(fd, "f", 1, 0), 1);
    ck_assert_int_eq(sendmsg(fd, &message, 0), 2);
    ck_assert_int_eq(send(fd, "e\0", 2, 0), 2);
    RIG_GET(&rig, fd, "fone\0");
  }
  ck_assert_uint_eq(rig_descriptors(), before);
  close(fd);
  rig_over(&rig, XCHG_FINISHED);
  rig_fini(&rig);
}
END_TEST

/* A peer that resets. */
START_TEST(test_reset) {
  struct rig rig;
  rig_init(&rig);
  rig_start(&rig, _i == 1);
  int fd = rig_connect_tcp(&rig);
  RIG_PUT(&rig, fd, "one");
  struct linger hard = {.l_onoff = 1};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  close(fd);
  rig_over(&rig, XCHG_RESET);
  rig_fini(&rig);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {test_every_split, count_of(streams)},
      {test_byte_by_byte, count_of(streams)},
      {test_end_of_stream_everywhere, count_of(streams)},
      {test_raw_echoes_a_stream, 2},
      {test_pipelined_messages_are_answered_by_one_write, 2},
      {test_output_over_the_mark_stops_cutting_and_reading, 2},
      {test_kept_messages_go_on_without_an_event, 4},
      {test_too_long, 4},
      {test_end_before_the_exchange_is_complete, 2},
      {test_handler_finishes, 2},
      {test_handler_aborts, 2},
      {test_handler_aborts_at_the_end_of_stream, 1},
      {test_no_memory_for_bytes, 2},
      {test_urgent_data, 2},
      {test_end_behind_much_input, 2},
      {test_passed_descriptor, 2},
      {test_reset, 2},
  };
  return run_suite("conn_in", tests, count_of(tests));
}
