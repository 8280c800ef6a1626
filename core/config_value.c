/*
 * config_value: parses, stores and describes a value by its kind.
 *
 * Numbers of every kind are passed as uint64_t and stored in the size of their field.  An assertion
 * checks that they fit.  Stored memory is freed by config_fini.  Nothing here depends on the
 * environment or on another variable.
 */
#include "core/ascii.h"
#include "core/parse.h"
#include "core/config_vars.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Longer than the longest valid item of a list, which is a UNIX path with its options. */
#define ITEM_MAX 160

static_assert(sizeof(enum config_model) == sizeof(uint32_t), "enums are stored as 32 bits");
static_assert(sizeof(bool) == sizeof(uint8_t), "switches are stored as a byte");

static enum config_result set_text(struct config_text *text, const char *escaped);
static int parse_enum(const struct config_var_def *def, const char *text, uint64_t *value);
static int parse_number(const struct config_var_def *def, const char *text, uint64_t *value);
static enum config_result set_greeting(struct config *config, const char *text);
static enum config_result set_reply(struct config *config, const char *text);
static enum config_result set_frame(struct config *config, const struct config_var_def *def,
                                    const char *text);
static enum config_result set_listen(struct config *config, const char *text,
                                     struct config_span *bad);
static enum config_result set_admin(struct config *config, const char *text,
                                    struct config_span *bad);
static enum config_result set_blocks(struct config_blocks *blocks, const char *text,
                                     struct config_span *bad);
static enum config_result set_path(char **path, const char *text);
static enum config_result set_user(struct config_user *user, const char *text);
static enum config_result set_upgrade(struct config *config, const char *text);
static bool next_item(const char **rest, struct config_span *span, char item[ITEM_MAX]);
static int format_names(const char *const *names, char text[CONFIG_EXPECTED_MAX]);
static int format_range(const struct config_var_def *def, char text[CONFIG_EXPECTED_MAX]);

enum config_result config_set(struct config *config, const struct config_var_def *def,
                              const char *text, struct config_span *bad) {
  *bad = (struct config_span){.text = NULL};
  switch (def->kind) {
    case KIND_GREETING:
      return set_greeting(config, text);
    case KIND_FRAME:
      return set_frame(config, def, text);
    case KIND_REPLY:
      return set_reply(config, text);
    case KIND_LISTEN:
      return set_listen(config, text, bad);
    case KIND_ADMIN:
      return set_admin(config, text, bad);
    case KIND_BLOCKS:
      return set_blocks((void *)((char *)config + def->offset), text, bad);
    case KIND_PATH:
      return set_path((void *)((char *)config + def->offset), text);
    case KIND_USER:
      return set_user((void *)((char *)config + def->offset), text);
    case KIND_UPGRADE:
      return set_upgrade(config, text);
    case KIND_INTEGER:
    case KIND_SIZE:
    case KIND_TIME:
    case KIND_SWITCH:
    case KIND_ENUM:
      break;
  }
  uint64_t value;
  if (parse_number(def, text, &value) == -1) {
    return CONFIG_BAD;
  }
  config_write_number((char *)config + def->offset, def->size, value);
  return CONFIG_OK;
}

void config_write_number(void *member, size_t size, uint64_t value) {
  uint32_t narrow = (uint32_t)value;
  bool flag = value != 0;
  if (size == sizeof(value)) {
    memcpy(member, &value, sizeof(value));
  } else if (size == sizeof(narrow)) {
    assert(narrow == value);
    memcpy(member, &narrow, sizeof(narrow));
  } else {
    assert(size == sizeof(flag));
    assert(value <= 1);
    memcpy(member, &flag, sizeof(flag));
  }
}

uint64_t config_read_number(const void *member, size_t size) {
  uint64_t value;
  uint32_t narrow;
  uint8_t byte;
  if (size == sizeof(value)) {
    memcpy(&value, member, sizeof(value));
    return value;
  }
  if (size == sizeof(narrow)) {
    memcpy(&narrow, member, sizeof(narrow));
    return narrow;
  }
  assert(size == sizeof(byte));
  memcpy(&byte, member, sizeof(byte));
  return byte;
}

uint64_t config_number(const struct config *config, const struct config_var_def *def) {
  assert(def->kind <= KIND_ENUM);
  return config_read_number((const char *)config + def->offset, def->size);
}

bool config_allows(const struct config_var_def *def, uint64_t value) {
  uint64_t count = 0;
  if (def->kind == KIND_SWITCH) {
    return value <= 1;
  }
  if (def->kind != KIND_ENUM) {
    return value >= def->min && value <= def->max;
  }
  while (def->names[count] != NULL) {
    count++;
  }
  return value < count;
}

