/*
 * http: a server for HTTP/1.1 and HTTP/1.0 (RFC 9110, RFC 9112) with one page, "/".
 *
 *   C> GET / HTTP/1.1 | Host: x |             S> HTTP/1.1 200 OK | ... | ok
 *   C> GET /a HTTP/1.1 | Host: x |            S> HTTP/1.1 404 Not Found | ...
 *   C> nonsense |                             S> HTTP/1.1 400 Bad Request | ... (closes)
 *
 * parse       A message is the head of a request: its lines up to the empty one. A line that ends
 *             without CR ends the message too, and on_message answers 400.
 * skip        The body of a request is not used. The state holds how many of its bytes are
 *             still to come, and parse turns them into messages that are discarded.
 * answer      All answers are constant but for the date, which a thread writes once a second.
 * close       After a malformed request, the next one may begin anywhere. So the answer says
 *             "Connection: close", and the engine closes when the client has it.
 *
 * A transfer coding, such as chunked, is refused with 501. Pipelined requests are answered in their
 * order, and their answers leave together, which is the engine's work.
 */
#include <xchg.h>

#include <string.h>
#include <time.h>

#define HEAD_MAX_BYTES 8192
#define BODY_MAX_BYTES (1024 * 1024)

struct text {
  const char *at;
  size_t size;
};

/* A connection's state. */
struct client {
  size_t skip; /* bytes of a body that are still to come */
};

struct answer {
  const char *head, *body;
};

#define ANSWER(status, length, body) \
  { "HTTP/1.1 " status "\r\nContent-Type: text/plain\r\nContent-Length: " length "\r\n", body }
static const struct answer ok = ANSWER("200 OK", "3", "ok\n");
static const struct answer bad_request = ANSWER("400 Bad Request", "12", "bad request\n");
static const struct answer not_found = ANSWER("404 Not Found", "10", "not found\n");
static const struct answer not_allowed =
    ANSWER("405 Method Not Allowed\r\nAllow: GET, HEAD", "12", "not allowed\n");
static const struct answer too_large = ANSWER("413 Content Too Large", "10", "too large\n");
static const struct answer head_too_large =
    ANSWER("431 Request Header Fields Too Large", "15", "head too large\n");
static const struct answer no_coding = ANSWER("501 Not Implemented", "10", "no coding\n");
static const struct answer no_version = ANSWER("505 HTTP Version Not Supported", "9", "HTTP/1.x\n");

struct request {
  struct text method, target;
  char major, minor; /* digits */
  unsigned hosts, lengths;
  size_t body;
  bool coded, expect, close, keep_alive; /* what its fields say */
  bool root;                             /* its target is the page */
};

/* ---- words ---- */

static bool is(struct text text, const char *word) {
  return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The same for a ${word} in lower case, whatever the case of ${text}. */
static bool is_any_case(struct text text, const char *word) {
  size_t i = 0;
  while (i < text.size && (is_letter(text.at[i]) ? text.at[i] | 32 : text.at[i]) == word[i] &&
         word[i] != 0) {
    i++;
  }
  return i == text.size && word[i] == 0;
}

/* What a byte may be a part of. main fills the table before the server starts. */
enum { TOKEN = 1, HOST = 2, TARGET = 4, VALUE = 8 };
static unsigned char byte_parts[256];

static void fill_parts(void) {
  for (int c = 1; c < 256; c++) {
    bool word = is_letter((char)c) || is_digit((char)c);
    byte_parts[c] |= word || strchr("!#$%&'*+-.^_`|~", c) != NULL ? TOKEN : 0;
    byte_parts[c] |= word || strchr("-._~%!$&'()*+,;=:[]", c) != NULL ? HOST : 0;
    byte_parts[c] |= c > ' ' && c < 127 ? TARGET : 0;
    byte_parts[c] |= (c >= ' ' && c != 127) || c == '\t' ? VALUE : 0;
  }
}

static bool is_all(struct text text, unsigned char part) {
  size_t i = 0;
  while (i < text.size && (byte_parts[(unsigned char)text.at[i]] & part) != 0) {
    i++;
  }
  return i == text.size;
}

/* Remove from ${rest} what is before ${end}, and ${end}; the whole text if there is none. */
static struct text take(struct text *rest, char end) {
  const char *at = memchr(rest->at, end, rest->size);
  struct text taken = {rest->at, at == NULL ? rest->size : (size_t)(at - rest->at)};
  size_t size = taken.size + (at != NULL);
  *rest = (struct text){rest->at + size, rest->size - size};
  return taken;
}

static struct text trim(struct text text) {
  for (; text.size > 0 && (*text.at == ' ' || *text.at == '\t'); text.at++, text.size--) {
  }
  while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t')) {
    text.size--;
  }
  return text;
}

/* ---- requests ---- */

/* Find the end of a head, or of its first line without CR, or the next part of a body. */
static size_t parse(struct xchg_conn *conn, const void *data, size_t size) {
  const struct client *client = xchg_state(conn);
  size_t limit = size < HEAD_MAX_BYTES ? size : HEAD_MAX_BYTES;
  if (client->skip > 0) {
    return client->skip < limit ? client->skip : limit;
  }
  const char *line = data, *end = line + limit, *lf;
  while ((lf = memchr(line, '\n', (size_t)(end - line))) != NULL) {
    if (lf == line || lf[-1] != '\r' || lf == line + 1) {
      return (size_t)(lf + 1 - (const char *)data);
    }
    line = lf + 1;
  }
  return limit < HEAD_MAX_BYTES ? 0 : limit;
}

