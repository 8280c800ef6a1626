/*
 * conn_play: see conn_play.h.
 *
 * The input is eleven bytes of choices, a number n, n bytes of script, and the stream.  The script
 * says in which pieces the client sends, when it reads, when the server has a turn, and when time
 * passes.  After the script the rest of the stream is sent and everything is read.  Then the client
 * ends as the choices say, and the connection must end as well.
 *
 * The oracle splits the stream by itself.  A client that half-closes must have received exactly
 * what the oracle says, and the connection must be counted under the oracle's reason.  A client
 * that ends earlier, or meets a timeout, must have received the beginning of that.
 */
#include "tests/fuzz/conn_play.h"

#include "net/frame.h"
#include "net/conn_timeout.h"
#include "net/conn_input.h"
#include "net/conn.h"
#include "net/builtin.h"
#include "tests/fixtures/reference_framing.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES 64    /* the worker's buffer: small, so that reads fill it */
#define STAGING_BYTES 160 /* likewise: small, so that some output fits and some does not */
#define MESSAGE_MAX ((size_t)1 << 16)
#define PENDING_MAX ((size_t)1 << 16)
#define OUT_MAX ((size_t)1 << 20)
#define TURNS_MAX 20000
#define READS_MAX 48 /* about as many reads per stream: more take long and show nothing new */
#define LONG_NS (3600 * NS_PER_S)
#define AHEAD_NS \
  (1000000 * NS_PER_S) /* so far ahead of the kernel's clock that only pass() advances time */

struct play {
  struct config config;
  struct builtin exchange;
  struct slab slab;
  struct reactor reactor;
  struct stats stats;
  struct conn_ctx ctx;
  bool ready; /* slabs and host exist: made once for all inputs */
  uint8_t input[CONN_INPUT_FRONT + INPUT_BYTES];
  _Alignas(struct buf) uint8_t staging[STAGING_BYTES];

  /* the input */
  const uint8_t *script, *stream;
  size_t script_size, stream_size;
  enum part part;
  bool timed; /* timeouts are on */
  size_t sent, read_at_once;

  /* the result */
  uint8_t got[OUT_MAX];
  size_t got_size;
  bool ended; /* the client has seen the end, or has closed */

  /* the expected result */
  uint8_t want[OUT_MAX];
  size_t want_size;
  bool exact; /* want is complete; false for a raw text, which depends on the reads */
  enum xchg_reason reason;
};

/* ---- the oracle ---- */

static void want_bytes(struct play *play, const uint8_t *bytes, size_t size) {
  fuzz_holds(size <= OUT_MAX - play->want_size, "the oracle has room");
  if (size > 0) {
    memcpy(play->want + play->want_size, bytes, size);
  }
  play->want_size += size;
}

static void want_text(struct play *play, const struct config_text *text, const uint8_t *tail,
                      size_t tail_size) {
  const struct xchg_frame *frame = &play->config.frame;
  uint8_t head[8];
  size_t head_size = frame->kind == XCHG_FRAME_PREFIX ? frame->size : 0;
  for (size_t i = 0; i < head_size; i++) {
    head[i] = (uint8_t)(text->size >> 8 * (head_size - 1 - i));
  }
  want_bytes(play, head, head_size);
  want_bytes(play, text->bytes, text->size);
  want_bytes(play, tail, tail_size);
}

/* The reply to ${size} bytes at ${frame}, the last ${tail} of them the terminator. */
static void want_reply(struct play *play, const uint8_t *frame, size_t size, size_t tail) {
  if (play->config.reply == REPLY_ECHO) {
    want_bytes(play, frame, size);
  } else if (play->config.reply == REPLY_TEXT) {
    want_text(play, &play->config.reply_text, frame + size - tail, tail);
  }
}

