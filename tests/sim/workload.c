/*
 * workload: see workload.h.  Most peers use the framing of the exchange.  Some send a message that
 * is too long, stop within one, or send noise.
 */
#include "tests/sim/workload.h"

#include "tests/sim/oracle.h"
#include "tests/sim/peer.h"
#include "tests/sim/plan.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define ARENA_BYTES ((size_t)128 * 1024 * 1024)
#define OUT_MAX ((size_t)400 * 1024)
#define OUT_RAW_MAX ((size_t)40 * 1024)   /* where each byte may be answered with a text */
#define FLOOD_BYTES ((size_t)1400 * 1024) /* more than a lingering connection reads */

enum workload {
  WORKLOAD_PROPER,
  WORKLOAD_TOO_LONG,
  WORKLOAD_BREAKS_OFF,
  WORKLOAD_NOISE,
  WORKLOAD_SILENT
};

static struct {
  bool flooded; /* one in a run is enough */
  _Alignas(16) uint8_t bytes[ARENA_BYTES];
  size_t used;
} arena;

static bool chance(unsigned permille) { return prng_chance(&world.prng, permille); }

/* The output: where, its size, and its room. */
struct writer {
  uint8_t *at;
  size_t size, room;
};

void *arena_take(size_t size) {
  size = (size + 15) / 16 * 16;
  if (arena.used + size > sizeof(arena.bytes)) {
    world_fail("the simulator has no room for bytes");
    return NULL;
  }
  arena.used += size;
  return arena.bytes + arena.used - size;
}

void arena_reset(void) {
  arena.used = 0;
  arena.flooded = false;
}

static void put(struct writer *writer, const void *bytes, size_t size) {
  size_t fits = min_u64(size, writer->room - writer->size);
  memcpy(writer->at + writer->size, bytes, fits);
  writer->size += fits;
}

/* ${size} random bytes, without ${not} (-1 = any). */
static void put_noise(struct writer *writer, size_t size, int not ) {
  size = min_u64(size, writer->room - writer->size);
  for (size_t i = 0; i < size; i += 8) {
    uint64_t noise = prng_next(&world.prng);
    memcpy(writer->at + writer->size + i, &noise, min_u64(8, size - i));
  }
  for (uint8_t *at = writer->at + writer->size; not != -1 && size > 0; at++) {
    at = memchr(at, not, (size_t)(writer->at + writer->size + size - at));
    if (at == NULL) {
      break;
    }
    *at = (uint8_t) not ^1;
  }
  writer->size += size;
}

/* A message that carries ${size} bytes, with a prefix that announces ${announced}. */
static void put_message(struct writer *writer, size_t size, uint64_t announced) {
  const struct xchg_frame *frame = &plan.config.frame;
  uint8_t head[8];
  switch (frame->kind) {
    case XCHG_FRAME_DELIMITER:
      put_noise(writer, size, 0);
      put(writer, "", 1);
      break;
    case XCHG_FRAME_LINE:
      put_noise(writer, size, '\n');
      put(writer, "\r\n", 2);
      if (prng_chance(&world.prng, 500)) {
        writer->size -= 2;
        put(writer, "\n", 1);
      }
      break;
    case XCHG_FRAME_PREFIX:
      for (size_t i = 0; i < frame->size; i++) {
        head[i] = (uint8_t)(announced >> 8 * (frame->size - 1 - i));
      }
      put(writer, head, frame->size);
      put_noise(writer, size, -1);
      break;
    case XCHG_FRAME_FIXED:
      put_noise(writer, frame->size, -1);
      break;
    default:
      put_noise(writer, size, -1);
      break;
  }
}

static size_t choose_size(void) {
  uint64_t max = plan.config.max_message_bytes;
  if (prng_chance(&world.prng, 50)) {
    return min_u64(max, prng_chance(&world.prng, 50) ? 250000 : 40000);
  }
  return prng_scaled(&world.prng, 0, min_u64(max, prng_chance(&world.prng, 50) ? 40000 : 1500));
}

static void put_messages(struct writer *writer, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    size_t size = choose_size();
    put_message(writer, size, size);
  }
}

/*
 * The header of ${peer}'s proxy, which announces the address that the connection comes from.  A bad
 * one has a wrong byte in its signature.
 */
