/*
 * http: see http.h.
 *
 * The head is a sequence of lines that end with CRLF.  A line is examined when it is complete, and
 * for control bytes before that, so that a TLS handshake is refused at once.
 */
#include "net/http.h"

#include "core/base.h"
#include "core/ascii.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WEIGHT_ONE 1000 /* q=1 */

static const char *const field_names[] = {
    "host",       "origin",         "xchg-command",     "accept",
    "connection", "content-length", "transfer-encoding"};
static const char *const method_names[] = {"GET", "HEAD", "POST"};

/* ---- texts ---- */

bool http_is_exactly(struct http_text text, const char *word) {
  size_t size = strlen(word);
  return text.size == size && (size == 0 || memcmp(text.at, word, size) == 0);
}

static bool same(struct http_text a, struct http_text b) {
  size_t i = 0;
  while (i < a.size && i < b.size && ascii_equal_byte(a.at[i], b.at[i])) {
    i++;
  }
  return i == a.size && i == b.size;
}

bool http_is(struct http_text text, const char *word) {
  return text.at != NULL && same(text, (struct http_text){word, strlen(word)});
}

int http_copy(struct http_text text, char *copy, size_t size) {
  if (text.size >= size) {
    return -1;
  }
  if (text.size > 0) {
    memcpy(copy, text.at, text.size);
  }
  copy[text.size] = 0;
  return 0;
}

/* The bytes of ${text} before the first ${byte}, which ${*rest} begins behind; NULL = none. */
static struct http_text split(struct http_text text, char byte, struct http_text *rest) {
  const char *at = text.size == 0 ? NULL : memchr(text.at, byte, text.size);
  if (at == NULL) {
    *rest = (struct http_text){.at = NULL};
    return text;
  }
  size_t before = (size_t)(at - text.at);
  *rest = (struct http_text){at + 1, text.size - before - 1};
  return (struct http_text){text.at, before};
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static struct http_text trim(struct http_text text) {
  while (text.size > 0 && is_blank(text.at[0])) {
    text.at++;
    text.size--;
  }
  while (text.size > 0 && is_blank(text.at[text.size - 1])) {
    text.size--;
  }
  return text;
}

/* ---- the parser ---- */

static bool is_token(struct http_text text) {
  static const char signs[] = "!#$%&'*+-.^_`|~";
  for (size_t i = 0; i < text.size; i++) {
    char c = text.at[i];
    bool letter = ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
    if (!letter && !is_digit(c) && (c == 0 || strchr(signs, c) == NULL)) {
      return false;
    }
  }
  return text.size > 0;
}

/* Has ${line} no control byte but tabs? */
static bool is_clean(struct http_text line) {
  for (size_t i = 0; i < line.size; i++) {
    unsigned char byte = (unsigned char)line.at[i];
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
      return false;
    }
  }
  return true;
}

static bool is_visible(struct http_text text) {
  for (size_t i = 0; i < text.size; i++) {
    if (text.at[i] < 0x21 || text.at[i] > 0x7e) {
      return false;
    }
  }
  return true;
}

/* Return: 0, or the status with which the version is refused. */
static unsigned parse_version(struct http_text version, struct http_request *request) {
  request->is_1_0 = http_is_exactly(version, "HTTP/1.0");
  request->keep_alive = !request->is_1_0;
  if (request->is_1_0 || http_is_exactly(version, "HTTP/1.1")) {
    return 0;
  }
  bool known = version.size == 8 && memcmp(version.at, "HTTP/", 5) == 0 &&
               is_digit(version.at[5]) && version.at[6] == '.' && is_digit(version.at[7]);
  return known ? 505 : 400;
}

/* method SP target SP version. Return: 0, or a status. */
static unsigned parse_request_line(struct http_text line, struct http_request *request) {
  struct http_text rest, version, query;
  struct http_text method = split(line, ' ', &rest);
  struct http_text target = split(rest, ' ', &version);
  if (!is_token(method) || version.at == NULL) {
    return 400;
  }
  unsigned status = parse_version(version, request);
  if (status != 0) {
    return status;
  }
  if (target.size == 0 || target.at[0] != '/' || !is_visible(target)) {
    return 400;
  }
  if (target.size > HTTP_TARGET_MAX) {
    return 414;
  }
  request->path = split(target, '?', &query);
  request->query = query;
  request->method = HTTP_OTHER;
  for (size_t i = 0; i < count_of(method_names); i++) {
    if (http_is_exactly(method, method_names[i])) {
      request->method = (enum http_method)i;
    }
  }
  return 0;
}

