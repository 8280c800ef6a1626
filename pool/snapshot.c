/*
 * snapshot: see snapshot.h.
 *
 * The first n rows are kept in a heap whose root is the last of them, so a connection that does not
 * belong to them costs one comparison.
 *
 *   waiting  = workers that have not ended their part, + 1 until the start has asked all of them
 *   refs     = 1 of the asker until snapshot_free, + 1 of the workers until the last has ended its
 *              part; the posted call takes this one over
 *   answered : written once by the part's worker (release), after all else in the part
 */
#include "pool/snapshot.h"

#include "core/metrics_out.h"
#include "net/conn_address.h"
#include "net/conn_timeout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first rows in a heap: no row comes before its children, which are at 2i + 1 and 2i + 2. */
struct first_rows {
  struct snapshot_row *rows; /* borrows: of the snapshot */
  uint32_t count, max;
};

/* What one worker answers. */
struct part {
  struct visit visit;
  struct snapshot *snapshot; /* the whole */
  struct first_rows first;
  uint64_t seen, matched;
  uint32_t worker;
  atom_u32 answered; /* 1: complete, and not written any more */
  bool missing;      /* the asker's: it was not when the walk was finished */
};

struct snapshot {
  atom_u32 refs, waiting; /* any thread */
  atom_u32 asker_left;    /* 1: after snapshot_free; the asker's thread writes */
  bool finished;          /* the asker's thread, like all below */
  struct snapshot_query query;
  uint64_t asker;  /* its id */
  uint64_t now_ns; /* when the walk began: the end of all ages */
  struct xchg_server *data;
  void (*ready)(struct xchg_conn *asker, struct snapshot *snapshot);
  struct inbox *asker_inbox;
  struct posted_call *post; /* owns, until the last worker sends it; its thread's then */
  uint64_t seen, matched;   /* once it is finished */
  struct first_rows first;  /* likewise: sorted */
  uint32_t parts_count;
  struct part parts[]; /* the rows of all stand after them */
};

/* ---- the first rows ---- */

static bool comes_before(const struct snapshot_row *a, const struct snapshot_row *b) {
  return a->rank != b->rank ? a->rank > b->rank : a->id < b->id;
}

/* The row at ${i} may come before its children: let it sink below the last of them. */
static void sink(struct first_rows *first, uint32_t i) {
  struct snapshot_row row = first->rows[i];
  for (uint32_t child; (child = 2 * i + 1) < first->count; i = child) {
    if (child + 1 < first->count && comes_before(&first->rows[child], &first->rows[child + 1])) {
      child++;
    }
    if (!comes_before(&row, &first->rows[child])) {
      break;
    }
    first->rows[i] = first->rows[child];
  }
  first->rows[i] = row;
}

/* Put ${row} at the end, and let it rise above those that it comes after. */
static void append(struct first_rows *first, const struct snapshot_row *row) {
  uint32_t i = first->count++;
  for (uint32_t parent; i > 0; i = parent) {
    parent = (i - 1) / 2;
    if (!comes_before(&first->rows[parent], row)) {
      break;
    }
    first->rows[i] = first->rows[parent];
  }
  first->rows[i] = *row;
}

/* Does ${row} belong to the first? */
static bool belongs(const struct first_rows *first, const struct snapshot_row *row) {
  return first->count < first->max || comes_before(row, &first->rows[0]);
}

/* Keep ${row}, which belongs to the first. */
static void keep(struct first_rows *first, const struct snapshot_row *row) {
  if (first->count < first->max) {
    append(first, row);
  } else {
    first->rows[0] = *row;
    sink(first, 0);
  }
}

/* Heapsort: the last row goes to the end, again and again. */
static void sort_rows(struct first_rows *first) {
  uint32_t count = first->count;
  while (first->count > 1) {
    struct snapshot_row last = first->rows[0];
    first->rows[0] = first->rows[--first->count];
    sink(first, 0);
    first->rows[first->count] = last;
  }
  first->count = count;
}

/* ---- the walk: on the workers ---- */

static enum snapshot_state shown_state(const struct xchg_conn *conn) {
  if (conn->state != CONN_OPEN) {
    return conn->state == CONN_HEADER ? SHOWS_HEADER : SHOWS_ENDING;
  }
  return conn_must_leave(conn) ? SHOWS_DRAINING : SHOWS_OPEN;
}