/* Read the value of Content-Length. A number over the limit becomes the limit and one. */
static bool read_length(struct request *request, struct text text) {
  bool digits = text.size > 0;
  for (size_t i = 0; i < text.size && digits; i++) {
    digits = is_digit(text.at[i]);
    request->body = request->body * 10 + (size_t)(text.at[i] - '0');
    request->body = request->body > BODY_MAX_BYTES ? BODY_MAX_BYTES + 1 : request->body;
  }
  return digits && request->lengths++ == 0;
}

/* Read "Name: value". Return: is it well-formed? */
static bool read_field(struct request *request, struct text line) {
  struct text value = line, name = take(&value, ':');
  if (name.size == line.size || name.size == 0 || !is_all(name, TOKEN) || !is_all(value, VALUE)) {
    return false; /* no colon, a space before it, a folded line, a control byte */
  }
  value = trim(value);
  request->coded = request->coded || is_any_case(name, "transfer-encoding");
  request->expect = request->expect || is_any_case(name, "expect");
  if (is_any_case(name, "content-length")) {
    return read_length(request, value);
  }
  while (value.size > 0 && is_any_case(name, "connection")) {
    struct text option = trim(take(&value, ','));
    request->close = request->close || is_any_case(option, "close");
    request->keep_alive = request->keep_alive || is_any_case(option, "keep-alive");
  }
  return !is_any_case(name, "host") || (request->hosts++ == 0 && is_all(value, HOST));
}

/* Read "/path?query" or "http://host/path?query", or the "*" of OPTIONS. */
static bool read_target(struct request *request, struct text text) {
  bool absolute = *text.at != '/';
  if (is(text, "*")) {
    return request->root = is(request->method, "OPTIONS");
  }
  if (absolute && (!is_any_case(take(&text, '/'), "http:") || take(&text, '/').size > 0)) {
    return false;
  }
  bool host = take(&text, '/').size > 0; /* a path has nothing before its first slash */
  request->root = text.size == 0 || *text.at == '?';
  return host == absolute;
}

/* Read a head with its empty line. Return: is it well-formed? */
static bool read_head(struct request *request, struct text head) {
  struct text line = take(&head, '\n');
  request->method = take(&line, ' ');
  request->target = take(&line, ' ');
  bool good = request->method.size > 0 && is_all(request->method, TOKEN) &&
              request->target.size > 0 && is_all(request->target, TARGET) &&
              read_target(request, request->target) && line.size == strlen("HTTP/1.1\r") &&
              memcmp(line.at, "HTTP/", 5) == 0 && is_digit(line.at[5]) && line.at[6] == '.' &&
              is_digit(line.at[7]) && line.at[8] == '\r';
  if (good) {
    request->major = line.at[5];
    request->minor = line.at[7];
  }
  while (good && (line = take(&head, '\n')).size > 1) {
    line.size--; /* its CR */
    good = read_field(request, line);
  }
  return good && (request->hosts == 1 || request->minor == '0' || request->major != '1') &&
         !(request->coded && request->lengths > 0);
}

static const struct answer *judge(struct request *request, struct text head) {
  if (head.size < 4 || memcmp(head.at + head.size - 4, "\r\n\r\n", 4) != 0) {
    return head.size == HEAD_MAX_BYTES ? &head_too_large : &bad_request;
  } else if (!read_head(request, head)) {
    return &bad_request;
  } else if (request->major != '1') {
    return &no_version;
  } else if (request->coded) {
    return &no_coding;
  } else if (request->body > BODY_MAX_BYTES) {
    return &too_large;
  } else if (!request->root) {
    return &not_found;
  }
  return is(request->method, "GET") || is(request->method, "HEAD") ? &ok : &not_allowed;
}

/* ---- answers ---- */

/* The line "Date: ..." and CR LF, of this thread. */
static const char *date_line(void) {
  static _Thread_local char line[64];
  static _Thread_local time_t made;
  time_t now = time(NULL);
  if (now != made) {
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(line, sizeof(line), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
    made = now;
  }
  return line;
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  struct client *client = xchg_state(conn);
  struct text head = {message->data, message->size};
  if (client->skip > 0 || is(head, "\r\n")) { /* a body, or an empty line before a request */
    client->skip -= client->skip > 0 ? message->size : 0;
    return;
  }
  struct request request = {.minor = '1'};
  const struct answer *answer = judge(&request, head);
  bool usual = answer == &ok || answer == &not_found || answer == &not_allowed;
  bool keeps = usual && !request.expect && !request.close;
  keeps = keeps && (request.minor != '0' || request.keep_alive);
  const char *texts[] = {answer->head, date_line(),
                         !keeps                 ? "Connection: close\r\n\r\n"
                         : request.minor == '0' ? "Connection: keep-alive\r\n\r\n"
                                                : "\r\n",
                         is(request.method, "HEAD") ? "" : answer->body};
  struct iovec parts[4];
  for (size_t i = 0; i < 4; i++) {
    parts[i] = (struct iovec){(void *)texts[i], strlen(texts[i])};
  }
  xchg_sendv(conn, parts, 4);
  if (keeps) {
    client->skip = request.body;
  } else {
    xchg_finish(conn);
  }
}

int main(int argc, char **argv) {
  static const struct xchg_handler http = {.size = sizeof(http),
                                           .frame = {.kind = XCHG_FRAME_CUSTOM, .parse = parse},
                                           .max_message = HEAD_MAX_BYTES,
                                           .state_size = sizeof(struct client),
                                           .on_message = on_message};
  fill_parts();
  tzset(); /* reads the file of the time zone now, not when the first date is made */
  return xchg_main(&http, argc, argv);
}
