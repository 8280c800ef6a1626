/*
 * message: see message.h.  Bodies begin within the first 16 KiB of the pool.  Slices at different
 * offsets differ, and this window stays in the first-level cache.
 */
#include "message.h"

#include "net/frame.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OFFSETS 16384u

/* The largest raw message: the server has no limit under raw, but memory is limited. */
#define RAW_SIZE_MAX (UINT64_C(1) << 30)

/* Mix a 64-bit value (the finaliser of MurmurHash3 after a Weyl step). */
static uint64_t mix(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
  x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
  return x ^ (x >> 33);
}

/* Map ${hash} to a number below ${range}, which is at most 2^32. */
static uint64_t below(uint64_t hash, uint64_t range) { return (hash >> 32) * range >> 32; }

/* Replace a byte that would end a message in this frame. */
static uint8_t harmless(enum xchg_frame_kind kind, uint8_t byte) {
  if (kind == XCHG_FRAME_DELIMITER && byte == 0) {
    return 'n';
  }
  return kind == XCHG_FRAME_LINE && (byte == '\n' || byte == '\r') ? 'l' : byte;
}

static int make_pool(struct message_set *set) {
  set->pool_size = min_u64(OFFSETS + set->size_max, MESSAGE_POOL_MAX);
  set->pool = malloc(set->pool_size);
  if (set->pool == NULL) {
    return -1;
  }
  uint64_t bits = 0;
  for (uint64_t i = 0; i < set->pool_size; i++, bits >>= 8) {
    bits = i % 8 == 0 ? mix(set->seed + i) : bits;
    set->pool[i] = harmless(set->frame.kind, (uint8_t)bits);
  }
  return 0;
}

/* Set the smallest and the largest size from the frame and the server's limit. */
static void set_limits(struct message_set *set, uint64_t max_message) {
  set->size_min = set->frame.kind == XCHG_FRAME_RAW ? 1 : 0;
  switch (set->frame.kind) {
    case XCHG_FRAME_RAW:
      set->size_max = RAW_SIZE_MAX;
      break;
    case XCHG_FRAME_FIXED:
      set->size_min = set->size_max = set->frame.size;
      break;
    case XCHG_FRAME_PREFIX:
      set->size_max = set->frame.size == 2 ? min_u64(max_message, UINT16_MAX) : max_message;
      break;
    default:
      set->size_max = max_message;
      break;
  }
  if (set->size.kind == SIZE_FIXED) {
    set->size_max = max_u64(set->size_min, min_u64(set->size_max, set->size.a));
  } else if (set->size.kind == SIZE_UNIFORM) {
    set->size_max = max_u64(set->size_min, min_u64(set->size_max, set->size.b));
  }
}

/* Set prefix and terminator around a body of ${size} bytes. */
static void frame_message(const struct message_set *set, struct message *message, uint64_t size) {
  size_t tail_size;
  const uint8_t *tail = frame_tail(&set->frame, &tail_size);
  static_assert(sizeof(message->head) == FRAME_HEAD_MAX, "a prefix must fit");
  message->size = size;
  message->head_size = (uint8_t)frame_head(&set->frame, size, message->head);
  message->tail_size = (uint8_t)tail_size;
  message->tail = *tail;
  message->total = message->head_size + size + tail_size;
}

static void text_message(const struct message_set *set, struct message *message,
                         const struct config_text *text) {
  *message = (struct message){.ring = text->bytes, .ring_size = text->size};
  frame_message(set, message, text->size);
}

int message_set_init(struct message_set *set, const struct config *exchange,
                     const struct size_spec *size, uint64_t seed) {
  *set = (struct message_set){
      .frame = exchange->frame, .reply = exchange->reply, .size = *size, .seed = mix(seed)};
  set_limits(set, exchange->max_message_bytes);
  if (exchange->has_greeting) {
    text_message(set, &set->greeting, &exchange->greeting);
  }
  if (exchange->reply == REPLY_TEXT) {
    text_message(set, &set->text, &exchange->reply_text);
  }
  return make_pool(set);
}

void message_set_fini(struct message_set *set) {
  free(set->pool);
  set->pool = NULL;
}

/* The size of the message with the hash ${of}. */
static uint64_t draw_size(const struct message_set *set, uint64_t of) {
  uint64_t size = set->size.a;
  if (set->size.kind == SIZE_FIXED || set->size_min == set->size_max) {
    return set->size_max;
  }
  const uint64_t hash = mix(of);
  if (set->size.kind == SIZE_UNIFORM) {
    size += below(hash, set->size.b - set->size.a + 1);
  } else if (set->size.kind == SIZE_EXPONENTIAL) {
    const double u = ((double)(hash >> 11) + 1) / 9007199254740992.0; /* (0, 1] of 53 bits */
    const double drawn = -(double)set->size.a * log(u);
    size = (uint64_t)(drawn + 0.5);
  }
  return max_u64(set->size_min, min_u64(size, set->size_max));
}

void message_sent(const struct message_set *set, uint64_t connection, uint64_t sequence,
                  struct message *message) {
  const uint64_t hash =
      mix(set->seed ^ mix(connection * UINT64_C(0x9e3779b97f4a7c15) ^ mix(sequence)));
  message->ring = set->pool;
  message->ring_size = set->pool_size;
  message->at = below(hash, OFFSETS);
  frame_message(set, message, draw_size(set, hash));
}

void message_reply(const struct message_set *set, uint64_t connection, uint64_t sequence,
                   struct message *message) {
  if (set->reply == REPLY_ECHO) {
    message_sent(set, connection, sequence, message);
  } else {
    *message = set->text; /* all zero if there is none */
  }
}

bool message_replies(const struct message_set *set) {
  return set->reply == REPLY_ECHO || set->text.total > 0;
}

uint64_t message_total_max(const struct message_set *set) {
  struct message longest;
  frame_message(set, &longest, set->size_max);
  return longest.total;
}

size_t message_run(const struct message *message, uint64_t position, const uint8_t **bytes) {
  assert(position < message->total);
  if (position < message->head_size) {
    *bytes = message->head + position;
    return (size_t)(message->head_size - position);
  }
  position -= message->head_size;
  if (position >= message->size) {
    *bytes = &message->tail;
    return 1;
  }
  uint64_t index = message->at + position;
  index = index < message->ring_size ? index : index % message->ring_size;
  *bytes = message->ring + index;
  return (size_t)min_u64(message->size - position, message->ring_size - index);
}

size_t message_copy(const struct message *message, uint64_t position, uint8_t *to, size_t room) {
  size_t done = 0;
  while (done < room && position + done < message->total) {
    const uint8_t *bytes;
    size_t run = message_run(message, position + done, &bytes);
    run = run < room - done ? run : room - done;
    memcpy(to + done, bytes, run);
    done += run;
  }
  return done;
}

bool message_equals(const struct message *message, uint64_t position, const uint8_t *data,
                    size_t size) {
  while (size > 0) {
    const uint8_t *bytes;
    size_t run = message_run(message, position, &bytes);
    run = run < size ? run : size;
    if (memcmp(data, bytes, run) != 0) {
      return false;
    }
    position += run;
    data += run;
    size -= run;
  }
  return true;
}

size_t message_match(const struct message *message, uint64_t *done, const uint8_t *data,
                     size_t size) {
  const size_t count = (size_t)min_u64(size, message->total - *done);
  if (!message_equals(message, *done, data, count)) {
    return 0;
  }
  *done += count;
  return count;
}
