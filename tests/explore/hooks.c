/*
 * hooks: the functions that -fsanitize=thread calls, in place of that sanitizer.
 *
 * So memory_access sees every plain access of the product's code.  Atomic operations go through the
 * seam instead.  clang copies structures by memcpy, which --wrap leads here.  This file is compiled
 * without the option.
 */
#include "tests/explore/memory.h"

#include <string.h>

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_read_range(const void *at, unsigned long size);
void __tsan_write_range(void *at, unsigned long size);
void *__real_memcpy(void *to, const void *from, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t size);

void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}

void __tsan_read_range(const void *at, unsigned long size) { memory_access(at, size, false); }
void __tsan_write_range(void *at, unsigned long size) { memory_access(at, size, true); }

void *__wrap_memcpy(void *to, const void *from, size_t size) {
  memory_access(from, size, false);
  memory_access(to, size, true);
  return __real_memcpy(to, from, size);
}

#define HOOKS(size)                                                                    \
  void __tsan_read##size(const void *at);                                              \
  void __tsan_write##size(void *at);                                                   \
  void __tsan_unaligned_read##size(const void *at);                                    \
  void __tsan_unaligned_write##size(void *at);                                         \
  void __tsan_read##size(const void *at) { memory_access(at, size, false); }           \
  void __tsan_write##size(void *at) { memory_access(at, size, true); }                 \
  void __tsan_unaligned_read##size(const void *at) { memory_access(at, size, false); } \
  void __tsan_unaligned_write##size(void *at) { memory_access(at, size, true); }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
