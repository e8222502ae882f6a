/* blocks.c: stretches of one arena, see blocks.h. Includes the program, for its ordered sets. */
#include "blocks.h"

bool wg__blocks_give(wg_blocks *b, size_t at, size_t bytes) {
    const wg_ordered_node *after = wg__ordered_at_or_after(&b->by_place, at, 0);
    if (after && after->high == at + bytes) {
        size_t more = after->length;
        wg__ordered_remove(&b->by_size, more, at + bytes);
        wg__ordered_remove(&b->by_place, at + bytes, 0);
        bytes += more;
    }
    const wg_ordered_node *before = wg__ordered_before(&b->by_place, at, 0);
    if (before && before->high + before->length == at) {
        size_t start = before->high, more = before->length;
        wg__ordered_remove(&b->by_size, more, start);
        wg__ordered_remove(&b->by_place, start, 0);
        at = start;
        bytes += more;
    }
    if (at + bytes == b->top) { /* the end of the arena goes back */
        b->top = at;
        return true;
    }
    return wg__ordered_insert(&b->by_place, at, 0, bytes, 0) && wg__ordered_insert(&b->by_size, bytes, at, bytes, 0);
}

/* The best-fitting block, or the end of the arena. */
bool wg__blocks_take(wg_blocks *b, size_t bytes, size_t *offset) {
    const wg_ordered_node *fit = wg__ordered_at_or_after(&b->by_size, bytes, 0);
    if (!fit) {
        *offset = b->top;
        b->top += bytes;
        if (b->most < b->top)
            b->most = b->top;
        return true;
    }
    size_t have = fit->high, at = fit->low;
    *offset = at;
    wg__ordered_remove(&b->by_size, have, at);
    wg__ordered_remove(&b->by_place, at, 0);
    if (have == bytes)
        return true;
    return wg__ordered_insert(&b->by_place, at + bytes, 0, have - bytes, 0) &&
           wg__ordered_insert(&b->by_size, have - bytes, at + bytes, have - bytes, 0);
}

void wg__blocks_free(wg_blocks *b) {
    wg__ordered_free(&b->by_place);
    wg__ordered_free(&b->by_size);
}
