/*
 * http: requests of HTTP/1.1 and HTTP/1.0 that have no body, and the heads of answers.
 *
 * Pure functions for the admin endpoint (pool/admin): no descriptor, no allocation, no clock.  A
 * request is parsed again from its first byte when more bytes have come, so the parser has no
 * state.  It looks at no more than HTTP_HEAD_MAX bytes.
 *
 * It is strict, because no known client needs more: a bare LF, a space before a colon, a folded
 * line, a control byte, no Host in HTTP/1.1 or two of them are 400.  Targets have the origin form
 * and are compared byte by byte.  Nothing is decoded.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEAD_MAX ((size_t)8192) /* bytes of a request's head */
#define HTTP_LINES_MAX 64            /* its lines, the request line included */
#define HTTP_TARGET_MAX 1024         /* bytes of a target */
#define HTTP_ANSWER_HEAD_MAX 512     /* bytes of an answer's head, its own lines apart */

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OTHER };

/* The header fields that are kept. */
enum http_field {
  HTTP_HOST,
  HTTP_ORIGIN,
  HTTP_COMMAND, /* Xchg-Command */
  HTTP_ACCEPT,
  HTTP_CONNECTION,
  HTTP_LENGTH,
  HTTP_ENCODING,
  HTTP_FIELDS
};

/* A part of the parsed bytes, not terminated.  ${at} is NULL if there is none. */
struct http_text {
  const char *at;
  size_t size;
};

struct http_request {
  unsigned status; /* 0; or the request must be refused with this status, and the connection ends */
  enum http_method method;
  bool is_1_0;     /* HTTP/1.0 */
  bool keep_alive; /* the client does not ask for the end of the connection */
  bool is_closing; /* Connection: close was there */
  struct http_text path;
  struct http_text query;               /* behind the first '?' */
  struct http_text fields[HTTP_FIELDS]; /* without white space around; of several, the first */
};

struct http_answer {
  unsigned status;
  const char *type;  /* of the content */
  const char *lines; /* more lines of the head, each with CRLF; may be "" */
  size_t size;       /* bytes of the content */
  bool is_1_0;       /* of the request */
  bool keep_alive;
};

/**
 * http_parse(data, size, request):
 * Parse the head of the first request in the ${size} bytes at ${data}.
 * Return: the bytes that it takes, or 0 if more are needed. If ${request->status} is not 0, that is
 * all bytes, HTTP_HEAD_MAX at most. A second call with as many bytes has the same result.
 */
size_t http_parse(const void *data, size_t size, struct http_request *request);

/**
 * Write the head of ${answer} to the ${size} bytes at ${text}. HTTP_ANSWER_HEAD_MAX bytes and those
 * of its lines are enough.
 * Return: its bytes, without a terminating 0.
 */
size_t http_write_head(char *text, size_t size, const struct http_answer *answer);

/** The phrase of ${status}. */
const char *http_reason(unsigned status);

/** Is ${text} the word ${word}, ignoring case? False if ${text} is absent. */
bool http_is(struct http_text text, const char *word);

/** Are the bytes of ${text} those of ${word}? */
bool http_is_exactly(struct http_text text, const char *word);

/**
 * http_next_parameter(query, name, value):
 * Remove the next name=value from ${query}.
 * Return: was there one? Without '=' the value is empty.
 */
bool http_next_parameter(struct http_text *query, struct http_text *name, struct http_text *value);

/** Copy ${text} to the ${size} bytes at ${copy} with a 0. Return: 0, or -1 if it is longer. */
int http_copy(struct http_text text, char *copy, size_t size);

/**
 * Is ${host}, the value of a Host field, certainly no public DNS name? True for localhost, a
 * literal address, a name without a dot, and no name, with or without a port.
 */
bool http_host_is_near(struct http_text host);

/** Does ${origin} name the scheme http or https and then exactly ${host}? */
bool http_origin_is(struct http_text origin, struct http_text host);

/** Does the Accept field ${accept} name OpenMetrics with no lower weight than plain text? */
bool http_wants_openmetrics(struct http_text accept);

#endif
