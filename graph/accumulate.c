/* accumulate.c: a product that is only ever added to another, or to a sum of such, becomes one that adds to it, in its buffer: the weight
 * gradients of an unrolled recurrence are such a sum over its steps. The sum has another order then, and each of the product's terms is
 * rounded as the sum is: products that are added up are taken to be of like size, but what else a sum has may be far larger than they are,
 * and is added as it was. Names one op, add, for that is its subject; what products there are it reads from the records. */
#include "make.h"

/* What is changed. */
typedef struct taking {
    wg_program *p;
    uint32_t *reads;
    bool failed; /* memory was refused */
} taking;

/* Whether a value is made of products outside of loops, in a buffer of its own that one instruction reads. */
static bool is_partial_sum(const taking *t, uint32_t id) {
    const wg_instruction *i = &t->p->list[id];
    return t->reads[id] == 1 && i->op->kind == WG_PRODUCT && !i->loop;
}

/* A product as one that adds to `rest`. */
static bool make_adding(taking *t, wg_instruction *to, const wg_instruction *product, uint32_t rest) {
    uint32_t *in = wg__arena_take(&t->p->arena, (product->n + 1) * sizeof *in);
    if (!in)
        return t->failed = true, false;
    for (uint32_t i = 0; i < product->n; i++)
        in[i] = wg__reads_const(product)[i];
    in[product->n] = rest;
    to->attr = product->attr;
    to->n = product->n + 1;
    to->op = product->op->accumulate;
    to->more = in;
    return true;
}

/* sum = (x + q) + product, in any order, where q is a sum of products that stands before the product: x + (q + product). */
static bool take_past(taking *t, wg_instruction *sum, int k) {
    const uint32_t product = sum->in[k];
    const wg_instruction *rest = &t->p->list[sum->in[1 - k]];
    if (rest->op != &wg__op_add || rest->loop || t->reads[sum->in[1 - k]] != 1)
        return false;
    for (int m = 0; m < 2; m++) {
        const uint32_t q = rest->in[m], x = rest->in[1 - m];
        if (q >= product || !is_partial_sum(t, q))
            continue;
        if (!make_adding(t, &t->p->list[product], &t->p->list[product], q))
            return false;
        sum->in[1 - k] = x;
        return true;
    }
    return false;
}

/* The product among a sum's operands is taken in, if there is one. */
static bool take_in(taking *t, wg_instruction *sum) {
    for (int k = 1; k >= 0 && !t->failed; k--) {
        const uint32_t product = sum->in[k], rest = sum->in[1 - k];
        if (sum->loop || !is_partial_sum(t, product) || !t->p->list[product].op->accumulate)
            continue;
        if (is_partial_sum(t, rest) ? make_adding(t, sum, &t->p->list[product], rest) : take_past(t, sum, k))
            return true;
    }
    return false;
}

wg_status wg__pass_accumulate(wg_program *p, wg_error *error) {
    taking t = {p, wg__count_reads(p), false};
    t.failed = !t.reads;
    for (int64_t id = 1; id < p->count && !t.failed; id++)
        if (p->list[id].op == &wg__op_add)
            take_in(&t, &p->list[id]);
    wg__give(p->memory, t.reads);
    return t.failed ? wg__program_no_memory(p, error) : wg__prune(p, error);
}
