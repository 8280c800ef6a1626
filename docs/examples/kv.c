/*
 * kv: a key-value store in memory, for clients that speak the text protocol of memcached: get (any
 * number of keys), set, delete, version, quit; noreply where the protocol has it.
 *
 *   C> set a 7 0 5 | hello            S> STORED
 *   C> get a b                        S> VALUE a 7 5 | hello | END
 *
 * parse       a message is a line, with the data behind it that a set declares; so nothing is kept
 *             here while data arrives, and nothing is carried out before it is complete
 * item        is stored as it will be sent ("VALUE a 7 5 | hello |"): a get copies once, into the
 *             connection's output; what is longer than COPY_MAX_BYTES is lent instead
 * shard       a part of the table with a lock of its own, so that workers seldom meet; no system
 *             call is made under it
 * reference   the table has one to each item, each loan has one; the last one frees it, so that an
 *             item may be deleted while it is on its way to a slow client
 *
 * Answers to commands that came together leave together: that is the engine's doing.  Keys come
 * from strangers, so the hash is seeded: who does not know the seed cannot aim at one bucket.  When
 * memory (KV_MEMORY_MIB, 64) is full, sets are refused; nothing is evicted.  An item whose time has
 * come is removed when somebody asks for it.  Under XCHG_MODEL=fork each client has its own copy.
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
#define LINE_MAX_BYTES (32 * 1024) /* a get of more than a hundred of the longest keys */
#define COPY_MAX_BYTES 4096
#define SHARDS 64
#define BYTES_PER_BUCKET 128 /* hardly any item is smaller: a bucket seldom holds two */
#define MONTH_S (60 * 60 * 24 * 30)
#define BAD_LINE "CLIENT_ERROR bad command line format\r\n"

struct text {
  const char *at;
  size_t size;
};

struct item {
  struct item *next; /* in its bucket; under the shard's lock, all the rest is constant */
  struct store *store;
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
  atomic_size_t bytes; /* of all items; also of those that are lent, but deleted */
  struct shard shards[SHARDS];
};

/* A connection's state. */
struct client {
  size_t skip; /* bytes of data that is too long, still to be thrown away */
};

/* ---- the store ----------------------------------------------------------------------------- */

/* How the text of an item begins; its key follows. */
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

/* What leads to the item of ${key}, or to the NULL at the end of its bucket. Locked. */
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

/* Take the item at ${link} out, if there is one; its reference is the caller's. Locked. */
static struct item *take(struct item **link) {
  struct item *item = *link;
  if (item != NULL) {
    *link = item->next;
  }
  return item;
}

static bool is_over(const struct item *item) {
  return item->expires_s != 0 && time(NULL) >= item->expires_s;
}

/* Give up a reference to ${argument}, an item or NULL. Thread: any. */
static void item_release(void *argument) {
  struct item *item = argument;
  if (item != NULL && atomic_fetch_sub(&item->references, 1) == 1) {
    atomic_fetch_sub(&item->store->bytes, sizeof(*item) + item->size);
    free(item);
  }
}

/* Put ${item} in the place of what had its key. */
static void store_put(struct store *store, struct item *item) {
  struct text key = {item->text + key_at, item->key_size};
  struct shard *shard = lock_shard(store, item->hash);
  struct item **link = find(store, shard, item->hash, key), *old = take(link);
  item->next = *link;
  *link = item;
  pthread_mutex_unlock(&shard->mutex);
  item_release(old);
}

/* Was there anything under ${key}? */
static bool store_delete(struct store *store, struct text key) {
  uint64_t hash = hash_of(store, key);
  struct shard *shard = lock_shard(store, hash);
  struct item *old = take(find(store, shard, hash, key));
  pthread_mutex_unlock(&shard->mutex);
  bool found = old != NULL && !is_over(old);
  item_release(old);
  return found;
}

/* Send what is under ${key}, if anything. */
static void store_send(struct store *store, struct text key, struct xchg_conn *conn) {
  uint64_t hash = hash_of(store, key);
  struct shard *shard = lock_shard(store, hash);
  struct item **link = find(store, shard, hash, key), *item = *link, *over = NULL;
  if (item != NULL && is_over(item)) {
    over = take(link);
  } else if (item != NULL && item->size <= COPY_MAX_BYTES) {
    xchg_send(conn, item->text, item->size);
  } else if (item != NULL) {
    atomic_fetch_add(&item->references, 1);
    if (xchg_send_ref(conn, item->text, item->size, item_release, item) == -1) {
      atomic_fetch_sub(&item->references, 1); /* never the last one: the table has its own */
    }
  }
  pthread_mutex_unlock(&shard->mutex);
  item_release(over);
}