static bool matches(const struct xchg_conn *conn, const struct snapshot *snapshot) {
  const struct snapshot_query *query = &snapshot->query;
  const struct conn_peer *peer = conn_peer(conn);
  return sub_sat_u64(snapshot->now_ns, peer->opened_ns) >= query->min_age_ns &&
         (query->state == SHOWS_ALL || query->state == shown_state(conn)) &&
         (query->peer.family == ADDR_NONE || addr_in_block(&peer->addr, &query->peer));
}

static uint64_t rank_of(const struct snapshot_row *row, enum snapshot_sort sort) {
  switch (sort) {
    case SORT_AGE:
      return UINT64_MAX - row->opened_ns;
    case SORT_IDLE:
      return UINT64_MAX - row->active_ns;
    case SORT_IN:
      return row->bytes_in;
    case SORT_OUT:
      return row->bytes_out;
    case SORT_PENDING:
      return row->pending;
  }
  return 0;
}

/* The proxy that ${conn} came through. */
static struct addr via_of(const struct xchg_conn *conn) {
  bool announced = conn->proxied && conn_proxy(conn)->announced;
  return announced ? conn_proxy(conn)->via : (struct addr){.family = ADDR_NONE};
}

/* What the kept PROXY header says. */
static void add_texts(struct snapshot_row *row, const struct xchg_conn *conn) {
  struct proxy_header header;
  const uint8_t *bytes = conn->proxied ? conn_address_header(conn, &header) : NULL;
  if (bytes == NULL) {
    return;
  }
  if (conn_address_is_path(conn)) {
    conn_address_format(&row->peer, bytes, header.source_path, row->path);
  }
  row->unique_id_size = (uint8_t)header.unique_id.size;
  memcpy(row->unique_id, bytes + header.unique_id.offset, header.unique_id.size);
}

static void each_conn(struct visit *visit, const struct xchg_conn *conn) {
  struct part *part = container_of(visit, struct part, visit);
  const struct snapshot *snapshot = part->snapshot;
  part->seen++;
  if (!matches(conn, snapshot)) {
    return;
  }
  part->matched++;
  const struct conn_peer *peer = conn_peer(conn);
  struct snapshot_row row = {.id = xchg_id(conn),
                             .opened_ns = peer->opened_ns,
                             .active_ns = conn->active_ns,
                             .messages = conn->messages,
                             .bytes_in = conn->bytes_in,
                             .bytes_out = conn->bytes_out,
                             .pending = send_queue_size(&conn->out),
                             .peer = peer->addr,
                             .via = via_of(conn),
                             .worker = part->worker,
                             .listener = peer->listener,
                             .state = (uint8_t)shown_state(conn),
                             .paused = conn_paused(conn)};
  row.rank = rank_of(&row, snapshot->query.sort);
  if (belongs(&part->first, &row)) {
    add_texts(&row, conn);
    keep(&part->first, &row);
  }
}

/* Acquire and release: the last one sees what all others did. */
static void release(struct snapshot *snapshot) {
  if (atom_sub_acq_rel_u32(&snapshot->refs, 1) == 1) {
    free(snapshot->post);
    free(snapshot);
  }
}

/* One worker less to wait for. The last one tells the asker, if there is one. */
static void count_down(struct snapshot *snapshot) {
  if (atom_sub_acq_rel_u32(&snapshot->waiting, 1) > 1) {
    return;
  }
  struct posted_call *post = snapshot->post;
  if (atom_load_acquire_u32(&snapshot->asker_left) == 0) { /* pairs with snapshot_free */
    snapshot->post = NULL;
    task_send(snapshot->asker_inbox, &post->task); /* its call releases */
  } else {
    release(snapshot);
  }
}

static void end_part(struct visit *visit, bool complete) {
  struct part *part = container_of(visit, struct part, visit);
  atom_store_release_u32(&part->answered, complete); /* pairs with snapshot_finish */
  count_down(part->snapshot);
}

/* ---- start and end: on the asker's thread ---- */

/* All workers have answered or ended. ${conn} is NULL if the asker has ended. */
static void on_post(struct xchg_conn *conn, void *argument) {
  struct snapshot *snapshot = argument;
  if (conn != NULL && !snapshot->finished) {
    snapshot->ready(conn, snapshot);
  }
  release(snapshot);
}

