/* simplify.c: views that are another value's own elements in its own shape give way to it; views of constants are
 * constants; and an instruction equal to an earlier one (op, attributes, type, shape, inputs) gives way to that. Exact:
 * equal kernels on equal inputs give equal bits. What is random or has effects is never merged. */
#include "program.h"

#include <string.h>

extern const wg_op wg__op_concat;

typedef struct table {
    wg_program *program;
    uint32_t *slot;
    uint64_t wrap;
} table;

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 32;
}

static bool constant(const wg_instruction *i) { return i->op == &wg__op_constant; }

static size_t attr_size(const wg_instruction *i) { return i->attr && !constant(i) ? i->op->attr_size : 0; }

static uint64_t hash_of(const wg_instruction *i) {
    uint64_t hash = mix((uintptr_t)i->op, (uintptr_t)i->shape), word;
    hash = mix(hash, i->dtype);
    if (constant(i)) {
        memcpy(&word, &i->value, sizeof word);
        return mix(hash, word);
    }
    for (uint32_t k = 0; k < i->n; k++)
        hash = mix(hash, wg__reads_const(i)[k]);
    for (size_t at = 0; at < attr_size(i); at += sizeof word) {
        word = 0;
        memcpy(&word, (const char *)i->attr + at, attr_size(i) - at < sizeof word ? attr_size(i) - at : sizeof word);
        hash = mix(hash, word);
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
    bool uniform; /* of operands side by side along axis 0: all of one size */
    int64_t offset;
} source;

/* A result whose elements are those of its operands, one operand after the other. */
static bool side_by_side(const wg_instruction *i) {
    if (i->op != &wg__op_concat || i->shape->count == 0)
        return false;
    int axis = wg__axis(*(const int *)i->attr, i->shape->rank);
    for (int k = 0; k < axis; k++)
        if (i->shape->dim[k] != 1)
            return false;
    return true;
}

static bool is_uniform(const wg_program *p, const wg_instruction *i) {
    for (uint32_t k = 1; k < i->n; k++)
        if (p->list[wg__reads_const(i)[k]].shape->count != p->list[wg__reads_const(i)[0]].shape->count)
            return false;
    return true;
}

/* Follows the source into the operand of a concat that holds all `count` elements, if one does. */
static source into_operand(const wg_program *p, const source *of, source from, int64_t count) {
    const wg_instruction *i = &p->list[from.root];
    const uint32_t *in = wg__reads_const(i);
    uint32_t k = 0;
    int64_t at = from.offset;
    if (!side_by_side(i) || count == 0)
        return from;
    if (of[from.root].uniform && i->n > 1) {
        int64_t size = p->list[in[0]].shape->count;
        k = (uint32_t)(at / size);
        at %= size;
    } else {
        while (k < i->n && at >= p->list[in[k]].shape->count)
            at -= p->list[in[k++]].shape->count;
    }
    if (k >= i->n || at + count > p->list[in[k]].shape->count)
        return from;
    source part = of[in[k]];
    part.offset += at;
    return into_operand(p, of, part, count);
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
    of[id] = into_operand(p, of, s, i->shape->count);
    return of[id].offset == 0 && p->list[of[id].root].shape == i->shape ? of[id].root : id;
}

wg_status wg__pass_simplify(wg_program *p, wg_error *error) {
    size_t room = 16;
    while (room < 2 * (size_t)p->count)
        room *= 2;
    table t = {p, wg__take0(p->memory, wg__size(room, sizeof *t.slot, 0)), room - 1};
    uint32_t *to = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *to, 0));
    source *of = wg__take(p->memory, wg__size((size_t)p->count, sizeof *of, 0));
    wg_status status = t.slot && to && of ? WG_OK : wg__program_no_memory(p, error);
    for (uint32_t id = 1; status == WG_OK && id < p->count; id++) {
        uint32_t *in = wg__reads(&p->list[id]);
        for (uint32_t k = 0; k < p->list[id].n; k++)
            in[k] = to[in[k]];
        of[id] = (source){.root = id, .uniform = side_by_side(&p->list[id]) && is_uniform(p, &p->list[id])};
        uint32_t seen = p->list[id].op->view && p->list[id].shape->count ? see_through(p, of, id) : id;
        to[id] = seen != id ? seen : merges(&p->list[id]) ? first_equal(&t, id) : id;
    }
    for (int i = 0; status == WG_OK && i < p->output_count; i++)
        p->outputs[i] = to[p->outputs[i]];
    wg__give(p->memory, t.slot);
    wg__give(p->memory, to);
    wg__give(p->memory, of);
    return status == WG_OK ? wg__prune(p, error) : status;
}
