/* accumulate.c: a product that is only ever added to another product, or to a sum of such, becomes one that adds to it, in its buffer: the
 * weight gradients of an unrolled recurrence are such a sum over its steps. Changes the order of the sum, nothing else: each term is
 * then rounded as the sum is, so that of what may be far larger than the product's terms none is made. Names one op, add, for that is
 * its subject; what products there are it reads from the records. */
#include "make.h"

/* Whether a value is made of products, in a buffer of its own that nothing else reads. */
static bool is_partial_sum(const wg_instruction *i, uint32_t reads) { return reads == 1 && i->op->kind == WG_PRODUCT; }

/* sum = add(in..): the product among its operands is taken in, if there is one. */
static bool take_in(wg_program *p, wg_instruction *sum, const uint32_t *reads, bool *memory) {
    for (int k = 1; k >= 0; k--) {
        uint32_t product = sum->in[k], rest = sum->in[1 - k];
        const wg_instruction *made = &p->list[product];
        if (!made->op->accumulate || sum->loop || made->loop || p->list[rest].loop || reads[product] != 1 || !is_partial_sum(&p->list[rest], reads[rest]))
            continue;
        uint32_t *in = wg__arena_take(&p->arena, (made->n + 1) * sizeof *in);
        if (!in)
            return *memory = false;
        for (uint32_t i = 0; i < made->n; i++)
            in[i] = wg__reads_const(made)[i];
        in[made->n] = rest;
        sum->op = made->op->accumulate;
        sum->attr = made->attr;
        sum->n = made->n + 1;
        sum->more = in;
        return true;
    }
    return false;
}

wg_status wg__pass_accumulate(wg_program *p, wg_error *error) {
    uint32_t *reads = wg__count_reads(p);
    bool memory = reads;
    for (int64_t id = 1; memory && id < p->count; id++)
        if (p->list[id].op == &wg__op_add)
            take_in(p, &p->list[id], reads, &memory);
    wg__give(p->memory, reads);
    return memory ? wg__prune(p, error) : wg__program_no_memory(p, error);
}