/* ---- lines --------------------------------------------------------------------------------- */

/* The line that ends at the LF at ${end}, without LF or CR LF. */
static struct text line_until(const char *data, const char *end) {
  size_t size = (size_t)(end - data);
  return (struct text){data, size > 0 && data[size - 1] == '\r' ? size - 1 : size};
}

/* Take the next word off ${line}; of 0 bytes where there is none. */
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

/* 0: never; up to a month: from now; else a date; below 0: it is over. */
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

/* What a line "set key flags exptime bytes [noreply]" says. */
struct set {
  struct text key, data; /* the data with its "\r\n"; on_message fills it in */
  uint32_t flags, bytes;
  time_t expires_s;
  bool sized; /* bytes is a number: the data can be told from the next command */
  bool valid; /* the rest is as it must be, too */
  bool noreply;
};

/* ${words} is what follows "set". */
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
 * Where does the first command end?  A set's data belongs to it, unless there is no telling how
 * much it is, or it is too much: then the line is a message of its own, and what on_message says
 * is to be skipped comes as further ones.
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

/* ---- commands ------------------------------------------------------------------------------ */

static void answer(struct xchg_conn *conn, const char *text) {
  xchg_send(conn, text, strlen(text));
}

static void do_get(struct xchg_conn *conn, struct text words) {
  struct text key = next_word(&words);
  const char *last = key.size == 0 ? "ERROR\r\n" : "END\r\n";
  for (; key.size > 0; key = next_word(&words)) {
    if (key.size > KEY_MAX_BYTES) {
      last = BAD_LINE;
      break;
    }
    store_send(xchg_user(conn), key, conn);
  }
  answer(conn, last);
}

/* Make an item of ${set}. NULL: there is no room for it. */
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
  item->expires_s = set->expires_s;
  item->key_size = set->key.size;
  item->size = size;
  memcpy(item->text, item_word, key_at);
  memcpy(item->text + key_at, set->key.at, set->key.size);
  memcpy(item->text + key_at + set->key.size, numbers, (size_t)count);
  memcpy(item->text + size - set->data.size, set->data.at, set->data.size);
  return item;
}

/* Carry out ${set}. Return: what is to be answered. */
static const char *store_set(struct store *store, const struct set *set, struct client *client) {
  if (set->sized && set->bytes > VALUE_MAX_BYTES) {
    client->skip = (size_t)set->bytes + 2;
    store_delete(store, set->key); /* rather nothing than what was to be replaced */
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
  bool noreply = is_word(last, "noreply");
  if (key.size == 0 || key.size > KEY_MAX_BYTES || (last.size > 0 && !noreply)) {
    answer(conn, key.size == 0 ? "ERROR\r\n" : BAD_LINE);
    return;
  }
  bool found = store_delete(xchg_user(conn), key);
  if (!noreply) {
    answer(conn, found ? "DELETED\r\n" : "NOT_FOUND\r\n");
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
  if (is_word(command, "get")) {
    do_get(conn, words);
  } else if (is_word(command, "set")) {
    do_set(conn, words, (struct text){end + 1, (size_t)(data + message->size - end - 1)});
  } else if (is_word(command, "delete")) {
    do_delete(conn, words);
  } else if (is_word(command, "version")) {
    answer(conn, "VERSION " XCHG_VERSION "\r\n");
  } else if (is_word(command, "quit")) {
    xchg_finish(conn);
  } else {
    answer(conn, "ERROR\r\n");
  }
}

/* ---- the program --------------------------------------------------------------------------- */

/* All items fit into ${mebibytes}.  Lives as long as the process, which frees it. */
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
                                  .on_message = on_message};
  const char *mebibytes = getenv("KV_MEMORY_MIB");
  if (store_init(&store, mebibytes == NULL ? 64 : strtoul(mebibytes, NULL, 10)) == -1) {
    perror("kv");
    return EXIT_FAILURE;
  }
  return xchg_main(&kv, argc, argv);
}
