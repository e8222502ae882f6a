/* known.c: numbers by hash, see known.h. */
#include "known.h"

int64_t wg__known_next(const wg_known *k, uint64_t hash, uint64_t *probe) {
    const uint64_t wrap = (uint64_t)k->room - 1;
    for (; k->room && k->slot[(hash + *probe) & wrap].number; ++*probe)
        if (k->slot[(hash + *probe) & wrap].hash == hash)
            return k->slot[(hash + (*probe)++) & wrap].number - 1;
    return -1;
}

static void put(wg_known *k, uint64_t hash, int64_t number) {
    uint64_t at = hash;
    while (k->slot[at & ((uint64_t)k->room - 1)].number)
        at++;
    k->slot[at & ((uint64_t)k->room - 1)].hash = hash;
    k->slot[at & ((uint64_t)k->room - 1)].number = number;
}

/* At least half of the slots stay unused, so that every search ends. */
static bool grow(wg_known *k) {
    wg_known larger = {.memory = k->memory, .count = k->count, .room = k->room ? 2 * k->room : 32};
    larger.slot = wg__take0(k->memory, wg__size((size_t)larger.room, sizeof *larger.slot, 0));
    if (!larger.slot)
        return false;
    for (int64_t i = 0; i < k->room; i++)
        if (k->slot[i].number)
            put(&larger, k->slot[i].hash, k->slot[i].number);
    wg__give(k->memory, k->slot);
    *k = larger;
    return true;
}

bool wg__known_enter(wg_known *k, uint64_t hash) {
    if (2 * k->count >= k->room && !grow(k))
        return false;
    put(k, hash, ++k->count);
    return true;
}

void wg__known_free(wg_known *k) { wg__give(k->memory, k->slot); }
