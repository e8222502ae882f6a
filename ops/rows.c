/* rows.c: which inputs of an op are cut along with the rows of its result (wg_op.rows): the question, and the rules that
 * records share. Knows no op. */
#include "ops.h"

enum { BITS = 32 };

uint32_t wg__rows_all(const wg_infer *q) {
    return q->out.rank < 1 ? 0 : q->n >= BITS ? UINT32_MAX : (UINT32_C(1) << q->n) - 1;
}

uint32_t wg__rows_before_last(const wg_infer *q) { return q->in[0]->rank < 2 ? 0 : wg__rows_all(q); }

uint32_t wg__rows_beside(const wg_infer *q, int axis) {
    return wg__axis(axis, q->out.rank) == 0 ? 0 : wg__rows_all(q);
}

/* In row-major order, as many rows of as many elements are the same rows. */
uint32_t wg__rows_kept(const wg_infer *q) {
    return q->in[0]->rank > 0 && q->out.rank > 0 && q->in[0]->dim[0] == q->out.dim[0];
}

uint32_t wg__rows_aligned(const wg_infer *q) { return q->in[0]->rank == q->out.rank ? wg__rows_kept(q) : 0; }

/* Whether every input that is named has the result's rows. */
static bool fits(const wg_infer *q, uint32_t mask) {
    for (int k = 0; k < q->n; k++)
        if (mask >> wg__min(k, BITS - 1) & 1 && (q->in[k]->rank < 1 || q->in[k]->dim[0] != q->out.dim[0]))
            return false;
    return q->n >= BITS || mask >> q->n == 0;
}

uint32_t wg__rows_of(const wg_infer *q) {
    if (q->out.rank < 1 || (!q->op->rows && q->op->kind != WG_POINTWISE))
        return 0;
    uint32_t mask = q->op->rows ? q->op->rows(q) : wg__rows_all(q);
    return fits(q, mask) ? mask : 0;
}
