/*
 * http: a server for HTTP/1.1 and HTTP/1.0 (RFC 9110, RFC 9112) with one page, "/".
 *
 *   C> GET / HTTP/1.1 | Host: x |             S> HTTP/1.1 200 OK | ... | ok
 *   C> GET /a HTTP/1.1 | Host: x |            S> HTTP/1.1 404 Not Found | ...
 *   C> nonsense |                             S> HTTP/1.1 400 Bad Request | ... (closes)
 *
 * parse       A message is the head of a request: its lines up to the empty one. A line that ends
 *             without CR ends the message too, and on_message answers 400.
 * skip        The body of a request is not used. The state is the number of its bytes
 *             that are still to come. parse turns them into messages that are discarded.
 * take, eat   A head ends with CR LF CR LF. CR is a part of nothing, so no step leaves the head.
 * close       After a malformed request, the next one may begin anywhere. So the answer says
 *             "Connection: close", and the engine closes when the client has it.
 *
 * A transfer coding, such as chunked, is refused with 501. Pipelined requests are answered in their
 * order, and their answers leave together, which is the engine's work.
 */
#include <xchg.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define HEAD_MAX_BYTES 8192
#define BODY_MAX_BYTES (1024 * 1024)

struct text {
  const char *at;
  size_t size;
};

struct request {
  struct text method;
  char major, minor; /* digits */
  unsigned hosts, lengths;
  unsigned long long body;
  bool root, coded, expect, close, keep_alive; /* root: its target is the page */
};

struct answer {
  const char *head, *body;
  bool keeps; /* the connection */
};

#define HEAD(status, length) \
  "HTTP/1.1 " status "\r\nContent-Type: text/plain\r\nContent-Length: " length "\r\n"

/* What a byte may be a part of. main fills the table before the server starts. */
enum { TOKEN = 1, HOST = 2, TARGET = 4, VALUE = 8, DIGIT = 16, BLANK = 32 };
static unsigned char byte_parts[256];

static void fill_parts(void) {
  for (int c = 1; c < 256; c++) {
    bool digit = c >= '0' && c <= '9', word = digit || ((c | 32) >= 'a' && (c | 32) <= 'z');
    bool blank = c == ' ' || c == '\t', visible = c > ' ' && c != 127;
    byte_parts[c] |= word || strchr("!#$%&'*+-.^_`|~", c) != NULL ? TOKEN : 0;
    byte_parts[c] |= word || strchr("-._~%!$&'()*+,;=:[]", c) != NULL ? HOST : 0;
    byte_parts[c] |= (visible && c < 127 ? TARGET : 0) | (visible || blank ? VALUE : 0);
    byte_parts[c] |= (digit ? DIGIT : 0) | (blank ? BLANK : 0);
  }
}

/* The bytes of this part that come next; move behind them. */
static struct text take(const char **at, unsigned char part) {
  const char *begin = *at;
  while ((byte_parts[(unsigned char)**at] & part) != 0) {
    ++*at;
  }
  return (struct text){begin, (size_t)(*at - begin)};
}

/* Does this word come next? Then move behind it. */
static bool eat(const char **at, const char *word) {
  bool found = strncmp(*at, word, strlen(word)) == 0;
  *at += found ? strlen(word) : 0;
  return found;
}

static bool is_all(struct text text, unsigned char part) {
  const char *at = text.at;
  return take(&at, part).size == text.size;
}

