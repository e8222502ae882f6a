/* blocks.h: free and taken stretches of one arena: the best-fitting free one is taken, else the arena grows. O(log n). */
#ifndef WG_BLOCKS_H
#define WG_BLOCKS_H

#include "program.h"

/* The free blocks, by place and by size; the arena ends at `top`, and what lies behind is free without being listed. Zero but
 * for the memories to begin. */
typedef struct wg_blocks {
    wg_ordered by_place, by_size;
    size_t top, most; /* most: the furthest it ever reached */
} wg_blocks;
bool wg__blocks_take(wg_blocks *blocks, size_t bytes, size_t *offset); /* false when out of memory, as below */
bool wg__blocks_give(wg_blocks *blocks, size_t at, size_t bytes);
void wg__blocks_free(wg_blocks *blocks);

#endif
