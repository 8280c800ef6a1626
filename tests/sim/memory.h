/*
 * memory: counts what the server has allocated and mapped, and refuses memory where a fault is
 * ordered.
 */
#ifndef TESTS_SIM_MEMORY_H
#define TESTS_SIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Reset the counts. */
void memory_reset(void);

/** Let the ${nth} allocation from now on fail, once; 0 = none. */
void memory_fail(uint32_t nth);

/** Blocks of malloc that were not freed; mappings that were not unmapped. */
int64_t memory_blocks(void);
int64_t memory_maps(void);

/** The bodies of sys_map, sys_remap and sys_unmap; unmapping what was not mapped fails the run. */
void *memory_map(size_t size);
void *memory_remap(void *old, size_t old_size, size_t new_size);
int memory_unmap(void *memory, size_t size);

/** munmap(2) was refused: the mapping may remain at the end, or be unmapped later. */
void memory_lose(void *memory, size_t size);

#endif