static bool is(struct text text, const char *word) {
  return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

static bool is_any_case(struct text text, const char *word) {
  return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

/* Find the end of a head, or of its first line without CR, or the next part of a body. */
static size_t parse(struct xchg_conn *conn, const void *data, size_t size) {
  const size_t *skip = xchg_state(conn);
  size_t limit = size < HEAD_MAX_BYTES ? size : HEAD_MAX_BYTES;
  if (*skip > 0) {
    return *skip < limit ? *skip : limit;
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

/* Read "/path?query" or "http://host/path?query", or the "*" of OPTIONS. */
static bool read_target(struct request *request, struct text target) {
  const char *at = target.at, *end = at + target.size;
  bool absolute = strncasecmp(at, "http://", strlen("http://")) == 0;
  at += absolute ? strlen("http://") : 0;
  bool good = absolute ? take(&at, HOST).size > 0 && (at == end || strchr("/?", *at)) : *at == '/';
  bool path = eat(&at, "/");
  request->root = (path || absolute) && (at == end || *at == '?');
  return good || (is(target, "*") && (request->root = is(request->method, "OPTIONS")));
}

/* Take what a field says. Return: may its value be so? */
static bool read_field(struct request *request, struct text name, struct text value) {
  request->coded = request->coded || is_any_case(name, "transfer-encoding");
  request->expect = request->expect || is_any_case(name, "expect");
  if (is_any_case(name, "content-length")) {
    request->body = strtoull(value.at, NULL, 10); /* a number that is too large: ULLONG_MAX */
    return request->lengths++ == 0 && value.size > 0 && is_all(value, DIGIT);
  }
  const char *at = value.at, *end = at + value.size;
  for (; at < end && is_any_case(name, "connection"); at++) {
    struct text option = take(&at, TOKEN);
    request->close = request->close || is_any_case(option, "close");
    request->keep_alive = request->keep_alive || is_any_case(option, "keep-alive");
  }
  return !is_any_case(name, "host") || (request->hosts++ == 0 && is_all(value, HOST));
}

/* Read a head with its empty line. Return: is it well-formed? */
static bool read_head(struct request *request, const char *at) {
  request->method = take(&at, TOKEN);
  bool good = request->method.size > 0 && eat(&at, " ") &&
              read_target(request, take(&at, TARGET)) && eat(&at, " HTTP/");
  struct text major = take(&at, DIGIT), minor = {NULL, 0};
  good = good && eat(&at, ".") && (minor = take(&at, DIGIT)).size == 1 && major.size == 1 &&
         eat(&at, "\r\n");
  while (good && !eat(&at, "\r\n")) {
    struct text name = take(&at, TOKEN);
    good = name.size > 0 && eat(&at, ":");
    take(&at, BLANK);
    struct text value = take(&at, VALUE);
    while (value.size > 0 && (byte_parts[(unsigned char)value.at[value.size - 1]] & BLANK)) {
      value.size--;
    }
    good = good && eat(&at, "\r\n") && read_field(request, name, value);
  }
  request->major = good ? *major.at : 0;
  request->minor = good ? *minor.at : 0;
  return good && (request->hosts == 1 || request->minor == '0' || request->major != '1') &&
         !(request->coded && request->lengths > 0);
}

static struct answer judge(struct request *request, struct text head) {
  bool ended = head.size >= 4 && memcmp(head.at + head.size - 4, "\r\n\r\n", 4) == 0;
  if (!ended && head.size == HEAD_MAX_BYTES) {
    return (struct answer){HEAD("431 Request Header Fields Too Large", "15"), "head too large\n",
                           false};
  } else if (!ended || !read_head(request, head.at)) {
    return (struct answer){HEAD("400 Bad Request", "12"), "bad request\n", false};
  } else if (request->major != '1') {
    return (struct answer){HEAD("505 HTTP Version Not Supported", "9"), "HTTP/1.x\n", false};
  } else if (request->coded) {
    return (struct answer){HEAD("501 Not Implemented", "10"), "no coding\n", false};
  } else if (request->body > BODY_MAX_BYTES) {
    return (struct answer){HEAD("413 Content Too Large", "10"), "too large\n", false};
  }
  bool keeps =
      !request->expect && !request->close && (request->minor != '0' || request->keep_alive);
  if (!request->root) {
    return (struct answer){HEAD("404 Not Found", "10"), "not found\n", keeps};
  } else if (!is(request->method, "GET") && !is(request->method, "HEAD")) {
    return (struct answer){HEAD("405 Method Not Allowed\r\nAllow: GET, HEAD", "12"),
                           "not allowed\n", keeps};
  }
  return (struct answer){HEAD("200 OK", "3"), "ok\n", keeps};
}

/* The line "Date: ..." and the empty line. Each thread makes them once a second. */
static const char *head_end(void) {
  static _Thread_local char end[64];
  static _Thread_local time_t made;
  time_t now = time(NULL);
  if (now != made) {
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(end, sizeof(end), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n\r\n", &parts);
    made = now;
  }
  return end;
}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  size_t *skip = xchg_state(conn);
  struct text head = {message->data, message->size};
  if (*skip > 0 || is(head, "\r\n")) { /* a body, or an empty line before a request */
    *skip -= *skip > 0 ? message->size : 0;
    return;
  }
  struct request request = {.minor = '1'};
  struct answer answer = judge(&request, head);
  const char *option = !answer.keeps          ? "Connection: close\r\n"
                       : request.minor == '0' ? "Connection: keep-alive\r\n"
                                              : "";
  const char *texts[] = {answer.head, option, head_end(), answer.body};
  struct iovec parts[4];
  for (size_t i = 0; i < 4; i++) {
    parts[i] = (struct iovec){(void *)texts[i], strlen(texts[i])};
  }
  xchg_sendv(conn, parts, is(request.method, "HEAD") ? 3 : 4);
  *skip = (size_t)request.body; /* at most BODY_MAX_BYTES where a request may follow */
  if (!answer.keeps) {
    xchg_finish(conn);
  }
}

int main(int argc, char **argv) {
  static const struct xchg_handler http = {.size = sizeof(http),
                                           .frame = {.kind = XCHG_FRAME_CUSTOM, .parse = parse},
                                           .max_message = HEAD_MAX_BYTES,
                                           .state_size = sizeof(size_t),
                                           .on_message = on_message};
  fill_parts();
  tzset(); /* reads the file of the time zone now, not when the first date is made */
  return xchg_main(&http, argc, argv);
}
