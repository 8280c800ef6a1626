/*
 * kv: a key-value store in memory for clients of memcached's text protocol. Commands: get and gets
 * with any number of keys, set, delete, stats, verbosity, version, quit, and noreply.
 *
 *   C> set a 7 0 5 | hello            S> STORED
 *   C> get a b                        S> VALUE a 7 5 | hello | END
 *
 * parse       A message is a line and, for a set, the data that follows it. So on_message receives
 *             complete commands, and the handler buffers nothing.
 * item        An item is stored in the form in which it is sent ("VALUE a 7 5 | hello |"). A get
 *             copies it to the output, or sends it by reference if it exceeds COPY_MAX_BYTES.
 * shard       A part of the table with its own lock, under which no system call is made.
 * rest        A long get stops at PENDING_MAX_BYTES, pauses, and goes on in on_drain.
 * reference   The table and each xchg_send_ref hold one. The last frees the item.
 *
 * The hash has a random seed, because clients choose the keys and must not be able to fill one
 * bucket. When the memory (KV_MEMORY_MIB, default 64) is full, a set is refused. The next get of
 * its key removes an expired item. With XCHG_MODEL=fork each client has its own store. In a live
 * upgrade clients stay with the old process, which has their values. New ones get an empty store.
 */
#include <xchg.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define KEY_MAX_BYTES 250
#define VALUE_MAX_BYTES (1024 * 1024)
#define LINE_MAX_BYTES (32 * 1024) /* holds a get of more than 100 of the longest keys */
#define COPY_MAX_BYTES 4096
#define PENDING_MAX_BYTES (256 * 1024) /* queued output at which a get waits for the client */
#define SHARDS 64
#define BYTES_PER_BUCKET 128 /* few items are smaller, so a bucket seldom holds two */
#define MONTH_S (60 * 60 * 24 * 30)
#define BAD_LINE "CLIENT_ERROR bad command line format\r\n"

struct text {
  const char *at;
  size_t size;
};

struct item {
  struct item *next; /* in its bucket, guarded by the shard's lock; the fields below are constant */
  struct store *store;
  uint64_t unique; /* of this value, for gets */
  atomic_uint references;
  uint64_t hash;
  time_t expires_s; /* 0 = never */
  size_t key_size, size;
  char text[]; /* "VALUE key flags bytes\r\n", the data, "\r\n" */
};

struct shard {
  _Alignas(64) pthread_mutex_t mutex; /* guards the buckets */
  struct item **buckets;
};

struct store {
  uint64_t seed, factor;
  size_t bucket_count; /* of a shard; a power of two */
  size_t bytes_max;
  atomic_size_t bytes;         /* of all items, with deleted ones that are still being sent */
  atomic_uint_fast64_t unique; /* values stored so far */
  struct shard shards[SHARDS];
};

/* A connection's state. */
struct client {
  size_t skip;           /* bytes of an oversized value that are still to be discarded */
  char *rest;            /* owns: the keys that a get has not answered yet; NULL = none */
  struct text rest_keys; /* in rest */
  bool rest_unique;      /* they are a gets' */
};

/* ---- the store ---- */

/* The text of an item begins with this word, then its key. */
static const char item_word[] = "VALUE ";
static const size_t key_at = sizeof(item_word) - 1;

static uint64_t hash_of(const struct store *store, struct text key) {
  uint64_t hash = store->seed ^ key.size;
  while (key.size > 0) {
    uint64_t word = 0;
    size_t size = key.size < sizeof(word) ? key.size : sizeof(word);
    memcpy(&word, key.at, size);
    unsigned __int128 product = (unsigned __int128)(hash ^ word) * store->factor;
    hash = (uint64_t)product ^ (uint64_t)(product >> 64);
    key = (struct text){key.at + size, key.size - size};
  }
  return hash;
}

