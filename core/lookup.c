/* lookup.c: finds texts by what they say among those an owner keeps, in constant time. Touches nothing but memory. */
#include "core.h"

#include <string.h>

/* FNV-1a. Source: Fowler, Noll & Vo 1991. */
static uint64_t hash_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

int64_t wg__lookup_find(const wg_lookup *lookup, const char *text) {
    uint64_t wrap = (uint64_t)lookup->room - 1;
    if (lookup->room)
        for (uint64_t at = hash_of(text); lookup->slot[at & wrap]; at++) {
            int64_t i = lookup->slot[at & wrap] - 1;
            if (strcmp(lookup->text(lookup->owner, i), text) == 0)
                return i;
        }
    return -1;
}

static void enter(uint32_t *slot, int64_t room, const char *text, int64_t i) {
    uint64_t wrap = (uint64_t)room - 1, at = hash_of(text);
    while (slot[at & wrap])
        at++;
    slot[at & wrap] = (uint32_t)i + 1;
}

bool wg__lookup_room(wg_lookup *lookup, wg_memory *memory) {
    if (2 * lookup->count < lookup->room)
        return true;
    int64_t room = lookup->room ? lookup->room * 2 : 16;
    uint32_t *slot = wg__take0(memory, wg__size((size_t)room, sizeof *slot, 0));
    if (!slot)
        return false;
    for (int64_t i = 0; i < lookup->count; i++)
        enter(slot, room, lookup->text(lookup->owner, i), i);
    wg__give(memory, lookup->slot);
    lookup->slot = slot;
    lookup->room = room;
    return true;
}

void wg__lookup_enter(wg_lookup *lookup) {
    enter(lookup->slot, lookup->room, lookup->text(lookup->owner, lookup->count), lookup->count);
    lookup->count++;
}
