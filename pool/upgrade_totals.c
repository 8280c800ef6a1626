/* upgrade_totals: see upgrade_totals.h. */
#include "pool/upgrade_totals.h"

#include "core/fields.h"
#include "pool/server_stats.h"

#include <stdio.h>
#include <string.h>

enum { TAG_COUNTER = 1, TAG_HISTOGRAM, TAG_LISTENER, TAG_ELSEWHERE, TAG_PAUSED, TAG_LINES_LOST };

#define NAME_MAX_SIZE 48
#define BUCKET_BYTES 10 /* index u16, count u64 */

/* ---- the counters of struct stats by name ---- */

struct counter {
  char name[NAME_MAX_SIZE];
  size_t offset; /* in struct stats */
};

#define PLAIN(name) {#name, offsetof(struct stats, name)},
static const struct counter plain[] = {
    STATS_COUNTERS(PLAIN, PLAIN){"lived_ns", offsetof(struct stats, lived_ns)}};

/* Counters in arrays, whose names end in their index. */
static const struct {
  const char *name;
  size_t offset, count;
} arrays[] = {
    {"proxy_headers", offsetof(struct stats, proxy_headers),
     STATS_PROXY_VERSIONS *STATS_PROXY_COMMANDS},
    {"proxy_rejected", offsetof(struct stats, proxy_rejected), STATS_PROXY_CAUSES},
    {"lived", offsetof(struct stats, lived), STATS_LIVED},
};

/* The ${i}th counter of all. Return: false after the last. */
static bool counter_at(size_t i, struct counter *counter) {
  if (i < count_of(plain)) {
    *counter = plain[i];
    return true;
  }
  i -= count_of(plain);
  if (i < XCHG_REASONS) {
    snprintf(counter->name, sizeof(counter->name), "ended.%s",
             xchg_reason_name((enum xchg_reason)i));
    counter->offset = offsetof(struct stats, ended) + i * sizeof(atom_u64);
    return true;
  }
  i -= XCHG_REASONS;
  for (size_t j = 0; j < count_of(arrays); j++) {
    if (i < arrays[j].count) {
      snprintf(counter->name, sizeof(counter->name), "%s.%zu", arrays[j].name, i);
      counter->offset = arrays[j].offset + i * sizeof(atom_u64);
      return true;
    }
    i -= arrays[j].count;
  }
  return false;
}

static atom_u64 *counter_in(struct stats *stats, size_t offset) {
  return (atom_u64 *)(void *)((char *)stats + offset);
}

static uint64_t counted(const struct stats *stats, size_t offset) {
  return atom_load_relaxed_u64((const atom_u64 *)(const void *)((const char *)stats + offset));
}

/* ---- the histograms ---- */

static const struct {
  const char *name;
  size_t seen, based; /* offsets in struct metrics_snapshot and in struct server_base */
} histograms[] = {
    {"handoff_ns", offsetof(struct metrics_snapshot, handoff_ns),
     offsetof(struct server_base, handoff_ns)},
    {"turn_ns", offsetof(struct metrics_snapshot, turn_ns), offsetof(struct server_base, turn_ns)},
    {"queue_depth", offsetof(struct metrics_snapshot, queue_depth),
     offsetof(struct server_base, queue_depth)},
    {"accept_batch", offsetof(struct metrics_snapshot, accept_batch),
     offsetof(struct server_base, accept_batch)},
    {"frozen_ns", offsetof(struct metrics_snapshot, frozen_ns),
     offsetof(struct server_base, frozen_ns)},
};

static const struct histogram *seen_histogram(const struct upgrade_totals *totals, size_t i) {
  return (const void *)((const char *)&totals->counted + histograms[i].seen);
}

/* The largest form: name, sum, max, all buckets. */
#define HISTOGRAM_BYTES_MAX (NAME_MAX_SIZE + 16 + HISTOGRAM_BUCKETS * BUCKET_BYTES)

static void put_histogram(struct fields_writer *writer, const char *name,
                          const struct histogram *histogram) {
  uint8_t bytes[HISTOGRAM_BYTES_MAX];
  size_t size = strlen(name) + 1;
  memcpy(bytes, name, size);
  fields_store(bytes + size, atom_load_relaxed_u64(&histogram->sum), 8);
  fields_store(bytes + size + 8, atom_load_relaxed_u64(&histogram->max), 8);
  size += 16;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    uint64_t count = atom_load_relaxed_u64(&histogram->counts[i]);
    if (count != 0) {
      fields_store(bytes + size, i, 2);
      fields_store(bytes + size + 2, count, 8);
      size += BUCKET_BYTES;
    }
  }
  fields_put(writer, TAG_HISTOGRAM, bytes, size);
}

