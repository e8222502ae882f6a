/* added.c: pairs of products that are added up, see added.h. Changes nothing. Names one op, add. */
#include "added.h"

#include "make.h"

enum { MOST_INNER = 64 };

typedef struct finder {
    const wg_program *p;
    const uint32_t *reads;
    const uint8_t *mark;
    wg_added *added;
    uint32_t inner[MOST_INNER], inners; /* of a sum: the additions in it, */
    uint32_t leaf[MOST_INNER + 2], leaves; /* and the products, at most one more than these and it */
} finder;

/* What a sum adds, through the sums in it; false if they are too many. */
static bool take_leaves(finder *f, uint32_t sum) {
    const wg_instruction *s = &f->p->list[sum];
    for (int k = 0; k < 2; k++) {
        const uint32_t in = s->in[k];
        const wg_instruction *i = &f->p->list[in];
        if (i->loop != s->loop || f->reads[in] != 1)
            continue;
        if (f->mark[in])
            f->leaf[f->leaves++] = in;
        if (i->op != &wg__op_add)
            continue;
        if (f->inners == MOST_INNER)
            return false;
        f->inner[f->inners++] = in;
        if (!take_leaves(f, in))
            return false;
    }
    return true;
}

static bool may_pair(const finder *f, uint32_t a, uint32_t b) {
    const uint8_t m = f->mark[a], n = f->mark[b];
    return ((m & WG_ADDED_ONE) && (n & WG_ADDED_OTHER)) || ((m & WG_ADDED_OTHER) && (n & WG_ADDED_ONE));
}

/* The first two products of a sum that may be a pair; false if there are none of unlike marks, or of like ones. */
static bool note_pair(finder *f, uint32_t sum, bool unlike) {
    for (uint32_t i = 0; i < f->leaves; i++)
        for (uint32_t j = i + 1; j < f->leaves; j++) {
            const uint32_t a = f->leaf[i], b = f->leaf[j];
            if (!may_pair(f, a, b) || (f->mark[a] != f->mark[b]) != unlike)
                continue;
            f->added->first[sum] = a;
            f->added->partner[a] = b;
            f->added->partner[b] = a;
            for (uint32_t k = 0; k < f->inners; k++)
                f->added->within[f->inner[k]] = sum;
            return true;
        }
    return false;
}

bool wg__added_find(wg_added *added, const wg_program *p, const uint32_t *reads, const uint8_t *mark) {
    const size_t n = (size_t)p->count;
    uint32_t *room = wg__take0(p->memory, wg__size(n, 3 * sizeof *room, 0));
    *added = (wg_added){.partner = room};
    if (!room)
        return false;
    added->first = room + n, added->within = room + 2 * n;
    bool *seen = wg__take0(p->memory, n); /* as part of another sum */
    const bool good = seen;
    finder f = {.p = p, .reads = reads, .mark = mark, .added = added};
    for (uint32_t id = (uint32_t)n - 1; good && id > 0; id--) {
        if (p->list[id].op != &wg__op_add || !p->list[id].loop || seen[id])
            continue;
        f.leaves = f.inners = 0;
        const bool all = take_leaves(&f, id);
        for (uint32_t k = 0; k < f.inners; k++)
            seen[f.inner[k]] = true;
        if (all && !note_pair(&f, id, true))
            note_pair(&f, id, false);
    }
    wg__give(p->memory, seen);
    return good;
}

void wg__added_free(wg_added *added, const wg_program *p) { wg__give(p->memory, added->partner); }
