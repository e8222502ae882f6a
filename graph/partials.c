/* partials.c: what tanh and sigmoid of y have as partial derivatives, 1 - y^2 and y (1 - y), becomes one op each: in loops, where most are
 * multiplied by what has come so far, by the same kernel (pairs.h). No bit of a result changes, but for the sign of a NaN. Names the ops
 * that it is about: sub, mul and square, of 1. */
#include "make.h"
#include "ops.h"

extern const wg_op wg__op_constant, wg__op_sub, wg__op_mul, wg__op_square;

/* Whether s is 1 - y for some y, which it tells. */
static bool from_one(const wg_program *p, uint32_t s, uint32_t *y) {
    const wg_instruction *i = &p->list[s], *one = i->op == &wg__op_sub ? &p->list[i->in[0]] : NULL;
    if (!one || one->op != &wg__op_constant || one->value != 1 || p->list[i->in[1]].shape != i->shape)
        return false;
    *y = i->in[1];
    return true;
}

/* What instruction id is the partial derivative of: NULL if it is none; then *y is what it is made of. `reads`: of all. */
static const wg_op *partial_of(const wg_program *p, uint32_t id, const uint32_t *reads, uint32_t *y) {
    const wg_instruction *i = &p->list[id];
    if (from_one(p, id, y) && p->list[*y].op == &wg__op_square && reads[*y] == 1) {
        *y = p->list[*y].in[0];
        return &wg__op_tanh_partial;
    }
    for (int k = 0; k < 2 && i->op == &wg__op_mul; k++)
        if (from_one(p, i->in[k], y) && *y == i->in[1 - k])
            return &wg__op_sigmoid_partial;
    return NULL;
}

wg_status wg__pass_partials(wg_program *p, wg_error *error) {
    uint32_t *reads = wg__count_reads(p), y;
    for (uint32_t id = 1; reads && id < p->count; id++) {
        wg_instruction *i = &p->list[id];
        const wg_op *op = i->loop && i->dtype != WG_I32 ? partial_of(p, id, reads, &y) : NULL;
        if (op)
            i->op = op, i->n = 1, i->in[0] = y;
    }
    bool good = reads;
    wg__give(p->memory, reads);
    return good ? wg__prune(p, error) : wg__program_no_memory(p, error);
}
