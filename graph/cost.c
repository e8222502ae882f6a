/* cost.c: what a program computes and moves, counted from shapes and the kinds of its ops. Touches
 * nothing. */
#include "loop.h"
#include "plan.h"

/* The length of the axis that a product sums over: what is in the first operand's last two axes and
 * not in the result's rows. */
static double shared_axis(const wg_program *p, const wg_instruction *i) {
    const wg_shape *a = p->list[wg__reads_const(i)[0]].shape, *y = i->shape;
    double matrix = a->rank ? (double)a->dim[a->rank - 1] : 1;
    if (a->rank < 2 || y->rank < 2)
        return matrix;
    double rows = (double)y->dim[y->rank - 2];
    return rows > 0 ? matrix * (double)a->dim[a->rank - 2] / rows : 0;
}

double wg__program_flops(const wg_program *p) {
    double flops = 0;
    for (int64_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        const wg_instruction *first = i->n ? &p->list[wg__reads_const(i)[0]] : i;
        double times = i->loop ? (double)p->loops[i->loop - 1].times : 1;
        if (!p->values[id].task)
            continue;
        if (i->op == &wg__op_packed_product)
            for (uint32_t k = 0; k < i->n; k += 2)
                flops += times * 2 * (double)p->list[wg__reads_const(i)[k]].shape->dim[1] * (double)i->shape->count;
        else if (i->op->kind == WG_PRODUCT)
            flops += times * (2 * shared_axis(p, i) + (i->op->traits & WG_ADDS_TO_LAST ? 1 : 0)) *
                     (double)i->shape->count;
        else if (i->op->kind == WG_REDUCTION)
            flops += times * (double)first->shape->count;
        else if ((i->op->kind == WG_POINTWISE && i->op != &wg__op_bypass) || i->op->kind == WG_RANDOM)
            flops += times * (double)i->shape->count;
    }
    return flops;
}

double wg__program_traffic(const wg_program *p) {
    double bytes = 0;
    for (int64_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        double times = i->loop ? (double)p->loops[i->loop - 1].times : 1;
        if (!p->values[id].task)
            continue;
        bytes += times * (double)wg__instruction_bytes(i);
        for (uint32_t k = 0; k < i->n; k++)
            bytes += times * (double)wg__instruction_bytes(&p->list[wg__reads_const(i)[k]]);
    }
    return bytes;
}
