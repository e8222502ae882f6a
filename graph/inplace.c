/* inplace.c: a pointwise result takes over the buffer of an operand of its own size that is read for the last time. The
 * kernel reads each element before it writes it, so any dense operand with the same elements in the same places will do.
 * An op that adds to its last operand takes over that one. */
#include "program.h"

/* Whether instruction id may write over base b, read as operand `at`: b dies here, has id's size, and is read only element
 * for element. */
static bool may_take(const wg_program *p, uint32_t id, uint32_t at, uint32_t b) {
    const wg_instruction *i = &p->list[id];
    if (!wg__computes(p, b) || p->values[b].base != b || p->values[b].last != id || i->dtype != p->list[b].dtype ||
        wg__instruction_bytes(i) != wg__instruction_bytes(&p->list[b]))
        return false;
    const uint32_t *in = wg__reads_const(i);
    for (uint32_t k = 0; k < i->n; k++) {
        const wg_value *v = &p->values[in[k]];
        bool same = i->op->kind == WG_POINTWISE || k == at;
        if (v->base == b && (v->stride || v->shift || !same))
            return false;
    }
    return true;
}

wg_status wg__pass_inplace(wg_program *p, wg_error *error) {
    (void)error;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        bool pointwise = wg__kernel(i->op) == wg__pointwise_run;
        if (!wg__computes(p, id) || (!pointwise && !(i->op->traits & WG_ADDS_TO_LAST)))
            continue;
        for (uint32_t k = pointwise ? 0 : i->n - 1; k < i->n && !p->values[id].over; k++) {
            uint32_t b = p->values[wg__reads_const(i)[k]].base;
            if (may_take(p, id, k, b))
                p->values[id].over = b;
        }
    }
    return WG_OK;
}