static void set_histogram(struct server_base *base, const struct field *field) {
  const char *name = (const char *)field->value;
  size_t size = strnlen(name, field->size) + 1, i = 0;
  while (i < count_of(histograms) &&
         (size > field->size || strcmp(name, histograms[i].name) != 0)) {
    i++;
  }
  if (i == count_of(histograms) || field->size < size + 16) {
    return;
  }
  struct histogram *to = (void *)((char *)base + histograms[i].based);
  atom_store_relaxed_u64(&to->sum, fields_load(field->value + size, 8));
  atom_store_relaxed_u64(&to->max, fields_load(field->value + size + 8, 8));
  for (size_t at = size + 16; at + BUCKET_BYTES <= field->size; at += BUCKET_BYTES) {
    uint64_t bucket = fields_load(field->value + at, 2);
    if (bucket < HISTOGRAM_BUCKETS) {
      atom_store_relaxed_u64(&to->counts[bucket], fields_load(field->value + at + 2, 8));
    }
  }
}

/* ---- all ---- */

void upgrade_totals_look(struct upgrade_totals *totals, struct xchg_server *server,
                         uint64_t lines_lost) {
  *totals = (struct upgrade_totals){.listeners = server->listeners_count};
  server_look(server, &totals->counted);
  totals->counted.log_lines_lost = lines_lost;
  uint64_t known = 0;
  for (uint32_t i = 0; i < totals->listeners; i++) {
    totals->accepted[i] = acceptor_accepted_by(&server->acceptor, i);
    if (server->base != NULL) {
      totals->accepted[i] += atom_load_relaxed_u64(&server->base->accepted[i]);
    }
    known += totals->accepted[i];
  }
  totals->elsewhere = sub_sat_u64(server_accepted(server), known);
}

static void put_counters(struct fields_writer *writer, const struct upgrade_totals *totals) {
  struct counter counter;
  for (size_t i = 0; counter_at(i, &counter); i++) {
    uint8_t bytes[8 + NAME_MAX_SIZE];
    size_t size = strlen(counter.name);
    uint64_t value = counted(&totals->counted.totals, counter.offset);
    if (value != 0) {
      fields_store(bytes, value, 8);
      memcpy(bytes + 8, counter.name, size);
      fields_put(writer, TAG_COUNTER, bytes, 8 + size);
    }
  }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the writer stores into it */
size_t upgrade_totals_write(const struct upgrade_totals *totals, uint8_t *bytes) {
  struct fields_writer writer = {.bytes = bytes, .room = UPGRADE_TOTALS_MAX};
  uint64_t lost = totals->counted.log_lines_lost;
  put_counters(&writer, totals);
  for (size_t i = 0; i < count_of(histograms); i++) {
    put_histogram(&writer, histograms[i].name, seen_histogram(totals, i));
  }
  for (uint32_t i = 0; i < totals->listeners; i++) {
    fields_put_number(&writer, TAG_LISTENER, totals->accepted[i]);
  }
  fields_put_number(&writer, TAG_ELSEWHERE, totals->elsewhere);
  fields_put_number(&writer, TAG_PAUSED, totals->counted.accept_paused_ns);
  fields_put_number(&writer, TAG_LINES_LOST, lost == METRICS_UNKNOWN ? 0 : lost);
  return writer.size;
}

static void set_counter(struct server_base *base, const struct field *field) {
  struct counter counter;
  if (field->size < 8) {
    return;
  }
  size_t size = field->size - 8;
  for (size_t i = 0; counter_at(i, &counter); i++) {
    if (strlen(counter.name) == size && memcmp(counter.name, field->value + 8, size) == 0) {
      atom_store_relaxed_u64(counter_in(&base->totals, counter.offset),
                             fields_load(field->value, 8));
      return;
    }
  }
}

bool upgrade_totals_read(struct server_base *base, const uint8_t *bytes, size_t size,
                         const uint32_t listener_of[CONFIG_LISTEN_MAX]) {
  struct fields_reader reader = {bytes, size};
  struct field field;
  enum fields_result result;
  uint32_t listener = 0;
  uint64_t elsewhere = 0;
  while ((result = fields_next(&reader, &field)) == FIELDS_NEXT) {
    uint64_t number = 0;
    (void)field_number(&field, &number); /* 0 if it is none */
    if (field.tag == TAG_COUNTER) {
      set_counter(base, &field);
    } else if (field.tag == TAG_HISTOGRAM && field.size > 0) {
      set_histogram(base, &field);
    } else if (field.tag == TAG_LISTENER) {
      uint32_t here = listener < CONFIG_LISTEN_MAX ? listener_of[listener] : UINT32_MAX;
      listener++;
      elsewhere += here == UINT32_MAX ? number : 0;
      if (here != UINT32_MAX) {
        atom_store_relaxed_u64(&base->accepted[here], number);
      }
    } else if (field.tag == TAG_ELSEWHERE) {
      elsewhere += number;
    } else if (field.tag == TAG_PAUSED) {
      atom_store_relaxed_u64(&base->paused_ns, number);
    } else if (field.tag == TAG_LINES_LOST) {
      atom_store_relaxed_u64(&base->log_lines_lost, number);
    }
  }
  atom_store_relaxed_u64(&base->accepted_elsewhere, elsewhere);
  return result == FIELDS_END;
}
