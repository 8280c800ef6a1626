/*
 * identity: see identity.h.
 *
 * The command is quoted so that a shell reads it back as the same arguments.  No text holds a
 * control character, because compare and merge write these texts to a terminal: they are written
 * as escapes, and a report that has one is refused.
 */
#include "identity.h"

#include "core/timestamp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* A text of an identity. */
struct field {
  const char *key;
  size_t offset, size;
};

#define FIELD(key, name) \
  { key, offsetof(struct identity, name), sizeof(((struct identity *)0)->name) }

static const struct field fields[] = {
    FIELD("host", host),
    FIELD("machine", machine),
    FIELD("command", command),
    FIELD("address", address),
};

static void make_id(char id[IDENTITY_ID_MAX]);
static void append(char *text, size_t room, const char *more);
static void quote(char *text, size_t room, const char *word);
static const char *read_merged(struct identity *identity, const struct json *list);
static int add_part(struct identity *identity, const char *id);
static void add_to_list(char *list, size_t room, const char *separator, const char *item);
static bool is_id(const struct json *json);

/* ---- make ---- */

void identity_make(struct identity *identity, char *const *argv) {
  struct utsname names;
  *identity = (struct identity){.merged = NULL};
  make_id(identity->run_id);
  if (uname(&names) == 0) {
    snprintf(identity->host, sizeof(identity->host), "%.64s", names.nodename);
    snprintf(identity->machine, sizeof(identity->machine), "%.20s %.40s %.20s, %ld CPUs",
             names.sysname, names.release, names.machine, sysconf(_SC_NPROCESSORS_ONLN));
  }
  for (; *argv != NULL; argv++) {
    if (identity->command[0] != 0) {
      append(identity->command, sizeof(identity->command), " ");
    }
    quote(identity->command, sizeof(identity->command), *argv);
  }
}

