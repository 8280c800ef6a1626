/*
 * fuzz_http: a request that is parsed in pieces is the same as in one piece.  A fault does not go
 * away.  What was kept lies within the head, and an accepted head keeps the rules when a second,
 * slower reader looks at it.
 *
 * Input: the bytes of requests.
 */
#include "net/http.h"
#include "tests/fuzz/fuzz.h"

static void within(struct http_text text, const char *data, size_t size) {
  fuzz_holds(text.at == NULL || (text.at >= data && text.at <= data + size && text.size <= size &&
                                 text.at + text.size <= data + size),
             "a text lies within the head");
}

/* The rules, line by line, with pointers that the parser does not use. */
static void check_rules(const char *data, size_t size, const struct http_request *request) {
  unsigned lines = 0, hosts = 0;
  fuzz_holds(size >= 4 && memcmp(data + size - 4, "\r\n\r\n", 4) == 0, "an empty line ends a head");
  fuzz_holds(size <= HTTP_HEAD_MAX, "a head is short");
  for (size_t at = 0; at + 2 < size; lines++) {
    size_t end = at;
    while (data[end] != '\n') {
      fuzz_holds((unsigned char)data[end] >= 0x20 || data[end] == '\t' ||
                     (data[end] == '\r' && data[end + 1] == '\n'),
                 "no control byte");
      fuzz_holds(data[end] != 0x7f, "no DEL");
      end++;
    }
    fuzz_holds(end > at && data[end - 1] == '\r', "no bare LF");
    if (lines > 0) {
      size_t colon = at;
      while (data[colon] != ':') {
        fuzz_holds(data[colon] > ' ' && data[colon] < 0x7f, "a name has no space");
        colon++;
      }
      fuzz_holds(colon < end && colon > at, "a field has a name");
      bool host = colon - at == 4 && (data[at] | 0x20) == 'h' && (data[at + 1] | 0x20) == 'o' &&
                  (data[at + 2] | 0x20) == 's' && (data[at + 3] | 0x20) == 't';
      hosts += host ? 1 : 0;
    }
    at = end + 1;
  }
  fuzz_holds(lines <= HTTP_LINES_MAX, "a head has few lines");
  fuzz_holds(hosts == 1 || (hosts == 0 && request->is_1_0), "one Host");
  fuzz_holds((hosts == 1) == (request->fields[HTTP_HOST].at != NULL), "the Host is kept");
  fuzz_holds(request->path.size > 0 && request->path.at[0] == '/', "a target has the origin form");
}

static void use(const struct http_request *request) {
  struct http_text query = request->query, name, value;
  size_t left = query.size + 1;
  char copy[64];
  while (http_next_parameter(&query, &name, &value)) {
    fuzz_holds(query.size < left, "a parameter was taken");
    left = query.size;
    (void)http_copy(value, copy, sizeof(copy));
  }
  bool near = http_host_is_near(request->fields[HTTP_HOST]);
  fuzz_holds(near || request->fields[HTTP_HOST].size > 0, "no Host is near");
  fuzz_holds(!http_origin_is(request->fields[HTTP_ORIGIN], request->fields[HTTP_HOST]) ||
                 request->fields[HTTP_ORIGIN].size > request->fields[HTTP_HOST].size,
             "an origin has a scheme");
  (void)http_wants_openmetrics(request->fields[HTTP_ACCEPT]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1); /* of the right size, for the sanitizer */
  struct http_request request, again;
  if (text == NULL) {
    return 0;
  }
  memcpy(text, data, size);
  size_t end = http_parse(text, size, &request);
  fuzz_holds(end <= size && end <= HTTP_HEAD_MAX, "the head is within the bytes");
  fuzz_holds(end > 0 || request.status == 0, "a fault is no wait for more");
  unsigned fault = 0;
  size_t step = size < 256 ? 1 : size / 97 + 1;
  for (size_t i = 0; i < size; i += step) {
    size_t found = http_parse(text, i, &again);
    fuzz_holds(fault == 0 || again.status != 0, "a fault does not go away");
    fault = again.status;
    fuzz_holds(fault != 0 || found == 0 || found == end, "a request ends at one place");
    fuzz_holds(request.status != 0 || fault == 0 || end == 0,
               "a good request has no bad beginning");
  }
  within(request.path, text, size);
  within(request.query, text, size);
  for (size_t i = 0; i < HTTP_FIELDS; i++) {
    within(request.fields[i], text, size);
  }
  if (end > 0 && request.status == 0) {
    fuzz_holds(http_parse(text, end, &again) == end && again.status == 0, "its bytes are enough");
    check_rules(text, end, &request);
    use(&request);
  }
  free(text);
  return 0;
}