/* Make room for ${workers} parts. Return: NULL with errno. */
static struct snapshot *create(const struct snapshot_query *query, uint32_t workers,
                               uint64_t asker) {
  uint32_t count = query->worker == SNAPSHOT_ALL_WORKERS ? workers : 1;
  size_t head = sizeof(struct snapshot) + count * sizeof(struct part);
  size_t rows = (count + (size_t)1) * query->rows * sizeof(struct snapshot_row);
  struct snapshot *made = malloc(head + rows);
  struct posted_call *post = posted_call_create(asker, on_post, made);
  if (made == NULL || post == NULL) {
    free(made);
    free(post);
    errno = ENOMEM;
    return NULL;
  }
  memset(made, 0, head); /* the rows are untouched */
  struct snapshot_row *row = (struct snapshot_row *)(void *)((char *)made + head);
  made->first = (struct first_rows){.rows = row, .max = query->rows};
  for (uint32_t i = 0; i < count; i++) {
    made->parts[i] =
        (struct part){.visit = {.each = each_conn, .ended = end_part},
                      .snapshot = made,
                      .first = {.rows = row + (i + (size_t)1) * query->rows, .max = query->rows},
                      .worker = query->worker == SNAPSHOT_ALL_WORKERS ? i : query->worker};
  }
  made->query = *query;
  made->post = post;
  made->asker = asker;
  made->parts_count = count;
  atom_store_relaxed_u32(&made->refs, 2);
  return made;
}

/* Ask the worker behind ${inbox}. */
static void ask(struct part *part, struct inbox *inbox) {
  struct snapshot *snapshot = part->snapshot;
  if (task_owner_ended(inbox)) {
    atom_store_release_u32(&part->answered, 1); /* its connections have ended */
    return;
  }
  atom_add_relaxed_u32(&snapshot->waiting, 1);
  if (!visit_send(inbox, &part->visit)) { /* it still owes the answer to an earlier walk */
    (void)atom_sub_release_u32(&snapshot->waiting, 1); /* not the last: the start has another */
  }
}

struct snapshot *snapshot_start(struct xchg_server *data, const struct snapshot_query *query,
                                struct xchg_conn *asker,
                                void (*ready)(struct xchg_conn *asker, struct snapshot *snapshot)) {
  struct xchg_server *asker_server = xchg_server_of(asker);
  uint32_t workers = 0;
  while (server_inbox(data, workers) != NULL) {
    workers++;
  }
  if (workers == 0 || server_inbox(asker_server, 0) == NULL) {
    errno = ENOTSUP;
    return NULL;
  }
  if (data->walk != NULL || (query->worker != SNAPSHOT_ALL_WORKERS && query->worker >= workers)) {
    errno = data->walk != NULL ? EBUSY : EINVAL;
    return NULL;
  }
  struct snapshot *snapshot = create(query, workers, xchg_id(asker));
  if (snapshot == NULL) {
    return NULL;
  }
  snapshot->data = data;
  snapshot->now_ns = sys_now_ns();
  snapshot->ready = ready;
  snapshot->asker_inbox = server_inbox(asker_server, asker->ctx->index);
  atom_store_relaxed_u32(&snapshot->waiting, 1);
  data->walk = snapshot;
  for (uint32_t i = 0; i < snapshot->parts_count; i++) {
    ask(&snapshot->parts[i], server_inbox(data, snapshot->parts[i].worker));
  }
  count_down(snapshot);
  /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the asker's reference is left */
  return snapshot;
}

uint64_t snapshot_asker(const struct snapshot *snapshot) { return snapshot->asker; }

void snapshot_finish(struct snapshot *snapshot) {
  if (snapshot->finished) {
    return;
  }
  snapshot->finished = true;
  snapshot->data->walk = NULL;
  for (uint32_t i = 0; i < snapshot->parts_count; i++) {
    struct part *part = &snapshot->parts[i];
    part->missing = atom_load_acquire_u32(&part->answered) == 0; /* pairs with end_part */
    if (part->missing) {
      continue;
    }
    snapshot->seen += part->seen;
    snapshot->matched += part->matched;
    for (uint32_t row = 0; row < part->first.count; row++) {
      if (belongs(&snapshot->first, &part->first.rows[row])) {
        keep(&snapshot->first, &part->first.rows[row]);
      }
    }
  }
  sort_rows(&snapshot->first);
}

void snapshot_free(struct snapshot *snapshot) {
  if (snapshot == NULL) {
    return;
  }
  if (!snapshot->finished) {
    snapshot->finished = true;
    snapshot->data->walk = NULL;
  }
  atom_store_release_u32(&snapshot->asker_left, 1); /* pairs with count_down */
  release(snapshot);
}

/* ---- the result ---- */

uint32_t snapshot_rows(const struct snapshot *snapshot, const struct snapshot_row **rows) {
  *rows = snapshot->first.rows;
  return snapshot->first.count;
}

bool snapshot_is_missing(const struct snapshot *snapshot, uint32_t worker) {
  for (uint32_t i = 0; i < snapshot->parts_count; i++) {
    if (snapshot->parts[i].worker == worker) {
      return snapshot->parts[i].missing;
    }
  }
  return false;
}

