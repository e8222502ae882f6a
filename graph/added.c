/* added.c: pairs of products that are added up, see added.h. Changes nothing. Names one op, add. */
#include "added.h"

#include "make.h"

enum { MOST_LEAVES = 64, DEEPEST = 64 };

typedef struct finder {
    const wg_program *p;
    const uint32_t *reads;
    const uint8_t *mark;
    wg_added *added;
    uint32_t leaf[MOST_LEAVES], leaves, inner[MOST_LEAVES], inners; /* of a sum: products of its shape, and the additions in it */
} finder;

/* What a sum adds, through the sums in it; false if that is too much, or too deep. */
static bool take_leaves(finder *f, uint32_t sum, int depth) {
    const wg_instruction *s = &f->p->list[sum];
    for (int k = 0; k < 2; k++) {
        const uint32_t in = s->in[k];
        const wg_instruction *i = &f->p->list[in];
        if (i->loop != s->loop || f->reads[in] != 1)
            continue;
        if (i->op == &wg__op_add) {
            if (depth == DEEPEST || f->inners == MOST_LEAVES)
                return false;
            f->inner[f->inners++] = in;
            if (!take_leaves(f, in, depth + 1))
                return false;
        } else if (f->mark[in] && i->shape == s->shape) {
            if (f->leaves == MOST_LEAVES)
                return false;
            f->leaf[f->leaves++] = in;
        }
    }
    return true;
}

static bool may_pair(const finder *f, uint32_t a, uint32_t b) {
    const uint8_t m = f->mark[a], n = f->mark[b];
    return ((m & WG_ADDED_ONE) && (n & WG_ADDED_OTHER)) || ((m & WG_ADDED_OTHER) && (n & WG_ADDED_ONE));
}

/* The first two products of a sum that may be a pair. */
static void note_pair(finder *f, uint32_t sum) {
    for (uint32_t i = 0; i < f->leaves; i++)
        for (uint32_t j = i + 1; j < f->leaves; j++) {
            if (!may_pair(f, f->leaf[i], f->leaf[j]))
                continue;
            f->added->first[sum] = f->leaf[i];
            f->added->partner[f->leaf[i]] = f->leaf[j];
            f->added->partner[f->leaf[j]] = f->leaf[i];
            for (uint32_t k = 0; k < f->inners; k++)
                f->added->within[f->inner[k]] = sum;
            return;
        }
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
        const bool all = take_leaves(&f, id, 0);
        for (uint32_t k = 0; k < f.inners; k++)
            seen[f.inner[k]] = true;
        if (all)
            note_pair(&f, id);
    }
    wg__give(p->memory, seen);
    return good;
}

void wg__added_free(wg_added *added, const wg_program *p) { wg__give(p->memory, added->partner); }