const char *config_default(const struct config_var_def *def, enum config_exchange exchange) {
  return def->by_exchange != NULL ? def->by_exchange[exchange] : def->default_text;
}

const char *config_expected(const struct config_var_def *def, char text[CONFIG_EXPECTED_MAX]) {
  static const char escapes[] = "a text with the escapes \\n \\r \\t \\0 \\\\ \\xNN";
  const size_t room = CONFIG_EXPECTED_MAX;
  int size = 0;
  switch (def->kind) {
    case KIND_INTEGER:
    case KIND_SIZE:
    case KIND_TIME:
      size = format_range(def, text);
      break;
    case KIND_SWITCH:
      size = snprintf(text, room, "on or off");
      break;
    case KIND_ENUM:
      size = format_names(def->names, text);
      break;
    case KIND_GREETING:
      size = snprintf(text, room, "none, or %s", escapes);
      break;
    case KIND_FRAME:
      size = snprintf(text, room,
                      "nul, line, u16, u32, raw, or fixed:N with N from %" PRIu64 " to %" PRIu64,
                      def->min, def->max);
      break;
    case KIND_REPLY:
      size = snprintf(text, room, "none, echo, or text: and %s", escapes);
      break;
    case KIND_LISTEN:
    case KIND_ADMIN:
      size = snprintf(text, room,
                      "at most %d of address:port, [v6]:port, :port, unix:/path[;mode=0660]%s",
                      def->kind == KIND_LISTEN ? CONFIG_LISTEN_MAX : CONFIG_ADMIN_MAX,
                      def->kind == KIND_LISTEN ? ", each also with ;proxy=v2" : "");
      break;
    case KIND_BLOCKS:
      size =
          snprintf(text, room, "a list of addresses and blocks, such as 10.0.0.0/8,2001:db8::/32");
      break;
    case KIND_PATH:
      size = snprintf(text, room, "a path that contains a /, at most %d bytes", CONFIG_PATH_MAX);
      break;
    case KIND_USER:
      size = snprintf(text, room, "a name, uid or uid:gid with numbers from 0 to %" PRIu32,
                      (uint32_t)CONFIG_ID_MAX);
      break;
    case KIND_UPGRADE:
      size = snprintf(text, room, "off, on or unix:/path");
      break;
  }
  assert(size > 0 && (size_t)size < room);
  return text;
}

void config_print_escaped(FILE *out, const char *text, size_t size, size_t size_max,
                          const char *quoted) {
  for (size_t i = 0; i < size && i < size_max; i++) {
    uint8_t byte = (uint8_t)text[i];
    if (byte < 0x20 || byte >= 0x7f || strchr(quoted, byte) != NULL) {
      fprintf(out, "\\x%02x", byte);
    } else {
      fputc(byte, out);
    }
  }
  if (size > size_max) {
    fputs("...", out);
  }
}

/* Convert ${escaped} to bytes that ${text} owns. */
static enum config_result set_text(struct config_text *text, const char *escaped) {
  size_t size;
  uint8_t *bytes = malloc(strlen(escaped) + 1);
  if (bytes == NULL) {
    return CONFIG_NO_MEMORY;
  }
  if (parse_text(escaped, bytes, &size) == -1) {
    free(bytes);
    return CONFIG_BAD;
  }
  *text = (struct config_text){.bytes = bytes, .size = size};
  return CONFIG_OK;
}

static int parse_enum(const struct config_var_def *def, const char *text, uint64_t *value) {
  for (size_t i = 0; def->names[i] != NULL; i++) {
    if (!ascii_equal(text, def->names[i])) {
      continue;
    }
    *value = i;
    return 0;
  }
  return -1;
}

/* Parse a value of a kind that is stored as a number, and check its range. */
static int parse_number(const struct config_var_def *def, const char *text, uint64_t *value) {
  bool flag;
  if (def->kind == KIND_ENUM) {
    return parse_enum(def, text, value);
  }
  if (def->kind == KIND_SWITCH) {
    if (parse_switch(text, &flag) == -1) {
      return -1;
    }
    *value = flag ? 1 : 0;
    return 0;
  }
  int result = def->kind == KIND_SIZE   ? parse_size(text, value)
               : def->kind == KIND_TIME ? parse_time(text, value)
                                        : parse_u64(text, value);
  return result == 0 && config_allows(def, *value) ? 0 : -1;
}

