/* simplify.c: common subexpressions: an instruction equal to an earlier one (op, attributes, type, shape, inputs) gives
 * way to it. Exact: equal kernels on equal inputs give equal bits. What is random or has effects is never merged. */
#include "program.h"

#include <string.h>

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

wg_status wg__pass_simplify(wg_program *p, wg_error *error) {
    size_t room = 16;
    while (room < 2 * (size_t)p->count)
        room *= 2;
    table t = {p, wg__take0(p->memory, wg__size(room, sizeof *t.slot, 0)), room - 1};
    uint32_t *to = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *to, 0));
    wg_status status = t.slot && to ? WG_OK : wg__program_no_memory(p, error);
    for (uint32_t id = 1; status == WG_OK && id < p->count; id++) {
        uint32_t *in = wg__reads(&p->list[id]);
        for (uint32_t k = 0; k < p->list[id].n; k++)
            in[k] = to[in[k]];
        to[id] = merges(&p->list[id]) ? first_equal(&t, id) : id;
    }
    for (int i = 0; status == WG_OK && i < p->output_count; i++)
        p->outputs[i] = to[p->outputs[i]];
    wg__give(p->memory, t.slot);
    wg__give(p->memory, to);
    return status;
}