/* Size of the first message at ${data}, and of its terminator in ${*tail}; 0 = it is incomplete. */
static size_t first_message(const struct play *play, const uint8_t *data, size_t size, size_t *tail,
                            bool *too_long) {
  const struct xchg_frame *frame = &play->config.frame;
  size_t max = play->config.max_message_bytes;
  struct piece piece = reference_framing_piece(frame, frame->kind == XCHG_FRAME_RAW ? size : max,
                                               data, 0, (uint32_t)size);
  bool part = piece.kind == PIECE_PART;
  *tail = piece.end - piece.data - piece.size;
  *too_long =
      piece.kind == PIECE_TOO_LONG || (part && !frame_declares(frame) && size > max); /* a CR */
  return piece.kind == PIECE_MESSAGE ? piece.end : 0;
}

/* The reason when a stream ends with ${left} bytes that are no whole message. */
static enum xchg_reason want_end(struct play *play, const uint8_t *data, size_t left,
                                 uint64_t messages) {
  bool declares = frame_declares(&play->config.frame);
  if (left > 0 && declares) {
    return XCHG_TRUNCATED;
  }
  if (left > 0) {
    want_reply(play, data, left, 0);
    messages++;
  }
  uint64_t of = play->config.messages;
  return of == 0 || messages >= of ? XCHG_FINISHED : XCHG_PEER;
}

static void ask_oracle(struct play *play) {
  const struct config *config = &play->config;
  bool raw = config->frame.kind == XCHG_FRAME_RAW;
  const uint8_t *data = play->stream;
  size_t left = play->stream_size;
  uint64_t messages = 0;
  play->want_size = 0;
  play->exact = !raw || (config->messages == 0 && config->reply != REPLY_TEXT);
  if (config->has_greeting) {
    const uint8_t *tail =
        config->frame.kind == XCHG_FRAME_LINE ? (const uint8_t *)"\n" : (const uint8_t *)"\0";
    want_text(play, &config->greeting, tail,
              config->frame.kind == XCHG_FRAME_LINE || config->frame.kind == XCHG_FRAME_DELIMITER);
  }
  while (left > 0 && (config->messages == 0 || messages < config->messages)) {
    size_t tail;
    bool too_long;
    size_t size = first_message(play, data, left, &tail, &too_long);
    if (too_long) {
      play->reason = XCHG_TOO_LONG;
      return;
    }
    if (size == 0) {
      break;
    }
    want_reply(play, data, size, tail);
    messages++;
    data += size;
    left -= size;
  }
  if (config->messages > 0 && messages >= config->messages) {
    play->reason = XCHG_FINISHED;
    return;
  }
  play->reason = want_end(play, data, left, messages);
}

/* ---- choices ---- */

static void choose_frame(struct play *play, uint8_t kind, uint8_t detail) {
  struct xchg_frame *frame = &play->config.frame;
  static const size_t widths[] = {2, 4};
  switch (kind % 6) {
    case 0:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_DELIMITER};
      return;
    case 1:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_LINE};
      return;
    case 2:
    case 3:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_PREFIX, .size = widths[kind % 2]};
      return;
    case 4:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_FIXED,
                                   .size = detail % play->config.max_message_bytes + 1};
      return;
    default:
      *frame = (struct xchg_frame){.kind = XCHG_FRAME_RAW};
  }
}

/* A text that every frame can carry; for a fixed frame it has the frame's size. */
static struct config_text choose_text(const struct play *play, uint8_t choice) {
  static uint8_t bytes[] =
      "Message from server. Every frame can carry this.................."
      "................................................................."
      "................................................................."
      "................................................................";
  bool fixed = play->config.frame.kind == XCHG_FRAME_FIXED;
  return (struct config_text){.bytes = bytes,
                              .size = fixed ? play->config.frame.size : choice % 40};
}