/* May there be several of ${field}? */
static bool is_list(size_t field) {
  return field == HTTP_ACCEPT || field == HTTP_CONNECTION || field == HTTP_ENCODING;
}

static void obey_connection(struct http_text value, struct http_request *request) {
  for (struct http_text rest = value, word; rest.at != NULL;) {
    word = trim(split(rest, ',', &rest));
    if (http_is(word, "close")) {
      request->keep_alive = false;
      request->is_closing = true;
    } else if (http_is(word, "keep-alive") && !request->is_closing) {
      request->keep_alive = true;
    }
  }
}

/* name ":" value. Return: 0, or a status. */
static unsigned parse_field(struct http_text line, struct http_request *request) {
  struct http_text value;
  struct http_text name = split(line, ':', &value);
  if (!is_token(name) || value.at == NULL) {
    return 400;
  }
  value = trim(value);
  for (size_t i = 0; i < HTTP_FIELDS; i++) {
    if (!http_is(name, field_names[i])) {
      continue;
    }
    if (request->fields[i].at != NULL && !is_list(i)) {
      return 400;
    }
    if (request->fields[i].at == NULL) {
      request->fields[i] = value;
    }
    if (i == HTTP_CONNECTION) {
      obey_connection(value, request);
    }
  }
  return 0;
}

/* The head is complete. Return: 0, or a status. */
static unsigned check_head(const struct http_request *request) {
  struct http_text length = request->fields[HTTP_LENGTH];
  bool zero = true;
  if (request->fields[HTTP_HOST].at == NULL && !request->is_1_0) {
    return 400;
  }
  if (request->fields[HTTP_ENCODING].at != NULL) {
    return 501;
  }
  for (size_t i = 0; i < length.size; i++) {
    if (!is_digit(length.at[i])) {
      return 400;
    }
    zero = zero && length.at[i] == '0';
  }
  if (length.at != NULL && length.size == 0) {
    return 400;
  }
  return zero ? 0 : 413;
}

/*
 * Take the next line, without its CRLF, from ${*rest}. Return: was there a complete one? ${*status}
 * is set if it is malformed, or if its beginning is.
 */
static bool next_line(struct http_text *rest, struct http_text *line, unsigned *status) {
  struct http_text after;
  *line = split(*rest, '\n', &after);
  bool complete = after.at != NULL;
  bool cr = line->size > 0 && line->at[line->size - 1] == '\r';
  line->size -= cr ? 1 : 0;
  if ((complete && !cr) || !is_clean(*line)) {
    *status = 400;
  }
  if (complete) {
    *rest = after;
  }
  return complete;
}

size_t http_parse(const void *data, size_t size, struct http_request *request) {
  size_t most = min_u64(size, HTTP_HEAD_MAX);
  struct http_text rest = {data, most}, line;
  unsigned count = 0, status = 0;
  *request = (struct http_request){.status = 0};
  while (next_line(&rest, &line, &status) && status == 0) {
    if (line.size == 0 && count > 0) {
      request->status = check_head(request);
      return most - rest.size;
    }
    status = count == HTTP_LINES_MAX ? 431
             : count == 0            ? parse_request_line(line, request)
                                     : parse_field(line, request);
    if (status != 0) {
      break;
    }
    count++;
  }
  if (status == 0 && most == HTTP_HEAD_MAX) {
    status = count == 0 ? 414 : 431;
  }
  request->status = status;
  return status == 0 ? 0 : most;
}

/* ---- what fields mean ---- */

bool http_next_parameter(struct http_text *query, struct http_text *name, struct http_text *value) {
  if (query->at == NULL || query->size == 0) {
    return false;
  }
  struct http_text pair = split(*query, '&', query);
  *name = split(pair, '=', value);
  return true;
}

/* Take the port, if there is one, from ${host}. */
static struct http_text without_port(struct http_text host) {
  size_t digits = 0;
  while (digits < host.size && is_digit(host.at[host.size - 1 - digits])) {
    digits++;
  }
  if (digits < host.size && host.at[host.size - 1 - digits] == ':') {
    host.size -= digits + 1;
  }
  return host;
}

