/* simplify.c: views that are another value's own elements in its own shape give way to it; views of constants are
 * constants; and an instruction equal to an earlier one (op, attributes, type, shape, inputs) gives way to that. Exact:
 * equal kernels on equal inputs give equal bits. What is random or has effects is never merged. */
#include "known.h"

#include <string.h>

extern const wg_op wg__op_concat;

typedef struct table {
    wg_program *program;
    uint32_t *slot;
    uint64_t wrap;
} table;

static bool constant(const wg_instruction *i) { return i->op == &wg__op_constant; }

static size_t attr_size(const wg_instruction *i) { return i->attr && !constant(i) ? i->op->attr_size : 0; }

static uint64_t hash_of(const wg_instruction *i) {
    uint64_t hash = wg__mix((uintptr_t)i->op, (uintptr_t)i->shape), word;
    hash = wg__mix(hash, i->dtype);
    if (constant(i)) {
        memcpy(&word, &i->value, sizeof word);
        return wg__mix(hash, word);
    }
    for (uint32_t k = 0; k < i->n; k++)
        hash = wg__mix(hash, wg__reads_const(i)[k]);
    for (size_t at = 0; at < attr_size(i); at += sizeof word) {
        word = 0;
        memcpy(&word, (const char *)i->attr + at, attr_size(i) - at < sizeof word ? attr_size(i) - at : sizeof word);
        hash = wg__mix(hash, word);
    }
    return hash;
}

static bool equal(const wg_instruction *a, const wg_instruction *b) {
    if (a->op != b->op || a->shape != b->shape || a->dtype != b->dtype || a->n != b->n)
        return false;
    if (constant(a))
        return memcmp(&a->value, &b->value, sizeof a->value) == 0;
    if (!a->attr != !b->attr || (attr_size(a) && memcmp(a->attr, b->attr, attr_size(a)) != 0))
        return false;
    return a->n == 0 || memcmp(wg__reads_const(a), wg__reads_const(b), a->n * sizeof(uint32_t)) == 0;
}

static bool merges(const wg_instruction *i) {
    return !(i->op->traits & WG_NO_MERGE) && i->op->kind != WG_RANDOM && i->op->kind != WG_EFFECT && !i->slot;
}

/* The first instruction equal to this one, which may be itself. */
static uint32_t first_equal(table *t, uint32_t id) {
    const wg_instruction *list = t->program->list;
    uint64_t at = hash_of(&list[id]);
    for (; t->slot[at & t->wrap]; at++)
        if (equal(&list[t->slot[at & t->wrap]], &list[id]))
            return t->slot[at & t->wrap];
    return t->slot[at & t->wrap] = id;
}

/* ---- views ---- */

/* Where a dense value's elements lie: `offset` elements into those of `root`, which is no dense view. */
typedef struct source {
    uint32_t root;
    int64_t offset;
    const int64_t *parts; /* of operands side by side: where each begins, and where the last ends; else NULL */
} source;

/* Whether a result's elements are those of its operands, one operand after the other. */
static bool side_by_side(const wg_instruction *i) {
    if (i->op != &wg__op_concat || i->shape->count == 0)
        return false;
    int axis = wg__axis(*(const int *)i->attr, i->shape->rank);
    for (int k = 0; k < axis; k++)
        if (i->shape->dim[k] != 1)
            return false;
    return true;
}

/* NULL when out of memory. */
static const int64_t *parts_of(const wg_program *p, wg_arena *arena, const wg_instruction *i) {
    int64_t *from = wg__arena_take(arena, wg__size((size_t)i->n + 1, sizeof *from, 0));
    if (!from)
        return NULL;
    from[0] = 0;
    for (uint32_t k = 0; k < i->n; k++)
        from[k + 1] = from[k] + p->list[wg__reads_const(i)[k]].shape->count;
    return from;
}

/* The last of n parts that begins at `at` or before: the one that holds it, since those before it that begin there are empty. */
static uint32_t part_at(const int64_t *parts, uint32_t n, int64_t at) {
    uint32_t low = 0, high = n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (parts[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Follows the source into the operands of concats, as deep as one holds all `count` elements. */
static source into_operand(const wg_program *p, const source *of, source from, int64_t count) {
    while (count && of[from.root].parts) {
        const wg_instruction *i = &p->list[from.root];
        const int64_t *parts = of[from.root].parts;
        uint32_t k = part_at(parts, i->n, from.offset);
        if (from.offset + count > parts[k + 1])
            break;
        int64_t at = from.offset - parts[k];
        from = of[wg__reads_const(i)[k]];
        from.offset += at;
    }
    return from;
}

/* Notes the source of a view; what else it may be replaced by: itself, if nothing. */
static uint32_t see_through(wg_program *p, source *of, uint32_t id) {
    wg_instruction *i = &p->list[id];
    const wg_instruction *from = &p->list[i->in[0]];
    int64_t in[WG_MAX_RANK], stride[WG_MAX_RANK], dense[WG_MAX_RANK], offset = 0;
    if (constant(from)) {
        double value = from->value;
        i->op = &wg__op_constant;
        i->n = 0;
        i->value = value;
        return id;
    }
    wg__dense_strides(from->shape, in);
    wg__dense_strides(i->shape, dense);
    if (!i->op->view(i->attr, from->shape, in, i->shape, stride, &offset))
        return id;
    for (int k = 0; k < i->shape->rank; k++)
        if (i->shape->dim[k] != 1 && stride[k] != dense[k])
            return id;
    source s = of[i->in[0]];
    s.offset += offset;
    s = into_operand(p, of, s, i->shape->count);
    of[id] = (source){.root = s.root, .offset = s.offset};
    return s.offset == 0 && p->list[s.root].shape == i->shape ? s.root : id;
}

wg_status wg__pass_simplify(wg_program *p, wg_error *error) {
    size_t room = 16;
    while (room < 2 * (size_t)p->count)
        room *= 2;
    table t = {p, wg__take0(p->memory, wg__size(room, sizeof *t.slot, 0)), room - 1};
    uint32_t *to = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *to, 0));
    source *of = wg__take(p->memory, wg__size((size_t)p->count, sizeof *of, 0));
    wg_arena parts = {.memory = p->memory};
    wg_status status = t.slot && to && of ? WG_OK : wg__program_no_memory(p, error);
    for (uint32_t id = 1; status == WG_OK && id < p->count; id++) {
        uint32_t *in = wg__reads(&p->list[id]);
        for (uint32_t k = 0; k < p->list[id].n; k++)
            in[k] = to[in[k]];
        bool joins = side_by_side(&p->list[id]);
        of[id] = (source){.root = id, .parts = joins ? parts_of(p, &parts, &p->list[id]) : NULL};
        if (joins && !of[id].parts)
            status = wg__program_no_memory(p, error);
        uint32_t seen = p->list[id].op->view && p->list[id].shape->count ? see_through(p, of, id) : id;
        to[id] = seen != id ? seen : merges(&p->list[id]) ? first_equal(&t, id) : id;
    }
    for (int i = 0; status == WG_OK && i < p->output_count; i++)
        p->outputs[i] = to[p->outputs[i]];
    wg__give(p->memory, t.slot);
    wg__give(p->memory, to);
    wg__give(p->memory, of);
    wg__arena_free(&parts);
    return status == WG_OK ? wg__prune(p, error) : status;
}