uint64_t snapshot_seen(const struct snapshot *snapshot) { return snapshot->seen; }

uint64_t snapshot_matched(const struct snapshot *snapshot) { return snapshot->matched; }

static void put_u64(struct metrics_out *out, const char *name, uint64_t value) {
  metrics_out_text(out, ",\"");
  metrics_out_text(out, name);
  metrics_out_text(out, "\":");
  metrics_out_u64(out, value);
}

static void put_text(struct metrics_out *out, const char *name, const char *value) {
  metrics_out_text(out, ",\"");
  metrics_out_text(out, name);
  metrics_out_text(out, "\":");
  metrics_out_quoted(out, value);
}

/* An announced path, which is escaped already. */
static void put_path(struct metrics_out *out, const char *path) {
  metrics_out_text(out, ",\"peer\":\"");
  for (; *path != 0; path++) {
    if (*path == '"' || *path == '\\') {
      metrics_out_bytes(out, "\\", 1);
    }
    metrics_out_bytes(out, path, 1);
  }
  metrics_out_text(out, "\"");
}

/* Any bytes; what is not printable is shown as \xNN. */
static void put_unique_id(struct metrics_out *out, const struct snapshot_row *row) {
  metrics_out_text(out, ",\"unique_id\":\"");
  for (size_t i = 0; i < row->unique_id_size; i++) {
    char text[8];
    uint8_t byte = row->unique_id[i];
    bool plain = byte >= ' ' && byte < 0x7f && byte != '\\';
    snprintf(text, sizeof(text), !plain ? "\\\\x%02x" : byte == '"' ? "\\%c" : "%c", byte);
    metrics_out_text(out, text);
  }
  metrics_out_text(out, "\"");
}

static void put_row(struct metrics_out *out, const struct snapshot *snapshot,
                    const struct snapshot_row *row) {
  char id[17], peer[ADDR_TEXT_MAX], listener[XCHG_ADDRESS_MAX];
  snprintf(id, sizeof(id), "%016" PRIx64, row->id);
  metrics_out_text(out, "{\"id\":");
  metrics_out_quoted(out, id);
  put_u64(out, "worker", row->worker);
  if (row->path[0] != 0) {
    put_path(out, row->path);
  } else {
    put_text(out, "peer", addr_format(&row->peer, peer));
  }
  if (row->via.family != ADDR_NONE) {
    put_text(out, "via", addr_format(&row->via, peer));
  }
  if (row->unique_id_size > 0) {
    put_unique_id(out, row);
  }
  put_text(out, "listener",
           addr_format_listen(&snapshot->data->listeners[row->listener].addr, listener,
                              sizeof(listener)));
  put_text(out, "state", snapshot_state_name(row->state));
  put_u64(out, "age_ms", sub_sat_u64(snapshot->now_ns, row->opened_ns) / NS_PER_MS);
  put_u64(out, "idle_ms", sub_sat_u64(snapshot->now_ns, row->active_ns) / NS_PER_MS);
  put_u64(out, "messages", row->messages);
  put_u64(out, "bytes_in", row->bytes_in);
  put_u64(out, "bytes_out", row->bytes_out);
  put_u64(out, "pending_bytes", row->pending);
  metrics_out_text(out, row->paused ? ",\"paused\":true}" : ",\"paused\":false}");
}

size_t snapshot_json(const struct snapshot *snapshot, char *buffer, size_t size) {
  struct metrics_out out = {.size = size};
  const char *separator = "";
  out.buffer = buffer; /* apart: clang-tidy does not see a use in an initializer */
  metrics_out_text(&out, "{\"schema\":1");
  put_text(&out, "sort", snapshot_sort_name(snapshot->query.sort));
  put_u64(&out, "seen", snapshot->seen);
  put_u64(&out, "matched", snapshot->matched);
  metrics_out_text(&out, ",\"missing\":[");
  for (uint32_t i = 0; i < snapshot->parts_count; i++) {
    if (snapshot->parts[i].missing) {
      metrics_out_text(&out, separator);
      metrics_out_u64(&out, snapshot->parts[i].worker);
      separator = ",";
    }
  }
  metrics_out_text(&out, "],\"connections\":[");
  for (uint32_t i = 0; i < snapshot->first.count; i++) {
    metrics_out_text(&out, i == 0 ? "\n" : ",\n");
    put_row(&out, snapshot, &snapshot->first.rows[i]);
  }
  metrics_out_text(&out, "]}\n");
  return out.needed;
}