static void choose(struct play *play, struct fuzz_input *input) {
  struct config *config = &play->config;
  uint8_t kind = fuzz_byte(input), detail = fuzz_byte(input);
  uint8_t texts = fuzz_byte(input), ways = fuzz_byte(input);
  size_t longest = fuzz_u16(input);
  *config = (struct config){.max_message_bytes = longest + 1, .linger_ns = LONG_NS};
  choose_frame(play, kind, detail);
  config->has_greeting = texts % 2 == 1;
  config->greeting = choose_text(play, texts / 2);
  config->reply = (enum config_reply)(ways % 3);
  config->reply_text = choose_text(play, detail);
  config->messages = fuzz_byte(input) % 8;
  config->max_pending_bytes = (uint64_t)fuzz_byte(input) * 16 + 1;
  play->part = (enum part)(ways / 3 % 4);
  play->timed = play->part == PART_SILENCE || ways >= 192;
  play->read_at_once = (size_t)fuzz_byte(input) + 1;
  if (play->timed) {
    config->idle_timeout_ns = 10 * NS_PER_S;
    config->message_timeout_ns = 5 * NS_PER_S;
    config->write_timeout_ns = 3 * NS_PER_S;
    config->max_lifetime_ns = ways % 2 == 1 ? 20 * NS_PER_S : 0;
    config->drain_timeout_ns = NS_PER_S;
    config->linger_ns = NS_PER_S;
  }
}

/* ---- the connection ---- */

static void make_once(struct play *play) {
  static const struct config largest = {.max_message_bytes = MESSAGE_MAX,
                                        .max_pending_bytes = PENDING_MAX};
  if (play->ready) {
    return;
  }
  struct xchg_handler handler = {.size = sizeof(handler)};
  fuzz_holds(slab_init(&play->slab, conn_bytes(&handler), 4) == 0, "memory is available");
  reactor_open_single(&play->reactor, &play->slab, &play->stats);
  fuzz_holds(conn_ctx_init(&play->ctx, &largest, &handler, &play->reactor, 4) == 0,
             "memory is available");
  play->ctx.input = play->input + CONN_INPUT_FRONT;
  play->ctx.input_bytes = INPUT_BYTES;
  buf_pool_stage(&play->ctx.bufs, play->staging, STAGING_BYTES);
  play->ready = true;
}

/* Everything except the memory is new. */
static void begin(struct play *play, bool by_poll, size_t room) {
  enum addr_family family;
  line_open(room, &family);
  make_once(play);
  memset(&play->stats, 0, sizeof(play->stats));
  if (by_poll || line_epoll() != -1) {
    reactor_open_single(&play->reactor, &play->slab, &play->stats);
    play->reactor.epoll_fd = by_poll ? -1 : line_epoll();
  } else {
    fuzz_holds(reactor_open(&play->reactor, &play->slab, &play->stats) == 0, "epoll is available");
  }
  play->reactor.now_ns += AHEAD_NS;
  play->ctx.config = &play->config;
  play->ctx.handler = &play->exchange.handler;
  play->ctx.max_message = play->config.max_message_bytes;
  play->ctx.random = 1;
  play->ctx.stop_ns = NEVER;
  struct accepted_conn accepted = {.accepted_ns = play->reactor.now_ns,
                                   .addr = {.family = (uint8_t)family},
                                   .fd = line_server(),
                                   .ip_slot = NO_IP_SLOT};
  fuzz_holds(conn_open(&play->ctx, &accepted) == 0, "a connection opens");
}

static struct xchg_conn *live(const struct play *play) {
  uint32_t slot = slab_next(&play->slab, 0);
  return slot == SLAB_NONE ? NULL : conn_of(slab_at(&play->slab, slot));
}

/* Will the timer of ${conn} fire at its next deadline, or earlier? A tick later is in time. */
static bool in_time(const struct xchg_conn *conn) {
  const struct timer *timer = &conn->source.timer;
  uint64_t tick = UINT64_C(1) << WHEEL_TICK_SHIFT, next_ns = conn_timeout_next(conn);
  return next_ns >= NEVER - tick ||
         (timer_armed(timer) && timer_deadline_ns(timer) < next_ns + tick);
}