/* Four numbers with dots between: what a resolver takes for an address, never for a name. */
static bool is_ipv4(struct http_text host) {
  size_t numbers = 0;
  for (struct http_text rest = host; rest.at != NULL; numbers++) {
    struct http_text number = split(rest, '.', &rest);
    unsigned value = 0;
    for (size_t i = 0; i < number.size && value <= 255; i++) {
      value = is_digit(number.at[i]) ? value * 10 + (unsigned)(number.at[i] - '0') : 256;
    }
    if (number.size == 0 || value > 255) {
      return false;
    }
  }
  return numbers == 4;
}

bool http_host_is_near(struct http_text host) {
  if (host.size > 0 && host.at[0] == '[') {
    struct http_text rest,
        inside = split((struct http_text){host.at + 1, host.size - 1}, ']', &rest);
    bool digits = inside.size > 0;
    for (size_t i = 0; i < inside.size; i++) {
      char c = ascii_lower(inside.at[i]);
      digits = digits && (is_digit(c) || (c >= 'a' && c <= 'f') || c == ':' || c == '.');
    }
    return digits && rest.at != NULL && without_port(rest).size == 0;
  }
  host = without_port(host);
  return host.size == 0 || is_ipv4(host) ||
         (memchr(host.at, '.', host.size) == NULL && memchr(host.at, ':', host.size) == NULL);
}

bool http_origin_is(struct http_text origin, struct http_text host) {
  static const char *const schemes[] = {"http://", "https://"};
  for (size_t i = 0; i < count_of(schemes); i++) {
    size_t size = strlen(schemes[i]);
    if (origin.size > size &&
        same((struct http_text){origin.at, size}, (struct http_text){schemes[i], size})) {
      return same((struct http_text){origin.at + size, origin.size - size}, host);
    }
  }
  return false;
}

/* The weight in the parameters of an item of Accept, in thousandths. */
static unsigned weight_of(struct http_text parameters) {
  while (parameters.at != NULL) {
    struct http_text item = trim(split(parameters, ';', &parameters));
    if (item.size < 3 || ascii_lower(item.at[0]) != 'q' || item.at[1] != '=') {
      continue;
    }
    unsigned weight = item.at[2] == '1' ? WEIGHT_ONE : 0;
    for (size_t i = 4, unit = 100; i < item.size && i < 7 && is_digit(item.at[i]);
         i++, unit /= 10) {
      weight += (unsigned)(item.at[i] - '0') * (unsigned)unit;
    }
    return (unsigned)min_u64(weight, WEIGHT_ONE);
  }
  return WEIGHT_ONE;
}

bool http_wants_openmetrics(struct http_text accept) {
  unsigned open = 0, plain = 0;
  for (struct http_text rest = accept, parameters; rest.at != NULL;) {
    struct http_text item = split(rest, ',', &rest);
    struct http_text type = trim(split(item, ';', &parameters));
    unsigned weight = weight_of(parameters);
    if (http_is(type, "application/openmetrics-text")) {
      open = (unsigned)max_u64(open, weight);
    } else if (http_is(type, "text/plain") || http_is(type, "text/*") || http_is(type, "*/*")) {
      plain = (unsigned)max_u64(plain, weight);
    }
  }
  return open > 0 && open >= plain;
}

/* ---- the answer ---- */

const char *http_reason(unsigned status) {
  static const struct {
    unsigned status;
    const char *reason;
  } reasons[] = {{200, "OK"},
                 {202, "Accepted"},
                 {400, "Bad Request"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {505, "HTTP Version Not Supported"}};
  for (size_t i = 0; i < count_of(reasons); i++) {
    if (reasons[i].status == status) {
      return reasons[i].reason;
    }
  }
  return "Unknown";
}

size_t http_write_head(char *text, size_t size, const struct http_answer *answer) {
  const char *connection = !answer->keep_alive ? "Connection: close\r\n"
                           : answer->is_1_0    ? "Connection: keep-alive\r\n"
                                               : "";
  int written = snprintf(text, size,
                         "HTTP/1.1 %u %s\r\n"
                         "Content-Type: %s\r\n"
                         "Content-Length: %zu\r\n"
                         "Cache-Control: no-store\r\n"
                         "X-Content-Type-Options: nosniff\r\n"
                         "%s%s\r\n",
                         answer->status, http_reason(answer->status), answer->type, answer->size,
                         connection, answer->lines);
  assert(written > 0 && (size_t)written < size);
  return (size_t)written;
}