static void put_header(struct writer *writer, struct peer *peer) {
  static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n";
  enum addr_proxy accepts = plan.config.listen[0].proxy;
  bool v2 = accepts == ADDR_PROXY_V2 || (accepts == ADDR_PROXY_ANY && chance(500));
  bool v6 = peer->addr.family == ADDR_IPV6;
  const uint8_t address_size = v6 ? 16 : 4;
  if (v2) {
    peer->is_local = chance(200);
    const uint8_t rest[4] = {peer->is_local ? 0x20 : 0x21, v6 ? 0x21 : 0x11, 0,
                             (uint8_t)(2 * address_size + 4)};
    const uint8_t ports[4] = {(uint8_t)(peer->addr.port >> 8), (uint8_t)peer->addr.port, 1, 2};
    put(writer, signature, 12);
    put(writer, rest, sizeof(rest));
    put(writer, peer->addr.bytes, address_size);
    put(writer, peer->addr.bytes, address_size);
    put(writer, ports, sizeof(ports));
  } else {
    char line[128], address[INET6_ADDRSTRLEN];
    inet_ntop(v6 ? AF_INET6 : AF_INET, peer->addr.bytes, address, sizeof(address));
    int size = snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u 7000\r\n", v6 ? '6' : '4',
                        address, address, peer->addr.port);
    put(writer, line, (size_t)size);
  }
  peer->head = (uint32_t)writer->size;
  peer->bad_head = chance(60);
  if (peer->bad_head) {
    writer->at[prng_below(&world.prng, v2 ? 12 : 5)] = 'x';
  }
}

static enum workload choose_workload(void) {
  uint64_t roll = prng_below(&world.prng, 100);
  return roll < 76   ? WORKLOAD_PROPER
         : roll < 83 ? WORKLOAD_TOO_LONG
         : roll < 90 ? WORKLOAD_BREAKS_OFF
         : roll < 95 ? WORKLOAD_NOISE
                     : WORKLOAD_SILENT;
}

/* Split the output of ${peer} into at most ${pieces_max} pieces; raw has none. */
static void split(struct peer *peer, uint32_t pieces_max) {
  const struct config *config = &plan.config;
  bool raw = config->frame.kind == XCHG_FRAME_RAW;
  for (uint32_t at = peer->head; !raw && at < peer->out_size && peer->pieces_count < pieces_max;) {
    struct piece *piece = &peer->pieces[peer->pieces_count++];
    *piece = reference_framing_piece(&config->frame, config->max_message_bytes, peer->out, at,
                                     peer->out_size);
    at = piece->kind == PIECE_MESSAGE ? piece->end : peer->out_size;
  }
}

void workload_make(struct peer *peer) {
  bool floods = !arena.flooded && plan.config.messages > 0 && prng_chance(&world.prng, 4);
  bool raw = plan.config.frame.kind == XCHG_FRAME_RAW && plan.config.messages == 0;
  size_t room = raw && plan.config.reply == REPLY_TEXT ? OUT_RAW_MAX : OUT_MAX;
  room += floods ? FLOOD_BYTES : 0;
  struct writer writer = {.at = arena_take(room), .room = room};
  uint64_t wanted = plan.config.messages;
  uint64_t count = wanted > 0 && prng_chance(&world.prng, 700)
                       ? wanted
                       : prng_scaled(&world.prng, 1, wanted + 24);
  size_t over = plan.config.max_message_bytes + prng_scaled(&world.prng, 1, 3000);
  if (writer.at == NULL) {
    return;
  }
  if (plan.proxied) {
    put_header(&writer, peer);
  }
  switch (choose_workload()) {
    case WORKLOAD_PROPER:
      put_messages(&writer, count);
      break;
    case WORKLOAD_TOO_LONG:
      put_messages(&writer, count / 2);
      put_message(&writer, over, over);
      put_messages(&writer, 1);
      break;
    case WORKLOAD_BREAKS_OFF:
      put_messages(&writer, count);
      writer.size -= prng_below(&world.prng, min_u64(writer.size - peer->head, 100) + 1);
      break;
    case WORKLOAD_NOISE:
      put_noise(&writer, prng_scaled(&world.prng, 1, 3000), -1);
      break;
    case WORKLOAD_SILENT:
      break;
  }
  if (floods) {
    arena.flooded = true;
    put_noise(&writer, FLOOD_BYTES, -1);
  }
  peer->out = writer.at;
  peer->out_size = (uint32_t)writer.size;
  arena.used -= (room - writer.size) / 16 * 16; /* return what was not needed */
  uint32_t pieces_max = (uint32_t)min_u64(writer.size, 20000);
  peer->pieces = arena_take((pieces_max + 1) * sizeof(struct piece));
  split(peer, pieces_max);
  arena.used -= (pieces_max - peer->pieces_count) * sizeof(struct piece) / 16 * 16;
  oracle_expect(peer);
}