static void make_id(char id[IDENTITY_ID_MAX]) {
  uint64_t halves[2];
  struct timespec now;
  if (getrandom(halves, sizeof(halves), GRND_NONBLOCK) != (ssize_t)sizeof(halves)) {
    clock_gettime(CLOCK_REALTIME, &now); /* at a machine's start: the moment and the process */
    halves[0] = (uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec;
    halves[1] = (uint64_t)getpid();
  }
  snprintf(id, IDENTITY_ID_MAX, "%016llx%016llx", (unsigned long long)halves[0],
           (unsigned long long)halves[1]);
}

/* Append ${more}, cut to the ${room} bytes of ${text}. */
static void append(char *text, size_t room, const char *more) {
  const size_t used = strlen(text);
  snprintf(text + used, room - used, "%s", more);
}

/* Append ${word} as one word of a shell. */
static void quote(char *text, size_t room, const char *word) {
  static const char plain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
      "_-+=:,./@%[]";
  bool is_control = false;
  if (word[0] != 0 && word[strspn(word, plain)] == 0) {
    append(text, room, word);
    return;
  }
  for (const char *at = word; *at != 0; at++) {
    is_control = is_control || (unsigned char)*at < 0x20 || *at == 0x7f;
  }
  append(text, room, is_control ? "$'" : "'");
  for (const char *at = word; *at != 0; at++) {
    char piece[8] = {*at};
    if ((unsigned char)*at < 0x20 || *at == 0x7f) {
      snprintf(piece, sizeof(piece), "\\x%02x", (unsigned char)*at);
    } else if (*at == '\'') {
      snprintf(piece, sizeof(piece), "%s", is_control ? "\\'" : "'\\''");
    } else if (*at == '\\' && is_control) {
      snprintf(piece, sizeof(piece), "\\\\");
    }
    append(text, room, piece);
  }
  append(text, room, "'");
}

/* ---- write and read ---- */

/* A text that is not known is null. */
static const char *or_null(const char *text) { return text[0] == 0 ? NULL : text; }

void identity_write(struct json_writer *writer, const struct identity *identity) {
  json_put_text(writer, "run_id", or_null(identity->run_id));
  for (size_t i = 0; i < count_of(fields); i++) {
    json_put_text(writer, fields[i].key, or_null((const char *)identity + fields[i].offset));
  }
  json_open(writer, "merged", '[');
  for (uint32_t i = 0; i < identity->merged_count; i++) {
    json_put_text(writer, NULL, identity->merged[i]);
  }
  json_close(writer, ']');
}

const char *identity_read(struct identity *identity, const struct json *json) {
  const struct json *id = json_member(json, "run_id");
  *identity = (struct identity){.merged = NULL};
  if (!is_id(id)) {
    return "run_id";
  }
  memcpy(identity->run_id, id->text, IDENTITY_ID_MAX);
  for (size_t i = 0; i < count_of(fields); i++) {
    const struct json *text = json_member(json, fields[i].key);
    if (text != NULL && text->kind == JSON_NULL) {
      continue;
    }
    if (text == NULL || !json_is_clean_text(text)) {
      return fields[i].key;
    }
    snprintf((char *)identity + fields[i].offset, fields[i].size, "%s", text->text);
  }
  return read_merged(identity, json_member(json, "merged"));
}

static const char *read_merged(struct identity *identity, const struct json *list) {
  if (list == NULL || list->kind != JSON_ARRAY) {
    return "merged";
  }
  for (const struct json *id = list->first; id != NULL; id = id->next) {
    if (!is_id(id) || add_part(identity, id->text) == -1) {
      identity_fini(identity);
      return "merged";
    }
  }
  return NULL;
}

static bool is_id(const struct json *json) {
  return json != NULL && json->kind == JSON_STRING && json->size == IDENTITY_ID_MAX - 1 &&
         strspn(json->text, "0123456789abcdef") == IDENTITY_ID_MAX - 1;
}

/* ---- merge ---- */

/* Add ${id} to the parts: 0, or -1 with errno. */
static int add_part(struct identity *identity, const char *id) {
  for (uint32_t i = 0; i < identity->merged_count; i++) {
    if (strcmp(identity->merged[i], id) == 0) {
      errno = EEXIST;
      return -1;
    }
  }
  if (identity->merged_count == IDENTITY_MERGED_MAX) {
    errno = E2BIG;
    return -1;
  }
  void *more = reallocarray(identity->merged, identity->merged_count + 1, IDENTITY_ID_MAX);
  if (more == NULL) {
    return -1;
  }
  identity->merged = more;
  memcpy(identity->merged[identity->merged_count++], id, IDENTITY_ID_MAX);
  return 0;
}

/* Append ${item} to a list, unless the list has it.  It is cut if there is no room. */
static void add_to_list(char *list, size_t room, const char *separator, const char *item) {
  const size_t size = strlen(item), between = strlen(separator);
  const char *at = list;
  while (size > 0 && *at != 0) {
    const char *end = strstr(at, separator);
    const size_t length = end == NULL ? strlen(at) : (size_t)(end - at);
    if (length == size && memcmp(at, item, size) == 0) {
      return;
    }
    at += length + (end == NULL ? 0 : between);
  }
  if (size > 0) {
    append(list, room, list[0] == 0 ? "" : separator);
    append(list, room, item);
  }
}

int identity_merge(struct identity *identity, const struct identity *more) {
  if (identity->merged_count == 0) {
    *identity = *more;
    identity->merged = NULL;
    identity->merged_count = 0;
    make_id(identity->run_id);
  } else {
    add_to_list(identity->host, sizeof(identity->host), ",", more->host);
    add_to_list(identity->command, sizeof(identity->command), "; ", more->command);
    if (strcmp(identity->machine, more->machine) != 0) {
      identity->machine[0] = 0;
    }
    if (strcmp(identity->address, more->address) != 0) {
      identity->address[0] = 0;
    }
  }
  for (uint32_t i = 0; i < more->merged_count; i++) {
    if (add_part(identity, more->merged[i]) == -1) {
      return -1;
    }
  }
  return more->merged_count > 0 ? 0 : add_part(identity, more->run_id);
}

void identity_fini(struct identity *identity) {
  free(identity->merged);
  identity->merged = NULL;
  identity->merged_count = 0;
}

/* ---- moments ---- */

uint64_t identity_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

const char *identity_format(uint64_t ms, char text[IDENTITY_MOMENT_MAX]) {
  const struct timespec time = {.tv_sec = (time_t)(ms / 1000),
                                .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
  static_assert(TIMESTAMP_TEXT_MAX <= IDENTITY_MOMENT_MAX, "a moment fits");
  return timestamp_format(&time, text);
}

int identity_parse(const char *text, uint64_t *ms) {
  char again[IDENTITY_MOMENT_MAX];
  struct tm parts = {.tm_isdst = 0};
  unsigned thousandths;
  /* NOLINTNEXTLINE(cert-err34-c): an overflow differs from the text when it is formatted again */
  if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
             &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &thousandths) != 7) {
    return -1;
  }
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  const time_t seconds = timegm(&parts);
  if (seconds < 0) {
    return -1;
  }
  const uint64_t moment = (uint64_t)seconds * 1000 + thousandths;
  if (strcmp(identity_format(moment, again), text) != 0) { /* another form, or no such day */
    return -1;
  }
  *ms = moment;
  return 0;
}