static enum config_result set_greeting(struct config *config, const char *text) {
  config->has_greeting = false;
  if (ascii_equal(text, "none")) {
    return CONFIG_OK;
  }
  if (ascii_begins(text, "text:")) {
    text += 5;
  }
  enum config_result result = set_text(&config->greeting, text);
  config->has_greeting = result == CONFIG_OK;
  return result;
}

static enum config_result set_reply(struct config *config, const char *text) {
  bool echo = ascii_equal(text, "echo");
  if (echo || ascii_equal(text, "none")) {
    config->reply = echo ? REPLY_ECHO : REPLY_NONE;
    return CONFIG_OK;
  }
  if (!ascii_begins(text, "text:")) {
    return CONFIG_BAD;
  }
  enum config_result result = set_text(&config->reply_text, text + 5);
  if (result == CONFIG_OK) {
    config->reply = REPLY_TEXT;
  }
  return result;
}

static enum config_result set_frame(struct config *config, const struct config_var_def *def,
                                    const char *text) {
  static const struct {
    const char *name;
    struct xchg_frame frame;
  } kinds[] = {{"raw", {.kind = XCHG_FRAME_RAW}},
               {"nul", {.kind = XCHG_FRAME_DELIMITER, .delimiter = 0}},
               {"line", {.kind = XCHG_FRAME_LINE}},
               {"u16", {.kind = XCHG_FRAME_PREFIX, .size = 2}},
               {"u32", {.kind = XCHG_FRAME_PREFIX, .size = 4}}};
  for (size_t i = 0; i < count_of(kinds); i++) {
    if (!ascii_equal(text, kinds[i].name)) {
      continue;
    }
    config->frame = kinds[i].frame;
    return CONFIG_OK;
  }
  uint64_t size;
  if (!ascii_begins(text, "fixed:")) {
    return CONFIG_BAD;
  }
  if (parse_u64(text + 6, &size) == -1) {
    return CONFIG_BAD;
  }
  if (size < def->min || size > def->max) {
    return CONFIG_BAD;
  }
  config->frame = (struct xchg_frame){.kind = XCHG_FRAME_FIXED, .size = (size_t)size};
  return CONFIG_OK;
}

/*
 * Fill ${list}, which has room for ${max}.  Items may have the option ;proxy= if ${proxied}.
 * Return: how many, or -1 with ${*bad}.
 */
static int parse_listen(struct addr_listen *list, int max, bool proxied, const char *text,
                        struct config_span *bad) {
  char item[ITEM_MAX];
  struct config_span span;
  int count = 0;
  while (next_item(&text, &span, item)) {
    if (count == max || addr_parse_listen(item, &list[count]) == -1 ||
        (!proxied && list[count].proxy != ADDR_PROXY_OFF)) {
      *bad = span;
      return -1;
    }
    count++;
  }
  return count;
}

static enum config_result set_listen(struct config *config, const char *text,
                                     struct config_span *bad) {
  int count = parse_listen(config->listen, CONFIG_LISTEN_MAX, true, text, bad);
  if (count == -1) {
    return CONFIG_BAD;
  }
  config->listen_count = (uint32_t)count;
  return CONFIG_OK;
}

static enum config_result set_admin(struct config *config, const char *text,
                                    struct config_span *bad) {
  config->admin_count = 0;
  if (*text == 0) {
    return CONFIG_OK;
  }
  int count = parse_listen(config->admin, CONFIG_ADMIN_MAX, false, text, bad);
  if (count == -1) {
    return CONFIG_BAD;
  }
  for (int i = 0; i < count; i++) {
    struct addr_listen *listen = &config->admin[i];
    if (listen->addr.family == ADDR_UNIX && listen->mode == -1) {
      listen->mode = 0600;
    }
  }
  config->admin_count = (uint32_t)count;
  return CONFIG_OK;
}

static enum config_result set_blocks(struct config_blocks *blocks, const char *text,
                                     struct config_span *bad) {
  if (*text == 0) {
    return CONFIG_OK;
  }
  char item[ITEM_MAX];
  struct config_span span;
  size_t count = 1;
  for (const char *p = text; *p != 0; p++) {
    count += *p == ',' ? 1 : 0;
  }
  struct addr_block *list = calloc(count, sizeof(*list));
  if (list == NULL) {
    return CONFIG_NO_MEMORY;
  }
  size_t filled = 0;
  while (next_item(&text, &span, item)) {
    if (addr_parse_block(item, &list[filled]) == -1) {
      *bad = span;
      free(list);
      return CONFIG_BAD;
    }
    filled++;
  }
  assert(filled == count);
  *blocks = (struct config_blocks){.blocks = list, .count = count};
  return CONFIG_OK;
}

