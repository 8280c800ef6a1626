/*
 * libc: the C library functions that the parsers call, in C, for the abstract interpreter.
 *
 * The analyser knows only the contracts of these functions. It cannot evaluate them on unknown
 * bytes and raises an alarm at each call. It can follow bodies: a caller that passes too small a
 * block or a text without an end then causes an alarm here.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/eva/any.h"

#define HEAP_MOST 128

/* Holds the only allocated block, which ends where the heap ends. */
static unsigned char heap[HEAP_MOST];
static unsigned char *heap_block;

void *memchr(const void *data, int wanted, size_t size) {
  const unsigned char *bytes = data;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] == (unsigned char)wanted) {
      return (void *)(bytes + i);
    }
  }
  return NULL;
}

void *memcpy(void *to, const void *from, size_t size) {
  unsigned char *target = to;
  const unsigned char *bytes = from;
  for (size_t i = 0; i < size; i++) {
    target[i] = bytes[i];
  }
  return to;
}

int memcmp(const void *a, const void *b, size_t size) {
  const unsigned char *left = a, *right = b;
  for (size_t i = 0; i < size; i++) {
    if (left[i] != right[i]) {
      return left[i] < right[i] ? -1 : 1;
    }
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t size = 0;
  while (text[size] != 0) {
    size++;
  }
  return size;
}

char *strchr(const char *text, int wanted) {
  for (;; text++) {
    if (*text == (char)wanted) {
      return (char *)text;
    }
    if (*text == 0) {
      return NULL;
    }
  }
}

char *strrchr(const char *text, int wanted) {
  const char *found = NULL;
  for (;; text++) {
    if (*text == (char)wanted) {
      found = text;
    }
    if (*text == 0) {
      return (char *)found;
    }
  }
}

size_t strspn(const char *text, const char *set) {
  size_t size = 0;
  while (text[size] != 0 && strchr(set, text[size]) != NULL) {
    size++;
  }
  return size;
}

size_t strcspn(const char *text, const char *set) {
  size_t size = 0;
  while (text[size] != 0 && strchr(set, text[size]) == NULL) {
    size++;
  }
  return size;
}

int strcmp(const char *a, const char *b) {
  for (; *a == *b; a++, b++) {
    if (*a == 0) {
      return 0;
    }
  }
  return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

/* Without a branch, because each would double the states to follow. */
static char lower(char c) { return (char)(c + ('a' - 'A') * ((c >= 'A') & (c <= 'Z'))); }

/* Test for the end first: after lower, the analyser does not know that both are 0 or neither is. */
int strncasecmp(const char *a, const char *b, size_t size) {
  for (; size > 0; size--, a++, b++) {
    if (*a == 0 || *b == 0) {
      return *a == *b ? 0 : 1;
    }
    if (lower(*a) != lower(*b)) {
      return 1;
    }
  }
  return 0;
}

int strcasecmp(const char *a, const char *b) { return strncasecmp(a, b, SIZE_MAX); }

/* Reads the text to its end and writes a whole address or nothing. */
int inet_pton(int family, const char *text, void *address) {
  size_t size = family == AF_INET ? 4 : 16;
  if (strlen(text) == 0 || any_byte() == 0) {
    return 0;
  }
  any_bytes(address, size);
  return 1;
}

/* No parser has two blocks at once. */
void *malloc(size_t size) {
  assert(heap_block == NULL);
  assert(size > 0 && size <= HEAP_MOST);
  if (any_byte() == 0) {
    return NULL;
  }
  heap_block = heap + HEAP_MOST - size;
  return heap_block;
}

void *calloc(size_t count, size_t size) {
  unsigned char *block = malloc(count * size);
  for (size_t i = 0; block != NULL && i < count * size; i++) {
    block[i] = 0;
  }
  return block;
}

/* Cleared, so that no old text remains after the next one. */
void free(void *block) {
  if (block == NULL) {
    return;
  }
  assert(block == heap_block);
  while (heap_block < heap + HEAP_MOST) {
    *heap_block++ = 0;
  }
  heap_block = NULL;
}

char *strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = malloc(size);
  return copy == NULL ? NULL : memcpy(copy, text, size);
}
