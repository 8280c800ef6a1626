/*
 * memory: what the server has allocated and mapped, counted; and refused, where a fault says so.
 */
#ifndef TESTS_SIM_MEMORY_H
#define TESTS_SIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Count from zero. */
void memory_reset(void);

/** Let the ${nth} allocation from now on fail, once; 0 = none. */
void memory_fail(uint32_t nth);

/** Blocks from malloc that were not freed; mappings that were not unmapped. */
int64_t memory_blocks(void);
int64_t memory_maps(void);

/** sys_map and its like; a failure of the run where what is unmapped was not mapped so. */
void *memory_map(size_t size);
void *memory_remap(void *old, size_t old_size, size_t new_size);
int memory_unmap(void *memory, size_t size);

/** munmap(2) is refused: the mapping may be left at the end, or be unmapped later. */
void memory_lose(void *memory, size_t size);

#endif