/* The invariants of net/conn_internal.h, and the bound on memory. */
static void check_conn(const struct play *play) {
  const struct xchg_conn *conn = live(play);
  const struct config *config = &play->config;
  if (conn == NULL) {
    fuzz_holds(play->ctx.bufs.bytes == 0, "without a connection no memory is used");
    return;
  }
  fuzz_holds(play->ctx.bufs.staging != NULL, "between turns nothing is staged");
  fuzz_holds(conn->source.queued || in_time(conn), "the timer fires in time");
  size_t in = buf_size(conn->in), out = send_queue_size(&conn->out);
  size_t reply = 8 + max_u64(config->max_message_bytes, INPUT_BYTES) + 256;
  fuzz_holds(conn->in == NULL || in > 0, "in exists only while it holds bytes");
  fuzz_holds(send_queue_empty(&conn->out) || out > 0, "out exists only while output waits");
  fuzz_holds(conn->state == CONN_OPEN || conn->in == NULL, "no input is kept after the end");
  fuzz_holds(out <= config->max_pending_bytes + reply + config->greeting.size + 8,
             "output is bounded by the limit and one reply");
  fuzz_holds(in <= config->max_message_bytes + INPUT_BYTES + 8, "input is bounded by a message");
  size_t greeting = config->has_greeting ? config->greeting.size + 8 : 0;
  fuzz_holds(config->reply == REPLY_TEXT ||
                 play->ctx.bufs.bytes <= 4 * (play->sent + greeting) + 2 * BUF_BLOCK_MIN,
             "memory is at most four times what was sent");
  struct frame_parsed parsed = {.scanned = 0};
  fuzz_holds(conn->in == NULL || conn_input_blocked(conn) || conn->source.queued ||
                 frame_parse(&config->frame, config->max_message_bytes, buf_data(conn->in), in,
                             &parsed) == FRAME_MORE,
             "no complete message stays in the buffer");
}

/* One turn. Return: was there something to do? */
static bool turn(struct play *play) {
  reactor_wait(&play->reactor, 0);
  bool busy = play->reactor.ready > 0 || reactor_busy(&play->reactor);
  reactor_dispatch(&play->reactor);
  for (struct source *source; (source = reactor_reap(&play->reactor)) != NULL;) {
    reactor_free(&play->reactor, source);
  }
  check_conn(play);
  return busy;
}

static void pass(struct play *play, uint64_t ns) {
  play->reactor.now_ns += ns;
  turn(play);
}

/* The client reads once. Return: did bytes or an end come? */
static bool get(struct play *play, size_t size) {
  size_t count = 0;
  if (play->ended) {
    return false;
  }
  enum got got =
      line_get(play->got + play->got_size, min_u64(size, OUT_MAX - play->got_size), &count);
  play->got_size += count;
  play->ended = got == GOT_END || got == GOT_RESET;
  return got != GOT_NOTHING;
}

/* Run until neither the server nor the client has anything to do. */
static void settle(struct play *play) {
  for (int i = 0; i < TURNS_MAX; i++) {
    bool busy = turn(play);
    if (!get(play, play->read_at_once) && !busy) {
      const struct xchg_conn *conn = live(play);
      bool reads = conn != NULL && (conn->state != CONN_OPEN || !conn_input_blocked(conn));
      fuzz_holds(!reads || line_unread() == 0, "nothing is left unread");
      return;
    }
  }
  fuzz_holds(false, "the connection comes to rest");
}

/* The client sends ${size} more bytes, or the rest; what does not fit waits. */
static void put(struct play *play, size_t size) {
  size = min_u64(size, play->stream_size - play->sent);
  play->sent += size == 0 ? 0 : line_put(play->stream + play->sent, size);
}

