/*
 * atom: seam for all variables that threads share without a lock.
 *
 * Each operation names its memory order.  No other file uses <stdatomic.h>.  A release build
 * contains just the C11 operation.  A test build may define XCHG_ATOM_SEAM as the name of a header
 * with the same functions, to run the same ring and inbox under an explorer.
 */
#ifndef CORE_ATOM_H
#define CORE_ATOM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef XCHG_ATOM_SEAM
#include XCHG_ATOM_SEAM
#else

#include <stdatomic.h>

typedef _Atomic uint32_t atom_u32;
typedef _Atomic uint64_t atom_u64;
typedef void *_Atomic atom_ptr;

/* 32 bits. Each function is the C11 operation with the memory order in its name. */
static inline uint32_t atom_load_relaxed_u32(const atom_u32 *a) {
  return atomic_load_explicit(a, memory_order_relaxed);
}
static inline uint32_t atom_load_acquire_u32(const atom_u32 *a) {
  return atomic_load_explicit(a, memory_order_acquire);
}
static inline void atom_store_relaxed_u32(atom_u32 *a, uint32_t value) {
  atomic_store_explicit(a, value, memory_order_relaxed);
}
static inline void atom_store_release_u32(atom_u32 *a, uint32_t value) {
  atomic_store_explicit(a, value, memory_order_release);
}
static inline uint32_t atom_exchange_acq_rel_u32(atom_u32 *a, uint32_t value) {
  return atomic_exchange_explicit(a, value, memory_order_acq_rel);
}
static inline uint32_t atom_add_relaxed_u32(atom_u32 *a, uint32_t value) {
  return atomic_fetch_add_explicit(a, value, memory_order_relaxed);
}
static inline uint32_t atom_sub_release_u32(atom_u32 *a, uint32_t value) {
  return atomic_fetch_sub_explicit(a, value, memory_order_release);
}
static inline uint32_t atom_sub_acq_rel_u32(atom_u32 *a, uint32_t value) {
  return atomic_fetch_sub_explicit(a, value, memory_order_acq_rel);
}

/* 64 bits, for counters, which need no order. */
static inline uint64_t atom_load_relaxed_u64(const atom_u64 *a) {
  return atomic_load_explicit(a, memory_order_relaxed);
}
static inline void atom_store_relaxed_u64(atom_u64 *a, uint64_t value) {
  atomic_store_explicit(a, value, memory_order_relaxed);
}
static inline uint64_t atom_add_relaxed_u64(atom_u64 *a, uint64_t value) {
  return atomic_fetch_add_explicit(a, value, memory_order_relaxed);
}

/* Pointers, for the head of an intrusive list. */
static inline void *atom_load_relaxed_ptr(const atom_ptr *a) {
  return atomic_load_explicit(a, memory_order_relaxed);
}
static inline void *atom_exchange_acquire_ptr(atom_ptr *a, void *value) {
  return atomic_exchange_explicit(a, value, memory_order_acquire);
}
/**
 * Store ${value} with release if ${a} holds ${*expected}, else load its value into ${*expected}.
 * Return: was it stored? It may fail spuriously.
 */
static inline bool atom_cas_release_ptr(atom_ptr *a, void **expected, void *value) {
  return atomic_compare_exchange_weak_explicit(a, expected, value, memory_order_release,
                                               memory_order_relaxed);
}

#endif
#endif