/* Lock and return the shard that ${hash} belongs to. */
static struct shard *lock_shard(struct store *store, uint64_t hash) {
  struct shard *shard = &store->shards[hash >> 32 & (SHARDS - 1)];
  pthread_mutex_lock(&shard->mutex);
  return shard;
}

/* The link to the item of ${key}, or to the NULL at the end of its bucket. Locked. */
static struct item **find(struct store *store, struct shard *shard, uint64_t hash,
                          struct text key) {
  struct item **link = &shard->buckets[hash & (store->bucket_count - 1)];
  for (; *link != NULL; link = &(*link)->next) {
    const struct item *item = *link;
    if (item->hash == hash && item->key_size == key.size &&
        memcmp(item->text + key_at, key.at, key.size) == 0) {
      break;
    }
  }
  return link;
}

/* Remove the item at ${link}, if any. The caller gets the table's reference. Locked. */
static struct item *unlink_item(struct item **link) {
  struct item *item = *link;
  if (item != NULL) {
    *link = item->next;
  }
  return item;
}

static bool has_expired(const struct item *item) {
  return item->expires_s != 0 && time(NULL) >= item->expires_s;
}

/* Drop a reference to ${argument}, an item or NULL. Thread: any. */
static void item_release(void *argument) {
  struct item *item = argument;
  if (item != NULL && atomic_fetch_sub(&item->references, 1) == 1) {
    atomic_fetch_sub(&item->store->bytes, sizeof(*item) + item->size);
    free(item);
  }
}

/* Store ${item}, in place of the item with the same key. */
static void store_put(struct store *store, struct item *item) {
  struct text key = {item->text + key_at, item->key_size};
  struct shard *shard = lock_shard(store, item->hash);
  struct item **link = find(store, shard, item->hash, key), *old = unlink_item(link);
  item->next = *link;
  *link = item;
  pthread_mutex_unlock(&shard->mutex);
  item_release(old);
}

/* Return: did the key exist? */
static bool store_delete(struct store *store, struct text key) {
  uint64_t hash = hash_of(store, key);
  struct shard *shard = lock_shard(store, hash);
  struct item *old = unlink_item(find(store, shard, hash, key));
  pthread_mutex_unlock(&shard->mutex);
  bool found = old != NULL && !has_expired(old);
  item_release(old);
  return found;
}

/* Send ${item}; ${unique}: with its number in the first line. The shard is locked. */
static void send_item(struct xchg_conn *conn, struct item *item, bool unique) {
  const char *at = item->text, *end = memchr(at, '\r', item->size);
  char number[32];
  if (unique) {
    xchg_send(conn, at, (size_t)(end - at));
    xchg_send(conn, number, (size_t)snprintf(number, sizeof(number), " %" PRIu64, item->unique));
    at = end;
  }
  size_t size = item->size - (size_t)(at - item->text);
  if (size <= COPY_MAX_BYTES) {
    xchg_send(conn, at, size);
    return;
  }
  atomic_fetch_add(&item->references, 1);
  if (xchg_send_ref(conn, at, size, item_release, item) == -1) {
    atomic_fetch_sub(&item->references, 1); /* not the last one: the table holds another */
  }
}

/* Send the item of ${key}, if it exists. */
static void store_send(struct store *store, struct text key, bool unique, struct xchg_conn *conn) {
  uint64_t hash = hash_of(store, key);
  struct shard *shard = lock_shard(store, hash);
  struct item **link = find(store, shard, hash, key), *item = *link, *expired = NULL;
  if (item != NULL && has_expired(item)) {
    expired = unlink_item(link);
  } else if (item != NULL) {
    send_item(conn, item, unique);
  }
  pthread_mutex_unlock(&shard->mutex);
  item_release(expired);
}

/* ---- lines ---- */

/* The line that ends at the LF at ${end}, without LF or CR LF. */
static struct text line_until(const char *data, const char *end) {
  size_t size = (size_t)(end - data);
  return (struct text){data, size > 0 && data[size - 1] == '\r' ? size - 1 : size};
}