static void follow_script(struct play *play) {
  for (size_t i = 0; i < play->script_size; i++) {
    unsigned count = play->script[i] / 4u;
    switch (play->script[i] % 4) {
      case 0:
        put(play, count + 1);
        break;
      case 1:
        (void)get(play, count * 8 + 1);
        break;
      case 2:
        put(play, count + 1);
        turn(play);
        break;
      default:
        pass(play, count * (play->timed ? 100 : 1) * NS_PER_MS);
    }
  }
  while (play->sent < play->stream_size && !play->ended) {
    size_t before = play->sent;
    put(play, play->stream_size);
    settle(play);
    if (play->sent == before) {
      break;
    }
  }
}

/* ---- the end ---- */

static void check_end(struct play *play, bool complete) {
  const struct stats *stats = &play->stats;
  uint64_t ended = stats_ended(stats);
  uint64_t as_wanted = atom_load_relaxed_u64(&stats->ended[play->reason]);
  fuzz_holds(live(play) == NULL, "the connection has ended");
  fuzz_holds(ended == 1, "the connection is counted once");
  fuzz_holds(play->got_size <= play->want_size || !play->exact, "no output beyond the replies");
  fuzz_holds(!play->exact || memcmp(play->got, play->want, play->got_size) == 0,
             "the output is the beginning of the replies");
  if (complete && play->exact) {
    fuzz_holds(play->got_size == play->want_size, "all replies have come");
  }
  if (complete && (play->exact || play->config.messages == 0)) {
    fuzz_holds(as_wanted == 1, "the reason is the oracle's");
  }
  fuzz_holds(atom_load_relaxed_u64(&stats->ended[XCHG_ERROR]) == 0 &&
                 atom_load_relaxed_u64(&stats->ended[XCHG_MEMORY]) == 0,
             "no error and no lack of memory was counted");
}

static void finish(struct play *play) {
  bool sent_all = play->sent == play->stream_size;
  /*
   * A client that sent more than the server wants still receives the whole answer if it waits for
   * it.
   */
  bool complete = play->part == PART_HALF_CLOSE && !play->timed;
  if (!play->ended && !(play->part == PART_HALF_CLOSE && !sent_all && live(play) != NULL)) {
    line_part(play->part);
    play->ended = play->part == PART_CLOSE || play->part == PART_RESET;
  }
  settle(play);
  complete = complete && play->ended;
  for (int i = 0; i < 10 && live(play) != NULL && play->part == PART_SILENCE; i++) {
    pass(play, 2 * NS_PER_S);
    settle(play);
  }
  line_close();
  play->ended = true;
  settle(play);
  for (int i = 0; i < 8 && live(play) != NULL; i++) {
    pass(play, 2 * LONG_NS);
  }
  check_end(play, complete);
}

/* The longest output. Reads cut a raw stream, so each of its bytes may get a text. */
static size_t longest_output(const struct play *play) {
  return play->exact ? play->want_size
                     : play->want_size + play->stream_size * play->config.reply_text.size;
}

void conn_play(const uint8_t *data, size_t size) {
  static struct play play;
  struct fuzz_input input = {data, size};
  choose(&play, &input);
  uint8_t room = fuzz_byte(&input), flags = fuzz_byte(&input);
  play.script = fuzz_bytes(&input, fuzz_byte(&input), &play.script_size);
  play.stream = fuzz_bytes(&input, input.left, &play.stream_size);
  play.sent = play.got_size = 0;
  play.ended = false;
  fuzz_holds(builtin_init(&play.exchange, &play.config) == 0, "memory is available");
  ask_oracle(&play);
  size_t least = longest_output(&play) / READS_MAX + 1;
  play.read_at_once = max_u64(play.read_at_once, least);
  begin(&play, flags % 2 == 1, max_u64((uint64_t)room * 16 + 1, least));
  follow_script(&play);
  finish(&play);
  reactor_close(&play.reactor);
  builtin_fini(&play.exchange);
}
