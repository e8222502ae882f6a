/* known.h: what a pass has made before, found again by a hash of what it was made of: O(1). The pass keeps the things, numbered
 * from 0 in the order in which they are entered, and says itself which are equal. Includes the program. */
#ifndef WG_KNOWN_H
#define WG_KNOWN_H

#include "program.h"

static inline uint64_t wg__mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 32;
}

/* Zero but for the memory to begin. */
typedef struct wg_known {
    wg_memory *memory;
    struct {
        uint64_t hash;
        int64_t number; /* 1 + it; 0: unused */
    } *slot;            /* open-addressed */
    int64_t count, room;
} wg_known;
/* The numbers entered under a hash, one a call, from *probe = 0 on; -1 if there is no more. */
int64_t wg__known_next(const wg_known *known, uint64_t hash, uint64_t *probe);
bool wg__known_enter(wg_known *known, uint64_t hash); /* as number `count`; false when out of memory */
void wg__known_free(wg_known *known);

#endif