/* Remove the next word from ${line}. It has 0 bytes if there is none. */
static struct text next_word(struct text *line) {
  const char *begin = line->at, *end = line->at + line->size;
  while (begin < end && *begin == ' ') {
    begin++;
  }
  const char *at = begin;
  while (at < end && *at != ' ') {
    at++;
  }
  *line = (struct text){at, (size_t)(end - at)};
  return (struct text){begin, (size_t)(at - begin)};
}

static bool is_word(struct text text, const char *word) {
  return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

/* Is ${text} a decimal number of 32 bits? */
static bool parse_number(struct text text, uint32_t *number) {
  uint64_t value = 0;
  for (size_t i = 0; i < text.size && value <= UINT32_MAX; i++) {
    if (text.at[i] < '0' || text.at[i] > '9') {
      return false;
    }
    value = value * 10 + (uint64_t)(text.at[i] - '0');
  }
  *number = (uint32_t)value;
  return text.size > 0 && value <= UINT32_MAX;
}

/* 0 = never; up to a month = from now; more = a date; negative = expired at once. */
static bool parse_exptime(struct text text, time_t *expires_s) {
  bool negative = text.size > 0 && text.at[0] == '-';
  uint32_t number;
  if (!parse_number((struct text){text.at + negative, text.size - negative}, &number)) {
    return false;
  }
  bool from_now = number > 0 && number <= MONTH_S;
  *expires_s = negative ? 1 : from_now ? time(NULL) + number : number;
  return true;
}

/* A parsed line "set key flags exptime bytes [noreply]". */
struct set {
  struct text key, data; /* data includes "\r\n"; on_message fills it in */
  uint32_t flags, bytes;
  time_t expires_s;
  bool sized; /* bytes is a number, so the end of the data is known */
  bool valid; /* the other fields are valid, too */
  bool noreply;
};

/* ${words}: the line after "set". */
static struct set parse_set(struct text words) {
  struct set set = {.key = next_word(&words)};
  bool flags = parse_number(next_word(&words), &set.flags);
  bool exptime = parse_exptime(next_word(&words), &set.expires_s);
  set.sized = parse_number(next_word(&words), &set.bytes);
  set.valid = set.sized && flags && exptime && set.key.size <= KEY_MAX_BYTES;
  set.noreply = is_word(next_word(&words), "noreply");
  return set;
}

/*
 * Find the end of the first command. The data of a set belongs to it, unless its size is unknown or
 * over the limit. Then the line is a message of its own, and on_message sets the number of bytes to
 * skip, which arrive as further messages.
 */
static size_t parse(struct xchg_conn *conn, const void *data, size_t size) {
  const struct client *client = xchg_state(conn);
  if (client->skip > 0) {
    return size < client->skip ? size : client->skip;
  }
  const char *end = memchr(data, '\n', size < LINE_MAX_BYTES ? size : LINE_MAX_BYTES);
  if (end == NULL) {
    return size < LINE_MAX_BYTES ? 0 : XCHG_PARSE_ERROR;
  }
  struct text words = line_until(data, end);
  size_t line_size = (size_t)(end + 1 - (const char *)data);
  if (!is_word(next_word(&words), "set")) {
    return line_size;
  }
  struct set set = parse_set(words);
  return set.sized && set.bytes <= VALUE_MAX_BYTES ? line_size + set.bytes + 2 : line_size;
}

/* ---- commands ---- */

static void answer(struct xchg_conn *conn, const char *text) {
  xchg_send(conn, text, strlen(text));
}

/* Send items of ${*words} until enough is queued. Return: the last line; NULL = keys are left. */
static const char *send_items(struct xchg_conn *conn, struct text *words, bool unique) {
  while (xchg_pending(conn) < PENDING_MAX_BYTES) {
    struct text key = next_word(words);
    if (key.size == 0 || key.size > KEY_MAX_BYTES) {
      return key.size == 0 ? "END\r\n" : BAD_LINE;
    }
    store_send(xchg_user(conn), key, unique, conn);
  }
  return NULL;
}

static void do_get(struct xchg_conn *conn, struct text words, bool unique) {
  struct client *client = xchg_state(conn);
  struct text all = words;
  const char *last = next_word(&all).size == 0 ? "ERROR\r\n" : send_items(conn, &words, unique);
  if (last != NULL) {
    answer(conn, last);
  } else if ((client->rest = malloc(words.size + 1)) == NULL) {
    xchg_abort(conn); /* the client must not take a part of the answer for the whole */
  } else {
    memcpy(client->rest, words.at, words.size);
    client->rest_keys = (struct text){client->rest, words.size};
    client->rest_unique = unique;
    xchg_pause(conn);
  }
}

/* The client has read: go on with its get. */
static void on_drain(struct xchg_conn *conn) {
  struct client *client = xchg_state(conn);
  const char *last =
      client->rest == NULL ? NULL : send_items(conn, &client->rest_keys, client->rest_unique);
  if (last != NULL) {
    free(client->rest);
    client->rest = NULL;
    answer(conn, last);
    xchg_resume(conn);
  }
}

static void on_close(struct xchg_conn *conn, enum xchg_reason reason) {
  (void)reason;
  free(((struct client *)xchg_state(conn))->rest);
}

/* Make an item of ${set}. Return: NULL if memory is full. */
static struct item *make_item(struct store *store, const struct set *set) {
  char numbers[32];
  int count =
      snprintf(numbers, sizeof(numbers), " %" PRIu32 " %" PRIu32 "\r\n", set->flags, set->bytes);
  size_t size = key_at + set->key.size + (size_t)count + set->data.size;
  size_t all = sizeof(struct item) + size;
  bool room = atomic_fetch_add(&store->bytes, all) + all <= store->bytes_max;
  struct item *item = room ? malloc(all) : NULL;
  if (item == NULL) {
    atomic_fetch_sub(&store->bytes, all);
    return NULL;
  }
  *item = (struct item){.store = store, .references = 1, .hash = hash_of(store, set->key)};
  item->unique = atomic_fetch_add(&store->unique, 1) + 1;
  item->expires_s = set->expires_s;
  item->key_size = set->key.size;
  item->size = size;
  memcpy(item->text, item_word, key_at);
  memcpy(item->text + key_at, set->key.at, set->key.size);
  memcpy(item->text + key_at + set->key.size, numbers, (size_t)count);
  memcpy(item->text + size - set->data.size, set->data.at, set->data.size);
  return item;
}

/* Execute ${set}. Return: the answer. */
static const char *store_set(struct store *store, const struct set *set, struct client *client) {
  if (set->sized && set->bytes > VALUE_MAX_BYTES) {
    client->skip = (size_t)set->bytes + 2;
    store_delete(store, set->key); /* no value is better than an outdated one */
    return "SERVER_ERROR object too large for cache\r\n";
  }
  if (!set->valid) {
    return BAD_LINE;
  }
  if (memcmp(set->data.at + set->bytes, "\r\n", 2) != 0) {
    return "CLIENT_ERROR bad data chunk\r\n";
  }
  struct item *item = make_item(store, set);
  if (item == NULL) {
    store_delete(store, set->key);
    return "SERVER_ERROR out of memory storing object\r\n";
  }
  store_put(store, item);
  return "STORED\r\n";
}

static void do_set(struct xchg_conn *conn, struct text words, struct text data) {
  struct set set = parse_set(words);
  set.data = data;
  const char *text = store_set(xchg_user(conn), &set, xchg_state(conn));
  if (!set.noreply) {
    answer(conn, text);
  }
}

static void do_delete(struct xchg_conn *conn, struct text words) {
  struct text key = next_word(&words), last = next_word(&words);
  if (is_word(last, "0")) { /* a time, which older clients send */
    last = next_word(&words);
  }
  bool noreply = is_word(last, "noreply"), more = next_word(&words).size > 0;
  if (key.size == 0 || key.size > KEY_MAX_BYTES || more || (last.size > 0 && !noreply)) {
    answer(conn, key.size == 0 ? "ERROR\r\n" : BAD_LINE);
    return;
  }
  bool found = store_delete(xchg_user(conn), key);
  if (!noreply) {
    answer(conn, found ? "DELETED\r\n" : "NOT_FOUND\r\n");
  }
}

/* "verbosity LEVEL [noreply]" has no effect: the log is xchg's. */
static void do_verbosity(struct xchg_conn *conn, struct text words) {
  struct text level = next_word(&words), last = next_word(&words);
  uint32_t number;
  if (!is_word(level, "noreply") && !is_word(last, "noreply")) {
    answer(conn, parse_number(level, &number) && last.size == 0 ? "OK\r\n" : "ERROR\r\n");
  }
}

/* A command without arguments. */
static void do_simple(struct xchg_conn *conn, struct text command, struct text words) {
  bool bare = next_word(&words).size == 0, version = is_word(command, "version");
  if (bare && is_word(command, "quit")) {
    xchg_finish(conn);
  } else if (bare && (version || is_word(command, "stats"))) {
    answer(conn,
           version ? "VERSION " XCHG_VERSION "\r\n" : "STAT version " XCHG_VERSION "\r\nEND\r\n");
  } else {
    answer(conn, "ERROR\r\n");
  }
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct client *client = xchg_state(conn);
  if (client->skip > 0) {
    client->skip -= message->size;
    return;
  }
  const char *data = message->data, *end = memchr(data, '\n', message->size);
  struct text words = line_until(data, end), command = next_word(&words);
  if (is_word(command, "get") || is_word(command, "gets")) {
    do_get(conn, words, command.size == 4);
  } else if (is_word(command, "set")) {
    do_set(conn, words, (struct text){end + 1, (size_t)(data + message->size - end - 1)});
  } else if (is_word(command, "delete")) {
    do_delete(conn, words);
  } else if (is_word(command, "verbosity")) {
    do_verbosity(conn, words);
  } else {
    do_simple(conn, command, words);
  }
}

/* ---- the program ---- */

/* ${mebibytes} limits all items. The end of the process frees the store. */
static int store_init(struct store *store, unsigned long mebibytes) {
  uint64_t random[2];
  if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
    return -1;
  }
  store->seed = random[0];
  store->factor = random[1] | 1;
  store->bytes_max = mebibytes << 20;
  store->bucket_count = 64;
  while (store->bucket_count * SHARDS * BYTES_PER_BUCKET < store->bytes_max) {
    store->bucket_count *= 2;
  }
  for (struct shard *shard = store->shards; shard < store->shards + SHARDS; shard++) {
    pthread_mutex_init(&shard->mutex, NULL);
    shard->buckets = calloc(store->bucket_count, sizeof(*shard->buckets));
    if (shard->buckets == NULL) {
      return -1;
    }
  }
  return 0;
}

int main(int argc, char **argv) {
  static struct store store;
  const struct xchg_handler kv = {.size = sizeof(kv),
                                  .frame = {.kind = XCHG_FRAME_CUSTOM, .parse = parse},
                                  .max_message = LINE_MAX_BYTES + VALUE_MAX_BYTES + 2,
                                  .state_size = sizeof(struct client),
                                  .user = &store,
                                  .on_message = on_message,
                                  .on_drain = on_drain,
                                  .on_close = on_close};
  const char *mebibytes = getenv("KV_MEMORY_MIB");
  if (store_init(&store, mebibytes == NULL ? 64 : strtoul(mebibytes, NULL, 10)) == -1) {
    perror("kv");
    return EXIT_FAILURE;
  }
  return xchg_main(&kv, argc, argv);
}