/* A path must contain a slash, because a bare name is searched for in the library folders. */
static enum config_result set_path(char **path, const char *text) {
  if (*text == 0) {
    return CONFIG_OK;
  }
  if (strchr(text, '/') == NULL || strlen(text) > CONFIG_PATH_MAX) {
    return CONFIG_BAD;
  }
  *path = strdup(text);
  return *path == NULL ? CONFIG_NO_MEMORY : CONFIG_OK;
}

/* May ${text} be the name of a user?  /etc/passwd has no other characters by common rules. */
static bool is_user_name(const char *text) {
  size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-$");
  return size > 0 && size <= CONFIG_USER_MAX && text[size] == 0 &&
         strchr("-0123456789", text[0]) == NULL;
}

static enum config_result set_user(struct config_user *user, const char *text) {
  uint64_t uid, gid;
  *user = (struct config_user){.set = *text != 0};
  const char *rest = parse_digits(text, &uid);
  if (rest == NULL) { /* no number */
    if (*text != 0 && !is_user_name(text)) {
      return CONFIG_BAD;
    }
    memcpy(user->name, text, strlen(text) + 1);
    return CONFIG_OK;
  }
  gid = uid;
  if (*rest == ':') {
    rest = parse_digits(rest + 1, &gid);
  }
  if (rest == NULL || *rest != 0 || uid > CONFIG_ID_MAX || gid > CONFIG_ID_MAX) {
    return CONFIG_BAD;
  }
  user->uid = (uint32_t)uid;
  user->gid = (uint32_t)gid;
  return CONFIG_OK;
}

static enum config_result set_upgrade(struct config *config, const char *text) {
  bool on;
  if (parse_switch(text, &on) == 0) {
    config->upgrade = on ? UPGRADE_ON : UPGRADE_OFF;
    return CONFIG_OK;
  }
  struct addr_listen *at = &config->upgrade_at;
  if (addr_parse_listen(text, at) == -1 || at->addr.family != ADDR_UNIX || at->mode != -1 ||
      at->proxy != ADDR_PROXY_OFF) {
    return CONFIG_BAD;
  }
  at->mode = 0600;
  config->upgrade = UPGRADE_SOCKET;
  return CONFIG_OK;
}

/*
 * Take the next item of the list ${*rest}, which becomes NULL after the last item. Copy it to
 * ${item}. The copy is empty, which no parser accepts, if the item is too long to be valid.
 * Return: was there an item?
 */
static bool next_item(const char **rest, struct config_span *span, char item[ITEM_MAX]) {
  if (*rest == NULL) {
    return false;
  }
  size_t size = strcspn(*rest, ",");
  *span = (struct config_span){.text = *rest, .size = size};
  size_t copied = size < ITEM_MAX ? size : 0;
  memcpy(item, *rest, copied);
  item[copied] = 0;
  *rest = (*rest)[size] == 0 ? NULL : *rest + size + 1;
  return true;
}

/* Write "a, b or c"; return its length. */
static int format_names(const char *const *names, char text[CONFIG_EXPECTED_MAX]) {
  size_t size = 0;
  for (size_t i = 0; names[i] != NULL; i++) {
    const char *before = i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ";
    int written = snprintf(text + size, CONFIG_EXPECTED_MAX - size, "%s%s", before, names[i]);
    assert(written > 0 && (size_t)written < CONFIG_EXPECTED_MAX - size);
    size += (size_t)written;
  }
  return (int)size;
}

/* Write what numbers a kind allows; return the length. */
static int format_range(const struct config_var_def *def, char text[CONFIG_EXPECTED_MAX]) {
  char min[PARSE_TEXT_MAX], max[PARSE_TEXT_MAX];
  if (def->kind == KIND_INTEGER) {
    return snprintf(text, CONFIG_EXPECTED_MAX, "an integer from %" PRIu64 " to %" PRIu64, def->min,
                    def->max);
  }
  if (def->kind == KIND_SIZE) {
    return snprintf(text, CONFIG_EXPECTED_MAX, "a size (4096, 64KiB, 1MiB) from %s to %s",
                    parse_format_size(def->min, min), parse_format_size(def->max, max));
  }
  return snprintf(text, CONFIG_EXPECTED_MAX, "a time (500us, 250ms, 30s, 5m) from %s to %s",
                  parse_format_time(def->min, min), parse_format_time(def->max, max));
}
